terraform {
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }
}

# Code, its hash and the versions are apex's business; everything else is Terraform's, and apex sends the very same
# values (the output apex_files of the root module): so neither changes what the other made.
resource "aws_lambda_function" "this" {
  #checkov:skip=CKV_AWS_50: tracing is an option (functions.tracing): it costs, and the metrics of each batch say more
  #checkov:skip=CKV_AWS_115: reservations are an option (functions.reserved_concurrency): new accounts may refuse them
  #checkov:skip=CKV_AWS_116: a dead-letter queue serves asynchronous invocations; here the mapping keeps failed batches in S3
  #checkov:skip=CKV_AWS_117: it talks to AWS's public endpoints only, over TLS; a VPC would add cost and cold starts
  #checkov:skip=CKV_AWS_272: apex uploads packages unsigned, and cannot be told otherwise
  function_name                  = var.name
  description                    = var.config.description
  runtime                        = var.config.runtime
  handler                        = var.config.handler
  memory_size                    = var.config.memory
  timeout                        = var.config.timeout
  architectures                  = [var.config.architecture]
  role                           = aws_iam_role.this.arn
  kms_key_arn                    = var.kms_key_arn
  reserved_concurrent_executions = coalesce(var.reserved_concurrency, -1)
  filename                       = "${path.module}/placeholder.zip" # placeholder/main.py: refuses every event
  publish                        = true                             # the alias needs a version

  environment {
    variables = merge(var.environment, {
      # apex adds these two by itself.
      APEX_FUNCTION_NAME   = var.short_name
      LAMBDA_FUNCTION_NAME = var.name
    })
  }

  tracing_config {
    mode = var.tracing ? "Active" : "PassThrough"
  }

  lifecycle {
    ignore_changes = [filename, source_code_hash, s3_bucket, s3_key, s3_object_version]
  }

  # The function must not create its log group by itself, without retention.
  depends_on = [aws_cloudwatch_log_group.this, aws_iam_role_policy.this]
}

# What mappings and permissions point at; each deployment moves it to the version it made.
resource "aws_lambda_alias" "current" {
  name             = "current"
  description      = "The deployed version"
  function_name    = aws_lambda_function.this.function_name
  function_version = aws_lambda_function.this.version

  lifecycle {
    # apex makes and moves the alias without a description, and `processor deploy --rollback` moves it back.
    ignore_changes = [function_version, description]
  }
}

resource "aws_cloudwatch_log_group" "this" {
  name              = "/aws/lambda/${var.name}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn
}
