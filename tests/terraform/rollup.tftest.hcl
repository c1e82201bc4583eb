# Run with a function `rollup` and the tables it writes added to the repository's copy.
mock_provider "aws" {
  source = "./tests/mocks"
}

run "a_function_that_is_added_gets_everything" {
  assert {
    condition     = module.function["rollup"].log_group == "/aws/lambda/processor-prod-rollup" && length(module.function["rollup"].alarm_names) == 4
    error_message = "A new folder is a function with a role, a log group and alarms."
  }
  assert {
    condition = (
      jsondecode(output.apex_files["functions/rollup/function.prod.json"]).memory == 512 &&
      jsondecode(output.apex_files["functions/rollup/function.prod.json"]).runtime == jsondecode(file("../../apex/project.json")).runtime &&
      jsondecode(output.apex_files["functions/rollup/function.prod.json"]).hooks == { build = "make" }
    )
    error_message = "apex's file holds everything: the function's own, and what the project says for all."
  }
}

run "rollup_reads_the_stream_of_the_table" {
  assert {
    condition = (
      aws_lambda_event_source_mapping.this["rollup"].event_source_arn == module.table["readings"].stream_arn &&
      aws_lambda_event_source_mapping.this["rollup"].maximum_batching_window_in_seconds == 30
    )
    error_message = "The mapping reads the stream of readings."
  }
  assert {
    condition = toset([for statement in jsondecode(module.function["rollup"].policy).Statement : statement.Sid]) == toset([
      "WriteLogs", "ReadStream", "ReadReadings", "WriteRollups", "KeepFailures", "FindBucket",
    ])
    error_message = "It may read readings and write what it rolls up."
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
