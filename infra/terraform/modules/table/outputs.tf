output "name" {
  description = "The table's name."
  value       = aws_dynamodb_table.this.name
}

output "arn" {
  description = "The table's ARN."
  value       = aws_dynamodb_table.this.arn
}

output "stream_arn" {
  description = "The ARN of the table's stream; null where it has none."
  value       = var.specification.stream == null ? null : aws_dynamodb_table.this.stream_arn
}

output "alarm_names" {
  description = "The names of the table's alarms."
  value = concat(
    values(aws_cloudwatch_metric_alarm.throttles)[*].alarm_name, [aws_cloudwatch_metric_alarm.system_errors.alarm_name]
  )
}
