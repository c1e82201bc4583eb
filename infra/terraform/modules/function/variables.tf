variable "name" {
  description = "The function's name in AWS."
  type        = string
}

variable "short_name" {
  description = "Its name in apex: the folder's."
  type        = string
}

variable "config" {
  description = "What function.json says, over project.json (`architecture` is ours: apex passes over it, its build hook does not)."
  type = object({
    description  = optional(string, "")
    runtime      = string
    handler      = string
    memory       = number
    timeout      = number
    architecture = optional(string, "x86_64")
  })
}

variable "environment" {
  description = "Its environment variables, but for the two that apex adds."
  type        = map(string)
}

variable "grants" {
  description = "What its role may do, besides writing its logs."
  type        = list(object({ sid = string, actions = list(string), resources = list(string) }))
}

variable "log_retention_days" {
  description = "Days that its logs are kept."
  type        = number
}

variable "tracing" {
  description = "Whether X-Ray traces it."
  type        = bool
}

variable "reserved_concurrency" {
  description = "Its reserved concurrency; null: none."
  type        = number
}

variable "kms_key_arn" {
  description = "The key that encrypts its logs and environment; null: AWS's own."
  type        = string
}

variable "alarms" {
  description = "Thresholds in percent: of the timeout, of the memory."
  type        = object({ duration_percent = number, memory_percent = number })
}

variable "metrics_namespace" {
  description = "The namespace of its own (EMF) metrics."
  type        = string
}

variable "alarm_actions" {
  description = "ARNs told of a warning and of a page."
  type        = object({ warning = list(string), page = list(string) })
}
