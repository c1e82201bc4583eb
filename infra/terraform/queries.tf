# Saved queries of CloudWatch Logs Insights, in the folder of this deployment.
locals {
  # The words that rejected advertisements are counted under (DecodeError's `reason`; a test holds this list complete).
  rejection_reasons = [
    "address", "base64", "crc", "cryptography", "empty", "header", "hex", "invalid_write", "json", "key", "key_missing", "keys",
    "kpl", "length", "many", "nesting", "payload", "range", "shape", "timestamp", "truncated", "utf-8", "version",
  ]

  queries = {
    "errors" = {
      of    = keys(local.function_files)
      query = <<-EOT
        fields @timestamp, service, level, message, error, failed, request_id, @message
        | filter level in ["ERROR", "CRITICAL", "WARNING"] or ispresent(error) or ispresent(errorType) or @message like /Task timed out|Runtime exited/
        | sort @timestamp desc
        | limit 200
      EOT
    }
    "slowest batches" = {
      of    = keys(local.function_files)
      query = <<-EOT
        fields @timestamp, service, BatchDuration.0 as ms, Records, DecodeMs, WriteMs, QuarantineMs, WriteCalls, WriteUnits, ColdStart, RequestId
        | filter ispresent(BatchDuration.0)
        | sort ms desc
        | limit 50
      EOT
    }
    "cold starts" = {
      of    = keys(local.function_files)
      query = <<-EOT
        filter @type = "REPORT"
        | stats count(*) as invocations, count(@initDuration) as cold, avg(@initDuration) as average_ms, max(@initDuration) as longest_ms by @log, bin(1h)
        | sort cold desc
      EOT
    }
    "rejected records by reason" = {
      of    = ["ingest"]
      query = <<-EOT
        filter Ledger.rejected > 0
        | stats sum(Ledger.rejected) as all, ${join(", ", [for reason in local.rejection_reasons : "sum(`Reasons.${reason}`) as `${reason}`"])} by bin(1h) as hour
        | sort hour desc
      EOT
    }
    "memory by function" = {
      of    = keys(local.function_files)
      query = <<-EOT
        filter @type = "REPORT"
        | stats max(@maxMemoryUsed) / 1000000 as most_mb, avg(@maxMemoryUsed) / 1000000 as average_mb, max(@memorySize) / 1000000 as size_mb by @log, bin(1h)
        | sort most_mb desc
      EOT
    }
  }
}

resource "aws_cloudwatch_query_definition" "this" {
  for_each = local.queries

  name            = "${local.prefix}/${each.key}"
  query_string    = each.value.query
  log_group_names = [for name in each.value.of : module.function[name].log_group if contains(keys(local.function_files), name)]
}
