# A small fleet: up to a few hundred sensors behind a few gateways, one shard, everything at its cheapest.
#   terraform apply -var-file=examples/small.tfvars -var-file=soracom.tfvars

environment = "prod"

# One provisioned shard takes 1,000 records a second. A day of retention costs nothing.
stream = { mode = "PROVISIONED", shards = 1, retention_hours = 24 }

# Gathering for longer packs more readings of a sensor into one write unit.
ingest_mapping = { batch_size = 1000, batching_window_seconds = 15, parallelization_factor = 1 }

alarms       = { iterator_age_seconds = 120 }
alarm_emails = { warning = ["you@example.org"], page = ["you@example.org"] }
