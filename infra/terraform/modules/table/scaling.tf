# Provisioned mode: target tracking of consumed against provisioned capacity. It looks at consumption alone, which
# throttling keeps down: hence the alarms on throttled requests, in both modes.
locals {
  scaled = local.provisioned ? { Read = var.capacity.read, Write = var.capacity.write } : {}
}

resource "aws_appautoscaling_target" "this" {
  for_each = local.scaled

  service_namespace  = "dynamodb"
  resource_id        = "table/${aws_dynamodb_table.this.name}"
  scalable_dimension = "dynamodb:table:${each.key}CapacityUnits"
  min_capacity       = each.value.minimum
  max_capacity       = each.value.maximum
}

resource "aws_appautoscaling_policy" "this" {
  for_each = local.scaled

  name               = "${aws_dynamodb_table.this.name}-${lower(each.key)}"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.this[each.key].service_namespace
  resource_id        = aws_appautoscaling_target.this[each.key].resource_id
  scalable_dimension = aws_appautoscaling_target.this[each.key].scalable_dimension

  target_tracking_scaling_policy_configuration {
    target_value = var.capacity.target_percent

    predefined_metric_specification {
      predefined_metric_type = "DynamoDB${each.key}CapacityUtilization"
    }
  }
}
