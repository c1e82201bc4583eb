"""The DynamoDB Streams handler: which ranges are read again, what it answers, and what it says of itself."""

from __future__ import annotations

import io
import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from processor.errors import InvalidWrite, TransientError
from processor.local.memory_dynamodb import MemoryDynamoDB
from processor.reading import Reading
from processor.rollup import Aggregator
from processor.runs import RUN, runs_of
from processor.store.reader import Reader
from processor.store.rollups import Rollup, Rollups
from processor.store.states import States
from processor.store.tables import cell_name, cell_value, slot_of
from processor.telemetry import Telemetry

START = 1_700_000_100
A, B = "CB:B8:33:4C:88:4F", "C0:00:00:00:00:01"
EXPIRY = {"type": "Service", "principalId": "dynamodb.amazonaws.com"}
VALUES = "ExpressionAttributeValues"
SERVICES = itertools.count()
"""Each handler logs under a name of its own: Powertools keeps a logger's stream, also when the handler is gone."""


def record(number, device=A, slot=START + 120, name="MODIFY", **more):
    keys = {"device": {"S": device}, "slot": {"N": str(slot)}}
    change = {"Keys": keys, "SequenceNumber": str(number), "ApproximateCreationDateTime": 1_700_000_000.0}
    return {"eventID": str(number), "eventName": name, "dynamodb": change, **more}


class World:
    """Tables in memory, and the handler on them."""

    def __init__(self):
        self.tables = MemoryDynamoDB()
        self.now = START + 3600
        self.out = io.StringIO()
        self.rollups = Rollups(self.tables, "processor-rollups")
        self.pool = ThreadPoolExecutor(4)
        self.handler = Aggregator(
            Reader(self.tables, "processor-readings"),
            self.rollups,
            States(self.tables, "processor-devices"),
            Telemetry(f"rollup-{next(SERVICES)}", stream=self.out),
            self.pool,
            retention=86_400,
            clock=lambda: self.now,
        )

    def measure(self, offset, counter=1, device=A, value=20.5):
        reading = Reading(device, START * 1000 + offset, "ruuvi.5", {"temperature": value}, counter, 7)
        slot = slot_of(reading.at)
        within = reading.at - slot * 1000
        key = (device, str(slot))
        item = self.tables.tables["readings"].setdefault(key, {"device": {"S": device}, "slot": {"N": str(slot)}})
        item[cell_name(reading, within)] = cell_value(reading, within)
        return slot

    def handle(self, *records, remaining_ms=60_000):
        context = SimpleNamespace(
            aws_request_id="r", memory_limit_in_mb=256, get_remaining_time_in_millis=lambda: remaining_ms
        )
        return self.handler.handle({"Records": list(records)}, context)

    @property
    def stored(self):
        return {(each.device, each.start): (each.cells, each.readings) for each in self.rollups.all()}

    @property
    def said(self):
        return [json.loads(line) for line in self.out.getvalue().splitlines()]


@pytest.fixture
def world():
    found = World()
    yield found
    found.pool.shutdown()


def test_records_become_runs_of_neighbouring_ranges():
    runs = runs_of([record(9, slot=START), record(4, slot=START + 330), record(6, B), record(11, slot=START + 3000)])
    assert [(run.device, run.starts, run.lowest) for run in runs] == [
        (A, [START - 300, START, START + 300], 4),
        (B, [START], 6),
        (A, [START + 3000 - 300, START + 3000], 11),
    ]


def test_a_run_is_at_most_an_hour_long():
    runs = runs_of(record(n, slot=START + 300 * n + 120) for n in range(30))
    assert [len(run.starts) for run in runs] == [RUN, RUN, 6]


def test_expired_items_touch_nothing():
    """The event as AWS documents it: MiniStack makes none for an expiry."""
    assert runs_of([record(1, name="REMOVE", userIdentity=EXPIRY)]) == []
    (run,) = runs_of([record(1, name="REMOVE"), record(2, name="REMOVE", userIdentity=EXPIRY)])
    assert run.rebuild == {START}


def test_every_record_of_the_batch_is_rolled_up(world):
    slots = {(device, world.measure(300_000 * n + 120_000, n, device)) for n in range(4) for device in (A, B)}
    records = [record(n, *place) for n, place in enumerate(sorted(slots))]
    assert world.handle(*records) == {"batchItemFailures": []}
    assert world.stored == {(device, START + 300 * n): (1, 1) for n in range(4) for device in (A, B)}
    assert set(world.tables.tables["devices"]) == {(A,), (B,)}


def test_an_expiry_never_lowers_a_roll_up(world):
    world.measure(120_000, 1)
    world.handle(record(1))
    world.measure(150_000, 2)
    world.handle(record(2))
    world.tables.tables["readings"].clear()
    world.handle(record(3, name="REMOVE", userIdentity=EXPIRY))
    assert world.stored == {(A, START): (2, 2)}
    world.measure(160_000, 3)  # a late one, when the others are gone
    world.handle(record(4))
    assert world.stored == {(A, START): (2, 2)}


def test_a_deletion_builds_its_ranges_anew(world):
    world.measure(120_000, 1)
    slot = world.measure(150_000, 2)
    world.handle(record(1))
    del world.tables.tables["readings"][A, str(slot)]
    world.handle(record(2, slot=slot, name="REMOVE"))
    assert world.stored == {(A, START): (1, 1)}
    world.tables.tables["readings"].clear()
    world.handle(record(3, name="REMOVE"))
    assert list(world.rollups.all()) == [Rollup(A, START, 0, 0, {})]


def test_a_deletion_lowers_no_roll_up_whose_other_readings_may_have_expired(world):
    """What expired is in the roll-up alone: it would be lost with what was deleted."""
    slot = world.measure(120_000, 1)
    world.measure(150_000, 2)
    world.handle(record(1))
    world.tables.tables["readings"].clear()
    world.now = START + 86_400
    world.handle(record(2, slot=slot, name="REMOVE"))
    assert world.stored == {(A, START): (2, 2)}


@pytest.mark.parametrize(("later", "cells"), [(3600, 1), (86_400, 2)])
def test_a_range_that_lost_readings_is_built_anew_by_every_event_until_its_readings_may_expire(world, later, cells):
    """Of fewer cells, it is what is there now; when some may have expired, `n` alone decides again."""
    slot = world.measure(120_000, 1)
    world.measure(150_000, 2)
    world.measure(180_000, 3)
    world.handle(record(1))
    del world.tables.tables["readings"][A, str(slot)]
    world.handle(record(2, slot=slot, name="REMOVE"))
    assert world.stored == {(A, START): (2, 2)}
    del world.tables.tables["readings"][A, str(START + 150)]
    world.now = START + later
    assert world.handle(record(3)) == {"batchItemFailures": []}
    assert world.stored == {(A, START): (cells, cells)}
    world.measure(160_000, 4)
    world.measure(170_000, 5)
    world.handle(record(4))
    assert world.stored == {(A, START): (3, 3)}


def test_items_past_their_expiry_count_until_they_are_deleted(world):
    slot = world.measure(120_000)
    world.tables.tables["readings"][A, str(slot)]["expires"] = {"N": "1"}
    world.handle(record(1))
    assert world.stored == {(A, START): (1, 1)}


@pytest.mark.parametrize("operation", ["Query", "UpdateItem", "BatchGetItem"])
def test_the_lowest_record_of_what_failed_comes_back(world, operation):
    for device in (A, B):
        world.measure(120_000, device=device)

    def fail(called, body):
        if called == operation and A in json.dumps(body):
            raise TransientError("ThrottlingException", "slowly")

    world.tables.fault = fail
    answer = world.handle(record("009", B), record("0010", A), record("0011", B), record("0012", A))
    assert answer == {"batchItemFailures": [{"itemIdentifier": "0010"}]}
    blob, line = world.said
    assert blob["RecordsFailed"] == [3.0]
    assert line["level"] == "WARNING"
    assert "slowly" in line["error"]
    world.tables.fault = None
    assert world.handle(record("0010", A), record("0011", B), record("0012", A)) == {"batchItemFailures": []}
    assert world.stored[A, START] == (1, 1)


def test_a_state_that_cannot_be_written_makes_its_records_come_again(world):
    world.measure(120_000)

    def fail(called, body):
        if called == "UpdateItem" and body["TableName"] == "processor-devices":
            raise TransientError("InternalServerError", "broken")

    world.tables.fault = fail
    assert world.handle(record(7)) == {"batchItemFailures": [{"itemIdentifier": "7"}]}
    assert world.stored == {(A, START): (1, 1)}


def test_what_dynamodb_calls_invalid_is_counted_and_passed_over(world):
    for device in (A, B):
        world.measure(120_000, device=device)

    def fail(called, body):
        if called == "UpdateItem" and body["TableName"] == "processor-rollups" and A in json.dumps(body):
            raise InvalidWrite("ValidationException", "Number overflow")

    world.tables.fault = fail
    assert world.handle(record(1, A), record(2, B)) == {"batchItemFailures": []}
    assert set(world.stored) == {(B, START)}
    blob, line = world.said
    assert blob["RollupsInvalid"] == [1.0]
    assert "Number overflow" in line["error"]


@pytest.mark.parametrize("cell", [{}, {"o": {"N": "x"}, "f": {"S": "ruuvi.5"}}, {"o": {"S": "1"}, "f": {"S": "r"}}])
def test_a_cell_that_is_no_reading_is_counted_and_hides_nothing_beside_it(world, cell):
    """Somebody wrote into the table by hand: the batch would come again until its records are a day old."""
    bad, good = world.measure(120_000, 1), world.measure(150_000, 2, B)
    world.tables.tables["readings"][A, str(bad)]["c1.AAAA"] = {"M": cell}
    assert world.handle(record(1, slot=bad), record(2, B, good)) == {"batchItemFailures": []}
    assert world.stored == {(A, START): (1, 1), (B, START): (1, 1)}
    assert world.said[0]["RollupsInvalid"] == [1]


NO_SLOTS = {
    "a fraction": "15.5",
    "an exponent": "1E+40",
    "negative": "-15",
    "amid a slot": str(START + 121),
    "38 digits": "9" * 38,
    "beyond all time": "1" * 20,
}


@pytest.mark.parametrize("number", NO_SLOTS.values(), ids=NO_SLOTS)
def test_a_record_whose_slot_is_none_is_counted_named_and_passed_over(world, number):
    """Somebody put an item by hand: it raised, or DynamoDB refused to read there, until the record was a day old."""

    def refuse(operation, body):
        if operation == "Query" and any(len(each.get("N", "")) > 38 for each in body[VALUES].values()):
            raise InvalidWrite("ValidationException", "more than 38 significant digits")

    world.tables.fault = refuse
    world.measure(120_000)
    assert world.handle(record(1, B, number), record(2), record(3, B, number)) == {"batchItemFailures": []}
    assert world.stored == {(A, START): (1, 1)}
    blob, line = world.said
    assert (blob["RollupsInvalid"], blob["Rollup"]["ranges"]) == ([1], 1)
    assert f"readings, {B}: the item of slot {number}: " in line["error"]
    assert line["level"] == "WARNING"


def test_who_deletes_an_item_without_a_slot_raises_no_second_alarm(world):
    assert world.handle(record(1, slot="15.5", name="REMOVE")) == {"batchItemFailures": []}
    assert world.said[0]["RollupsInvalid"] == [0]


def test_a_read_that_dynamodb_calls_invalid_is_counted_and_passed_over(world):
    for device in (A, B):
        world.measure(120_000, device=device)

    def refuse(operation, body):
        if operation == "Query" and A in json.dumps(body):
            raise InvalidWrite("ValidationException", "no such key")

    world.tables.fault = refuse
    assert world.handle(record(1), record(2, B)) == {"batchItemFailures": []}
    assert set(world.stored) == {(B, START)}
    blob, line = world.said
    assert blob["RollupsInvalid"] == [1]
    assert f"{A} {START}: ValidationException: no such key" in line["error"]


def test_the_deadline_reaches_every_call(world):
    seen = []
    world.measure(120_000)
    call = world.tables.call
    world.tables.call = lambda operation, body, deadline=None: (
        seen.append((operation, deadline)) or call(operation, body)
    )
    world.handle(record(1))
    assert len(seen) == 4
    (early,) = {deadline for operation, deadline in seen if operation == "BatchGetItem"}
    (late,) = {deadline for operation, deadline in seen if operation != "BatchGetItem"}
    assert early < late  # what the states are read for has to be written, too


def test_the_blob_and_the_line_say_what_was_done(world):
    slot = world.measure(120_000)
    world.handle(record(1, slot=slot), record(2, slot=slot))
    blob, line = world.said
    assert blob["Rollup"] == {
        "records": 2, "ranges": 1, "written": 1, "stale": 0, "devices": 1, "invalid": 0, "failed": 0,
    }  # fmt: skip
    assert (blob["service"][:7], blob["RollupsWritten"], blob["ColdStart"]) == ("rollup-", [1.0], True)
    assert len(blob["_aws"]["CloudWatchMetrics"][0]["Metrics"]) == 7
    assert len(blob["RecordAge"]) == 2
    assert (line["message"], line["level"], line["written"]) == ("rollup", "INFO", 1)


def test_an_empty_event_is_no_error(world):
    assert world.handle() == {"batchItemFailures": []}
