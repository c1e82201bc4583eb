"""A batch, an object in S3 and a flood of names cost no more than their bounds, whatever they are made of."""

from __future__ import annotations

import gzip
import io
import json
import tracemalloc
from collections import Counter
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from processor.archive import MAX_GATHERED, MAXIMUM_RECORD, Piece, archived, records
from processor.batch import Batch
from processor.devices import LEARNED_AT_ONCE, REMEMBERED_DEVICES, Devices
from processor.errors import InvalidWrite, SourceError
from processor.failures import Failures
from processor.ledger import MAX_REJECTIONS
from processor.local.check import compare
from processor.objects import MAX_OBJECT, whole
from processor.quarantine import Quarantine
from processor.redrive import Redrive
from processor.rules import Limits, Rules
from processor.store.registry import Device
from processor.store.writer import Writer

AT = 1_700_000_000_000
RULES = Rules(Limits(86400 * 365 * 50))
DEVICE = "CB:B8:33:4C:88:4F"
GOOD = b'{"address":"%b","timestamp":%d,"data":"1bff99040512fc5394c37c0004fffc040cac364200cdcbb8334c884f"}'
BAD = b'{"address":"%b","data":"1bff9904"}' % DEVICE.encode()


UNKNOWN = b'{"address":"%b","data":"04ffffff3f"}' % DEVICE.encode()


def bomb(entries=999, tail=b"{}"):
    """A record of three bytes an entry, each of which is rejected with a reason in words."""
    return b"[" + b"{}," * (entries - 1) + tail + b"]"


@pytest.mark.parametrize("waits", [False, True])
def test_a_batch_of_nothing_but_rejections_takes_a_bounded_memory(kinesis_event, new_bucket, waits):
    """Each rejection has three bytes of its record, and three hundred of reasons; something may wait beside it."""
    event = kinesis_event(*[bomb(tail=UNKNOWN if waits else b"{}")] * 100, arrived_at=AT)
    bucket = new_bucket()
    tracemalloc.start()
    try:
        batch = Batch(event["Records"], RULES)
        batch.decode()
        Quarantine("q", lambda: bucket).put((batch.records[place], found) for place, found in batch.rejections.items())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20_000_000  # 70 MB without the bound
    assert batch.rejected <= MAX_REJECTIONS + 100
    ledger = batch.ledger()
    assert ledger["received"] - ledger["ignored"] == ledger["rejected"] == batch.rejected
    assert ledger["ignored"] == 100 * waits
    lines = [json.loads(line) for body in bucket.objects.values() for line in body.splitlines()]
    assert len(lines) == 100  # every record is there, whole
    assert sum(map(len, bucket.objects.values())) < 400_000 + (MAX_REJECTIONS + 100) * 500
    assert [each["reason"] for each in lines[-1]["rejected"]] == ["many"]
    assert lines[-1]["rejected"][0]["index"] is None
    assert f"{999 - waits} of its advertisements" in lines[-1]["rejected"][0]["message"]


def test_what_is_good_beside_too_much_that_is_bad_is_stored_and_a_redrive_tells_the_rest_apart(
    kinesis_event, new_bucket, new_table
):
    mixed = b"[" + GOOD % (DEVICE.encode(), AT) + b"," + b",".join([BAD] * 20) + b"]"
    event = kinesis_event(*[bomb()] * 11, mixed, arrived_at=AT)
    bucket, table = new_bucket(), new_table()
    quarantine, writer = Quarantine("q", lambda: bucket), Writer(table, "readings", threads=1)
    batch = Batch(event["Records"], RULES)
    batch.store(writer, now=AT / 1000)
    quarantine.put((batch.records[place], found) for place, found in batch.rejections.items())
    ledger = batch.ledger()
    assert (ledger["stored"], ledger["failed"]) == (1, 0)
    assert ledger["received"] == sum(count for name, count in ledger.items() if name != "received")
    (key,) = bucket.objects
    lines = [json.loads(line) for line in bucket.objects[key].splitlines()]
    assert [each["index"] for each in lines[11]["rejected"]] == [None]
    bucket.objects[key] = json.dumps(lines[11]).encode() + b"\n"
    Redrive(quarantine, writer, RULES, clock=lambda: AT / 1000).redrive()
    (line,) = quarantine.entries()
    assert [each["index"] for each in line["rejected"]] == list(range(1, 21))
    assert len(table.items) == 1
    writer.close()


def refuse(operation, body):
    """Answer as DynamoDB does of an item that has no room for more."""
    raise InvalidWrite("ValidationException", "Item size to update has exceeded the maximum allowed size", status=400)


def balanced(ledger):
    """A ledger whose every advertisement is somewhere."""
    assert ledger["received"] == sum(count for name, count in ledger.items() if name != "received")
    return ledger


def test_what_the_table_refuses_is_told_apart_as_far_as_what_cannot_be_decoded(
    kinesis_event, new_bucket, new_table, monkeypatch
):
    """Each of two records' readings is refused; both records are kept whole, and a redrive stores all of them."""
    monkeypatch.setattr("processor.ledger.MAX_REJECTIONS", 100)
    half = 60
    ads = [(GOOD % (DEVICE.encode(), AT)).replace(b"00cd", b"%04x" % number) for number in range(2 * half)]
    event = kinesis_event(b"[" + b",".join(ads[:half]) + b"]", b"[" + b",".join(ads[half:]) + b"]", arrived_at=AT)
    bucket, table = new_bucket(), new_table()
    quarantine, writer = Quarantine("q", lambda: bucket), Writer(table, "readings", threads=1)
    table.fail = refuse
    batch = Batch(event["Records"], RULES)
    batch.store(writer, now=AT / 1000)
    assert balanced(batch.ledger())["rejected"] == half + 1
    quarantine.put((batch.records[place], found) for place, found in batch.rejections.items())
    first, second = quarantine.entries()
    assert {each["reason"] for each in first["rejected"]} == {"invalid_write"}
    ((index, reason, message),) = (each.values() for each in second["rejected"])
    assert (index, reason) == (None, "many")
    assert f"{half} of its advertisements" in message
    assert message.endswith("exceeded the maximum allowed size (HTTP 400)")
    again = Redrive(quarantine, writer, RULES, clock=lambda: AT / 1000).redrive()
    assert (again.failed_again, again.reasons) == (half + 1, {"invalid_write": half, "many": 1})
    assert len([*quarantine.entries()]) == 2
    table.fail = lambda operation, body: None
    done = Redrive(quarantine, writer, RULES, clock=lambda: AT / 1000).redrive()
    assert (done.redriven, done.stored, done.failed_again) == (2 * half, 2 * half, 0)
    assert not [*quarantine.entries()]
    writer.close()


def test_what_was_folded_already_says_how_many_the_table_refused_too(kinesis_event, new_table):
    mixed = b"[" + GOOD % (DEVICE.encode(), AT) + b"," + b",".join([BAD] * 20) + b"]"
    table = new_table()
    table.fail = refuse
    writer = Writer(table, "readings", threads=1)
    batch = Batch(kinesis_event(*[bomb()] * 11, mixed, arrived_at=AT)["Records"], RULES)
    batch.store(writer, now=AT / 1000)
    writer.close()
    ((rejection,),) = [found for place, found in batch.rejections.items() if place == 11]
    assert rejection.message.startswith("21 of its advertisements, not told apart")
    assert "The first: advertisement at byte 0" in rejection.message
    balanced(batch.ledger())


def test_the_check_of_a_run_takes_one_line_for_all_of_its_record(kinesis_event):
    """Of what was rejected; what the table refused is still to be missed in it."""
    data = bomb(entries=20)
    record = {
        "ShardId": "shardId-1", "SequenceNumber": "1", "Data": data,
        "ApproximateArrivalTimestamp": datetime.fromtimestamp(AT / 1000, UTC),
    }  # fmt: skip
    line = {"shard": "shardId-1", "sequence_number": "1", "rejected": [{"index": None, "reason": "many"}]}
    verdict = compare(Counter([data]), [record], [], [line], RULES.limits)
    assert (verdict.passed, verdict.quarantined) == (True, 20)
    good = b"[" + GOOD % (DEVICE.encode(), AT) + b"]"
    refused = compare(Counter([good]), [record | {"Data": good}], [], [line], RULES.limits)
    assert refused.wrongly_quarantined == [("shardId-1", "1", None)]
    assert len(refused.lost) == 1


class Endless:
    """An object without an end; `read` says how much of it was asked for."""

    def __init__(self):
        self.asked = 0

    def read(self, size=-1):
        assert size >= 0, "read without a bound"
        self.asked += size
        return bytes(size)


@pytest.mark.parametrize(
    "read",
    [
        lambda s3: Quarantine("q", lambda: s3).read("quarantine/x"),
        lambda s3: Failures("q", lambda: s3).read("aws/lambda/x"),
        lambda s3: next(archived(s3, "q", "archive/", None, None)).open(),
    ],
    ids=["quarantine", "failures", "archive"],
)
def test_an_object_larger_than_any_of_ours_is_refused_and_not_read_to_its_end(read):
    body = Endless()
    page = {"Contents": [{"Key": "archive/2026/11/20/00/x", "Size": 1, "ETag": "x"}]}
    s3 = SimpleNamespace(
        get_object=lambda Bucket, Key: {"Body": body, "ETag": "x"},  # noqa: N803 - AWS's names
        get_paginator=lambda name: SimpleNamespace(paginate=lambda **_: [page]),
        exceptions=SimpleNamespace(NoSuchKey=KeyError),
    )
    with pytest.raises(SourceError, match=r"more than [0-9,]+ bytes.*move the object elsewhere"):
        read(s3)
    assert body.asked <= max(MAX_OBJECT, MAX_GATHERED) + 1


def test_an_object_of_the_greatest_size_is_read():
    assert whole(io.BytesIO(b"1234"), "x", 4) == b"1234"
    with pytest.raises(SourceError, match="x has more than 3 bytes"):
        whole(io.BytesIO(b"1234"), "x", 3)


def test_a_gzip_bomb_in_the_archive_is_undone_no_further_than_one_record():
    bomb = gzip.compress(bytes(300_000_000), 9)
    piece = Piece("bomb.gz", len(bomb), lambda: io.BufferedReader(io.BytesIO(bomb)))
    tracemalloc.start()
    try:
        with pytest.raises(SourceError, match="line 1: longer than"):
            list(records(piece))
        assert tracemalloc.get_traced_memory()[1] < 4 * MAXIMUM_RECORD
    finally:
        tracemalloc.stop()


def test_a_gzip_bomb_of_blank_lines_is_undone_no_further_than_files_of_records_go(monkeypatch):
    monkeypatch.setattr("processor.archive.MAX_GATHERED", 1_000_000)
    record = b'{"payloads":{},"timestamp":1}\n'
    bomb = gzip.compress(record + b"\n" * 50_000_000, 9)
    body = io.BytesIO(bomb)
    found = records(Piece("bomb.gz", len(bomb), lambda: io.BufferedReader(body)))
    assert next(found) == record[:-1]
    with pytest.raises(SourceError, match=r"bomb\.gz, after line [0-9]+: .* replay it unzipped"):
        list(found)
    honest = gzip.compress(b"".join(record[:-2] + b',"n":%d}\n' % n for n in range(100_000)))
    assert sum(1 for _ in records(Piece("x.gz", len(honest), lambda: io.BufferedReader(io.BytesIO(honest))))) == 100_000


def test_a_flood_of_names_takes_a_bounded_number_of_calls():
    """What is left out is learned when it is said again."""
    calls = []

    class Table:
        def answers(self, addresses, *, deadline):
            calls.append("answers")
            yield dict.fromkeys(addresses)

        def get(self, address, *, deadline):
            calls.append("get")

        def put(self, device, *, deadline):
            assert isinstance(device, Device)
            calls.append("put")

    devices = Devices(Table(), None)
    names = {f"AA:00:00:{n >> 16:02X}:{n >> 8 & 255:02X}:{n & 255:02X}": "WoSensorTH" for n in range(70_000)}
    devices.learn(names)
    assert calls.count("put") == LEARNED_AT_ONCE
    assert len(calls) < LEARNED_AT_ONCE + REMEMBERED_DEVICES // 100
    some = dict(list(names.items())[:250])
    devices.learn(some)
    devices.learn(some)
    assert calls.count("put") == 250
