# Every variable refuses what AWS would refuse later, or what would be a mistake.
mock_provider "aws" {
  source = "./tests/mocks"
}

run "environment" {
  command = plan

  variables {
    environment = "Prod_1"
  }

  expect_failures = [var.environment]
}

run "soracom_account" {
  command = plan

  variables {
    soracom = { account_id = "1234", external_id = "0123456789abcdef" }
  }

  expect_failures = [var.soracom]
}

run "soracom_external_id" {
  command = plan

  variables {
    soracom = { account_id = "111122223333", external_id = "short" }
  }

  expect_failures = [var.soracom]
}

run "stream_mode" {
  command = plan

  variables {
    stream = { mode = "EXPRESS" }
  }

  expect_failures = [var.stream]
}

run "stream_shards" {
  command = plan

  variables {
    stream = { shards = 0 }
  }

  expect_failures = [var.stream]
}

run "stream_retention" {
  command = plan

  variables {
    stream = { retention_hours = 12 }
  }

  expect_failures = [var.stream]
}

run "archive_days" {
  command = plan

  variables {
    archive = { days = 0 }
  }

  expect_failures = [var.archive]
}

run "batch_size" {
  command = plan

  variables {
    ingest_mapping = { batch_size = 10001 }
  }

  expect_failures = [var.ingest_mapping]
}

run "batching_window" {
  command = plan

  variables {
    ingest_mapping = { batching_window_seconds = 301 }
  }

  expect_failures = [var.ingest_mapping]
}

run "parallelization_factor" {
  command = plan

  variables {
    ingest_mapping = { parallelization_factor = 11 }
  }

  expect_failures = [var.ingest_mapping]
}

run "retry_attempts" {
  command = plan

  variables {
    ingest_mapping = { maximum_retry_attempts = -2 }
  }

  expect_failures = [var.ingest_mapping]
}

run "record_age" {
  command = plan

  variables {
    ingest_mapping = { maximum_record_age_seconds = 30 }
  }

  expect_failures = [var.ingest_mapping]
}

run "starting_position" {
  command = plan

  variables {
    ingest_mapping = { starting_position = "AT_TIMESTAMP" }
  }

  expect_failures = [var.ingest_mapping]
}

run "rollup_mapping" {
  command = plan

  variables {
    rollup_mapping = { parallelization_factor = 0 }
  }

  expect_failures = [var.rollup_mapping]
}

run "rollup_starting_position" {
  command = plan

  variables {
    rollup_mapping = { starting_position = "AT_TIMESTAMP" }
  }

  expect_failures = [var.rollup_mapping]
}

run "log_retention" {
  command = plan

  variables {
    functions = { log_retention_days = 31 }
  }

  expect_failures = [var.functions]
}

run "no_stopped_function" {
  command = plan

  variables {
    functions = { reserved_concurrency = { ingest = 0 } }
  }

  expect_failures = [var.functions]
}

run "no_plain_secrets" {
  command = plan

  variables {
    functions = { environment = { ingest = { BINDKEYS = "AA:BB:CC:DD:EE:FF=00" } } }
  }

  expect_failures = [var.functions]
}

run "billing_mode" {
  command = plan

  variables {
    tables = { billing_mode = "FREE" }
  }

  expect_failures = [var.tables]
}

run "capacity_range" {
  command = plan

  variables {
    tables = { billing_mode = "PROVISIONED", write = { minimum = 10, maximum = 5 } }
  }

  expect_failures = [var.tables]
}

run "target_percent" {
  command = plan

  variables {
    tables = { target_percent = 99 }
  }

  expect_failures = [var.tables]
}

run "retention_days" {
  command = plan

  variables {
    retention_days = 0
  }

  expect_failures = [var.retention_days]
}

run "bucket_days" {
  command = plan

  variables {
    bucket_days = { uploads = 0 }
  }

  expect_failures = [var.bucket_days]
}

run "alarm_emails" {
  command = plan

  variables {
    alarm_emails = { page = ["nobody"] }
  }

  expect_failures = [var.alarm_emails]
}

run "alarm_age" {
  command = plan

  variables {
    alarms = { iterator_age_seconds = 0 }
  }

  expect_failures = [var.alarms]
}

run "alarm_percent" {
  command = plan

  variables {
    alarms = { memory_percent = 120 }
  }

  expect_failures = [var.alarms]
}
