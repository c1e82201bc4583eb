# The role that SORACOM Funnel assumes: it may put records into this stream, and nothing else.
# How Funnel is told of it: FUNNEL.md.
resource "aws_iam_role" "funnel" {
  count = var.soracom == null ? 0 : 1

  name        = "${local.prefix}-funnel"
  description = "SORACOM Funnel puts records into ${local.prefix}"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "FunnelWithOurExternalId"
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { AWS = "arn:${local.partition}:iam::${var.soracom.account_id}:root" }
      Condition = { StringEquals = { "sts:ExternalId" = var.soracom.external_id } }
    }]
  })
}

resource "aws_iam_role_policy" "funnel" {
  count = length(aws_iam_role.funnel)

  name = "put-records"
  role = aws_iam_role.funnel[0].id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [{
        Sid      = "PutRecords"
        Effect   = "Allow"
        Action   = ["kinesis:PutRecord", "kinesis:PutRecords"]
        Resource = [aws_kinesis_stream.records.arn]
      }],
      [for key in aws_kms_key.own[*].arn : {
        Sid      = "EncryptRecords"
        Effect   = "Allow"
        Action   = ["kms:GenerateDataKey"]
        Resource = [key]
      }]
    )
  })
}

locals {
  # What SORACOM's API takes; FUNNEL.md says where.
  funnel_credentials = var.soracom == null ? null : {
    type        = "aws-iam-role-credentials"
    description = "puts records into the Kinesis stream ${local.prefix}"
    credentials = { roleArn = aws_iam_role.funnel[0].arn, externalId = var.soracom.external_id }
  }
  funnel_configuration = [
    { key = "enabled", value = true },
    { key = "credentialsId", value = local.prefix },
    { key = "contentType", value = "json" },
    { key = "destination", value = {
      provider              = "aws"
      service               = "kinesis"
      resourceUrl           = "https://kinesis.${local.region}.amazonaws.com/${local.prefix}"
      randomizePartitionKey = true
    } },
  ]
}
