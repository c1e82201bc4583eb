# A large fleet: thousands of sensors, some thousand records a second, a team on call.
#   terraform apply -var-file=examples/large.tfvars -var-file=soracom.tfvars

environment = "prod"

# Four shards for 4,000 records or 4 MB a second; a week to repair whatever broke.
stream = { mode = "PROVISIONED", shards = 4, retention_hours = 168 }

ingest_mapping = { batch_size = 5000, batching_window_seconds = 5, parallelization_factor = 4 }

# A steady load is cheaper provisioned; alarms tell when scaling was too slow.
tables = {
  billing_mode   = "PROVISIONED"
  read           = { minimum = 20, maximum = 1000 }
  write          = { minimum = 200, maximum = 4000 }
  target_percent = 70
}

functions            = { tracing = true, log_retention_days = 90, reserved_concurrency = { ingest = 20 } }
customer_managed_key = true
archive              = { enabled = true, days = 730 }
alarms               = { iterator_age_seconds = 30, rejected_per_hour = 1000 }
alarm_emails         = { warning = ["team@example.org"], page = ["on-call@example.org"] }
