"""Deployment to the embedded AWS: Terraform's function, apex's own calls, ours, an invocation, a rollback."""

from __future__ import annotations

import io
import json
import os
import shlex
import shutil
import sys
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from botocore.exceptions import WaiterError
from click.testing import CliRunner

from processor import deploy as deployment
from processor.apex import deployed_function
from processor.cli import main
from processor.deploy import service
from processor.errors import DeployError
from processor.local.apex_replay import replay
from processor.local.aws import EmbeddedAws
from processor.local.fleet import Fleet
from processor.store import tables

ROOT = Path(__file__).parents[2]
NAME = "processor-dev-ingest"
ROLE = "arn:aws:iam::000000000000:role/processor-dev-ingest"
HERE = f"python{sys.version_info.major}.{sys.version_info.minor}"
"""The embedded AWS runs functions on its own interpreter, whatever their runtime is called."""
QUICK = {"Delay": 0.05, "MaxAttempts": 1200}
"""The embedded AWS takes half a second for an update; nobody wants to look at it every second."""


def zipped(source: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        target.writestr("main.py", source)
    return buffer.getvalue()


PLACEHOLDER = zipped("def handle(event, context):\n    raise RuntimeError('no code has been deployed yet')\n")


@pytest.fixture(scope="module")
def server():
    with EmbeddedAws(region="ap-northeast-1") as server:
        yield server


@pytest.fixture
def aws(server):
    """A server without resources."""
    server.reset()
    return server


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(service, "WAIT", QUICK)


@pytest.fixture
def client(aws):
    return aws.client("lambda")


@pytest.fixture
def apex(tmp_path, aws):
    """A copy of apex/ and the package, with the files that `processor apex-files` writes, for this interpreter."""
    clean = shutil.ignore_patterns("__pycache__", ".build-*", "project.*.json", "function.*.json")
    shutil.copytree(ROOT / "processor", tmp_path / "processor", ignore=clean)
    shutil.copytree(ROOT / "apex", tmp_path / "apex", ignore=clean)
    root = tmp_path / "apex"
    for other in root.joinpath("functions").iterdir():
        if other.name != "ingest":
            shutil.rmtree(other)
    project = json.loads((root / "project.json").read_text())
    project |= {"runtime": HERE, "hooks": {name: command.replace("python3", sys.executable)
                                           for name, command in project["hooks"].items()}}  # fmt: skip
    edit(root / "project.json", project)
    edit(root / "functions/ingest/function.json", {"runtime": HERE})
    generate(root, aws)
    return root


def edit(file, changes):
    content = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(content | changes))


def generate(root, aws, **changes):
    """Write the environment's files as Terraform's output has them, through the command that the user types."""
    variables = {"TABLE_PREFIX": "processor-dev-", "QUARANTINE_BUCKET": "processor-dev", **aws.environment()}
    function = json.loads((root / "functions/ingest/function.json").read_text())
    files = {
        "project.dev.json": json.dumps(json.loads((root / "project.json").read_text()) | {"region": aws.region}),
        "functions/ingest/function.dev.json": json.dumps(function | {"role": ROLE, "environment": variables} | changes),
    }
    done = run("apex-files", "--input", "-", "--apex", str(root), stdin=json.dumps(files))
    assert done.exit_code == 0, done.output


def create(client, root):
    """Create the function as Terraform does: from the same files, with a placeholder, published, and the alias."""
    config = deployed_function(root / "functions" / "ingest", "dev")
    client.create_function(
        FunctionName=config.name, Description=config.description, Runtime=config.runtime, Handler=config.handler,
        MemorySize=config.memory_mb, Timeout=config.timeout_s, Role=config.role, Architectures=[config.architecture],
        Environment={"Variables": {**config.environment, "APEX_FUNCTION_NAME": "ingest",
                                   "LAMBDA_FUNCTION_NAME": NAME}},
        TracingConfig={"Mode": "PassThrough"}, Code={"ZipFile": PLACEHOLDER}, Publish=True,
    )  # fmt: skip
    client.get_waiter("function_active_v2").wait(FunctionName=NAME, WaiterConfig=QUICK)
    client.create_alias(FunctionName=NAME, Name="current", FunctionVersion="1", Description="The deployed version")
    return config


def run(*arguments, stdin=None):
    return CliRunner().invoke(main, arguments, input=stdin)


@pytest.fixture
def deploy(apex, aws, monkeypatch):
    """The command as typed, with the environment that points every SDK at the embedded AWS."""
    for name, value in aws.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    return lambda *arguments: run("deploy", "-e", "dev", "--apex", str(apex), *arguments)


def small(apex, body):
    """Replace the function by one that needs no package, so that a test takes no build."""
    edit(apex / "project.dev.json", {"hooks": {}})
    (apex / "functions/ingest/main.py").write_text(f"def handle(event, context):\n    {body}\n")


def invoke(client, event):
    answer = client.invoke(FunctionName=NAME, Qualifier="current", Payload=json.dumps(event).encode())
    return json.loads(answer["Payload"].read()), answer


def served(client):
    return client.get_alias(FunctionName=NAME, Name="current")["FunctionVersion"]


def apex_owns(configuration):
    return {name: value for name, value in configuration.items() if name not in (
        "CodeSha256", "CodeSize", "LastModified", "RevisionId", "Version", "ResponseMetadata", "LastUpdateStatus",
        "State", "StateReason", "StateReasonCode", "LastUpdateStatusReason", "LastUpdateStatusReasonCode",
    )}  # fmt: skip


def test_the_real_package_is_deployed_handles_an_event_through_the_alias_and_is_unchanged_then(
    aws, client, apex, deploy, kinesis_event
):
    create(client, apex)
    tables.create(aws.client("dynamodb"), "processor-dev-")
    aws.client("s3").create_bucket(Bucket="processor-dev", CreateBucketConfiguration={"LocationConstraint": aws.region})
    done = deploy("ingest")
    assert done.exit_code == 0, done.output
    assert "alias current: version 1 → a new version" in done.stdout
    assert served(client) == "2"
    now = int(time.time() * 1000)
    fleet = Fleet(devices=12, gateways=3, rate=12, seed=3, start=now - 20_000, malformed=0)
    records = [sent.data for sent in fleet.records(measurements=24)]
    response, about = invoke(client, kinesis_event(*records, arrived_at=now))
    assert "FunctionError" not in about, response
    assert response == {"batchItemFailures": []}
    items = aws.client("dynamodb").scan(TableName="processor-dev-readings")["Items"]
    # Encrypted sensors have no key here: a neighbour's, then, and ignored.
    heard = {device for device, _ in fleet.truth.measured} - fleet.keys.keys()
    assert {item["device"]["S"] for item in items} == heard
    again = deploy()
    assert again.exit_code == 0, again.output
    assert "unchanged: current serves version 2" in again.stdout
    assert not list(apex.glob(".build-*"))
    assert sorted(path.name for path in (apex / "functions/ingest").iterdir()) == [
        "function.dev.json", "function.json", "main.py",
    ]  # fmt: skip


def test_a_deployment_is_rolled_back_and_comes_back_without_a_new_version(client, apex, deploy):
    create(client, apex)
    small(apex, "return 'first'")
    assert deploy().exit_code == 0
    assert invoke(client, {})[0] == "first"
    small(apex, "return 'second'")
    assert deploy().exit_code == 0
    assert invoke(client, {})[0] == "second"
    dry = deploy("--rollback", "--dry-run")
    assert "alias current: version 3 → version 2" in dry.stdout
    assert served(client) == "3"
    back = deploy("--rollback")
    assert back.exit_code == 0, back.output
    assert "rolled back: current serves version 2" in back.stdout
    assert invoke(client, {})[0] == "first"
    assert deploy().exit_code == 0
    assert served(client) == "3"
    assert invoke(client, {})[0] == "second"


def test_rolling_back_the_first_version_says_that_there_is_nothing_before_it(client, apex, deploy):
    create(client, apex)
    done = deploy("--rollback")
    assert done.exit_code == 1
    assert "no version before 1 is kept" in done.output


def test_a_dry_run_shows_the_difference_and_changes_nothing(aws, client, apex, deploy):
    create(client, apex)
    small(apex, "return 1")
    edit(apex / "functions/ingest/function.json", {"memory": 512})
    generate(apex, aws, environment={**aws.environment(), "TABLE_PREFIX": "other-"})
    small(apex, "return 1")
    before = client.get_function_configuration(FunctionName=NAME)
    done = deploy("--dry-run")
    assert done.exit_code == 0, done.output
    assert "MemorySize: 256 → 512" in done.stdout
    assert "environment QUARANTINE_BUCKET: set → unset" in done.stdout
    assert "environment TABLE_PREFIX: set → another value" in done.stdout
    assert "code: " in done.stdout
    after = client.get_function_configuration(FunctionName=NAME)
    assert (before["RevisionId"], served(client)) == (after["RevisionId"], "1")


def test_a_configuration_that_differs_is_sent_whole_and_served(aws, client, apex, deploy):
    create(client, apex)
    small(apex, "return 1")
    edit(apex / "functions/ingest/function.json", {"memory": 512})
    generate(apex, aws, environment={**aws.environment(), "TABLE_PREFIX": "other-"})
    small(apex, "return 1")
    assert deploy().exit_code == 0
    configuration = client.get_function_configuration(FunctionName=NAME, Qualifier=served(client))
    assert configuration["MemorySize"] == 512
    assert configuration["Environment"]["Variables"] == {
        **aws.environment(), "TABLE_PREFIX": "other-", "APEX_FUNCTION_NAME": "ingest", "LAMBDA_FUNCTION_NAME": NAME,
    }  # fmt: skip
    assert "unchanged" in deploy().stdout


def test_a_configuration_that_terraform_changed_reaches_the_alias_without_new_code(aws, client, apex, deploy):
    """`terraform apply` alone changes what is not published yet; the alias goes on serving the old memory."""
    create(client, apex)
    small(apex, "return 1")
    assert deploy().exit_code == 0
    edit(apex / "functions/ingest/function.json", {"memory": 1024})
    generate(apex, aws)
    small(apex, "return 1")
    client.update_function_configuration(FunctionName=NAME, MemorySize=1024)
    done = deploy()
    assert done.exit_code == 0, done.output
    assert "MemorySize" not in done.stdout
    assert client.get_function_configuration(FunctionName=NAME, Qualifier="current")["MemorySize"] == 1024


def test_only_so_many_versions_are_kept_and_never_one_that_an_alias_serves(client, apex, deploy):
    create(client, apex)
    client.create_alias(FunctionName=NAME, Name="pinned", FunctionVersion="1")
    for n in range(4):
        small(apex, f"return {n}")
        edit(apex / "project.dev.json", {"retainedVersions": 2})
        assert deploy().exit_code == 0
    listed = client.list_versions_by_function(FunctionName=NAME)["Versions"]
    assert [version["Version"] for version in listed] == ["$LATEST", "1", "4", "5"]


def test_a_missing_alias_is_made(client, apex, deploy):
    create(client, apex)
    client.delete_alias(FunctionName=NAME, Name="current")
    small(apex, "return 1")
    assert deploy().exit_code == 0
    assert served(client) == "2"


def test_a_function_that_terraform_has_not_created_is_named_with_what_to_type(apex, deploy):
    small(apex, "return 1")
    done = deploy()
    assert done.exit_code == 1
    assert f"there is no function {NAME} in ap-northeast-1" in done.output
    assert "terraform apply" in done.output


def test_missing_credentials_are_named_with_what_to_type(apex, deploy, monkeypatch):
    small(apex, "return 1")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    done = deploy()
    assert done.exit_code == 1
    assert "Unable to locate credentials: set AWS_PROFILE" in done.output


def test_a_missing_region_is_named_with_what_to_type(apex, deploy, monkeypatch):
    small(apex, "return 1")
    edit(apex / "project.dev.json", {"region": ""})
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    done = deploy()
    assert done.exit_code == 1
    assert "no region: set AWS_REGION" in done.output


def test_an_architecture_that_the_function_does_not_have_is_refused(client, apex, deploy):
    create(client, apex)
    small(apex, "return 1")
    edit(apex / "project.dev.json", {"architecture": "arm64"})
    done = deploy()
    assert done.exit_code == 1
    assert f"{NAME} runs on x86_64" in done.output


def test_apexs_own_calls_change_code_version_and_alias_only(client, apex):
    """On what Terraform created, apex finds its configuration unchanged; so no update is in progress then."""
    config = create(client, apex)
    before = client.get_function(FunctionName=NAME)["Configuration"]
    first = zipped("def handle(event, context):\n    return 'apex'\n")
    assert replay(client, config, first) == [
        "GetFunction", "UpdateFunctionCode", "CreateAlias", "UpdateAlias", "ListVersionsByFunction",
    ]  # fmt: skip
    assert invoke(client, {})[0] == "apex"
    client.get_waiter("function_updated_v2").wait(FunctionName=NAME, WaiterConfig=QUICK)
    after = client.get_function(FunctionName=NAME)["Configuration"]
    assert apex_owns(after) == apex_owns(before)
    assert client.get_alias(FunctionName=NAME, Name="current")["Description"] == "The deployed version"
    assert replay(client, config, first) == [
        "GetFunction", "ListVersionsByFunction", "CreateAlias", "UpdateAlias",
    ]  # fmt: skip


def test_apex_would_update_a_configuration_that_differs_at_all(client, apex):
    config = create(client, apex)
    client.update_function_configuration(FunctionName=NAME, Description="edited by hand")
    assert "UpdateFunctionConfiguration" in replay(client, config, zipped("x = 1"))


def test_apex_and_this_command_agree_on_what_is_deployed(client, apex, deploy):
    """The same package through one tool is unchanged to the other, if its bytes are the same."""
    config = create(client, apex)
    small(apex, "return 1")
    archive = deployment.package(deployed_function(apex / "functions/ingest", "dev"))
    with zipfile.ZipFile(io.BytesIO(archive.data)) as target:
        assert target.namelist() == ["main.py"]  # neither function.json nor the environment's
    replay(client, config, archive.data)
    done = deploy()
    assert "unchanged: current serves version 2" in done.stdout, done.output


def test_the_readmes_commands_typed_in_order_deploy_and_roll_back(client, apex, aws, deploy, monkeypatch, tmp_path):
    """Terraform is the other README's; a stand-in gives its output. apex's own binary cannot be had here."""
    create(client, apex)
    small(apex, "return 1")
    generated = {path.relative_to(apex).as_posix(): path.read_text() for path in apex.rglob("*.dev.json")}
    (tmp_path / "output.json").write_text(json.dumps(generated))
    for path in apex.rglob("*.dev.json"):
        path.unlink()
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "terraform").write_text(f"#!/bin/sh\ncat '{tmp_path}/output.json'\n")
    (programs / "terraform").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    monkeypatch.chdir(tmp_path)
    readme = (ROOT / "apex/README.md").read_text().splitlines()
    lines = [line.replace("-e prod", "-e dev") for line in readme if line.startswith("    uv run processor ")]
    typed = [shlex.split(line)[3:] for line in lines]
    assert [command[0] for command in typed] == ["apex-files", "deploy", "deploy", "deploy", "deploy"]
    versions = []
    for command in typed:
        done = run(*command)
        assert done.exit_code == 0, done.output
        versions.append(served(client))
    assert versions == ["1", "1", "2", "2", "1"]


class Busy:
    """Lambda's client, answering as AWS does while another update is under way: so many times."""

    def __init__(self, client, times):
        self._client, self.times = client, times

    def __getattr__(self, name):
        return getattr(self._client, name)

    def update_function_code(self, **arguments):
        if self.times:
            self.times -= 1
            raise self._client.exceptions.ResourceConflictException(
                {"Error": {"Code": "ResourceConflictException", "Message": "The operation cannot be performed at this "
                           "time. An update is in progress for resource: " + NAME}}, "UpdateFunctionCode",
            )  # fmt: skip
        return self._client.update_function_code(**arguments)


def test_an_update_in_progress_is_waited_for(client, apex, deploy, monkeypatch):
    create(client, apex)
    small(apex, "return 1")
    busy = Busy(client, times=2)
    busy.close = lambda: None
    monkeypatch.setattr(sys.modules["processor.cli.deploy"], "_client", lambda config, region: busy)
    assert deploy().exit_code == 0
    assert busy.times == 0


def test_an_update_that_never_ends_is_explained(client, apex):
    config = create(client, apex)
    small(apex, "return 1")
    plan = deployment.compare(client, config, deployment.package(deployed_function(config.directory, "dev")))
    with pytest.raises(DeployError, match="something else keeps updating it"):
        deployment.deploy(Busy(client, times=100), plan)


class Failing(Busy):
    """Lambda's client where each update comes to nothing, as with a key that the role may not use."""

    def get_waiter(self, name):
        reason = {"LastUpdateStatus": "Failed", "LastUpdateStatusReason": "KMS key is disabled"}

        def fail(**arguments):
            raise WaiterError(name, "terminal failure state", {"Configuration": reason})

        return SimpleNamespace(wait=fail)


def test_an_update_that_failed_does_not_stop_the_next_but_our_own_does_not_reach_the_alias(client, apex):
    config = create(client, apex)
    small(apex, "return 1")
    plan = deployment.compare(client, config, deployment.package(deployed_function(config.directory, "dev")))
    with pytest.raises(DeployError, match=r"could not carry it out: KMS key is disabled\. The alias current was not"):
        deployment.deploy(Failing(client, times=0), plan)
    assert served(client) == "1"
    assert client.get_function(FunctionName=NAME)["Configuration"]["CodeSha256"] == plan.archive.sha256


def test_packages_are_built_without_deploying_them(apex, tmp_path):
    edit(apex / "project.json", {"hooks": {}})
    done = run("package", "--apex", str(apex), "-o", str(tmp_path / "dist"))
    assert done.exit_code == 0, done.output
    with zipfile.ZipFile(tmp_path / "dist/ingest.zip") as target:
        assert target.namelist() == ["main.py"]
    assert f"{tmp_path / 'dist/ingest.zip'}: 0.00 MB for {HERE} on x86_64" in done.stdout
    assert "CodeSha256 " in done.stdout
