# What SORACOM Funnel puts records into, and `ingest` reads from.
resource "aws_kinesis_stream" "records" {
  name             = local.prefix
  shard_count      = var.stream.mode == "PROVISIONED" ? var.stream.shards : null
  retention_period = var.stream.retention_hours
  encryption_type  = "KMS"
  kms_key_id       = coalesce(local.key_arn, "alias/aws/kinesis")

  # The one that the page shows shard by shard (processor/dashboard/cloudwatch.py); each is billed.
  shard_level_metrics = var.stream.shard_metrics ? ["IteratorAgeMilliseconds"] : null

  stream_mode_details {
    stream_mode = var.stream.mode
  }
}
