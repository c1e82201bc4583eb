# One table for each entry of processor/store/tables.json.
module "table" {
  source   = "./modules/table"
  for_each = local.table_specifications

  name                = "${local.table_prefix}${each.key}"
  specification       = each.value
  capacity            = var.tables
  deletion_protection = var.deletion_protection
  kms_key_arn         = local.key_arn
  alarm_actions       = local.alarm_actions
}
