# What is written down elsewhere, once: apex's files (functions) and the tables' specification, which Python reads too.
locals {
  root    = "${path.module}/../.."
  project = jsondecode(file("${local.root}/apex/project.json"))
  prefix  = "${local.project.name}-${var.environment}"

  table_specifications = jsondecode(file("${local.root}/processor/store/tables.json"))
  table_prefix         = "${local.prefix}-"

  # As apex writes them: a function's own file over the project's.
  function_files = {
    for path in fileset("${local.root}/apex/functions", "*/function.json") :
    dirname(path) => jsondecode(file("${local.root}/apex/functions/${path}"))
  }
  function_names = {
    for name in keys(local.function_files) : name => replace(replace(replace(
      local.project.nameTemplate,
      "{{.Project.Name}}", local.project.name),
      "{{.Project.Environment}}", var.environment),
    "{{.Function.Name}}", name)
  }

  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
  region    = data.aws_region.current.name
}
