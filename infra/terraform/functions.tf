# One function for each folder of apex/functions.
locals {
  function_configs = { for name, file in local.function_files : name => merge(local.project, file) }

  # What every function is told; processor/settings.py reads it.
  function_variables = {
    TABLE_PREFIX      = local.table_prefix
    QUARANTINE_BUCKET = local.bucket
    RETENTION_DAYS    = tostring(var.retention_days)
  }
  function_environments = {
    for name in keys(local.function_files) :
    name => merge(local.function_variables, lookup(var.functions.environment, name, {}))
  }

  read_stream = ["GetRecords", "GetShardIterator", "ListShards", "DescribeStream", "DescribeStreamSummary"]

  # What each function may do: what it does (tests/rights.json), no more. One that is not named here may write its logs.
  function_grants = {
    ingest = concat(
      [
        { sid = "ReadStream", actions = formatlist("kinesis:%s", local.read_stream), resources = [aws_kinesis_stream.records.arn] },
        { sid = "WriteReadings", actions = ["dynamodb:UpdateItem"], resources = [module.table["readings"].arn] },
        { sid = "KnowDevices", actions = ["dynamodb:BatchGetItem", "dynamodb:UpdateItem"], resources = [module.table["devices"].arn] },
        { sid = "Quarantine", actions = ["s3:PutObject"], resources = ["${local.bucket_arn}/quarantine/*"] },
        {
          sid       = "BindkeysInSecrets"
          actions   = ["secretsmanager:GetSecretValue"]
          resources = ["arn:${local.partition}:secretsmanager:${local.region}:${local.account}:secret:${local.prefix}/*"]
        },
      ],
      [for arn in compact([var.bindkeys_kms_key_arn]) :
      { sid = "BindkeysInDevices", actions = ["kms:Decrypt"], resources = [arn] }],
      var.ingest_mapping.failure_destination ? local.failure_grants : []
    )
    rollup = concat(
      [
        {
          sid       = "ReadStream"
          actions   = formatlist("dynamodb:%s", ["GetRecords", "GetShardIterator", "DescribeStream", "ListStreams"])
          resources = compact([module.table["readings"].stream_arn])
        },
        { sid = "ReadReadings", actions = ["dynamodb:Query"], resources = [module.table["readings"].arn] },
        { sid = "WriteRollups", actions = ["dynamodb:UpdateItem"], resources = [module.table["rollups"].arn] },
        { sid = "KnowDevices", actions = ["dynamodb:BatchGetItem", "dynamodb:UpdateItem"], resources = [module.table["devices"].arn] },
      ],
      var.rollup_mapping.failure_destination ? local.failure_grants : []
    )
  }

  # Lambda names what it puts there aws/lambda/MAPPING/SHARD/…, and asks for ListBucket (Lambda Developer Guide, "Retain
  # discarded batch records").
  failure_grants = [
    { sid = "KeepFailures", actions = ["s3:PutObject"], resources = ["${local.bucket_arn}/aws/lambda/*"] },
    { sid = "FindBucket", actions = ["s3:ListBucket"], resources = [local.bucket_arn] },
  ]
}

module "function" {
  source   = "./modules/function"
  for_each = local.function_files

  name                 = local.function_names[each.key]
  short_name           = each.key
  config               = local.function_configs[each.key]
  environment          = local.function_environments[each.key]
  grants               = lookup(local.function_grants, each.key, [])
  log_retention_days   = var.functions.log_retention_days
  tracing              = var.functions.tracing
  reserved_concurrency = lookup(var.functions.reserved_concurrency, each.key, null)
  kms_key_arn          = local.key_arn
  alarms               = var.alarms
  metrics_namespace    = local.metrics_namespace
  alarm_actions        = local.alarm_actions
}
