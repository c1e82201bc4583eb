# Every record of the stream, as it came, under archive/YYYY/MM/DD/HH/ (time of arrival, UTC): one a line, gzipped.
resource "aws_kinesis_firehose_delivery_stream" "archive" {
  count = var.archive.enabled ? 1 : 0

  name        = "${local.prefix}-archive"
  destination = "extended_s3"

  kinesis_source_configuration {
    kinesis_stream_arn = aws_kinesis_stream.records.arn
    role_arn           = aws_iam_role.archive[0].arn
  }

  extended_s3_configuration {
    role_arn            = aws_iam_role.archive[0].arn
    bucket_arn          = aws_s3_bucket.data.arn
    prefix              = "archive/"
    error_output_prefix = "archive-errors/!{firehose:error-output-type}/"
    compression_format  = "GZIP"
    buffering_size      = 64
    buffering_interval  = 900

    cloudwatch_logging_options {
      enabled         = true
      log_group_name  = aws_cloudwatch_log_group.archive[0].name
      log_stream_name = aws_cloudwatch_log_stream.archive[0].name
    }

    processing_configuration {
      enabled = true

      processors {
        type = "AppendDelimiterToRecord"

        parameters {
          parameter_name  = "Delimiter"
          parameter_value = "\\n"
        }
      }
    }
  }

  depends_on = [aws_iam_role_policy.archive]
}

resource "aws_cloudwatch_log_group" "archive" {
  count = var.archive.enabled ? 1 : 0

  name              = "/aws/kinesisfirehose/${local.prefix}-archive"
  retention_in_days = var.functions.log_retention_days
  kms_key_id        = local.key_arn
}

resource "aws_cloudwatch_log_stream" "archive" {
  count = var.archive.enabled ? 1 : 0

  name           = "delivery"
  log_group_name = aws_cloudwatch_log_group.archive[0].name
}

resource "aws_iam_role" "archive" {
  count = var.archive.enabled ? 1 : 0

  name        = "${local.prefix}-archive"
  description = "Firehose copies ${local.prefix} to the bucket"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "firehose.amazonaws.com" }
      Condition = { StringEquals = { "aws:SourceAccount" = local.account } }
    }]
  })
}

resource "aws_iam_role_policy" "archive" {
  count = var.archive.enabled ? 1 : 0

  name = "least-privilege"
  role = aws_iam_role.archive[0].id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [
        {
          Sid      = "ReadStream"
          Effect   = "Allow"
          Action   = formatlist("kinesis:%s", ["DescribeStream", "GetShardIterator", "GetRecords", "ListShards"])
          Resource = [aws_kinesis_stream.records.arn]
        },
        {
          Sid      = "WriteObjects"
          Effect   = "Allow"
          Action   = ["s3:PutObject", "s3:AbortMultipartUpload"]
          Resource = ["${local.bucket_arn}/archive/*", "${local.bucket_arn}/archive-errors/*"]
        },
        {
          Sid      = "FindBucket"
          Effect   = "Allow"
          Action   = ["s3:GetBucketLocation", "s3:ListBucket", "s3:ListBucketMultipartUploads"]
          Resource = [local.bucket_arn]
        },
        {
          Sid      = "WriteLogs"
          Effect   = "Allow"
          Action   = ["logs:PutLogEvents"]
          Resource = ["${aws_cloudwatch_log_group.archive[0].arn}:log-stream:${aws_cloudwatch_log_stream.archive[0].name}"]
        },
      ],
      [for key in aws_kms_key.own[*].arn : {
        Sid      = "UseKey"
        Effect   = "Allow"
        Action   = ["kms:Decrypt", "kms:GenerateDataKey"]
        Resource = [key]
      }]
    )
  })
}
