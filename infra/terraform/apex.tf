# apex's own files for this environment, which hold the account's ids: the output apex_files, written into apex/ by
# `processor apex-files`. apex reads project.ENV.json and function.ENV.json instead of project.json and function.json,
# and replaces the whole environment of a function, so each holds everything.
locals {
  apex_files = merge(
    { "project.${var.environment}.json" = jsonencode(merge(local.project, { region = local.region })) },
    {
      for name, file in local.function_files : "functions/${name}/function.${var.environment}.json" => jsonencode(merge(
        file,
        {
          for key in ["description", "runtime", "handler", "memory", "timeout"] :
          key => local.function_configs[name][key] if contains(keys(local.function_configs[name]), key)
        },
        { role = module.function[name].role_arn, environment = local.function_environments[name] },
        { for key in local.key_arn[*] : "kms_arn" => key }
      ))
    }
  )
}
