# Which function reads which stream. Mappings point at the alias `current`. They poll with the function's own role, so
# no permission (aws_lambda_permission) is needed; a function that AWS services invoke would get it on the alias too.
locals {
  mappings = { for name, mapping in {
    ingest = { source = aws_kinesis_stream.records.arn, settings = var.ingest_mapping }
    rollup = { source = module.table["readings"].stream_arn, settings = var.rollup_mapping }
  } : name => mapping if contains(keys(local.function_files), name) }
}

resource "aws_lambda_event_source_mapping" "this" {
  for_each = local.mappings

  event_source_arn                   = each.value.source
  function_name                      = module.function[each.key].alias_arn
  enabled                            = var.mappings_enabled
  starting_position                  = each.value.settings.starting_position
  batch_size                         = each.value.settings.batch_size
  maximum_batching_window_in_seconds = each.value.settings.batching_window_seconds
  parallelization_factor             = each.value.settings.parallelization_factor
  bisect_batch_on_function_error     = each.value.settings.bisect_batch_on_function_error
  maximum_retry_attempts             = each.value.settings.maximum_retry_attempts
  maximum_record_age_in_seconds      = each.value.settings.maximum_record_age_seconds
  function_response_types            = each.value.settings.report_batch_item_failures ? ["ReportBatchItemFailures"] : []

  dynamic "destination_config" {
    for_each = each.value.settings.failure_destination ? [local.bucket_arn] : []
    content {
      on_failure {
        destination_arn = destination_config.value # S3 alone keeps the records themselves, not just their numbers
      }
    }
  }

  dynamic "metrics_config" {
    for_each = each.value.settings.event_count_metrics ? ["EventCount"] : []
    content {
      metrics = [metrics_config.value]
    }
  }

  # The role's right to read is in the function's module; the bucket must be there to be a destination.
  depends_on = [module.function, aws_s3_bucket_public_access_block.data]
}
