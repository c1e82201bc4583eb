# Two topics: a warning can wait for the morning, a page cannot.
resource "aws_sns_topic" "alarms" {
  for_each = toset(["warning", "page"])

  name = "${local.prefix}-${each.key}"
  # Not with AWS's own key for SNS: CloudWatch may not use it, and alarms would be lost in silence.
  kms_master_key_id = local.key_arn
}

resource "aws_sns_topic_subscription" "email" {
  for_each = merge([
    for severity, addresses in var.alarm_emails : { for address in addresses : "${severity} ${address}" => { severity = severity, address = address } }
  ]...)

  topic_arn = aws_sns_topic.alarms[each.value.severity].arn
  protocol  = "email"
  endpoint  = each.value.address
}

locals {
  alarm_actions = { for severity, topic in aws_sns_topic.alarms : severity => [topic.arn] }
}
