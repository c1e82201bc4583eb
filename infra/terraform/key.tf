# A key of our own, for everything, where it is asked for. Its policy is what AWS's services need to use it for us.
resource "aws_kms_key" "own" {
  count = var.customer_managed_key ? 1 : 0

  description             = "${local.prefix}: stream, tables, bucket, logs, topics, functions' environment"
  enable_key_rotation     = true
  deletion_window_in_days = var.deletion_protection ? 30 : 7

  # In a key's policy the resource is always "*": it means this key (KMS Developer Guide, "Key policies").
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "AccountDecidesByIam"
        Effect    = "Allow"
        Principal = { AWS = "arn:${local.partition}:iam::${local.account}:root" }
        Action    = "kms:*"
        Resource  = "*"
      },
      {
        Sid       = "LogsOfThisProject"
        Effect    = "Allow"
        Principal = { Service = "logs.${local.region}.amazonaws.com" }
        Action    = ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"]
        Resource  = "*"
        Condition = { ArnLike = {
          "kms:EncryptionContext:aws:logs:arn" = "arn:${local.partition}:logs:${local.region}:${local.account}:log-group:/aws/*/${local.project.name}-*"
        } }
      },
      {
        Sid       = "AlarmsPublish"
        Effect    = "Allow"
        Principal = { Service = "cloudwatch.amazonaws.com" }
        Action    = ["kms:Decrypt", "kms:GenerateDataKey*"]
        Resource  = "*"
        Condition = { StringEquals = { "aws:SourceAccount" = local.account } }
      },
    ]
  })
}

resource "aws_kms_alias" "own" {
  count = length(aws_kms_key.own)

  name          = "alias/${local.prefix}"
  target_key_id = aws_kms_key.own[0].key_id
}

locals {
  key_arn = one(aws_kms_key.own[*].arn)
}
