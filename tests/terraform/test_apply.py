"""The whole system on two local AWS servers: on MiniStack by the README's commands, on moto with every option.

Neither server is AWS: what it lacks, and what it forgets, is listed here by name, and everything else must hold.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from processor.apex import deployed_function
from processor.local.apex_replay import replay
from processor.local.check import compare, stream_records
from processor.local.fleet import Fleet
from processor.local.function import Function
from processor.local.mapping import EventSourceMapping, MappingSettings
from processor.quarantine import Quarantine
from processor.rules import Limits
from processor.settings import Settings
from processor.store import client
from processor.store.reader import Reader

MODULE = Path(__file__).resolve().parents[2] / "infra" / "terraform"
# No live mapping: MiniStack would poll the stream itself, and take a partial failure for success.
COMMON = {"mappings_enabled": False, "deletion_protection": False}
OPTIONS = {
    "environment": "test",
    "soracom": {"account_id": "111122223333", "external_id": "0123456789abcdef"},
    "customer_managed_key": True,
    "archive": {"enabled": True},
    "stream": {"mode": "ON_DEMAND", "retention_hours": 48, "shard_metrics": True},
    "functions": {
        "tracing": True,
        "reserved_concurrency": {"ingest": 5},
        "environment": {"ingest": {"LOG_LEVEL": "DEBUG"}},
    },
    "alarm_emails": {"page": ["someone@example.org"]},
}
ENVIRONMENT = {"ministack": "prod", "moto": "test"}
FILES = ("-var-file=examples/small.tfvars", "-var-file=soracom.tfvars")

QUERIES = r"aws_cloudwatch_query_definition\.this\[.*\]"
LACKS = {
    # PutQueryDefinition is "Unknown action" to the one and "not implemented" (as a page of HTML) to the other.
    "ministack": {QUERIES: "Unknown action: PutQueryDefinition"},
    "moto": {QUERIES: "PutQueryDefinition"},
}
ALARM = r"(.+\.)?aws_cloudwatch_metric_alarm\..+"
FORGETS = {
    "ministack": {
        # It answers DescribeAlarms, as the provider asks it, without these.
        ALARM: {
            *("actions_enabled", "alarm_actions", "alarm_description", "dimensions", "ok_actions"),
            *("period", "statistic", "treat_missing_data"),
        },
        r"aws_kinesis_stream\.records": {"tags_all"},  # tags given to CreateStream
        r"aws_lambda_event_source_mapping\.this\[.*\]": {"metrics_config"},
    },
    "moto": {
        r"aws_kinesis_stream\.records": {"tags_all"},
        r"aws_lambda_event_source_mapping\.this\[.*\]": {"function_name"},  # the alias in its ARN
    },
}


def commands():
    """The README's commands from nothing to deployed, line by line, without their remarks."""
    section = (MODULE / "README.md").read_text().partition("## From nothing to deployed")[2].partition("\nThen tell")[0]
    lines = re.findall(r"^    (.*\S)", section, re.MULTILINE)
    return [re.sub(r"\s{2,}#.*", "", line) for line in lines]


def typed(module, aws, tools):
    """Type the README's commands into one shell; return each command's exit status and what it said.

    What a test must do otherwise: AWS is the local server, `uv run` is this interpreter, the editor writes what a user
    would, nobody is asked to approve, and `processor deploy` stands in for apex's binary, which is not to be had.
    """
    tools.mkdir()
    edited = "\n".join(
        [
            'soracom = { account_id = "111122223333", external_id = "0123456789abcdef" }',
            *(f"{name} = {json.dumps(value)}" for name, value in COMMON.items()),
        ]
    )
    python = f'if [ "$1 $2" = "run processor" ]; then shift 2; exec {sys.executable} -m processor.cli "$@"; fi\n'
    scripts = {
        "uv": python + f'exec {shutil.which("uv") or "uv"} "$@"',
        "edit": f"cat >\"$1\" <<'END'\n{edited}\nEND",
        "apex": f'shift; cd ..; exec {sys.executable} -m processor.cli deploy "$@"',
    }
    for name, script in scripts.items():
        (tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (tools / name).chmod(0o755)
    environment = module.environment | aws.environment()
    environment |= {"PATH": f"{tools}:{environment['PATH']}", "EDITOR": "edit", "TF_CLI_ARGS_apply": "-auto-approve"}
    environment |= {"TF_CLI_ARGS_init": "-no-color", "COLUMNS": "120"}
    marker = "----- next -----"
    names = [command for command in commands() if not command.startswith("export AWS_PROFILE")]
    shell = "exec 2>&1\n" + "".join(f"{name}\nprintf '\\n{marker} %d\\n' $?\n" for name in names)
    done = subprocess.run(
        ["bash", "-c", shell],
        cwd=module.root,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        timeout=500,
    )
    said = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
    said = re.sub(r"^[│╷╵] ?", "", said, flags=re.MULTILINE)  # the frame around errors
    parts = re.split(rf"^{marker} (\d+)\n", said, flags=re.MULTILINE)
    return {name: (int(status), text) for name, text, status in zip(names, parts[::2], parts[1::2], strict=False)}


@pytest.fixture(scope="module")
def applied(servers, new_terraform, tmp_path_factory):
    """Both servers with everything in them, by server: the module, and what could not be created."""
    modules = {name: new_terraform(name, aws) for name, aws in servers.items()}

    def by_hand(module):
        transcript = typed(module, servers["ministack"], tmp_path_factory.mktemp("tools") / "bin")
        said = next(text for command, (_, text) in transcript.items() if " apply " in command)
        return module, module.failures(said), transcript

    def with_options(module):
        module("init", "-backend=false")
        module.variables(**COMMON, **OPTIONS)
        return module, module.apply(), {}

    with ThreadPoolExecutor() as both:  # each waits a minute for S3's lifecycle rules to settle
        first = both.submit(by_hand, modules["ministack"])
        second = both.submit(with_options, modules["moto"])
        return {"ministack": first.result(), "moto": second.result()}


@pytest.fixture(params=["ministack", "moto"])
def server(request):
    return request.param


@pytest.fixture
def module(applied, server):
    return applied[server][0]


def unexplained(found, known):
    """What of `found` (address → attributes) is not covered by `known` (pattern → attributes)."""
    return {
        address: rest
        for address, attributes in found.items()
        if (
            rest := set(attributes).difference(
                *(names for pattern, names in known.items() if re.fullmatch(pattern, address))
            )
        )
    }


def test_the_readmes_commands_typed_in_order_take_a_user_from_nothing_to_deployed(applied, servers):
    transcript = applied["ministack"][2]
    assert len(transcript) == len(commands()) - 1, transcript
    for command, (status, said) in transcript.items():
        # The server lacks saved queries, so its apply ends with 1; the next test looks into that.
        assert status == (1 if " apply " in command else 0), f"{command}\n{said[-3000:]}"
    said = next(text for command, (_, text) in transcript.items() if "apex deploy" in command)
    changed = re.findall(r"^  (.+): .* → ", said, re.MULTILINE)
    assert changed == ["code", "alias current"] * 2, (
        "the configuration of both is Terraform's already: a deployment ships code only"
    )
    functions = servers["ministack"].client("lambda")
    alias = functions.get_alias(FunctionName="processor-prod-ingest", Name="current")
    assert int(alias["FunctionVersion"]) > 1
    served = functions.get_function_configuration(FunctionName="processor-prod-ingest", Qualifier="current")
    assert served["CodeSize"] > 1_000_000, "the alias serves the function, not the placeholder"


def test_apply_creates_everything_but_what_the_server_lacks_altogether(applied, server):
    failed = applied[server][1]
    for address, message in failed.items():
        assert any(re.fullmatch(pattern, address) and words in message for pattern, words in LACKS[server].items()), (
            f"{address}: {message}"
        )
    assert len(failed) == 5, "if the server has learnt it, LACKS is out of date"


def test_a_second_plan_changes_nothing_but_what_the_server_forgets(module, server):
    changes = module.plan(*(FILES if server == "ministack" else ()))
    created = {address for address, (actions, _) in changes.items() if actions != ("update",)}
    assert {address for address in created if not re.fullmatch(QUERIES, address)} == set()
    updated = {address: attributes for address, (_, attributes) in changes.items() if address not in created}
    assert unexplained(updated, FORGETS[server]) == {}
    for pattern in FORGETS[server]:
        assert any(re.fullmatch(pattern, address) for address in updated), f"FORGETS is out of date: {pattern}"


def test_the_function_is_what_apexs_files_say_plus_apexs_two_variables(module, servers, server):
    name = f"processor-{ENVIRONMENT[server]}-ingest"
    found = servers[server].client("lambda").get_function_configuration(FunctionName=name)
    said = json.loads(module.outputs()["apex_files"][f"functions/ingest/function.{ENVIRONMENT[server]}.json"])
    assert found["Environment"]["Variables"] == said["environment"] | {
        "APEX_FUNCTION_NAME": "ingest",
        "LAMBDA_FUNCTION_NAME": name,
    }
    assert (found.get("KMSKeyArn") or None) == said.get("kms_arn")
    for theirs, ours in {
        "MemorySize": "memory",
        "Timeout": "timeout",
        "Handler": "handler",
        "Runtime": "runtime",
        "Role": "role",
        "Description": "description",
    }.items():
        assert found[theirs] == said[ours]


def test_alarms_are_created_with_dimensions_actions_and_what_to_do(applied, servers):
    """moto alone gives alarms back whole."""
    module = applied["moto"][0]
    readme = (MODULE / "README.md").read_text()
    alarms = servers["moto"].client("cloudwatch").describe_alarms()["MetricAlarms"]
    assert {alarm["AlarmName"] for alarm in alarms} == set(module.outputs()["alarms"])
    for alarm in alarms:
        assert alarm["AlarmActions"], alarm["AlarmName"]
        name = alarm["AlarmName"].removeprefix("processor-test-")
        alike = re.sub("^rollup-", "ingest-", re.sub("cache|devices|readings|rollups", "readings", name))
        assert f"`{name}`" in readme or f"`{alike}`" in readme, name
        assert 100 < len(alarm["AlarmDescription"]) <= 1024, alarm["AlarmName"]
        metrics = [each["MetricStat"]["Metric"] for each in alarm.get("Metrics", ()) if "MetricStat" in each]
        assert all(each["Dimensions"] for each in metrics or [alarm]), alarm["AlarmName"]


def test_records_put_into_the_created_stream_reach_the_created_table(applied, servers):
    """The function and the mapping run with the environment and the settings that the server gives back."""
    module, aws = applied["ministack"][0], servers["ministack"]
    outputs = module.outputs()
    created = aws.client("lambda").get_event_source_mapping(UUID=outputs["mappings"]["ingest"])
    assert created["State"] == "Disabled"
    assert created["FunctionArn"].endswith(":current")
    assert created["DestinationConfig"]["OnFailure"]["Destination"] == f"arn:aws:s3:::{outputs['bucket']}"
    mapping = MappingSettings(
        batch_size=created["BatchSize"],
        batching_window_seconds=created["MaximumBatchingWindowInSeconds"],
        parallelization_factor=created["ParallelizationFactor"],
        starting_position=created["StartingPosition"],
        bisect_batch_on_function_error=created["BisectBatchOnFunctionError"],
        maximum_retry_attempts=created["MaximumRetryAttempts"],
        maximum_record_age_seconds=created["MaximumRecordAgeInSeconds"],
        report_batch_item_failures="ReportBatchItemFailures" in created["FunctionResponseTypes"],
    )
    assert (mapping.batch_size, mapping.batching_window_seconds) == (1000, 15), "as examples/small.tfvars has it"
    function = aws.client("lambda").get_function_configuration(FunctionName="processor-prod-ingest")
    environment = aws.environment() | function["Environment"]["Variables"]
    settings = Settings.read(environment)
    kinesis, stream = aws.client("kinesis"), outputs["stream"]["name"]
    fleet = Fleet(devices=30, gateways=3, rate=30, seed=3, start=round(time.time() * 1000) - 20_000, malformed=0.1)
    sent = [each.data for each in fleet.records(duration_ms=15_000)]
    for number, data in enumerate(sent):
        kinesis.put_record(StreamName=stream, PartitionKey=str(number), Data=data)
    with (
        Function(
            module.root / "apex" / "functions" / "ingest",
            environment=environment,
            sink=lambda line: None,
            memory_mb=function["MemorySize"],
            timeout_s=function["Timeout"],
        ) as ingest,
        EventSourceMapping(kinesis, outputs["stream"]["arn"], ingest.invoke, mapping) as running,
        contextlib.closing(client(settings)) as dynamodb,
    ):
        running.drain(120)
        items = list(Reader(dynamodb, outputs["tables"]["readings"]).scan())
        quarantined = list(Quarantine(outputs["bucket"], lambda: aws.client("s3")).entries())
        verdict = compare(sent, stream_records(kinesis, stream), items, quarantined, Limits.of(settings))
    assert verdict.passed, verdict.differences()
    assert verdict.found > 100
    assert quarantined


def test_after_a_deployment_neither_tool_undoes_the_other(applied, servers):
    """apex's calls find the configuration unchanged, ship code only, and leave nothing for Terraform to change."""
    module, aws = applied["ministack"][0], servers["ministack"]
    config = deployed_function(module.root / "apex" / "functions" / "ingest", "prod")
    before = aws.client("lambda").get_alias(FunctionName=config.name, Name="current")["FunctionVersion"]
    package = (module.module / "modules" / "function" / "placeholder.zip").read_bytes() + b"\0"
    calls = replay(aws.client("lambda"), config, package)
    assert "UpdateFunctionCode" in calls
    assert "UpdateFunctionConfiguration" not in calls
    alias = aws.client("lambda").get_alias(FunctionName=config.name, Name="current")
    assert int(alias["FunctionVersion"]) > int(before)
    changed = set(module.plan(*FILES))
    assert not {address for address in changed if "aws_lambda_function" in address or "aws_lambda_alias" in address}


def test_memory_changed_in_function_json_alone_reaches_terraform_and_apex_alike(applied):
    module = applied["ministack"][0]
    file = module.root / "apex" / "functions" / "ingest" / "function.json"
    before = file.read_text()
    try:
        file.write_text(json.dumps(json.loads(before) | {"memory": 512}))
        changes = module.plan("-refresh=false", *FILES)
        planned = module.planned()
    finally:
        file.write_text(before)
    function = 'module.function["ingest"].aws_lambda_function.this'
    assert "memory_size" in changes[function][1]
    assert planned["resources"][function]["memory_size"] == 512
    said = planned["outputs"]["apex_files"]["functions/ingest/function.prod.json"]
    assert json.loads(said)["memory"] == 512


def test_a_table_changes_to_provisioned_capacity_and_back_in_place(applied, servers):
    """MiniStack has no application auto scaling: the targets fail, by name, and the table is changed."""
    module, dynamodb = applied["ministack"][0], servers["ministack"].client("dynamodb")
    name = "processor-prod-cache"
    item = {"key": {"S": "kept"}, "expires": {"N": str(round(time.time()) + 9999)}}
    dynamodb.put_item(TableName=name, Item=item)
    failed = module.apply("-target=module.table", *FILES, '-var=tables={ billing_mode = "PROVISIONED" }')
    assert failed
    assert all("aws_appautoscaling_target" in address for address in failed), failed
    table = dynamodb.describe_table(TableName=name)["Table"]
    assert table["BillingModeSummary"]["BillingMode"] == "PROVISIONED"
    assert table["ProvisionedThroughput"]["WriteCapacityUnits"] >= 1
    assert module.apply("-target=module.table", *FILES) == {}
    table = dynamodb.describe_table(TableName=name)["Table"]
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert dynamodb.get_item(TableName=name, Key={"key": item["key"]})["Item"] == item


def test_destroy_leaves_nothing(applied, servers):
    """Not even with records, objects and log lines in what is destroyed.

    Of the mappings, those that Terraform knew: where a call is repeated MiniStack makes a second one; AWS refuses it.
    """
    known = {uuid for module, *_ in applied.values() for uuid in module.outputs()["mappings"].values()}
    with ThreadPoolExecutor() as both:
        gone = [
            both.submit(applied["ministack"][0], "destroy", "-no-color", "-auto-approve", "-input=false", *FILES),
            both.submit(applied["moto"][0], "destroy", "-no-color", "-auto-approve", "-input=false"),
        ]
        for each in gone:
            each.result()
    for name, (module, *_) in applied.items():
        assert module.state() == []
        aws = servers[name]
        left = {
            "streams": aws.client("kinesis").list_streams()["StreamNames"],
            "tables": aws.client("dynamodb").list_tables()["TableNames"],
            "functions": aws.client("lambda").list_functions()["Functions"],
            "mappings": [
                each
                for each in aws.client("lambda").list_event_source_mappings()["EventSourceMappings"]
                if each["UUID"] in known
            ],
            "roles": [each["RoleName"] for each in aws.client("iam").list_roles()["Roles"]],
            "buckets": aws.client("s3").list_buckets()["Buckets"],
            "log groups": aws.client("logs").describe_log_groups()["logGroups"],
            "alarms": aws.client("cloudwatch").describe_alarms()["MetricAlarms"],
            "dashboards": aws.client("cloudwatch").list_dashboards()["DashboardEntries"],
            "topics": aws.client("sns").list_topics()["Topics"],
            "archives": aws.client("firehose").list_delivery_streams()["DeliveryStreamNames"],
        }
        assert {what: found for what, found in left.items() if found} == {}, name
