"""`processor audit` and `verify` as typed: every marked reading accounted for, every damage found, on real tables."""

from __future__ import annotations

import json
import re
import sys
import threading
import time

import boto3
import pytest
from click.testing import CliRunner

from processor.audit.count import Auditor, Truth, count
from processor.audit.marks import marks, posts
from processor.cli import main
from processor.errors import SettingsError
from processor.local.aws import EmbeddedAws
from processor.local.system import System
from processor.store import tables

command = sys.modules["processor.cli.audit"]  # the package's attribute of that name is the command itself
TABLES = ("processor-readings", "processor-rollups", "processor-devices")


def run(*arguments, status=0, stdin=None):
    done = CliRunner().invoke(main, [str(each) for each in arguments], input=stdin)
    assert done.exit_code == status, done.output
    return done.stdout


def audit(*arguments, status=0):
    return json.loads(run("audit", "--format", "json", *arguments, status=status))


def verify(*arguments, status=0):
    return json.loads(run("verify", "--format", "json", "--lag", 0, "--wait", 0.2, *arguments, status=status))


@pytest.fixture(scope="module")
def system():
    with System(shards=3) as found:
        yield found


@pytest.fixture
def configured(system, monkeypatch):
    """The commands are pointed at a system that runs already."""
    for name, value in system.aws.environment().items():
        monkeypatch.setenv(name, value)
    return system.aws.client("dynamodb")


def everything(dynamodb, table):
    return [item for page in dynamodb.get_paginator("scan").paginate(TableName=table) for item in page["Items"]]


@pytest.mark.parametrize("number", [1_000, 10_000])
def test_every_one_of_so_many_is_accounted_for_on_an_aws_of_its_own(number):
    found = audit("--count", number)
    assert found["passed"]
    assert found["place"].startswith("the embedded AWS")
    assert found["sent"] == found["stored"] == found["rolled_up"] == number
    assert found["streamed"] == found["items"] > 0
    assert found["copies"] > number / 20
    assert [found["missing"], found["doubled"], found["changed"]] == [[], [], []]


def drop_reading(dynamodb):
    item = everything(dynamodb, TABLES[0])[0]
    dynamodb.delete_item(TableName=TABLES[0], Key={name: item[name] for name in ("device", "slot")})


def drop_rollup(dynamodb):
    item = everything(dynamodb, TABLES[1])[0]
    dynamodb.delete_item(TableName=TABLES[1], Key={name: item[name] for name in ("device", "start")})


def add_rollup(dynamodb):
    item = everything(dynamodb, TABLES[1])[0]
    dynamodb.put_item(TableName=TABLES[1], Item=item | {"start": {"N": "300"}})


FAULTS = {drop_reading: "missing", drop_rollup: "missing", add_rollup: "doubled"}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_what_is_taken_away_or_put_in_behind_its_back_is_found(fault, monkeypatch):
    class Sabotaged(Auditor):
        """When all is there, something happens to it, before the one look that the audit has time for."""

        def read(self):
            until = time.monotonic() + 60
            while not count(self.truth, super().read(), None).passed and time.monotonic() < until:
                time.sleep(0.2)
            fault(self._dynamodb)
            return super().read()

    class Truthful(Truth):
        def __init__(self, posts):
            super().__init__(posts)
            Sabotaged.truth = self

    monkeypatch.setattr(command, "Auditor", Sabotaged)
    monkeypatch.setattr(command, "Truth", Truthful)
    found = audit("--count", 100, "--timeout", 0, status=1)
    assert (found["passed"], found["sent"]) == (False, 100)
    assert {name for name in ("missing", "doubled", "changed") if found[name]} == {FAULTS[fault]}


def test_where_nothing_is_stored_every_one_is_missing_and_the_seed_makes_the_devices(monkeypatch):
    """Tables and a stream, and no function: all is sent, and nothing happens."""
    with EmbeddedAws() as aws:
        tables.create(aws.client("dynamodb"), "processor-")
        aws.client("kinesis").create_stream(StreamName="mine", ShardCount=1)
        for name, value in aws.environment().items():
            monkeypatch.setenv(name, value)
        said = run("audit", "--count", 50, "--seed", 258, "--stream", "mine", "--timeout", 0, "--show", 2, status=1)
    lines = [" ".join(line.split()) for line in said.splitlines()]
    assert lines[0].startswith("Place the stream arn:aws:kinesis:us-east-1:")
    assert lines[0].endswith(f":stream/mine, region us-east-1, at {aws.endpoint}")
    assert lines[1] == "Run --seed 258: 8 devices, 02:AD:00:01:02:00 to 02:AD:00:01:02:07"
    assert "Stored 0 readings in 0 items" in lines
    assert len([line for line in lines if line.startswith("02:AD:00:01:02:")]) == 2
    assert lines[-1] == "FAILED: not every one is accounted for."


def test_where_it_is_is_said_before_anything_is_sent_and_that_is_no_account_where_no_stream_is_named(monkeypatch):
    """Somebody with credentials in the environment may think that it was the account that was audited."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setattr(command.Audit, "send", lambda *_: (_ for _ in ()).throw(SettingsError("not sent")))
    done = CliRunner().invoke(main, ["audit", "--count", "5", "--format", "json"])
    assert (done.exit_code, done.stdout) == (1, "")
    first, second = done.stderr.splitlines()
    assert first == "Auditing the embedded AWS, which this command started: --stream NAME is for one of the account"
    assert "not sent" in second


def test_a_running_system_is_audited_and_cleaned_and_others_items_stay(system, configured):
    audit("--count", 200, "--seed", 1)
    others = [everything(configured, table) for table in TABLES]
    assert all(others)
    found = audit("--count", 300, "--seed", 2, "--clean")
    assert found["passed"]
    assert found["cleaned"] > 0
    system.drain(60)  # the roll-up function, too, has seen the readings go
    left = [everything(configured, table) for table in TABLES]
    assert [sorted(map(repr, each)) for each in left] == [sorted(map(repr, each)) for each in others]
    done = CliRunner().invoke(main, ["audit", "--count", "200", "--seed", "1"])
    assert (done.exit_code, "this very seed" in done.output) == (1, True)


def test_an_account_is_written_to_only_after_a_yes(system, configured, monkeypatch, tmp_path):
    """The endpoints are told to boto3 alone, so that for the command this is an AWS account."""
    profile = tmp_path / "config"
    profile.write_text(f"[default]\nendpoint_url = {system.aws.endpoint}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(profile))
    monkeypatch.setenv("AWS_ENDPOINT_URL_KINESIS", system.aws.endpoint)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # it has read the profile before
    assert boto3.client("dynamodb").meta.endpoint_url == system.aws.endpoint
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    assert boto3.client("dynamodb").meta.endpoint_url == system.aws.endpoint
    before = len(everything(configured, TABLES[0]))
    arguments = ["audit", "--count", "20", "--stream", "processor"]
    done = CliRunner().invoke(main, arguments, input="n\n")
    assert done.exit_code == 1
    assert "20 marked readings into arn:aws:kinesis:" in done.output
    assert "up to 60 write units (about 0.01 US dollars)" in done.output
    assert len(everything(configured, TABLES[0])) == before
    monkeypatch.setattr(command, "INTERVAL", 0.5)
    done = CliRunner().invoke(main, [*arguments, "--yes"])
    assert done.exit_code == 0
    assert "items seen at least once" in done.stdout
    assert re.match(r"Auditing the stream arn:aws:kinesis:\S+:stream/processor, region us-east-1$", done.stderr, re.M)
    assert len(everything(configured, TABLES[0])) > before


def test_verify_agrees_finds_each_damage_on_real_tables_and_puts_it_right(configured):
    audit("--count", 400, "--seed", 77)
    mine = [f"02:AD:00:00:4D:{n:02X}" for n in range(8)]
    found = verify(*mine)
    assert (found["differences"], found["devices"], found["ranges"] >= 8) == ({}, 8, True)
    rollups = [item for item in everything(configured, TABLES[1]) if item["device"]["S"] in mine]
    key = {name: rollups[0][name] for name in ("device", "start")}
    configured.delete_item(TableName=TABLES[1], Key=key)
    other = rollups[1]
    other["q"]["M"]["p"]["M"]["sum"] = {"N": "1"}
    configured.put_item(TableName=TABLES[1], Item=other)
    stranger = rollups[2] | {"start": {"N": str(int(rollups[2]["start"]["N"]) - 30_000)}}
    configured.put_item(TableName=TABLES[1], Item=stranger)
    configured.delete_item(TableName=TABLES[2], Key={"device": {"S": mine[3]}})
    found = verify(status=1)
    emptied = {"without readings": 1}
    assert found["differences"] == {"missing": 1, "different": 1, "no state": 1} | emptied
    rows = {row["of"]: row for row in found["first"] if row["kind"] == "different"}
    assert list(rows) == ["pressure"]
    assert "sum 1," in rows["pressure"]["stored"]
    assert "sum 1," not in rows["pressure"]["expected"]
    found = verify("--fix", status=1)
    assert (found["differences"], found["fixed"]) == (emptied, {"missing": 1, "different": 1, "no state": 1})
    assert verify("--fix-foreign", status=1)["differences"] == emptied
    said = run("verify", "--lag", 0, "--wait", 0.2, status=1)
    assert "no reading is left" in said
    assert "--fix" not in said  # no hint leads to what nothing brings back
    assert verify("--fix-emptied")["fixed"] == emptied
    assert verify()["differences"] == {}
    assert "No difference." in run("verify", "--from", "-1h", "--to", "now", "--lag", 0, "--read-units", 10_000)


def test_verify_does_not_cry_wolf_on_a_table_that_is_written_to(system, configured):
    """While readings come, roll-ups are behind, and some differ when they are first looked at: none is called wrong."""
    sent = posts(marks(20_000, 99, round(time.time() * 1000)), 99)
    enough = threading.Event()

    def feed():
        for each in sent:
            system.put(each.data).result()
            if enough.wait(0.03):
                return

    feeding = threading.Thread(target=feed)
    feeding.start()
    seen = []
    try:
        while feeding.is_alive() and not any(each["caught_up"] + each["pending"] for each in seen):
            seen.append(verify("--wait", 4))
    finally:
        enough.set()
        feeding.join()
    assert not any(each["differences"] for each in seen)
    assert any(each["caught_up"] + each["pending"] for each in seen)
    system.drain(60)
    found = verify()
    assert [found[name] for name in ("differences", "pending", "caught_up")] == [{}, 0, 0]


def test_verify_says_for_how_long_readings_are_kept_where_the_shell_says_something_else(configured, monkeypatch):
    """The system's own functions keep them for 400 days."""
    audit("--count", 20, "--seed", 78)
    monkeypatch.setenv("RETENTION_DAYS", "500")
    said = run("verify", "--lag", 0, "02:AD:00:00:4E:00")
    assert "kept for more than 400 days, as their own expiry says: is RETENTION_DAYS=500 this deployment's?" in said
    monkeypatch.setenv("RETENTION_DAYS", "400")
    assert "RETENTION_DAYS" not in run("verify", "--lag", 0, "02:AD:00:00:4E:00")


def test_verify_says_what_it_takes():
    done = CliRunner().invoke(main, ["verify", "--from", "now", "--to", "-1h"])
    assert (done.exit_code, "is not before --to" in done.output) == (2, True)
    done = CliRunner().invoke(main, ["verify", "nobody"])
    assert (done.exit_code, "12 hexadecimal digits" in done.output) == (2, True)
