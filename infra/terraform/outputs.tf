output "apex_files" {
  description = "apex's files for this environment, by path below apex/; `processor apex-files` writes them."
  value       = local.apex_files
}

output "stream" {
  description = "The Kinesis stream's name and ARN."
  value       = { name = aws_kinesis_stream.records.name, arn = aws_kinesis_stream.records.arn }
}

output "funnel_credentials" {
  description = "The credentials set to register at SORACOM (FUNNEL.md); null without `soracom`."
  value       = local.funnel_credentials
}

output "funnel_configuration" {
  description = "Funnel's configuration for a SIM group (FUNNEL.md)."
  value       = local.funnel_configuration
}

output "tables" {
  description = "The tables' names by noun."
  value       = { for noun, table in module.table : noun => table.name }
}

output "bucket" {
  description = "The bucket of quarantine, failed batches, uploads and the archive."
  value       = aws_s3_bucket.data.bucket
}

output "functions" {
  description = "By function: name, ARN of the alias, role, policy, log group and alarms."
  value       = module.function
}

output "mappings" {
  description = "The event source mappings' UUIDs by function."
  value       = { for name, mapping in aws_lambda_event_source_mapping.this : name => mapping.uuid }
}

output "alarm_topics" {
  description = "The SNS topics of warnings and pages."
  value       = { for severity, topic in aws_sns_topic.alarms : severity => topic.arn }
}

output "alarms" {
  description = "The names of all alarms."
  value = sort(concat(
    flatten([values(module.function)[*].alarm_names, values(module.table)[*].alarm_names]),
    [for alarm in concat(
      values(aws_cloudwatch_metric_alarm.age), values(aws_cloudwatch_metric_alarm.age_growth),
      values(aws_cloudwatch_metric_alarm.dropped_events), values(aws_cloudwatch_metric_alarm.failed_invocations),
      values(aws_cloudwatch_metric_alarm.heartbeat),
      [aws_cloudwatch_metric_alarm.quarantine, aws_cloudwatch_metric_alarm.rollups_invalid, aws_cloudwatch_metric_alarm.stream_throttles]
    ) : alarm.alarm_name]
  ))
}

output "commands" {
  description = "The environment in which `processor query`, `devices`, `quarantine`, `failures`, `replay`, `verify` and `audit` work on this deployment: `eval \"$(terraform output -raw commands)\"`."
  value       = <<-EOT
    export AWS_REGION=${local.region}
    export TABLE_PREFIX=${local.table_prefix}
    export QUARANTINE_BUCKET=${local.bucket}
    export RETENTION_DAYS=${local.function_environments["ingest"]["RETENTION_DAYS"]}
  EOT
}

output "cache_policy" {
  description = "ARN of the policy to attach to the role of a function that uses processor.cache."
  value       = aws_iam_policy.cache.arn
}
