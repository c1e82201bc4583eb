# General

variable "environment" {
  description = "Name of this deployment, part of every resource's name; the ENV of `apex deploy -e ENV`."
  type        = string
  default     = "prod"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,15}$", var.environment))
    error_message = "environment takes up to 16 lower-case letters, digits and hyphens, beginning with a letter, like prod."
  }
}

variable "tags" {
  description = "Tags of every resource, besides Project and Environment."
  type        = map(string)
  default     = {}
}

variable "deletion_protection" {
  description = "Protects tables from deletion, and the bucket while it holds objects. Apply false before `terraform destroy`."
  type        = bool
  default     = true
}

variable "customer_managed_key" {
  description = <<-EOT
    Encrypts stream, tables, bucket, logs, topics and the functions' environment with a KMS key of your own (about
    $1 a month and $0.03 per 10,000 requests). False: with AWS's keys, at no cost.
  EOT
  type        = bool
  default     = false
}

# From SORACOM Funnel into the stream

variable "soracom" {
  description = <<-EOT
    Who may put records into the stream: `account_id`, the AWS account that Funnel assumes the role from (it depends on
    your SORACOM coverage: see SORACOM's documentation), and `external_id`, a random text of your own that is registered
    with the role in SORACOM's credential store. Null: no role for Funnel is created.
  EOT
  type = object({
    account_id  = string
    external_id = string
  })
  default = null

  validation {
    condition     = var.soracom == null || can(regex("^[0-9]{12}$", var.soracom.account_id))
    error_message = "soracom.account_id is an AWS account id: twelve digits."
  }
  validation {
    condition     = var.soracom == null || can(regex("^[a-zA-Z0-9+=,.@:/-]{16,1000}$", var.soracom.external_id))
    error_message = "soracom.external_id takes 16 to 1,000 characters of a-z A-Z 0-9 + = , . @ : / -; `openssl rand -hex 16` makes one."
  }
}

variable "stream" {
  description = <<-EOT
    The Kinesis stream. mode: PROVISIONED (with `shards`; a shard takes 1,000 records and 1 MB a second) or ON_DEMAND.
    retention_hours: 24 to 8,760; up to 24 cost nothing, up to 168 about $0.02 per shard and hour more. What is not
    processed within it is lost, so a page is sent at half of it. shard_metrics: each shard has its iterator age as a
    metric of its own, which the page shows, and which AWS bills (Kinesis Developer Guide, "Enhanced (shard-level)").
  EOT
  type = object({
    mode            = optional(string, "PROVISIONED")
    shards          = optional(number, 1)
    retention_hours = optional(number, 24)
    shard_metrics   = optional(bool, false)
  })
  default = {}

  validation {
    condition     = contains(["PROVISIONED", "ON_DEMAND"], var.stream.mode)
    error_message = "stream.mode is PROVISIONED or ON_DEMAND."
  }
  validation {
    condition     = var.stream.shards >= 1 && var.stream.shards <= 500 && floor(var.stream.shards) == var.stream.shards
    error_message = "stream.shards is a whole number from 1 to 500 (the quota of a new account)."
  }
  validation {
    condition     = var.stream.retention_hours >= 24 && var.stream.retention_hours <= 8760
    error_message = "stream.retention_hours is from 24 to 8,760."
  }
}

variable "archive" {
  description = "Keeps every record of the stream, as it came, in the bucket under archive/, through Firehose; `days`: for how long."
  type = object({
    enabled = optional(bool, false)
    days    = optional(number, 365)
  })
  default = {}

  validation {
    condition     = var.archive.days >= 1
    error_message = "archive.days is at least 1."
  }
}

# From the stream into the tables

variable "mappings_enabled" {
  description = "False stops every function from reading its stream (and creates the mappings so)."
  type        = bool
  default     = true
}

variable "ingest_mapping" {
  description = <<-EOT
    The event source mapping from the Kinesis stream to `ingest`. batch_size: 1 to 10,000 records. batching_window_seconds:
    0 to 300; longer means fewer invocations and write units, and later readings. parallelization_factor: 1 to 10
    batches of a shard at a time. maximum_retry_attempts (0 to 10,000) and maximum_record_age_seconds (60 to 604,800):
    -1 is until the records expire, so that nothing is given up; what is given up goes to the bucket, payload and all.
  EOT
  type = object({
    batch_size                     = optional(number, 1000)
    batching_window_seconds        = optional(number, 5)
    parallelization_factor         = optional(number, 2)
    bisect_batch_on_function_error = optional(bool, true)
    maximum_retry_attempts         = optional(number, -1)
    maximum_record_age_seconds     = optional(number, -1)
    starting_position              = optional(string, "TRIM_HORIZON")
    report_batch_item_failures     = optional(bool, true)
    failure_destination            = optional(bool, true)
    event_count_metrics            = optional(bool, true)
  })
  default = {}

  validation {
    condition     = var.ingest_mapping.batch_size >= 1 && var.ingest_mapping.batch_size <= 10000
    error_message = "ingest_mapping.batch_size is from 1 to 10,000."
  }
  validation {
    condition     = var.ingest_mapping.batching_window_seconds >= 0 && var.ingest_mapping.batching_window_seconds <= 300
    error_message = "ingest_mapping.batching_window_seconds is from 0 to 300."
  }
  validation {
    condition     = var.ingest_mapping.parallelization_factor >= 1 && var.ingest_mapping.parallelization_factor <= 10
    error_message = "ingest_mapping.parallelization_factor is from 1 to 10."
  }
  validation {
    condition     = var.ingest_mapping.maximum_retry_attempts >= -1 && var.ingest_mapping.maximum_retry_attempts <= 10000
    error_message = "ingest_mapping.maximum_retry_attempts is -1 (until the records expire) or 0 to 10,000."
  }
  validation {
    condition = var.ingest_mapping.maximum_record_age_seconds == -1 || (
      var.ingest_mapping.maximum_record_age_seconds >= 60 && var.ingest_mapping.maximum_record_age_seconds <= 604800
    )
    error_message = "ingest_mapping.maximum_record_age_seconds is -1 (until the records expire) or 60 to 604,800."
  }
  validation {
    condition     = contains(["TRIM_HORIZON", "LATEST"], var.ingest_mapping.starting_position)
    error_message = "ingest_mapping.starting_position is TRIM_HORIZON, or LATEST (which can miss records while the mapping is made)."
  }
}

variable "rollup_mapping" {
  description = <<-EOT
    The event source mapping from the stream of the table readings to `rollup`; as ingest_mapping. A longer window means
    fewer reads and writes for the same roll-ups, which are that much later.
  EOT
  type = object({
    batch_size                     = optional(number, 1000)
    batching_window_seconds        = optional(number, 300)
    parallelization_factor         = optional(number, 2)
    bisect_batch_on_function_error = optional(bool, true)
    maximum_retry_attempts         = optional(number, -1)
    maximum_record_age_seconds     = optional(number, -1)
    starting_position              = optional(string, "TRIM_HORIZON")
    report_batch_item_failures     = optional(bool, true)
    failure_destination            = optional(bool, true)
    event_count_metrics            = optional(bool, true)
  })
  default = {}

  validation {
    condition     = var.rollup_mapping.batch_size >= 1 && var.rollup_mapping.batch_size <= 10000
    error_message = "rollup_mapping.batch_size is from 1 to 10,000."
  }
  validation {
    condition     = var.rollup_mapping.batching_window_seconds >= 0 && var.rollup_mapping.batching_window_seconds <= 300
    error_message = "rollup_mapping.batching_window_seconds is from 0 to 300."
  }
  validation {
    condition     = var.rollup_mapping.parallelization_factor >= 1 && var.rollup_mapping.parallelization_factor <= 10
    error_message = "rollup_mapping.parallelization_factor is from 1 to 10."
  }
  validation {
    condition     = var.rollup_mapping.maximum_retry_attempts >= -1 && var.rollup_mapping.maximum_retry_attempts <= 10000
    error_message = "rollup_mapping.maximum_retry_attempts is -1 (until the records expire) or 0 to 10,000."
  }
  validation {
    condition = var.rollup_mapping.maximum_record_age_seconds == -1 || (
      var.rollup_mapping.maximum_record_age_seconds >= 60 && var.rollup_mapping.maximum_record_age_seconds <= 604800
    )
    error_message = "rollup_mapping.maximum_record_age_seconds is -1 (until the records expire) or 60 to 604,800."
  }
  validation {
    condition     = contains(["TRIM_HORIZON", "LATEST"], var.rollup_mapping.starting_position)
    error_message = "rollup_mapping.starting_position is TRIM_HORIZON, or LATEST (which can miss records while the mapping is made)."
  }
}

variable "bindkeys_kms_key_arn" {
  description = "KMS key under which `processor devices import` keeps encrypted sensors' bindkeys; ingest may then decrypt with it. Empty: none is."
  type        = string
  default     = ""

  validation {
    condition     = var.bindkeys_kms_key_arn == "" || can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/", var.bindkeys_kms_key_arn))
    error_message = "bindkeys_kms_key_arn is a key's ARN: arn:aws:kms:REGION:ACCOUNT:key/ID."
  }
}

variable "functions" {
  description = <<-EOT
    What the functions have besides function.json: `tracing` (X-Ray), days that logs are kept, `reserved_concurrency`
    by function (none by default: a new account may have a quota of 10 and refuse any reservation), and more variables
    of their `environment` by function (processor/settings.py lists them).
  EOT
  type = object({
    tracing              = optional(bool, false)
    log_retention_days   = optional(number, 30)
    reserved_concurrency = optional(map(number), {})
    environment          = optional(map(map(string)), {})
  })
  default = {}

  validation {
    condition = contains(
      [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653],
      var.functions.log_retention_days
    )
    error_message = "functions.log_retention_days is one that CloudWatch Logs has: 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, …"
  }
  validation {
    condition     = alltrue([for count in values(var.functions.reserved_concurrency) : count >= 1])
    error_message = "functions.reserved_concurrency is at least 1 for each function named; 0 would stop it: use mappings_enabled."
  }
  validation {
    condition     = !anytrue([for variables in values(var.functions.environment) : contains(keys(variables), "BINDKEYS")])
    error_message = "functions.environment takes no secrets: it can be read in the console, in Terraform's state and in apex's files."
  }
}

variable "tables" {
  description = <<-EOT
    The tables' capacity: on demand (billing_mode PAY_PER_REQUEST), or PROVISIONED, scaled between `minimum` and `maximum`
    units to keep the consumption at `target_percent`.
  EOT
  type = object({
    billing_mode   = optional(string, "PAY_PER_REQUEST")
    read           = optional(object({ minimum = optional(number, 1), maximum = optional(number, 100) }), {})
    write          = optional(object({ minimum = optional(number, 5), maximum = optional(number, 200) }), {})
    target_percent = optional(number, 70)
  })
  default = {}

  validation {
    condition     = contains(["PAY_PER_REQUEST", "PROVISIONED"], var.tables.billing_mode)
    error_message = "tables.billing_mode is PAY_PER_REQUEST or PROVISIONED."
  }
  validation {
    condition = alltrue([
      for each in [var.tables.read, var.tables.write] : each.minimum >= 1 && each.maximum >= each.minimum
    ])
    error_message = "tables.read and tables.write have a minimum of at least 1 and a maximum of at least the minimum."
  }
  validation {
    condition     = var.tables.target_percent >= 20 && var.tables.target_percent <= 90
    error_message = "tables.target_percent is from 20 to 90, as target tracking has it."
  }
}

variable "retention_days" {
  description = "How long a reading is kept; older ones are rejected on arrival. RETENTION_DAYS of the functions."
  type        = number
  default     = 400

  validation {
    condition     = var.retention_days >= 1 && floor(var.retention_days) == var.retention_days
    error_message = "retention_days is a whole number of at least 1."
  }
}

variable "bucket_days" {
  description = "How many days the bucket keeps quarantined records, failed batches and uploads."
  type = object({
    quarantine = optional(number, 400)
    failures   = optional(number, 90)
    uploads    = optional(number, 30)
  })
  default = {}

  validation {
    condition     = min(var.bucket_days.quarantine, var.bucket_days.failures, var.bucket_days.uploads) >= 1
    error_message = "bucket_days are at least 1."
  }
}

# Watching it

variable "alarm_emails" {
  description = "Addresses told of each kind of alarm; each gets an e-mail to confirm. Other receivers subscribe to the topics of the outputs."
  type = object({
    warning = optional(set(string), [])
    page    = optional(set(string), [])
  })
  default = {}

  validation {
    condition     = alltrue([for each in setunion(var.alarm_emails.warning, var.alarm_emails.page) : can(regex("^[^@ ]+@[^@ ]+$", each))])
    error_message = "alarm_emails are e-mail addresses."
  }
}

variable "alarms" {
  description = <<-EOT
    Thresholds. iterator_age_seconds: the service objective, how late a reading may be; rollup_age_seconds: the same of
    a roll-up. duration_percent of a function's timeout, memory_percent of its memory, rejected_per_hour records.
  EOT
  type = object({
    iterator_age_seconds = optional(number, 60)
    rollup_age_seconds   = optional(number, 900)
    duration_percent     = optional(number, 80)
    memory_percent       = optional(number, 85)
    rejected_per_hour    = optional(number, 100)
  })
  default = {}

  validation {
    condition     = var.alarms.iterator_age_seconds >= 1 && var.alarms.rollup_age_seconds >= 1 && var.alarms.rejected_per_hour >= 0
    error_message = "alarms.iterator_age_seconds and rollup_age_seconds are at least 1, rejected_per_hour at least 0."
  }
  validation {
    condition = alltrue([
      for percent in [var.alarms.duration_percent, var.alarms.memory_percent] : percent > 0 && percent <= 100
    ])
    error_message = "alarms.duration_percent and memory_percent are above 0 and up to 100."
  }
}
