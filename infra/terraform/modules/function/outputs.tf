output "name" {
  description = "The function's name."
  value       = aws_lambda_function.this.function_name
}

output "alias_arn" {
  description = "The ARN of its alias `current`."
  value       = aws_lambda_alias.current.arn
}

output "role_arn" {
  description = "The ARN of its role."
  value       = aws_iam_role.this.arn
}

output "role_name" {
  description = "The name of its role."
  value       = aws_iam_role.this.name
}

output "policy" {
  description = "What its role may do, as JSON."
  value       = aws_iam_role_policy.this.policy
}

output "log_group" {
  description = "The name of its log group."
  value       = aws_cloudwatch_log_group.this.name
}

output "alarm_names" {
  description = "The names of its alarms."
  value       = values(aws_cloudwatch_metric_alarm.this)[*].alarm_name
}
