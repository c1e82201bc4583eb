"""Redrive and replay by their commands, over real sockets: what was missing is stored, and nothing else changes."""

from __future__ import annotations

import gzip
import json
import time
from dataclasses import replace
from datetime import UTC, datetime

import orjson
import pytest
from click.testing import CliRunner

from processor.cli import main
from processor.decode.advertisement import manufacturer_data, service_data
from processor.decode.formats import bthome, ruuvi
from processor.local.check import stream_records
from processor.local.fleet import Fleet
from processor.local.rollup_check import compare_rollups
from processor.local.system import MAPPING, ROLLUP_MAPPING, STREAM, System
from processor.store import tables

KEY = bytes(range(16))
MINE = "AA:00:00:00:00:01"


@pytest.fixture
def aws(configured):
    return configured


def run(*arguments, status=0, stdin=None):
    done = CliRunner().invoke(main, list(arguments), input=stdin, catch_exceptions=False)
    assert done.exit_code == status, done.output
    return done.stdout


def rows(*arguments):
    return [json.loads(line) for line in run(*arguments, "--format", "json").splitlines()]


def fleet_records(seed=1, seconds=20, ago=60):
    fleet = Fleet(
        devices=40, gateways=9, rate=40, seed=seed, start=round(time.time() * 1000) - ago * 1000, malformed=0.05
    )
    return fleet, [record.data for record in fleet.records(duration_ms=seconds * 1000)]


def items(system):
    """Every item, as JSON: numbers as they are stored, attributes in one order."""
    return sorted(orjson.dumps(item, option=orjson.OPT_SORT_KEYS) for item in system.reader.scan())


def archive(system, bucket, pieces=3):
    """Write the stream into S3 as Firehose does: gzipped, a record a line, by the hour of the oldest one's arrival."""
    records = sorted(stream_records(system.kinesis, STREAM), key=lambda each: each["ApproximateArrivalTimestamp"])
    share = -(-len(records) // pieces)
    for n in range(0, len(records), share):
        some = records[n : n + share]
        at = some[0]["ApproximateArrivalTimestamp"].astimezone(UTC)
        system.aws.client("s3").put_object(
            Bucket=bucket,
            Key=f"archive/{at:%Y/%m/%d/%H}/processor-archive-1-{at:%Y-%m-%d-%H-%M-%S}-{n:08d}.gz",
            Body=gzip.compress(b"".join(record["Data"] + b"\n" for record in some)),
        )
    return len(records)


def keys_of(fleet, monkeypatch):
    monkeypatch.setenv("BINDKEYS", ",".join(f"{device}={key.hex()}" for device, key in fleet.keys.items()))


@pytest.mark.parametrize("expires_from", ["reading", "arrival"])
def test_replaying_everything_changes_no_stored_byte(aws, monkeypatch, tmp_path, expires_from):
    """From the archive in pieces, from a file, and interrupted: every item is what it was, and none is stored."""
    fleet, records = fleet_records(seed=3)  # each has a time: what has none is left out, and counted
    keys_of(fleet, monkeypatch)
    monkeypatch.setenv("EXPIRES_FROM", expires_from)
    with System(aws=aws, keys=fleet.keys, any_age=expires_from == "arrival") as system:
        system.send(records)
        system.drain(60)
        assert system.check().passed
        bucket = system.settings.quarantine_bucket
        sent = archive(system, bucket)
        run("replay", f"s3://{bucket}")  # what was heard before its model was known may be stored now
        assert system.check().passed
        before, quarantined = items(system), rows("quarantine")

        said = run("replay", f"s3://{bucket}", "--resume", str(tmp_path / "state"))
        assert f"Replayed   {sent:,} of {sent:,} records" in said
        assert " 0 stored " in said
        assert items(system) == before
        capture = tmp_path / "capture.jsonl"
        capture.write_bytes(b"\n".join(records))
        assert " 0 stored " in run("replay", str(capture), "--rate", "100000")
        assert items(system) == before
        assert f"0 of 0 records; {sent:,} were done before" in run(
            "replay", f"s3://{bucket}", "--resume", str(tmp_path / "state")
        )
        assert rows("quarantine") == quarantined
        assert system.check().passed
        assert len(before) > 40


def test_a_replay_fills_an_empty_table_with_what_ingest_had_stored(aws, monkeypatch):
    fleet, records = fleet_records(seed=2)
    keys_of(fleet, monkeypatch)
    with System(aws=aws, keys=fleet.keys) as system:
        system.send(records)
        system.drain(60)
        bucket = system.settings.quarantine_bucket
        archive(system, bucket)
        run("replay", f"s3://{bucket}")
        cells = {name for item in map(json.loads, items(system)) for name in item if name[0] in "ct"}
        dynamodb = aws.client("dynamodb")
        dynamodb.delete_table(TableName=system.settings.readings_table)
        tables.create(dynamodb, system.settings.table_prefix)
        run("replay", f"s3://{bucket}")
        assert {name for item in map(json.loads, items(system)) for name in item if name[0] in "ct"} == cells
        assert system.check().passed


def test_a_replay_into_the_stream_is_ingested_and_changes_nothing(aws, monkeypatch):
    fleet, records = fleet_records(seed=3, seconds=10)
    with System(aws=aws, keys=fleet.keys) as system:
        system.send(records)
        system.drain(60)
        bucket = system.settings.quarantine_bucket
        sent = archive(system, bucket, pieces=1)
        before = {json.loads(item)["device"]["S"] for item in items(system)}
        said = run("replay", f"s3://{bucket}", "--to-stream", STREAM)
        assert f"Replayed   {sent:,} of {sent:,} records" in said
        system.drain(60)
        assert len(stream_records(system.kinesis, STREAM)) == 2 * sent
        assert {json.loads(item)["device"]["S"] for item in items(system)} == before
        check = system.check()
        assert (check.lost, check.foreign, check.changed) == ([], [], [])


def sealed(counter, at):
    data = service_data(bthome.UUID, bthome.encode({"temperature": 21}, key=KEY, address=MINE, counter=counter))
    good = manufacturer_data(0x0499, ruuvi.RAWV2.encode({"temperature": 20, "sequence": counter}, address=MINE))
    entries = [{"address": MINE, "timestamp": at, "data": each.hex()} for each in (good, data, data[:-5])]
    return orjson.dumps({"payloads": entries, "timestamp": at, "imsi": "295050000000001"})


def test_a_key_that_comes_later_opens_what_was_quarantined_for_want_of_it(aws):
    kms = aws.client("kms")
    kms.create_alias(AliasName="alias/keys", TargetKeyId=kms.create_key()["KeyMetadata"]["KeyId"])
    now = round(time.time() * 1000)
    with System(aws=aws) as system:
        run("devices", "set", MINE, "--name", "Cellar")
        system.send([sealed(n, now - 1000 * n) for n in range(1, 6)])
        system.drain(60)
        found = rows("quarantine", "list", "--reason", "key_missing", "--device", MINE.lower())
        assert [(row["index"], row["attempts"]) for row in found] == [(1, 1)] * 5
        name = f"{found[0]['shard']}:{found[0]['sequence_number']}"
        shown = json.loads(run("quarantine", "show", name, "--reason", "key_missing"))
        assert shown["content"]["payloads"][1]["address"] == MINE
        assert [each["reason"] for each in shown["rejected"]] == ["key_missing"]
        before = len(rows("query", MINE))

        run("devices", "set", MINE, "--key", KEY.hex(), "--kms-key", "alias/keys")
        assert "5 would be written" in run("quarantine", "redrive", "--reason", "key_missing", "--dry-run")
        assert "1 stored" in run("quarantine", "redrive", name, "--reason", "key_missing")
        assert "4 stored" in run("quarantine", "redrive", "--reason", "key_missing", "--device", MINE)
        assert len(rows("query", MINE)) == before + 5
        assert "5 failed again" in run("quarantine", "redrive")
        assert {(row["index"], row["attempts"]) for row in rows("quarantine")} == {(2, 2)}


def test_a_batch_that_lambda_delivers_once_more_takes_no_attempt_back(aws, kinesis_event):
    """Nor does it bring back, in the table or twice into quarantine, what a redrive took out."""
    now = round(time.time() * 1000)
    event = kinesis_event(sealed(1, now), b"{", arrived_at=now)
    with System(aws=aws) as system:
        run("devices", "set", MINE, "--name", "Cellar")
        for attempts in (1, 2, 3):
            assert system.function.invoke(event) == {"batchItemFailures": []}
            assert [row["attempts"] for row in rows("quarantine")] == [attempts] * 3
            before = items(system)
            run("quarantine", "redrive")
            assert items(system) == before


def test_batches_that_the_mapping_gave_up_are_stored_or_quarantined_and_their_objects_removed(aws, monkeypatch):
    """The table is away: the mapping gives up every batch, and keeps it in its failure destination."""
    fleet, records = fleet_records(seed=4)
    keys_of(fleet, monkeypatch)
    mapping = replace(MAPPING, maximum_retry_attempts=0, bisect_batch_on_function_error=False)
    with System(aws=aws, keys=fleet.keys, mapping=mapping) as system:
        dynamodb, s3 = aws.client("dynamodb"), aws.client("s3")
        bucket = system.settings.quarantine_bucket
        dynamodb.delete_table(TableName=system.settings.readings_table)
        system.send(records)
        system.drain(120)
        found = rows("failures")
        assert {row["reason"] for row in found} == {"RetryAttemptsExhausted"}
        # The function answered with the lowest record that failed: those before it were all handled.
        assert 0 < sum(row["records"] for row in found) <= len(records)
        objects = [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket, Prefix="aws/lambda/")["Contents"]]
        today = datetime.now(UTC)
        assert all(f"/{today:%Y/%m/}" in key and key.startswith("aws/lambda/local/shardId-") for key in objects)

        refused = run("failures", "redrive", status=1)  # the table is still away
        assert "could not be tried now" in refused
        assert len(rows("failures")) == len(found)

        tables.create(dynamodb, system.settings.table_prefix)
        assert "would be written" in run("failures", "redrive", "--dry-run")
        run("failures", "redrive")
        assert rows("failures") == []
        assert system.check().passed
        run("failures", "redrive")
        assert system.check().passed


def test_batches_of_the_tables_stream_that_were_given_up_are_rolled_up_from_what_is_stored(aws, monkeypatch):
    """The table of roll-ups is away: the second mapping gives up every batch, and keeps it in the same destination."""
    fleet, records = fleet_records(seed=5)
    keys_of(fleet, monkeypatch)
    mapping = replace(ROLLUP_MAPPING, maximum_retry_attempts=0, bisect_batch_on_function_error=False)
    with System(aws=aws, keys=fleet.keys, rollup_mapping=mapping) as system:
        dynamodb = aws.client("dynamodb")
        dynamodb.delete_table(TableName=system.settings.rollups_table)
        system.send(records)
        system.drain(120)
        found = rows("failures")
        assert {(row["source"], row["attempts"]) for row in found} == {("DynamoDB", 1)}
        shown, _ = json.JSONDecoder().raw_decode(run("failures", "show"))
        assert len(shown["content"]) == found[0]["records"]
        device = shown["content"][0]["keys"]["device"]["S"]
        assert 0 < len(rows("failures", "list", "--device", device)) <= len(found)

        refused = run("failures", "redrive", status=1)  # the table is still away
        assert "could not be tried now" in refused
        assert {row["attempts"] for row in rows("failures")} == {2}

        tables.create(dynamodb, system.settings.table_prefix)
        assert "would be written" in run("failures", "redrive", "--dry-run")
        changes = sum(row["records"] for row in found)
        assert f"{changes:>8,} rolled up anew" in run("failures", "redrive")
        assert rows("failures") == []
        verdict = system.check()
        assert verdict.passed
        expected = list(system.rollups.all())
        number, wrong = compare_rollups(verdict.readings, expected)
        assert (wrong, number) == ([], len(expected))
        run("failures", "redrive")
        assert sorted(system.rollups.all()) == sorted(expected)


def test_undated_records_are_left_out_unless_the_user_says_when_they_arrived(aws, tmp_path):
    """Twice with the same time stores nothing twice; without one, nothing at all."""
    tables.create(aws.client("dynamodb"), "processor-")
    data = manufacturer_data(0x0499, ruuvi.RAWV2.encode({"temperature": 20, "sequence": 1}, address=MINE))
    payload = json.dumps({"address": MINE, "data": data.hex()}) + "\n"
    capture = tmp_path / "capture.jsonl.gz"
    capture.write_bytes(gzip.compress(payload.encode()))
    assert "0 of 1 records, 1 undated (see --arrived-at)" in run("replay", str(capture))
    at = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    assert " 1 stored " in run("replay", str(capture), "--arrived-at", at)
    assert " 0 stored + 1 duplicates" in run("replay", str(capture), "--arrived-at", at)
    assert "0 of 1 records, 1 of another time" in run("replay", str(capture), "--arrived-at", at, "--to", at)
    (row,) = rows("query", MINE)
    assert row["at"] == at.replace("Z", ".000Z")


def test_what_cannot_be_read_is_left_out_of_a_window_and_named(aws, tmp_path):
    tables.create(aws.client("dynamodb"), "processor-")
    capture = tmp_path / "capture.jsonl"
    capture.write_bytes(b"{broken\n" + sealed(1, round(time.time() * 1000)))
    said = run("replay", str(capture), "--from", "-1h")
    assert "1 of 2 records, 1 unreadable and so of no known time (see --arrived-at)" in said
    said = run("replay", str(capture))
    assert "2 of 2 records\n" in said
    assert "2 rejected" in said


def test_a_replay_whose_table_is_away_stops_and_says_how_to_go_on(aws, tmp_path, monkeypatch):
    monkeypatch.setattr("processor.replay.TRIES", 2)
    capture, state = tmp_path / "capture.jsonl", tmp_path / "state"
    capture.write_bytes(sealed(1, round(time.time() * 1000)))
    done = CliRunner().invoke(main, ["replay", str(capture), "--resume", str(state)])
    assert done.exit_code == 1
    assert "could not be written, 2 times over" in done.output
    assert f"The same command goes on from here: {state}" in done.output
    tables.create(aws.client("dynamodb"), "processor-")
    assert " 1 stored " in run("replay", str(capture), "--resume", str(state))


@pytest.mark.parametrize(
    ("to", "change", "other"),
    [
        ([], "TABLE_PREFIX", "other-"),
        ([], "AWS_REGION", "eu-west-3"),
        ([], "AWS_ENDPOINT_URL", "http://127.0.0.1:9"),
        (["--to-stream", STREAM], "AWS_REGION", "eu-west-3"),
        (["--to-stream", STREAM], "AWS_ENDPOINT_URL", "http://127.0.0.1:9"),
    ],
)
def test_what_is_done_for_one_destination_is_not_done_for_another(aws, tmp_path, monkeypatch, to, change, other):
    """The same command and state in another environment: it must not say that all is done already."""
    tables.create(aws.client("dynamodb"), "processor-")
    aws.client("kinesis").create_stream(StreamName=STREAM, ShardCount=1)
    capture, state = tmp_path / "capture.jsonl", str(tmp_path / "state")
    capture.write_bytes(sealed(1, round(time.time() * 1000)))
    command = ["replay", str(capture), *to, "--resume", state]
    assert "1 of 1 records" in run(*command)
    before = (tmp_path / "state").read_bytes()
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv(change, other)
        done = CliRunner().invoke(main, command)
        assert (done.exit_code, "is about another replay" in done.output) == (1, True), done.output
    assert (tmp_path / "state").read_bytes() == before
    assert "0 of 0 records; 1 were done before" in run(*command)


def test_a_file_is_the_same_by_whichever_name_and_goes_on_where_it_grew(aws, tmp_path, monkeypatch):
    tables.create(aws.client("dynamodb"), "processor-")
    now = round(time.time() * 1000)
    capture, state = tmp_path / "capture.jsonl", str(tmp_path / "state")
    capture.write_bytes(sealed(1, now) + b"\n" + sealed(2, now) + b"\n")
    assert "2 of 2 records" in run("replay", str(capture), "--resume", state)
    monkeypatch.chdir(tmp_path)
    assert "0 of 0 records; 2 were done before" in run("replay", "capture.jsonl", "--resume", state)
    with capture.open("ab") as file:
        file.write(sealed(3, now + 1000) + b"\n")
    said = run("replay", "capture.jsonl", "--resume", state)
    assert "1 of 1 records; 2 were done before" in said
    assert " 1 stored " in said


def test_an_object_that_became_another_one_is_refused_and_the_message_says_what_to_do(aws, tmp_path):
    tables.create(aws.client("dynamodb"), "processor-")
    s3, now, state = aws.client("s3"), round(time.time() * 1000), str(tmp_path / "state")
    s3.create_bucket(Bucket="captures")
    s3.put_object(Bucket="captures", Key="archive/x", Body=sealed(1, now))
    assert "1 of 1 records" in run("replay", "s3://captures", "--resume", state)
    assert "0 of 0 records; 1 were done before" in run("replay", "s3://captures", "--resume", state)
    s3.put_object(Bucket="captures", Key="archive/x", Body=sealed(2, now))
    done = CliRunner().invoke(main, ["replay", "s3://captures", "--resume", state])
    assert (done.exit_code, "s3://captures/archive/x is another one now" in done.output) == (1, True), done.output
    assert "--resume with a new file" in done.output
    assert "The same command" not in done.output
    assert " 1 stored " in run("replay", "s3://captures", "--resume", state + "2")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-", "--resume", "state"], "read again"),
        (["x", "--to-stream", "y", "--arrived-at", "now"], "arrives now"),
        (["x", "--from", "2026-11-02", "--to", "2026-11-01"], "is not before"),
        (["x", "--rate", "0"], "--rate"),
    ],
)
def test_options_that_make_no_sense_together_are_refused(arguments, message):
    done = CliRunner().invoke(main, ["replay", *arguments])
    assert (done.exit_code, message in done.output) == (2, True)


def test_the_commands_say_what_is_wrong(aws, tmp_path):
    aws.client("s3").create_bucket(Bucket="processor-quarantine")
    assert "no rejected record is meant" in CliRunner().invoke(main, ["quarantine", "show", "shard:1"]).output
    assert "SHARD:SEQUENCE" in CliRunner().invoke(main, ["quarantine", "redrive", "1"]).output
    assert "archive switched on" in CliRunner().invoke(main, ["replay", "s3://processor-quarantine"]).output
    assert "is no file" in CliRunner().invoke(main, ["replay", str(tmp_path)]).output
    done = CliRunner().invoke(main, ["quarantine", "redrive", "--from", "2026-11-02", "--to", "2026-11-01"])
    assert (done.exit_code, "is not before" in done.output) == (2, True)
