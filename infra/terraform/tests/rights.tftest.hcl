# Least privilege: each function may do what it does, nothing is missing and nothing spare. What it does says
# tests/rights.json: the calls of its code, as tests/integration/test_rights.py sees them on the wire, and what AWS's
# services do with its role, as documented. A resource there is an ARN without its start, PREFIX for the tables' prefix.
mock_provider "aws" {
  source = "./tests/mocks"
}

# Tables, logs and keys that can be told apart.
override_resource {
  target = module.table["readings"].aws_dynamodb_table.this
  values = {
    arn        = "arn:aws:dynamodb:eu-central-1:123456789012:table/processor-prod-readings"
    stream_arn = "arn:aws:dynamodb:eu-central-1:123456789012:table/processor-prod-readings/stream/*"
  }
}

override_resource {
  target = module.table["rollups"].aws_dynamodb_table.this
  values = { arn = "arn:aws:dynamodb:eu-central-1:123456789012:table/processor-prod-rollups" }
}

override_resource {
  target = module.table["devices"].aws_dynamodb_table.this
  values = { arn = "arn:aws:dynamodb:eu-central-1:123456789012:table/processor-prod-devices" }
}

override_resource {
  target = module.function["ingest"].aws_cloudwatch_log_group.this
  values = { arn = "arn:aws:logs:eu-central-1:123456789012:log-group:ingest" }
}

override_resource {
  target = module.function["rollup"].aws_cloudwatch_log_group.this
  values = { arn = "arn:aws:logs:eu-central-1:123456789012:log-group:rollup" }
}

override_resource {
  target = aws_kms_key.own
  values = { arn = "arn:aws:kms:eu-central-1:123456789012:key/OWN", key_id = "OWN" }
}

run "each_function_may_do_what_it_does_and_nothing_else" {
  variables {
    customer_managed_key = true
    bindkeys_kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/BINDKEYS"
    functions            = { tracing = true }
  }

  assert {
    condition = length(setsubtract(
      flatten([for name in keys(module.function) : [
        for right in concat(
          jsondecode(file("../../tests/rights.json"))[name].calls,
          flatten(jsondecode(file("../../tests/rights.json"))[name].services[*].rights),
          flatten(jsondecode(file("../../tests/rights.json")).every.services[*].rights)
        ) : "${name} ${replace(right, "log-group:OWN", "log-group:${name}")}"
      ]]),
      flatten([for name, function in module.function : [for statement in jsondecode(function.policy).Statement : [
        for action in statement.Action : [for resource in statement.Resource : join(" ", [name, action,
          replace(replace(replace(resource, "/^arn:aws:[^:]*:[^:]*:[^:]*:/", ""),
        output.bucket, "BUCKET"), "processor-prod", "PREFIX")])]
      ]]])
    )) == 0
    error_message = "A right is missing: what tests/rights.json says is needed, and functions.tf (or modules/function/role.tf) does not grant."
  }
  assert {
    condition = length(setsubtract(
      flatten([for name, function in module.function : [for statement in jsondecode(function.policy).Statement : [
        for action in statement.Action : [for resource in statement.Resource : join(" ", [name, action,
          replace(replace(replace(resource, "/^arn:aws:[^:]*:[^:]*:[^:]*:/", ""),
        output.bucket, "BUCKET"), "processor-prod", "PREFIX")])]
      ]]]),
      flatten([for name in keys(module.function) : [
        for right in concat(
          jsondecode(file("../../tests/rights.json"))[name].calls,
          flatten(jsondecode(file("../../tests/rights.json"))[name].services[*].rights),
          flatten(jsondecode(file("../../tests/rights.json")).every.services[*].rights)
        ) : "${name} ${replace(right, "log-group:OWN", "log-group:${name}")}"
      ]])
    )) == 0
    error_message = "A right is spare: functions.tf (or modules/function/role.tf) grants it, and tests/rights.json knows nobody who needs it."
  }
}

run "what_is_not_asked_for_gives_no_rights" {
  variables {
    ingest_mapping = { failure_destination = false }
    rollup_mapping = { failure_destination = false }
  }

  assert {
    condition = alltrue([for function in module.function :
      length(regexall("\"(kms|xray):|ListBucket|aws/lambda", function.policy)) == 0
    ])
    error_message = "Without a key of our own, a key of bindkeys, tracing and a failure destination, nobody may use them."
  }
}
