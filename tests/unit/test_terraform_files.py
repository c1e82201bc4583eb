"""What Terraform's files share with the rest of the repository, held together without Terraform."""

from __future__ import annotations

import ast
import json
import re
import zipfile
from pathlib import Path

import pytest

from processor.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "infra" / "terraform"
README = (MODULE / "README.md").read_text()
VARIABLES = set(re.findall(r'^variable "(\w+)"', (MODULE / "variables.tf").read_text(), re.MULTILINE))


def test_the_readme_lists_every_variable_and_no_other():
    section = README.partition("## Variables")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == VARIABLES


def test_every_variable_is_typed_and_described():
    for file in (MODULE / "variables.tf", *MODULE.glob("modules/*/variables.tf")):
        for name, body in re.findall(r'^variable "(\w+)" \{\n(.*?)^\}', file.read_text(), re.MULTILINE | re.DOTALL):
            assert re.search(r"^  type += ", body, re.MULTILINE), f"{file}: {name}"
            assert re.search(r"^  description += ", body, re.MULTILINE), f"{file}: {name}"


@pytest.mark.parametrize("example", sorted((MODULE / "examples").glob("*.tfvars")), ids=lambda path: path.name)
def test_examples_set_variables_that_exist(example):
    names = set(re.findall(r"^(\w+) +=", example.read_text(), re.MULTILINE))
    assert names
    assert names <= VARIABLES


def test_the_placeholder_package_is_its_source_and_refuses_every_event():
    source = (MODULE / "modules/function/placeholder/main.py").read_text()
    with zipfile.ZipFile(MODULE / "modules/function/placeholder.zip") as package:
        assert package.namelist() == ["main.py"]
        assert package.read("main.py").decode() == source
    names: dict = {}
    exec(compile(source, "placeholder/main.py", "exec"), names)
    with pytest.raises(RuntimeError, match="apex deploy"):
        names["handle"]({"Records": []}, None)


def test_the_functions_variables_are_settings_that_the_function_reads():
    text = (MODULE / "functions.tf").read_text()
    body = text.partition("function_variables = {")[2].partition("}")[0]
    names = set(re.findall(r"^\s+([A-Z_]+) +=", body, re.MULTILINE))
    assert names == {"TABLE_PREFIX", "QUARANTINE_BUCKET", "RETENTION_DAYS"}
    read = Settings.read({"TABLE_PREFIX": "p-", "QUARANTINE_BUCKET": "b", "RETENTION_DAYS": "7"})
    assert (read.readings_table, read.quarantine_bucket, read.retention_days) == ("p-readings", "b", 7)


def reasons():
    """Every word that code gives as the reason of a rejection, where it is written out."""
    for file in ROOT.glob("processor/**/*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call):
                continue
            called = getattr(node.func, "id", getattr(node.func, "attr", ""))
            place = {"DecodeError": 0, "reject": -2}.get(called)
            if place is not None and len(node.args) > abs(place):
                reason = node.args[place]
                if isinstance(reason, ast.Constant) and isinstance(reason.value, str):
                    yield reason.value


def test_the_saved_query_of_rejections_knows_every_reason_that_the_code_gives():
    text = (MODULE / "queries.tf").read_text()
    listed = set(re.findall(r'"([^"]+)"', text.partition("rejection_reasons = [")[2].partition("]")[0]))
    found = set(reasons())
    assert {"truncated", "timestamp", "invalid_write", "base64"} <= found
    assert found <= listed, "add the new reason to rejection_reasons in infra/terraform/queries.tf"


def test_saved_queries_ask_for_what_a_batch_writes():
    """Fields of the log line and of the EMF blob, as processor/ingest.py names them."""
    ingest = (ROOT / "processor" / "ingest.py").read_text()
    query = (MODULE / "queries.tf").read_text().partition('"slowest batches" = {')[2].partition("EOT\n")[2]
    fields = re.findall(r"[A-Z]\w+", query.partition("| filter")[0])
    assert {"BatchDuration", "WriteMs", "ColdStart", "RequestId"} <= set(fields)
    for field in fields:
        assert f'"{field}"' in ingest, field


def test_the_metrics_of_alarms_and_dashboard_are_those_that_the_function_emits():
    telemetry, ingest = ((ROOT / "processor" / name).read_text() for name in ("telemetry.py", "ingest.py"))
    namespace = re.search(r'metrics_namespace += "(\w+)"', (MODULE / "alarms.tf").read_text())[1]
    assert f'NAMESPACE = "{namespace}"' in telemetry
    for metric in (
        *("ReadingsStored", "Duplicates", "RecordsRejected", "RecordsFailed"),
        *("BatchDuration", "RecordAge", "MemoryUtilization"),
    ):
        assert f'"{metric}"' in (MODULE / "dashboard.tf").read_text()
        assert f'"{metric}": (' in ingest + telemetry


def test_every_function_folder_has_what_terraform_reads():
    project = json.loads((ROOT / "apex" / "project.json").read_text())
    assert "{{.Project.Environment}}" in project["nameTemplate"], "environments must not share functions"
    for file in ROOT.glob("apex/functions/*/function.json"):
        merged = project | json.loads(file.read_text())
        assert {"description", "runtime", "handler", "memory", "timeout"} <= set(merged), file


def test_a_functions_role_has_the_rights_of_its_one_policy_and_each_statement_allows():
    """`terraform test` compares that policy, action by action, with tests/rights.json: nothing else may grant any."""
    files = {file.relative_to(MODULE).as_posix(): file.read_text() for file in MODULE.glob("**/*.tf")}
    granting = [
        (kind, name, file)
        for file, text in sorted(files.items())
        for kind, name in re.findall(r'^resource "(aws_iam_\w+)" "(\w+)"', text, re.MULTILINE)
        if kind != "aws_iam_role"
    ]
    assert granting == [
        ("aws_iam_role_policy", "archive", "archive.tf"),
        ("aws_iam_policy", "cache", "cache.tf"),  # for those who use the cache, attached to nobody
        ("aws_iam_role_policy", "funnel", "funnel.tf"),
        ("aws_iam_role_policy", "this", "modules/function/role.tf"),
    ]
    role = files["modules/function/role.tf"]
    assert set(re.findall(r'Effect += "(\w+)"', role)) == {"Allow"}
    assert not re.search(r"NotAction|NotResource|Condition", role)
    for file, text in files.items():
        assert not re.search(r"managed_policy_arns|inline_policy|permissions_boundary", text), file
    for kind, name, file in granting:
        if kind == "aws_iam_role_policy":  # of the role of its own name
            (text,) = re.findall(rf'^resource "{kind}" "{name}" \{{\n.*?^\}}', files[file], re.MULTILINE | re.DOTALL)
            assert re.findall(r"^  role += aws_iam_role\.(\w+)", text, re.MULTILINE) == [name]
