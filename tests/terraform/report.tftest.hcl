# Run with a function `report` and a table `reports` added to a copy of the repository.
mock_provider "aws" {
  source = "./tests/mocks"
}

run "a_function_that_is_added_gets_everything" {
  assert {
    condition     = module.function["report"].log_group == "/aws/lambda/processor-prod-report" && length(module.function["report"].alarm_names) == 4
    error_message = "A new folder is a function with a role, a log group and alarms."
  }
  assert {
    condition     = [for statement in jsondecode(module.function["report"].policy).Statement : statement.Sid] == ["WriteLogs"]
    error_message = "It may write its logs, and nothing else."
  }
  assert {
    condition = (
      jsondecode(output.apex_files["functions/report/function.prod.json"]).memory == 512 &&
      jsondecode(output.apex_files["functions/report/function.prod.json"]).runtime == jsondecode(file("../../apex/project.json")).runtime &&
      jsondecode(output.apex_files["functions/report/function.prod.json"]).hooks == { build = "make" }
    )
    error_message = "apex's file holds everything: the function's own, and what the project says for all."
  }
}

run "a_table_that_is_added_is_made" {
  assert {
    condition     = module.table["reports"].name == "processor-prod-reports"
    error_message = "A new entry of tables.json is a table."
  }
}
