# Alarms on the way from the stream to the tables. Those of each function and each table are in their modules.
locals {
  metrics_namespace = "Processor" # processor/telemetry.py
  stream_dimensions = { StreamName = aws_kinesis_stream.records.name }
  day_ms            = 24 * 3600 * 1000

  # How old the records are when they are read: by whom, when that is late (a warning), when it is dangerous (a page: half
  # of the time that the source keeps its records; a table's stream keeps them for 24 hours, which cannot be changed).
  ages = { for name, age in {
    ingest = {
      namespace  = "AWS/Lambda"
      metric     = "IteratorAge"
      dimensions = { FunctionName = try(module.function["ingest"].name, "") }
      late_ms    = var.alarms.iterator_age_seconds * 1000
      danger_ms  = var.stream.retention_hours * 3600 * 1000 / 2
      what       = "ingest reads records that are"
      where      = "the stream ${local.prefix}"
    }
    stream = {
      namespace  = "AWS/Kinesis"
      metric     = "GetRecords.IteratorAgeMilliseconds"
      dimensions = local.stream_dimensions
      late_ms    = var.alarms.iterator_age_seconds * 1000
      danger_ms  = var.stream.retention_hours * 3600 * 1000 / 2
      what       = "the slowest reader of the stream ${local.prefix} (ingest, or the archive) reads records that are"
      where      = "the stream ${local.prefix}"
    }
    rollup = {
      namespace  = "AWS/Lambda"
      metric     = "IteratorAge"
      dimensions = { FunctionName = try(module.function["rollup"].name, "") }
      late_ms    = var.alarms.rollup_age_seconds * 1000
      danger_ms  = local.day_ms / 2
      what       = "rollup reads changes that are"
      where      = "the stream of the table readings"
    }
  } : name => age if name == "stream" || contains(keys(local.function_files), name) }

  catch_up = <<-EOT
    Look at the alarms of errors, throttles and duration first: they name the cause. If there is none, the load has grown:
    raise the mapping's parallelization_factor, then the function's memory, then stream.shards; the saved query "slowest
    batches" tells decoding from writing.
  EOT

  age_alarms = merge(
    {
      for name, age in local.ages : "${name}-late" => {
        age         = age
        threshold   = age.late_ms
        period      = 60
        periods     = 5
        datapoints  = 3
        severity    = "warning"
        description = "${age.what} over ${age.late_ms / 1000} s old: readings arrive late. ${local.catch_up}"
      }
    },
    {
      for name, age in local.ages : "${name}-danger" => {
        age         = age
        threshold   = age.danger_ms
        period      = 60
        periods     = 5
        datapoints  = 3
        severity    = "page"
        description = <<-EOT
          ${age.what} over ${age.danger_ms / 3600000} h old: as long again, and ${age.where} drops what was not processed.
          ${name == "rollup" ? "Roll-ups can be rebuilt from the readings." : "Raise stream.retention_hours now (up to 8,760): that alone buys the time."}
          ${local.catch_up}
        EOT
      }
    }
  )
}

resource "aws_cloudwatch_metric_alarm" "age" {
  for_each = local.age_alarms

  alarm_name          = "${local.prefix}-age-${each.key}"
  alarm_description   = each.value.description
  namespace           = each.value.age.namespace
  metric_name         = each.value.age.metric
  dimensions          = each.value.age.dimensions
  statistic           = "Maximum"
  period              = each.value.period
  evaluation_periods  = each.value.periods
  datapoints_to_alarm = each.value.datapoints
  comparison_operator = "GreaterThanThreshold"
  threshold           = each.value.threshold
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_actions[each.value.severity]
  ok_actions          = local.alarm_actions[each.value.severity]
}

# Growth: fifteen minutes of rising age, long before it is late. An age under ten seconds is the batching window's.
resource "aws_cloudwatch_metric_alarm" "age_growth" {
  for_each = local.ages

  alarm_name          = "${local.prefix}-age-${each.key}-growth"
  alarm_description   = "${each.value.what} older by the minute, for a quarter of an hour: more comes in than is processed. ${local.catch_up}"
  evaluation_periods  = 3
  datapoints_to_alarm = 3
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_actions.warning
  ok_actions          = local.alarm_actions.warning

  metric_query {
    id          = "growth"
    label       = "ms in five minutes"
    expression  = "IF(age > 10000, DIFF(age), 0)"
    return_data = true
  }

  metric_query {
    id          = "age"
    return_data = false

    metric {
      namespace   = each.value.namespace
      metric_name = each.value.metric
      dimensions  = each.value.dimensions
      period      = 300
      stat        = "Maximum"
    }
  }
}

# The mapping's own counts (metrics_config EventCount).
resource "aws_cloudwatch_metric_alarm" "dropped_events" {
  for_each = { for name, mapping in local.mappings : name => mapping if mapping.settings.event_count_metrics }

  alarm_name          = "${local.prefix}-${each.key}-dropped-events"
  alarm_description   = <<-EOT
    The mapping of ${each.key} has given up records: they expired in the source, or reached maximum_retry_attempts or
    maximum_record_age_seconds. With a failure destination they are in the bucket ${local.bucket} under aws/lambda/,
    whole: find the cause with the saved query "errors", correct it, then send them again.
  EOT
  namespace           = "AWS/Lambda"
  metric_name         = "DroppedEventCount"
  dimensions          = { EventSourceMappingUUID = aws_lambda_event_source_mapping.this[each.key].uuid }
  statistic           = "Sum"
  period              = 60
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_actions.page
}

resource "aws_cloudwatch_metric_alarm" "failed_invocations" {
  for_each = { for name, mapping in local.mappings : name => mapping if mapping.settings.event_count_metrics }

  alarm_name          = "${local.prefix}-${each.key}-failed-invocations"
  alarm_description   = <<-EOT
    The mapping of ${each.key} hands over batches that do not go through (an error, a throttle, a record given back), for
    minutes. They are retried: nothing is lost yet. The saved query "errors" shows why; DynamoDB's throttles and
    permissions (AccessDenied) and a disabled KMS key are the usual causes.
  EOT
  namespace           = "AWS/Lambda"
  metric_name         = "FailedInvokeEventCount"
  dimensions          = { EventSourceMappingUUID = aws_lambda_event_source_mapping.this[each.key].uuid }
  statistic           = "Sum"
  period              = 60
  evaluation_periods  = 5
  datapoints_to_alarm = 3
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_actions.warning
  ok_actions          = local.alarm_actions.warning
}

# A stopped mapping has no age and no errors: it is seen by what does not happen.
resource "aws_cloudwatch_metric_alarm" "heartbeat" {
  for_each = { for name, mapping in local.mappings : name => mapping if name == "ingest" }

  alarm_name          = "${local.prefix}-heartbeat"
  alarm_description   = <<-EOT
    Records come into ${local.prefix} but ingest has not been invoked for a quarter of an hour. Is its mapping enabled
    (mappings_enabled; state and LastProcessingResult in the Lambda console, "Triggers")? May its role read the stream?
    Records wait for ${var.stream.retention_hours} h, then they are lost.
  EOT
  evaluation_periods  = 3
  datapoints_to_alarm = 3
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_actions.page
  ok_actions          = local.alarm_actions.page

  metric_query {
    id          = "silence"
    label       = "records come in, nothing is invoked"
    expression  = "IF(incoming > 0 AND SUM([invocations, incoming * 0]) < 1, 1, 0)" # no invocations at all: no metric to FILL
    return_data = true
  }

  metric_query {
    id          = "incoming"
    return_data = false

    metric {
      namespace   = "AWS/Kinesis"
      metric_name = "IncomingRecords"
      dimensions  = local.stream_dimensions
      period      = 300
      stat        = "Sum"
    }
  }

  metric_query {
    id          = "invocations"
    return_data = false

    metric {
      namespace   = "AWS/Lambda"
      metric_name = "Invocations"
      dimensions  = { FunctionName = module.function[each.key].name }
      period      = 300
      stat        = "Sum"
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "quarantine" {
  alarm_name          = "${local.prefix}-quarantine-growth"
  alarm_description   = <<-EOT
    More than ${var.alarms.rejected_per_hour} advertisements an hour cannot be decoded and went to quarantine (nothing is lost: bucket
    ${local.bucket}, quarantine/). The saved query "rejected records by reason" says why: often a gateway's new firmware or a
    clock that is wrong. `processor quarantine` lists them.
  EOT
  namespace           = local.metrics_namespace
  metric_name         = "RecordsRejected"
  dimensions          = { service = local.function_names["ingest"] }
  statistic           = "Sum"
  period              = 3600
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = var.alarms.rejected_per_hour
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_actions.warning
  ok_actions          = local.alarm_actions.warning
}

resource "aws_cloudwatch_metric_alarm" "rollups_invalid" {
  alarm_name          = "${local.prefix}-rollups-invalid"
  alarm_description   = <<-EOT
    rollup left out a cell that is no reading, or passed over an item whose slot is none, or a range that DynamoDB calls
    invalid: an item of readings that somebody changed by hand, or values too large. The readings are untouched; the
    function's log names device and time. Mend the item, then run `processor verify --fix`.
  EOT
  namespace           = local.metrics_namespace
  metric_name         = "RollupsInvalid"
  dimensions          = { service = local.function_names["rollup"] }
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_actions.warning
  ok_actions          = local.alarm_actions.warning
}

resource "aws_cloudwatch_metric_alarm" "stream_throttles" {
  alarm_name          = "${local.prefix}-stream-write-throttles"
  alarm_description   = <<-EOT
    Kinesis refused records put into ${local.prefix}: a shard took more than 1,000 records or 1 MB in a second. Gateways
    or Funnel may lose them. If IncomingRecords is far below what the shards can take together, one shard is hot: is
    randomizePartitionKey on in Funnel's configuration (FUNNEL.md)? Else raise stream.shards, or set stream.mode ON_DEMAND.
  EOT
  namespace           = "AWS/Kinesis"
  metric_name         = "WriteProvisionedThroughputExceeded"
  dimensions          = local.stream_dimensions
  statistic           = "Sum"
  period              = 60
  evaluation_periods  = 5
  datapoints_to_alarm = 2
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_actions.page
  ok_actions          = local.alarm_actions.page
}
