variable "name" {
  description = "The table's name."
  type        = string
}

variable "specification" {
  description = "The table's entry in processor/store/tables.json."
  type = object({
    hash_key               = object({ name = string, type = string })
    range_key              = optional(object({ name = string, type = string }))
    ttl                    = optional(string)
    stream                 = optional(string)
    point_in_time_recovery = optional(bool, false)
  })
}

variable "capacity" {
  description = "On demand or provisioned, with the range and the target of auto scaling; the root module's `tables`."
  type = object({
    billing_mode   = string
    read           = object({ minimum = number, maximum = number })
    write          = object({ minimum = number, maximum = number })
    target_percent = number
  })
}

variable "deletion_protection" {
  description = "Whether DynamoDB refuses to delete the table."
  type        = bool
}

variable "kms_key_arn" {
  description = "The key that encrypts the table; null: DynamoDB's own."
  type        = string
}

variable "alarm_actions" {
  description = "ARNs told of a warning and of a page."
  type        = object({ warning = list(string), page = list(string) })
}
