# From the table's stream to roll-ups and devices.
mock_provider "aws" {
  source = "./tests/mocks"
}

run "rollup_reads_the_stream_of_the_table" {
  assert {
    condition = (
      aws_lambda_event_source_mapping.this["rollup"].event_source_arn == module.table["readings"].stream_arn &&
      aws_lambda_event_source_mapping.this["rollup"].maximum_batching_window_in_seconds == 300 &&
      aws_lambda_event_source_mapping.this["rollup"].starting_position == "TRIM_HORIZON" &&
      aws_lambda_event_source_mapping.this["rollup"].function_response_types == toset(["ReportBatchItemFailures"])
    )
    error_message = "The mapping reads the stream of readings from its oldest record on, and gathers for five minutes."
  }
  assert {
    condition = toset([for statement in jsondecode(module.function["rollup"].policy).Statement : statement.Sid]) == toset([
      "WriteLogs", "ReadStream", "ReadReadings", "WriteRollups", "KnowDevices", "KeepFailures", "FindBucket",
    ])
    error_message = "It may read readings, write what it rolls up and know the devices."
  }
}

run "rollups_age_has_its_own_alarms" {
  assert {
    condition = (
      aws_cloudwatch_metric_alarm.age["rollup-late"].threshold == 900000 &&
      aws_cloudwatch_metric_alarm.age["rollup-danger"].threshold == 12 * 3600 * 1000 &&
      aws_cloudwatch_metric_alarm.age["rollup-danger"].alarm_actions == toset([aws_sns_topic.alarms["page"].arn]) &&
      contains(keys(aws_cloudwatch_metric_alarm.age_growth), "rollup")
    )
    error_message = "A table's stream keeps 24 hours: a warning early, a page at 12."
  }
  assert {
    condition     = toset(keys(aws_cloudwatch_metric_alarm.dropped_events)) == toset(["ingest", "rollup"])
    error_message = "What its mapping gives up is seen."
  }
}
