locals {
  dashboard_rows = concat(
    [
      [
        {
          title = "Records into the stream"
          stat  = "Sum"
          metrics = [
            ["AWS/Kinesis", "IncomingRecords", "StreamName", local.prefix],
            [".", "WriteProvisionedThroughputExceeded", ".", "."],
          ]
        },
        {
          title = "Age of what is read (ms)"
          stat  = "Maximum"
          metrics = [
            for age in values(local.ages) : concat([age.namespace, age.metric], flatten([for k, v in age.dimensions : [k, v]]))
          ]
        },
        {
          title = "Ledger"
          stat  = "Sum"
          metrics = [
            for metric in ["ReadingsStored", "Duplicates", "RecordsRejected", "RecordsFailed"] :
            [local.metrics_namespace, metric, "service", local.function_names["ingest"]]
          ]
        },
      ],
      [
        {
          title = "From arrival to handling (ms)"
          stat  = "p99"
          metrics = [
            [local.metrics_namespace, "RecordAge", "service", local.function_names["ingest"]],
            [local.metrics_namespace, "RecordAge", "service", local.function_names["ingest"], { stat = "p50" }],
          ]
        },
        {
          title = "Batches (ms)"
          stat  = "p99"
          metrics = [
            [local.metrics_namespace, "BatchDuration", "service", local.function_names["ingest"]],
            [local.metrics_namespace, "BatchDuration", "service", local.function_names["ingest"], { stat = "p50" }],
          ]
        },
        {
          title = "Events of the mappings"
          stat  = "Sum"
          metrics = concat([
            for mapping in values(aws_lambda_event_source_mapping.this) : [
              for metric in ["PolledEventCount", "InvokedEventCount", "FailedInvokeEventCount", "DroppedEventCount"] :
              ["AWS/Lambda", metric, "EventSourceMappingUUID", mapping.uuid]
            ]
          ]...)
        },
      ],
    ],
    [
      for name, function in module.function : [
        {
          title = "${name}: invocations, errors, throttles"
          stat  = "Sum"
          metrics = [
            for metric in ["Invocations", "Errors", "Throttles"] : ["AWS/Lambda", metric, "FunctionName", function.name]
          ]
        },
        {
          title   = "${name}: duration (ms)"
          stat    = "Maximum"
          metrics = [["AWS/Lambda", "Duration", "FunctionName", function.name]]
        },
        {
          title   = "${name}: memory (% of ${local.function_configs[name].memory} MB)"
          stat    = "Maximum"
          metrics = [[local.metrics_namespace, "MemoryUtilization", "service", function.name]]
        },
      ]
    ],
    [
      for name, table in module.table : [
        {
          title = "${name}: units consumed"
          stat  = "Sum"
          metrics = [
            for metric in ["ConsumedWriteCapacityUnits", "ConsumedReadCapacityUnits"] : ["AWS/DynamoDB", metric, "TableName", table.name]
          ]
        },
        {
          title = "${name}: throttled"
          stat  = "Sum"
          metrics = [
            for metric in ["WriteThrottleEvents", "ReadThrottleEvents"] : ["AWS/DynamoDB", metric, "TableName", table.name]
          ]
        },
        {
          title   = "${name}: UpdateItem latency (ms)"
          stat    = "p99"
          metrics = [["AWS/DynamoDB", "SuccessfulRequestLatency", "TableName", table.name, "Operation", "UpdateItem"]]
        },
      ]
    ]
  )
}

resource "aws_cloudwatch_dashboard" "this" {
  dashboard_name = local.prefix
  dashboard_body = jsonencode({
    widgets = flatten([for y, row in local.dashboard_rows : [for x, widget in row : {
      type   = "metric"
      x      = x * 8
      y      = y * 6
      width  = 8
      height = 6
      properties = {
        title   = widget.title
        region  = local.region
        view    = "timeSeries"
        period  = 60
        stat    = widget.stat
        metrics = widget.metrics
        yAxis   = { left = { min = 0 } }
      }
    }]])
  })
}
