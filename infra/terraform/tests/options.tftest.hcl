# The options, together: another mode, on where they are off, off where they are on.
mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  environment          = "test"
  soracom              = { account_id = "111122223333", external_id = "0123456789abcdef" }
  stream               = { mode = "ON_DEMAND", retention_hours = 168, shard_metrics = true }
  tables               = { billing_mode = "PROVISIONED", write = { minimum = 10, maximum = 400 } }
  archive              = { enabled = true }
  customer_managed_key = true
  mappings_enabled     = false
  deletion_protection  = false
  alarm_emails         = { page = ["someone@example.org"] }
  functions = {
    tracing              = true
    reserved_concurrency = { ingest = 5 }
    environment          = { ingest = { LOG_LEVEL = "DEBUG" } }
  }
}

run "provisioned_tables_scale" {
  module {
    source = "./modules/table"
  }

  variables {
    name = "scaled"
    specification = {
      hash_key               = { name = "device", type = "S" }
      range_key              = { name = "slot", type = "N" }
      ttl                    = "expires"
      stream                 = "KEYS_ONLY"
      point_in_time_recovery = true
    }
    capacity = {
      billing_mode   = "PROVISIONED"
      read           = { minimum = 2, maximum = 20 }
      write          = { minimum = 10, maximum = 400 }
      target_percent = 70
    }
    deletion_protection = true
    kms_key_arn         = null
    alarm_actions       = { warning = ["arn:aws:sns:eu-central-1:123456789012:warning"], page = ["arn:aws:sns:eu-central-1:123456789012:page"] }
  }

  assert {
    condition     = aws_dynamodb_table.this.write_capacity == 10 && aws_dynamodb_table.this.read_capacity == 2
    error_message = "Capacity starts at the minimum."
  }
  assert {
    condition = (
      aws_appautoscaling_target.this["Write"].max_capacity == 400 && aws_appautoscaling_target.this["Read"].max_capacity == 20 &&
      aws_appautoscaling_policy.this["Write"].target_tracking_scaling_policy_configuration[0].target_value == 70
    )
    error_message = "Reads and writes are scaled by target tracking, each in its range."
  }
  assert {
    condition     = keys(aws_cloudwatch_metric_alarm.throttles) == ["Read", "Write"]
    error_message = "Throttled requests have alarms: scaling does not see them."
  }
  assert {
    condition = (
      one(aws_dynamodb_table.this.ttl).attribute_name == "expires" && aws_dynamodb_table.this.stream_view_type == "KEYS_ONLY" &&
      one(aws_dynamodb_table.this.point_in_time_recovery).enabled && aws_dynamodb_table.this.deletion_protection_enabled
    )
    error_message = "TTL, stream, point-in-time recovery and deletion protection are as specified."
  }
}

run "tables_without_options" {
  module {
    source = "./modules/table"
  }

  variables {
    name          = "plain"
    specification = { hash_key = { name = "key", type = "S" } }
    capacity = {
      billing_mode   = "PAY_PER_REQUEST"
      read           = { minimum = 1, maximum = 1 }
      write          = { minimum = 1, maximum = 1 }
      target_percent = 70
    }
    kms_key_arn   = null
    alarm_actions = { warning = [], page = [] }
  }

  assert {
    condition = (
      !aws_dynamodb_table.this.stream_enabled && length(aws_dynamodb_table.this.ttl) == 0 && output.stream_arn == null &&
      length(aws_appautoscaling_target.this) == 0 && aws_dynamodb_table.this.range_key == null
    )
    error_message = "A table has what its specification says, and no more."
  }
}

run "stream_on_demand" {
  assert {
    condition     = aws_kinesis_stream.records.stream_mode_details[0].stream_mode == "ON_DEMAND" && aws_kinesis_stream.records.retention_period == 168
    error_message = "An on-demand stream has no shard count of ours."
  }
  assert {
    condition     = aws_kinesis_stream.records.shard_level_metrics == toset(["IteratorAgeMilliseconds"])
    error_message = "Each shard has its iterator age, which the page shows, and no other metric: each costs money."
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.age["stream-danger"].threshold == 84 * 3600 * 1000
    error_message = "The page is sent at half of the retention, whatever that is."
  }
}

run "own_key" {
  assert {
    condition = alltrue([
      aws_kinesis_stream.records.kms_key_id == aws_kms_key.own[0].arn,
      aws_sns_topic.alarms["page"].kms_master_key_id == aws_kms_key.own[0].arn,
      strcontains(aws_iam_role_policy.funnel[0].policy, aws_kms_key.own[0].arn),
      strcontains(module.function["ingest"].policy, aws_kms_key.own[0].arn),
      jsondecode(output.apex_files["functions/ingest/function.test.json"]).kms_arn == aws_kms_key.own[0].arn,
    ])
    error_message = "With a key of our own, everything uses it, and everyone who must may."
  }
}

run "archive" {
  assert {
    condition     = aws_kinesis_firehose_delivery_stream.archive[0].extended_s3_configuration[0].prefix == "archive/"
    error_message = "The archive takes the raw stream to the bucket."
  }
  assert {
    condition = alltrue(flatten([for statement in jsondecode(aws_iam_role_policy.archive[0].policy).Statement : [
      for resource in statement.Resource : resource != "*"
    ]]))
    error_message = "Firehose's role names what it may touch."
  }
}

run "commands_are_told_how_long_readings_are_kept" {
  variables {
    retention_days = 30
  }

  assert {
    condition     = endswith(trimspace(output.commands), "export RETENTION_DAYS=30")
    error_message = "`processor verify` must not take what expired for deleted."
  }
}

run "commands_are_told_what_ingest_is_told" {
  variables {
    functions = { environment = { ingest = { RETENTION_DAYS = "7" } } }
  }

  assert {
    condition     = endswith(trimspace(output.commands), "export RETENTION_DAYS=7")
    error_message = "What `functions.environment` says of ingest holds, for ingest writes when a reading expires."
  }
}

run "functions_options" {
  assert {
    condition     = jsondecode(output.apex_files["functions/ingest/function.test.json"]).environment.LOG_LEVEL == "DEBUG"
    error_message = "More variables reach Terraform and apex alike."
  }
  assert {
    condition     = toset([for statement in jsondecode(module.function["ingest"].policy).Statement : statement.Sid if contains(statement.Resource, "*")]) == toset(["Trace"])
    error_message = "X-Ray alone has no resources to name."
  }
  assert {
    condition     = !aws_lambda_event_source_mapping.this["ingest"].enabled
    error_message = "mappings_enabled stops the mappings."
  }
}

run "without_funnel_or_extras" {
  variables {
    soracom        = null
    ingest_mapping = { failure_destination = false, event_count_metrics = false, report_batch_item_failures = false }
    rollup_mapping = { failure_destination = false, event_count_metrics = false }
  }

  assert {
    condition     = length(aws_iam_role.funnel) == 0 && output.funnel_credentials == null
    error_message = "Without SORACOM's ids there is no role for it."
  }
  assert {
    condition = (
      length(aws_lambda_event_source_mapping.this["ingest"].destination_config) == 0 &&
      length(aws_cloudwatch_metric_alarm.dropped_events) == 0 && length(aws_cloudwatch_metric_alarm.failed_invocations) == 0 &&
      !strcontains(module.function["ingest"].policy, "KeepFailures") &&
      !strcontains(module.function["rollup"].policy, "KeepFailures")
    )
    error_message = "What is switched off leaves neither rights nor alarms behind."
  }
}
