"""The mapping's failure destination: stored or quarantined, and only then removed."""

from __future__ import annotations

from datetime import UTC, datetime

import orjson
import pytest

from processor.decode.advertisement import manufacturer_data
from processor.decode.formats import ruuvi
from processor.errors import SourceError
from processor.failures import Failures, FailuresRedrive, key_of
from processor.quarantine import Quarantine
from processor.rules import Limits, Rules
from processor.selection import Selection
from processor.store.writer import Writer

NOW = 1_700_000_000_000
DEVICE, OTHER = "CB:B8:33:4C:88:4F", "AA:00:00:00:00:02"
SHARD = "shardId-000000000000"


def listed(n, device=DEVICE, cut=None):
    data = manufacturer_data(0x0499, ruuvi.RAWV2.encode({"temperature": 20, "sequence": n}, address=device))[:cut]
    return orjson.dumps({"payloads": [{"address": device, "data": data.hex()}], "timestamp": NOW, "imsi": "295050001"})


class Bench:
    def __init__(self, table, bucket):
        self.bucket = bucket
        self.writer = Writer(table, "processor-readings", threads=2)
        self.failures = Failures("bucket", lambda: bucket)
        self.quarantine = Quarantine("bucket", lambda: bucket)

    def redrive(self, *arguments, **options):
        job = FailuresRedrive(
            self.failures, self.quarantine, self.writer, Rules(Limits(400 * 86400)), clock=lambda: NOW / 1000
        )
        return job.redrive(*arguments, **options)

    def give_up(self, event, condition="RetryAttemptsExhausted", at=NOW, **changes):
        numbers = [record["kinesis"]["sequenceNumber"] for record in event["Records"]]
        failure = {
            "requestContext": {"requestId": f"id-{numbers[0]}", "condition": condition, "approximateInvokeCount": 3},
            "timestamp": "2026-11-20T12:34:56.789Z",
            "KinesisBatchInfo": {
                "shardId": SHARD, "startSequenceNumber": numbers[0], "endSequenceNumber": numbers[-1],
                "batchSize": len(numbers), "approximateArrivalOfFirstRecord": at_text(at),
            },
            "payload": orjson.dumps(event).decode(),
        } | changes  # fmt: skip
        key = key_of(failure, "mapping")
        self.bucket.objects[key] = orjson.dumps(failure)
        return key


def at_text(at):
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@pytest.fixture
def bench(table, bucket):
    made = Bench(table, bucket)
    yield made
    made.writer.close()


def test_objects_are_named_as_lambda_names_them(bench, kinesis_event):
    key = bench.give_up(kinesis_event(listed(1)))
    assert key == f"aws/lambda/mapping/{SHARD}/2026/11/20/2026-11-20T12.34.56-id-{1:056d}"


def test_what_can_be_stored_is_what_cannot_is_quarantined_and_the_object_removed(bench, kinesis_event, table):
    bench.give_up(kinesis_event(listed(1), listed(2, cut=-1), b"{broken"))
    counts, stay = bench.redrive()
    assert (counts.redriven, counts.stored, counts.failed_again, stay) == (3, 1, 2, [])
    assert len(table.items) == 1
    assert [key.partition("/")[0] for key in bench.bucket.objects] == ["quarantine"]
    assert [entry["rejected"][0]["index"] for entry in bench.quarantine.entries()] == [0, None]


def test_what_the_table_does_not_take_now_stays(bench, kinesis_event, table, throttled):
    keys = [bench.give_up(kinesis_event(listed(n), first=n)) for n in (1, 2)]
    table.fail = throttled
    counts, stay = bench.redrive()
    assert (counts.redriven, counts.left, stay) == (2, 2, keys)
    table.fail = lambda *_: None
    assert bench.redrive()[0].stored == 2
    assert bench.bucket.objects == {}


def test_an_object_stays_where_quarantine_cannot_be_written(bench, kinesis_event):
    key = bench.give_up(kinesis_event(listed(1, cut=-1)))

    def fail(operation, _):
        if operation == "PutObject":
            raise ConnectionError("no route to S3")

    bench.bucket.before = fail
    with pytest.raises(ConnectionError):
        bench.redrive()
    assert list(bench.bucket.objects) == [key]


def test_a_dry_run_changes_nothing(bench, kinesis_event, table):
    bench.give_up(kinesis_event(listed(1), listed(2, cut=-1)))
    before = dict(bench.bucket.objects)
    counts, _ = bench.redrive(dry_run=True)
    assert (counts.ready, counts.failed_again) == (1, 1)
    assert (bench.bucket.objects, table.items) == (before, {})


@pytest.mark.parametrize(
    ("selection", "found"),
    [
        (Selection(), [1, 11]),
        (Selection(reasons=frozenset(["RecordAgeExceeded"])), [11]),
        (Selection(end=NOW + 1), [1]),
        (Selection(start=NOW + 1), [11]),
        (Selection(device=OTHER), [11]),
        (Selection.of_names([f"{SHARD}:2"]), [1]),
        (Selection.of_names([f"{SHARD}:5"]), []),
    ],
    ids=["all", "reason", "to", "from", "device", "amid the batch", "between batches"],
)
def test_a_selection_means_whole_batches(bench, kinesis_event, selection, found):
    bench.give_up(kinesis_event(listed(1), listed(2), listed(3), first=1))
    bench.give_up(kinesis_event(listed(4, OTHER), first=11), "RecordAgeExceeded", at=NOW + 60_000)
    assert [int(each.first) for each in bench.failures.all(selection)] == found


def test_a_batch_of_dynamodbs_stream_is_listed_and_stays(bench):
    info = {
        "shardId": "shardId-1", "startSequenceNumber": "1", "endSequenceNumber": "2", "batchSize": 2,
        "approximateArrivalOfFirstRecord": at_text(NOW),
    }  # fmt: skip
    failure = {
        "requestContext": {"condition": "RecordAgeExceeded", "approximateInvokeCount": 1},
        "DDBStreamBatchInfo": info,
        "payload": '{"Records":[]}',
    }
    bench.bucket.objects["aws/lambda/x"] = orjson.dumps(failure)
    assert [each.records for each in bench.failures.all()] == [None]
    counts, stay = bench.redrive()
    assert (counts.redriven, stay) == (0, ["aws/lambda/x"])


@pytest.mark.parametrize(
    "body",
    [b"", b"not json", b"[]", b"{}", b'{"requestContext": {}, "KinesisBatchInfo": {}, "payload": "{}"}'],
)
def test_an_object_that_lambda_did_not_write_is_named_and_left_alone(bench, body):
    bench.bucket.objects["aws/lambda/x"] = body
    with pytest.raises(SourceError, match="aws/lambda/x is no batch"):
        bench.redrive()
    assert bench.bucket.objects == {"aws/lambda/x": body}
