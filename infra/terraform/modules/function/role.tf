resource "aws_iam_role" "this" {
  name        = var.name
  description = "What the function ${var.name} may do"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "lambda.amazonaws.com" }
    }]
  })
}

resource "aws_iam_role_policy" "this" {
  name = "least-privilege"
  role = aws_iam_role.this.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [{
        Sid      = "WriteLogs"
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = ["${aws_cloudwatch_log_group.this.arn}:*"] # its streams, whose names Lambda invents
      }],
      [for each in range(var.tracing ? 1 : 0) : {
        Sid      = "Trace"
        Effect   = "Allow"
        Action   = ["xray:PutTraceSegments", "xray:PutTelemetryRecords"]
        Resource = ["*"] # X-Ray has no resources to name (Service Authorization Reference, "AWS X-Ray")
      }],
      [for key in var.kms_key_arn[*] : {
        Sid      = "UseKey"
        Effect   = "Allow"
        Action   = ["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"] # as DynamoDB asks
        Resource = [key]
      }],
      [for grant in var.grants : {
        Sid      = grant.sid
        Effect   = "Allow"
        Action   = grant.actions
        Resource = grant.resources
      }]
    )
  })
}
