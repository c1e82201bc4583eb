terraform {
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }
}

locals {
  keys        = [for key in [var.specification.hash_key, var.specification.range_key] : key if key != null]
  provisioned = var.capacity.billing_mode == "PROVISIONED"
}

# In provisioned mode the capacity is auto scaling's business: the first value is only where a new table starts. A table
# that changes from on demand starts at 1 (the provider's, as these are ignored), until scaling takes it to its minimum.
resource "aws_dynamodb_table" "this" {
  #checkov:skip=CKV_AWS_28: each table's specification decides: a cache needs no point-in-time recovery
  #checkov:skip=CKV2_AWS_16: scaling.tf has it, by for_each, in provisioned mode
  name                        = var.name
  billing_mode                = var.capacity.billing_mode
  hash_key                    = var.specification.hash_key.name
  range_key                   = try(var.specification.range_key.name, null)
  read_capacity               = local.provisioned ? var.capacity.read.minimum : null
  write_capacity              = local.provisioned ? var.capacity.write.minimum : null
  stream_enabled              = var.specification.stream != null
  stream_view_type            = var.specification.stream
  deletion_protection_enabled = var.deletion_protection

  dynamic "attribute" {
    for_each = local.keys
    content {
      name = attribute.value.name
      type = attribute.value.type
    }
  }

  dynamic "ttl" {
    for_each = var.specification.ttl[*]
    content {
      enabled        = true
      attribute_name = ttl.value
    }
  }

  point_in_time_recovery {
    enabled = var.specification.point_in_time_recovery
  }

  dynamic "server_side_encryption" {
    for_each = var.kms_key_arn[*] # without it: DynamoDB's own key, at no cost
    content {
      enabled     = true
      kms_key_arn = server_side_encryption.value
    }
  }

  lifecycle {
    ignore_changes = [read_capacity, write_capacity]
  }
}
