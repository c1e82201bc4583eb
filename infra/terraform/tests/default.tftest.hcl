# What a user gets who sets nothing but SORACOM's ids.
mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  soracom = { account_id = "111122223333", external_id = "0123456789abcdef" }
}

run "stream" {
  assert {
    condition     = aws_kinesis_stream.records.shard_count == 1 && aws_kinesis_stream.records.stream_mode_details[0].stream_mode == "PROVISIONED"
    error_message = "One provisioned shard is the cheapest stream."
  }
  assert {
    condition     = aws_kinesis_stream.records.encryption_type == "KMS" && aws_kinesis_stream.records.retention_period == 24
    error_message = "The stream is encrypted and keeps records for a day."
  }
  assert {
    condition     = aws_kinesis_stream.records.shard_level_metrics == null
    error_message = "Shards have no metrics of their own: they cost money."
  }
}

run "funnel_may_put_records_into_this_stream_only" {
  assert {
    condition = jsondecode(aws_iam_role_policy.funnel[0].policy).Statement == [{
      Sid      = "PutRecords"
      Effect   = "Allow"
      Action   = ["kinesis:PutRecord", "kinesis:PutRecords"]
      Resource = ["arn:aws:kinesis:eu-central-1:123456789012:stream/processor-prod"]
    }]
    error_message = "Funnel's role puts records into our stream, and does nothing else."
  }
  assert {
    condition = alltrue([for s in jsondecode(aws_iam_role.funnel[0].assume_role_policy).Statement :
      s.Principal.AWS == "arn:aws:iam::111122223333:root" && s.Condition.StringEquals["sts:ExternalId"] == "0123456789abcdef"
    ])
    error_message = "Only SORACOM's account with our external id assumes the role."
  }
  assert {
    condition     = output.funnel_credentials.credentials == { roleArn = "arn:aws:iam::123456789012:role/mocked", externalId = "0123456789abcdef" }
    error_message = "The credentials for SORACOM name the role and the external id."
  }
  assert {
    condition     = [for each in output.funnel_configuration : each.value if each.key == "destination"][0].randomizePartitionKey
    error_message = "Funnel is told to spread records over the shards."
  }
}

run "tables" {
  assert {
    condition     = alltrue([for table in module.table : table.name != ""]) && keys(module.table) == keys(jsondecode(file("../../processor/store/tables.json")))
    error_message = "Every table of tables.json is there, and no other."
  }
}

run "cache" {
  assert {
    condition = toset(jsondecode(aws_iam_policy.cache.policy).Statement[0].Action) == toset(formatlist("dynamodb:%s", [
      "BatchGetItem", "BatchWriteItem", "DeleteItem", "GetItem", "PutItem", "Scan", "UpdateItem"
    ]))
    error_message = "The cache's policy has the rights that processor/cache/README.md names, and no other."
  }
}

run "functions" {
  assert {
    condition     = toset(keys(module.function)) == toset([for path in fileset("../../apex/functions", "*/function.json") : dirname(path)])
    error_message = "Every folder of apex/functions is a function."
  }
  assert {
    condition = alltrue([for name, function in module.function :
      function.role_name == "processor-prod-${name}" && function.log_group == "/aws/lambda/processor-prod-${name}" &&
      toset(function.alarm_names) == toset([for alarm in ["errors", "throttles", "duration", "memory"] : "processor-prod-${name}-${alarm}"])
    ])
    error_message = "Every function has a role, a log group and its four alarms."
  }
  assert {
    condition = alltrue(flatten([for function in module.function : [
      for statement in jsondecode(function.policy).Statement : [
        for resource in statement.Resource : resource != "*"
      ]
    ]]))
    error_message = "No function may do anything to every resource."
  }
}

run "mapping" {
  assert {
    condition     = aws_lambda_event_source_mapping.this["ingest"].enabled && aws_lambda_event_source_mapping.this["ingest"].starting_position == "TRIM_HORIZON"
    error_message = "The mapping runs, from the oldest record on."
  }
  assert {
    condition     = endswith(aws_lambda_event_source_mapping.this["ingest"].function_name, ":current")
    error_message = "The mapping points at the alias."
  }
  assert {
    condition = (
      aws_lambda_event_source_mapping.this["ingest"].maximum_retry_attempts == -1 &&
      aws_lambda_event_source_mapping.this["ingest"].maximum_record_age_in_seconds == -1
    )
    error_message = "By default nothing is given up."
  }
  assert {
    condition     = aws_lambda_event_source_mapping.this["ingest"].function_response_types == toset(["ReportBatchItemFailures"])
    error_message = "The function's batchItemFailures are believed."
  }
  assert {
    condition     = aws_lambda_event_source_mapping.this["ingest"].destination_config[0].on_failure[0].destination_arn == "arn:aws:s3:::${output.bucket}"
    error_message = "What is given up goes to the bucket, payload and all."
  }
  assert {
    condition     = aws_lambda_event_source_mapping.this["ingest"].metrics_config[0].metrics == toset(["EventCount"])
    error_message = "The mapping counts its events."
  }
}

run "alarms" {
  assert {
    condition = length(setsubtract([
      "age-ingest-late", "age-ingest-danger", "age-ingest-growth", "age-stream-late", "age-stream-danger", "age-stream-growth",
      "heartbeat", "ingest-dropped-events", "ingest-failed-invocations", "ingest-duration", "ingest-errors", "ingest-memory",
      "ingest-throttles", "quarantine-growth", "rollups-invalid", "readings-read-throttles", "readings-write-throttles", "readings-system-errors",
      "stream-write-throttles",
    ], [for name in output.alarms : trimprefix(name, "processor-prod-")])) == 0
    error_message = "Every alarm that the README lists is there."
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.age["ingest-late"].threshold == 60000 && aws_cloudwatch_metric_alarm.age["ingest-danger"].threshold == 12 * 3600 * 1000
    error_message = "A warning above the objective, a page at half of the retention."
  }
  assert {
    condition = (
      aws_cloudwatch_metric_alarm.age["ingest-late"].alarm_actions == toset([aws_sns_topic.alarms["warning"].arn]) &&
      aws_cloudwatch_metric_alarm.heartbeat["ingest"].alarm_actions == toset([aws_sns_topic.alarms["page"].arn])
    )
    error_message = "Alarms tell their topic."
  }
  assert {
    condition = alltrue([for alarm in concat(
      values(aws_cloudwatch_metric_alarm.age), values(aws_cloudwatch_metric_alarm.age_growth),
      values(aws_cloudwatch_metric_alarm.dropped_events), values(aws_cloudwatch_metric_alarm.failed_invocations),
      values(aws_cloudwatch_metric_alarm.heartbeat), [aws_cloudwatch_metric_alarm.quarantine, aws_cloudwatch_metric_alarm.rollups_invalid, aws_cloudwatch_metric_alarm.stream_throttles]
    ) : length(alarm.alarm_description) > 100 && length(alarm.alarm_description) <= 1024])
    error_message = "Each alarm says what to do, in the 1,024 characters that CloudWatch takes."
  }
}

run "apex_files" {
  assert {
    condition     = toset(keys(output.apex_files)) == toset(concat(["project.prod.json"], [for name in keys(module.function) : "functions/${name}/function.prod.json"]))
    error_message = "One file for the project and one for each function."
  }
  assert {
    condition = alltrue([for name in keys(module.function) :
      toset(keys(jsondecode(output.apex_files["functions/${name}/function.prod.json"]).environment)) == toset(["TABLE_PREFIX", "QUARANTINE_BUCKET", "RETENTION_DAYS"])
    ])
    error_message = "apex's environment is whole, without the two variables that apex adds."
  }
  assert {
    condition = alltrue([for name, function in module.function :
      jsondecode(output.apex_files["functions/${name}/function.prod.json"]).role == function.role_arn
    ])
    error_message = "apex needs each function's role."
  }
  assert {
    condition = alltrue([
      for key, value in jsondecode(file("../../apex/project.json")) :
      jsonencode(jsondecode(output.apex_files["project.prod.json"])[key]) == jsonencode(value)
    ])
    error_message = "What project.json says, hooks among it, is in the environment's file too."
  }
  assert {
    condition = alltrue([for name in keys(module.function) : alltrue([
      for key, value in jsondecode(file("../../apex/functions/${name}/function.json")) :
      jsonencode(jsondecode(output.apex_files["functions/${name}/function.prod.json"])[key]) == jsonencode(value)
    ])])
    error_message = "What function.json says is in the environment's file too, for that one replaces it."
  }
}

run "commands" {
  assert {
    condition = trimspace(output.commands) == join("\n", [for each in [
      "AWS_REGION=eu-central-1", "TABLE_PREFIX=processor-prod-", "QUARANTINE_BUCKET=${output.bucket}", "RETENTION_DAYS=400"
    ] : "export ${each}"])
    error_message = "The commands are told what the functions are: where the data is, and how long readings are kept."
  }
}

run "queries_and_dashboard" {
  assert {
    condition     = keys(aws_cloudwatch_query_definition.this) == ["cold starts", "errors", "memory by function", "rejected records by reason", "slowest batches"]
    error_message = "The five saved queries."
  }
  assert {
    condition     = alltrue([for widget in jsondecode(aws_cloudwatch_dashboard.this.dashboard_body).widgets : length(widget.properties.metrics) > 0])
    error_message = "No widget is empty."
  }
}

run "bucket" {
  assert {
    condition = (
      aws_s3_bucket_public_access_block.data.block_public_acls && aws_s3_bucket_public_access_block.data.block_public_policy &&
      aws_s3_bucket_public_access_block.data.ignore_public_acls && aws_s3_bucket_public_access_block.data.restrict_public_buckets
    )
    error_message = "The bucket is private."
  }
  assert {
    condition     = toset(aws_s3_bucket_lifecycle_configuration.data.rule[*].id) == toset(["quarantine", "failures", "uploads", "archive", "leftovers"])
    error_message = "Everything in the bucket goes at some time."
  }
}

run "options_are_off" {
  assert {
    condition     = length(aws_kinesis_firehose_delivery_stream.archive) == 0 && length(aws_kms_key.own) == 0 && length(aws_sns_topic_subscription.email) == 0
    error_message = "No archive, key or subscription that nobody asked for."
  }
}
