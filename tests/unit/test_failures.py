"""The mapping's failure destination: stored or quarantined, and only then removed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext, suppress
from datetime import UTC, datetime
from importlib import import_module

import orjson
import pytest
from click.testing import CliRunner

from processor.batch import Batch
from processor.cli import main
from processor.decode.advertisement import manufacturer_data
from processor.decode.formats import ruuvi
from processor.errors import InvalidWrite, SourceError, TransientError
from processor.failures import Failures, FailuresRedrive, key_of
from processor.local.memory_dynamodb import MemoryDynamoDB
from processor.quarantine import Quarantine
from processor.reading import Reading
from processor.rollup import Aggregator
from processor.rules import Limits, Rules
from processor.selection import Selection
from processor.settings import Settings
from processor.store.rollups import Rollups
from processor.store.tables import cell_name, cell_value, slot_of
from processor.store.writer import Writer
from processor.telemetry import Telemetry

NOW = 1_700_000_000_000
DEVICE, OTHER = "CB:B8:33:4C:88:4F", "AA:00:00:00:00:02"
SHARD = "shardId-000000000000"


def listed(n, device=DEVICE, cut=None):
    data = manufacturer_data(0x0499, ruuvi.RAWV2.encode({"temperature": 20, "sequence": n}, address=device))[:cut]
    return orjson.dumps({"payloads": [{"address": device, "data": data.hex()}], "timestamp": NOW, "imsi": "295050001"})


class Bench:
    def __init__(self, table, bucket):
        self.bucket = bucket
        self.dynamodb = MemoryDynamoDB()
        self.pool = ThreadPoolExecutor(2)
        settings = Settings.read({})
        self.aggregator = Aggregator.of(
            settings, self.dynamodb, Telemetry("failures"), self.pool, clock=lambda: NOW / 1000 + 3600
        )
        self.rollups = Rollups(self.dynamodb, settings.rollups_table)
        self.writer = Writer(table, "processor-readings", threads=2)
        self.failures = Failures("bucket", lambda: bucket)
        self.quarantine = Quarantine("bucket", lambda: bucket)

    def redrive(self, *arguments, **options):
        rules, clock = Rules(Limits(400 * 86400)), lambda: NOW / 1000
        job = FailuresRedrive(self.failures, self.quarantine, self.writer, rules, self.aggregator, clock=clock)
        counts, stay = job.redrive(*arguments, **options)
        parts = counts.stored + counts.duplicates + counts.failed_again + counts.ignored + counts.left + counts.ready
        assert counts.redriven == parts + counts.rolled_up
        return counts, [each.key for each in stay]

    def close(self):
        self.writer.close()
        self.pool.shutdown()

    def measure(self, n, device=DEVICE):
        """Store a reading; return the record of the table's stream that says so."""
        reading = Reading(device, NOW + n * 60_000, "ruuvi.5", {"temperature": 20.0 + n}, n, n)
        start = slot_of(reading.at)
        within = reading.at - start * 1000
        keys = {"device": {"S": device}, "slot": {"N": str(start)}}
        values = {cell_name(reading, within): cell_value(reading, within)}
        self.dynamodb.call(
            "UpdateItem",
            {
                "TableName": "processor-readings",
                "Key": keys,
                "UpdateExpression": "SET #0=:0",
                "ExpressionAttributeNames": {"#0": next(iter(values))},
                "ExpressionAttributeValues": {":0": next(iter(values.values()))},
            },
        )
        change = {"Keys": keys, "SequenceNumber": str(n), "ApproximateCreationDateTime": NOW / 1000}
        return {"eventID": str(n), "eventName": "INSERT", "dynamodb": change}

    def give_up_changes(self, *records, **changes):
        numbers = [record["dynamodb"]["SequenceNumber"] for record in records]
        failure = {
            "requestContext": {
                "requestId": f"id-{numbers[0]}", "condition": "RecordAgeExceeded", "approximateInvokeCount": 1
            },
            "timestamp": "2026-11-20T12:34:56.789Z",
            "DDBStreamBatchInfo": {
                "shardId": "shardId-1", "startSequenceNumber": numbers[0], "endSequenceNumber": numbers[-1],
                "batchSize": len(numbers), "approximateArrivalOfFirstRecord": at_text(NOW),
            },
            "payload": orjson.dumps({"Records": records}).decode(),
        } | changes  # fmt: skip
        failure = {name: value for name, value in failure.items() if value is not None}
        key = key_of(failure, "mapping")
        self.bucket.objects[key] = orjson.dumps(failure)
        return key

    def rolled_up(self):
        return {(each.device, each.start): each.readings for each in self.rollups.all()}

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
    with closing(Bench(table, bucket)) as made:
        yield made


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
    assert [entry["attempts"] for entry in bench.quarantine.entries()] == [2, 2]  # with their batch, and now


def test_what_the_table_does_not_take_now_stays(bench, kinesis_event, table, throttled):
    keys = [bench.give_up(kinesis_event(listed(n), first=n)) for n in (1, 2)]
    table.fail = throttled
    counts, stay = bench.redrive()
    assert (counts.redriven, counts.left, stay) == (2, 2, keys)
    assert [each.attempts for each in bench.failures.all()] == [2, 2]
    assert bench.redrive(Selection.of_names([f"{SHARD}:2"]))[1] == keys[1:]
    assert [(each.attempts, len(each.records)) for each in bench.failures.all()] == [(2, 1), (3, 1)]
    table.fail = lambda *_: None
    assert bench.redrive()[0].stored == 2
    assert bench.bucket.objects == {}


def quarantined(bench):
    """The attempts of what is in quarantine, and in how many objects it is."""
    return [entry["attempts"] for entry in bench.quarantine.entries()], len(list(bench.quarantine.objects()))


def test_what_fails_with_its_batch_again_and_again_has_one_attempt_more_each_time_and_one_object(
    bench, kinesis_event, table, throttled
):
    event = kinesis_event(listed(1), listed(2, cut=-1), b"{broken")
    key = bench.give_up(event)
    rejected = Batch(event["Records"], Rules(Limits(400 * 86400)))
    rejected.decode()
    bench.quarantine.put((event["Records"][place], found) for place, found in rejected.rejections.items())  # ingest did
    table.fail = throttled
    for attempts in (2, 3, 4):
        assert bench.redrive()[1] == [key]
        assert quarantined(bench) == ([attempts] * 2, 1)
    table.fail = lambda *_: None
    assert bench.redrive()[1] == []
    assert quarantined(bench) == ([5, 5], 1)


def test_a_redrive_that_dies_at_any_call_leaves_what_it_rejected_in_quarantine(
    new_table, new_bucket, kinesis_event, throttled
):
    """The object before is removed when the new one is there; run again, there is one, with one attempt more."""

    class Died(BaseException):
        pass

    def die_at(number, when, bucket):
        calls = []

        def call(operation, key):
            calls.append(operation)
            if len(calls) == number:
                raise Died

        setattr(bucket, when, call)
        return calls

    for when in ("before", "after"):
        for number in range(1, 100):
            table, bucket = new_table(), new_bucket()
            table.fail = throttled
            with closing(Bench(table, bucket)) as bench:
                bench.give_up(kinesis_event(listed(1), listed(2, cut=-1)))
                bench.redrive()
                calls = die_at(number, when, bucket)
                with suppress(Died):
                    bench.redrive()
                bucket.before = bucket.after = lambda *_: None
                if len(calls) < number:
                    assert quarantined(bench) == ([3], 1)
                    break
                assert quarantined(bench)[0] in ([2], [3])
                bench.redrive()
                assert quarantined(bench) in (([3], 1), ([4], 1))
        assert calls.count("DeleteObject") == 1


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


def test_what_a_batch_of_the_tables_stream_touched_is_rolled_up_and_the_object_removed(bench):
    """Whatever came of it since: a roll-up is computed from what is stored now."""
    first, second = bench.measure(2), bench.measure(7, OTHER)
    bench.give_up_changes(first, second)
    bench.measure(3)
    counts, stay = bench.redrive()
    assert (counts.redriven, counts.rolled_up, stay) == (2, 2, [])
    assert sorted(bench.rolled_up().values()) == [1, 2]
    assert bench.bucket.objects == {}
    before = bench.rolled_up()
    bench.give_up_changes(first)
    bench.redrive()
    assert bench.rolled_up() == before


def test_a_batch_of_the_tables_stream_stays_while_the_tables_cannot_be_had(bench):
    def fail(operation, body):
        raise TransientError("ThrottlingException", "slowly")

    key = bench.give_up_changes(bench.measure(1))
    bench.dynamodb.fault = fail
    counts, stay = bench.redrive()
    assert (counts.left, counts.rolled_up, stay) == (1, 0, [key])
    assert "slowly" in counts.error
    assert [each.attempts for each in bench.failures.all()] == [2]
    bench.dynamodb.fault = None
    assert bench.redrive()[0].rolled_up == 1
    assert bench.bucket.objects == {}


def test_a_roll_up_that_can_never_be_written_is_named_and_holds_its_batch_up_no_longer(bench):
    def fail(operation, body):
        if operation == "UpdateItem" and body["TableName"] == "processor-rollups":
            raise InvalidWrite("ValidationException", "too large")

    bench.give_up_changes(bench.measure(1))
    bench.dynamodb.fault = fail
    counts, stay = bench.redrive()
    assert (counts.rolled_up, stay) == (1, [])
    (reason,) = counts.reasons
    assert reason.startswith(f"no roll-up: {DEVICE} ")
    assert "too large" in reason


@pytest.mark.parametrize("number", ["15.5", "1E+40", "9" * 38])
def test_a_slot_that_is_none_is_named_and_hides_nothing_beside_it_in_its_batch(bench, number):
    bad, good = bench.measure(1, OTHER), bench.measure(2)
    bad["dynamodb"]["Keys"]["slot"]["N"] = number
    bench.give_up_changes(bad, good)
    counts, stay = bench.redrive()
    assert (counts.rolled_up, stay) == (2, [])
    assert set(bench.rolled_up().values()) == {1}
    (reason,) = counts.reasons
    assert reason.startswith(f"no roll-up: readings, {OTHER}: the item of slot {number}: ")


def test_a_dry_run_says_how_many_changes_would_be_rolled_up(bench):
    bench.give_up_changes(bench.measure(1), bench.measure(2))
    before = dict(bench.bucket.objects)
    counts, _ = bench.redrive(dry_run=True)
    assert (counts.ready, bench.rolled_up(), bench.bucket.objects) == (2, {}, before)


def test_a_device_means_the_batches_of_the_tables_stream_too(bench):
    bench.give_up_changes(bench.measure(1), bench.measure(2, OTHER))
    bench.give_up_changes(bench.measure(3))
    assert [int(each.first) for each in bench.failures.all(Selection(device=OTHER))] == [1]
    assert [int(each.first) for each in bench.failures.all(Selection(device=DEVICE))] == [1, 3]


def test_a_batch_without_its_records_stays_and_says_what_else_to_do(bench, kinesis_event):
    """SQS and SNS get sequence numbers only: somebody kept those in the bucket."""
    keys = [bench.give_up_changes(bench.measure(1), payload=None)]
    event = orjson.loads(bench.bucket.objects[keys[0]])
    event["KinesisBatchInfo"] = event.pop("DDBStreamBatchInfo")
    keys.append("aws/lambda/without")
    bench.bucket.objects[keys[1]] = orjson.dumps(event)
    before = dict(bench.bucket.objects)
    assert bench.redrive()[1] == sorted(keys)
    assert bench.bucket.objects == before
    advice = {each.source: each.advice for each in bench.failures.all()}
    assert "`processor verify --fix`" in advice["DynamoDB"]
    assert "`processor replay`" in advice["Kinesis"]


def test_what_another_redrive_changed_meanwhile_is_not_overwritten(bench, kinesis_event):
    key = bench.give_up(kinesis_event(listed(1)))
    (stale,) = bench.failures.all()
    for _ in range(2):
        assert bench.failures.failed_again(next(bench.failures.all()))
    assert not bench.failures.failed_again(stale)
    assert not bench.failures.remove(stale)
    assert [each.attempts for each in bench.failures.all()] == [3]
    bench.bucket.objects[key] = b"somebody else's"
    assert not bench.failures.failed_again(stale)
    assert bench.bucket.objects.pop(key) == b"somebody else's"
    assert not bench.failures.failed_again(stale)
    assert not bench.failures.remove(stale)
    assert key not in bench.bucket.objects


def meanwhile(bench, table, do, fails=None):
    """Have another redrive do something to the one batch there is while this one writes what is in it."""
    (theirs,) = bench.failures.all()

    def fail(operation, body):
        table.fail = fails or (lambda *_: None)
        assert do(theirs)
        table.fail(operation, body)

    table.fail = fail


def test_a_batch_that_another_redrive_could_not_handle_meanwhile_stays_and_is_counted(bench, kinesis_event, table):
    key = bench.give_up(kinesis_event(listed(1)))
    meanwhile(bench, table, bench.failures.failed_again)
    counts, stay = bench.redrive()
    assert (counts.stored, counts.left, counts.changed, stay) == (1, 0, 1, [key])
    assert [each.attempts for each in bench.failures.all()] == [2]
    counts, stay = bench.redrive()
    assert (counts.duplicates, counts.changed, stay) == (1, 0, [])
    assert bench.bucket.objects == {}


def test_a_batch_that_neither_of_two_redrives_could_handle_stays_and_is_counted(bench, kinesis_event, table, throttled):
    key = bench.give_up(kinesis_event(listed(1)))
    meanwhile(bench, table, bench.failures.failed_again, throttled)
    counts, stay = bench.redrive()
    assert (counts.left, counts.changed, stay) == (1, 1, [key])
    assert [each.attempts for each in bench.failures.all()] == [2]


def test_a_batch_that_another_redrive_removed_meanwhile_is_counted(bench, kinesis_event, table):
    key = bench.give_up(kinesis_event(listed(1)))
    meanwhile(bench, table, bench.failures.remove)
    counts, stay = bench.redrive()
    assert (counts.stored, counts.changed, stay) == (1, 1, [key])
    assert bench.bucket.objects == {}


def test_the_command_names_what_changed_meanwhile_and_ends_with_1(bench, kinesis_event, table, monkeypatch):
    module = import_module("processor.cli.failures")
    rules = Rules(Limits(100 * 365 * 86400))
    monkeypatch.setattr(module, "stores", lambda _: nullcontext((bench.writer, rules)))
    monkeypatch.setattr(module, "_aggregator", lambda _: nullcontext(bench.aggregator))
    monkeypatch.setattr(module, "_failures", lambda _: bench.failures)
    monkeypatch.setattr(module, "quarantine_of", lambda _: bench.quarantine)
    key = bench.give_up(kinesis_event(listed(1)))
    meanwhile(bench, table, bench.failures.failed_again)
    done = CliRunner().invoke(main, ["failures", "redrive"], catch_exceptions=False)
    assert done.exit_code == 1
    assert f"changed: {key}: it was written or removed meanwhile" in done.output
    done = CliRunner().invoke(main, ["failures", "redrive"], catch_exceptions=False)
    assert (done.exit_code, key in done.output) == (0, False)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[]",
        b"{}",
        b'{"requestContext": {}, "KinesisBatchInfo": {}, "payload": "{}"}',
        b'{"requestContext": {}, "DDBStreamBatchInfo": {}, "payload": "{\\"Records\\": [{}]}"}',
    ],
)
def test_an_object_that_lambda_did_not_write_is_named_and_left_alone(bench, body):
    bench.bucket.objects["aws/lambda/x"] = body
    with pytest.raises(SourceError, match="aws/lambda/x is no batch"):
        bench.redrive()
    assert bench.bucket.objects == {"aws/lambda/x": body}
