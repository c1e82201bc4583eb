locals {
  lambda_dimensions = { FunctionName = aws_lambda_function.this.function_name }

  # name → what is measured, when it is too much, and what to do about it.
  alarms = {
    errors = {
      namespace   = "AWS/Lambda"
      metric      = "Errors"
      dimensions  = local.lambda_dimensions
      statistic   = "Sum"
      threshold   = 0
      datapoints  = 3
      severity    = "page"
      description = <<-EOT
        ${var.name} keeps failing: the shard waits and its records grow older, none is lost before the stream's
        retention ends. Right after `terraform apply`: deploy its code (`apex deploy`). Else run the saved query
        "errors"; if it began with a deployment, `processor deploy --rollback ${var.short_name}`.
      EOT
    }
    throttles = {
      namespace   = "AWS/Lambda"
      metric      = "Throttles"
      dimensions  = local.lambda_dimensions
      statistic   = "Sum"
      threshold   = 0
      datapoints  = 3
      severity    = "warning"
      description = <<-EOT
        ${var.name} is refused invocations: the account's concurrency, or the function's reservation, is used up.
        Records wait and are not lost. Ask for a higher quota ("Concurrent executions"), raise
        functions.reserved_concurrency, or lower the mapping's parallelization_factor.
      EOT
    }
    duration = {
      namespace   = "AWS/Lambda"
      metric      = "Duration"
      dimensions  = local.lambda_dimensions
      statistic   = "Maximum"
      threshold   = var.config.timeout * 10 * var.alarms.duration_percent # percent of seconds, in ms
      datapoints  = 3
      severity    = "warning"
      description = <<-EOT
        ${var.name} runs for more than ${var.alarms.duration_percent} % of its timeout of ${var.config.timeout} s. Run the
        saved query "slowest batches": where WriteMs is long, look for throttles of the table; else raise memory (CPU
        comes with it) or timeout in apex/functions/${var.short_name}/function.json, or lower batch_size.
      EOT
    }
    memory = {
      namespace   = var.metrics_namespace
      metric      = "MemoryUtilization"
      dimensions  = { service = var.name }
      statistic   = "Maximum"
      threshold   = var.alarms.memory_percent
      datapoints  = 1
      severity    = "warning"
      description = <<-EOT
        ${var.name} used more than ${var.alarms.memory_percent} % of its ${var.config.memory} MB; at 100 % it is killed and the
        batch comes again. Raise memory in apex/functions/${var.short_name}/function.json, or lower the mapping's batch_size;
        the saved query "memory by function" shows the trend.
      EOT
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each = local.alarms

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.description
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = each.value.dimensions
  statistic           = each.value.statistic
  period              = 60
  evaluation_periods  = 5
  datapoints_to_alarm = each.value.datapoints
  comparison_operator = "GreaterThanThreshold"
  threshold           = each.value.threshold
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_actions[each.value.severity]
  ok_actions          = var.alarm_actions[each.value.severity]
}
