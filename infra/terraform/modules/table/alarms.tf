resource "aws_cloudwatch_metric_alarm" "throttles" {
  for_each = toset(["Read", "Write"])

  alarm_name          = "${var.name}-${lower(each.key)}-throttles"
  alarm_description   = <<-EOT
    ${var.name}: ${lower(each.key)}s were throttled. Nothing is lost (the batch comes again) but readings arrive late.
    On demand: one partition is hot, or the load more than doubled within half an hour; it passes. Provisioned: raise
    tables.${lower(each.key)}.maximum, or minimum where bursts come faster than scaling, or set billing_mode PAY_PER_REQUEST.
  EOT
  namespace           = "AWS/DynamoDB"
  metric_name         = "${each.key}ThrottleEvents"
  dimensions          = { TableName = aws_dynamodb_table.this.name }
  statistic           = "Sum"
  period              = 60
  evaluation_periods  = 5
  datapoints_to_alarm = 2
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_actions.warning
  ok_actions          = var.alarm_actions.warning
}

# SystemErrors has no figure for a table as a whole: one for each operation, added up.
locals {
  operations = ["UpdateItem", "PutItem", "GetItem", "Query", "Scan", "BatchWriteItem", "BatchGetItem"]
}

resource "aws_cloudwatch_metric_alarm" "system_errors" {
  alarm_name          = "${var.name}-system-errors"
  alarm_description   = <<-EOT
    ${var.name}: DynamoDB answered with internal errors (HTTP 500) for several minutes. Batches are retried by
    themselves: look at AWS's Health Dashboard, and at the iterator age for how far behind the readings are.
  EOT
  evaluation_periods  = 5
  datapoints_to_alarm = 3
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_actions.warning
  ok_actions          = var.alarm_actions.warning

  metric_query {
    id          = "errors"
    label       = "system errors of all operations"
    expression  = "SUM(METRICS())"
    return_data = true
  }

  dynamic "metric_query" {
    for_each = local.operations
    content {
      id          = lower(metric_query.value)
      return_data = false
      metric {
        namespace   = "AWS/DynamoDB"
        metric_name = "SystemErrors"
        dimensions  = { TableName = aws_dynamodb_table.this.name, Operation = metric_query.value }
        period      = 60
        stat        = "Sum"
      }
    }
  }
}
