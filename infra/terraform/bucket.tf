# One private bucket for what is kept besides the tables: quarantine/, aws/lambda/ (failed batches), uploads/,
# archive/ and archive-errors/.
locals {
  bucket     = "${local.prefix}-${local.account}-${local.region}" # bucket names are unique in all of AWS
  bucket_arn = "arn:${local.partition}:s3:::${local.bucket}"

  bucket_lifecycles = {
    quarantine = { prefix = "quarantine/", days = var.bucket_days.quarantine }
    failures   = { prefix = "aws/lambda/", days = var.bucket_days.failures }
    uploads    = { prefix = "uploads/", days = var.bucket_days.uploads }
    archive    = { prefix = "archive", days = var.archive.days }
  }
}

resource "aws_s3_bucket" "data" {
  #checkov:skip=CKV_AWS_18: no access logs: the bucket is private, and CloudTrail has its data events where they are wanted
  #checkov:skip=CKV_AWS_144: one region: what is here is also in the stream or the tables, or was given up
  #checkov:skip=CKV_AWS_145: encrypted with S3's own key; with a KMS key where customer_managed_key asks for one
  #checkov:skip=CKV2_AWS_62: nothing listens to its events yet
  bucket        = local.bucket
  force_destroy = !var.deletion_protection
}

resource "aws_s3_bucket_public_access_block" "data" {
  bucket                  = aws_s3_bucket.data.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "data" {
  bucket = aws_s3_bucket.data.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "data" {
  bucket = aws_s3_bucket.data.id

  rule {
    bucket_key_enabled = var.customer_managed_key

    apply_server_side_encryption_by_default {
      sse_algorithm     = var.customer_managed_key ? "aws:kms" : "AES256"
      kms_master_key_id = local.key_arn
    }
  }
}

# A redrive marks and a mistake overwrites: the version before stays for a month.
resource "aws_s3_bucket_versioning" "data" {
  bucket = aws_s3_bucket.data.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "data" {
  bucket = aws_s3_bucket.data.id

  dynamic "rule" {
    for_each = local.bucket_lifecycles
    content {
      id     = rule.key
      status = "Enabled"

      filter {
        prefix = rule.value.prefix
      }

      expiration {
        days = rule.value.days
      }
    }
  }

  rule {
    id     = "leftovers"
    status = "Enabled"

    filter {}

    noncurrent_version_expiration {
      noncurrent_days = 30
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }

  depends_on = [aws_s3_bucket_versioning.data]
}

resource "aws_s3_bucket_policy" "data" {
  bucket = aws_s3_bucket.data.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "EncryptedConnectionsOnly"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:*"
      Resource  = [local.bucket_arn, "${local.bucket_arn}/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  })

  depends_on = [aws_s3_bucket_public_access_block.data]
}
