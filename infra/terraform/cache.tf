# What a function that uses the cache (processor/cache) needs: attach this policy to its role. Ours does not use it yet.
resource "aws_iam_policy" "cache" {
  name        = "${local.prefix}-cache"
  description = "The exact rights of processor.cache on its table; Scan is for Cache.clear alone."

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid    = "Cache"
        Effect = "Allow"
        Action = [
          "dynamodb:BatchGetItem",
          "dynamodb:BatchWriteItem",
          "dynamodb:DeleteItem",
          "dynamodb:GetItem",
          "dynamodb:PutItem",
          "dynamodb:Scan",
          "dynamodb:UpdateItem",
        ]
        Resource = module.table["cache"].arn
      },
    ]
  })
}
