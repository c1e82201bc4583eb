"""The mapping as a whole, over a stream in memory and a clock that is moved by hand."""

from __future__ import annotations

import base64
import json

import pytest

from processor.errors import LocalError
from processor.local.batch import MAXIMUM_PAYLOAD
from processor.local.environment import TimedOut
from processor.local.mapping import SHARD_END, EventSourceMapping, Throttled
from processor.local.memory_kinesis import MemoryKinesis, client_error


class Function:
    """Remembers what it was invoked with; `answer` is called with the texts and may raise."""

    def __init__(self):
        self.events = []
        self.answer = lambda texts: None

    def __call__(self, event):
        self.events.append(json.loads(event)["Records"])
        return self.answer(self.batches[-1])

    @property
    def batches(self):
        return [[base64.b64decode(r["kinesis"]["data"]).decode() for r in records] for records in self.events]

    @property
    def texts(self):
        return [text for batch in self.batches for text in batch]

    @property
    def shards(self):
        return [record["eventID"].partition(":")[0] for records in self.events for record in records]


@pytest.fixture
def function():
    return Function()


def put(kinesis, *texts, key=None):
    kinesis.put_records(Records=[{"Data": text.encode(), "PartitionKey": key or text} for text in texts])


def test_every_record_of_every_shard_is_delivered_in_the_shards_order(clock, function, mapping_of, run):
    kinesis = MemoryKinesis(5, clock=clock)
    put(kinesis, *map(str, range(100)))
    mapping = mapping_of(kinesis, batch_size=7)
    run(mapping)
    assert sorted(map(int, function.texts)) == list(range(100))
    for shard in set(function.shards):
        found = [int(text) for text, of in zip(function.texts, function.shards, strict=True) if of == shard]
        assert found == sorted(found)
    assert len(set(function.shards)) == 5
    assert (mapping.stats.records, mapping.stats.invocations) == (100, len(function.events))


def test_the_event_names_its_stream_shard_and_function(kinesis, function, mapping_of, run, clock):
    put(kinesis, "a", key="the key")
    run(mapping_of())
    [[record]] = function.events
    number = record["kinesis"]["sequenceNumber"]
    assert record["eventID"] == f"shardId-000000000000:{number}"
    assert record["eventSourceARN"] == kinesis.arn
    assert record["awsRegion"] == "us-east-1"
    assert record["kinesis"]["partitionKey"] == "the key"
    assert record["kinesis"]["approximateArrivalTimestamp"] == 1_700_000_000.0


@pytest.mark.parametrize(("position", "delivered"), [("TRIM_HORIZON", ["old", "new"]), ("LATEST", ["new"])])
def test_the_starting_position_decides_about_records_put_before(
    kinesis, function, mapping_of, run, position, delivered
):
    put(kinesis, "old")
    mapping = mapping_of(starting_position=position)
    mapping.step()
    put(kinesis, "new")
    run(mapping)
    assert function.texts == delivered


def test_a_timestamp_decides_where_to_start(kinesis, function, mapping_of, run, clock):
    put(kinesis, "old")
    clock.now += 100
    put(kinesis, "new")
    run(mapping_of(starting_position="AT_TIMESTAMP", starting_position_timestamp=clock.now - 50))
    assert function.texts == ["new"]


def test_a_function_that_raises_gets_the_same_records_again_under_the_same_numbers(kinesis, function, mapping_of, run):
    put(kinesis, "a", "b")

    def fail_twice(texts):
        if len(function.events) < 3:
            raise RuntimeError("not now")

    function.answer = fail_twice
    mapping = mapping_of()
    run(mapping)
    assert function.events[0] == function.events[1] == function.events[2]
    assert (mapping.stats.errors, mapping.stats.retries, mapping.stats.records) == (2, 2, 2)


def test_a_partial_failure_is_believed_only_where_it_is_switched_on(kinesis, function, mapping_of, run):
    put(kinesis, "a", "b", "c", key="k")

    def fail_b_once(texts):
        if len(function.events) == 1:
            number = function.events[0][1]["kinesis"]["sequenceNumber"]
            return json.dumps({"batchItemFailures": [{"itemIdentifier": number}]}).encode()
        return None

    function.answer = fail_b_once
    run(mapping_of(report_batch_item_failures=True))
    assert function.batches == [["a", "b", "c"], ["b", "c"]]
    function.events.clear()
    run(mapping_of())
    assert function.batches == [["a", "b", "c"]]


def test_one_lanes_failing_key_does_not_hold_up_the_others(kinesis, function, mapping_of, run):
    put(kinesis, *[f"good {n}" for n in range(50)])
    put(kinesis, "bad", key="good 0")

    def fail(texts):
        if "bad" in texts:
            raise RuntimeError("never")

    function.answer = fail
    mapping = mapping_of(parallelization_factor=10, batch_size=1, maximum_retry_attempts=-1)
    run(mapping)
    assert {text for text in function.texts if text != "bad"} == {f"good {n}" for n in range(50)}
    [checkpoint] = mapping.checkpoints.values()
    assert int(checkpoint) == 50


def test_throttling_is_waited_out(kinesis, function, mapping_of, run):
    put(kinesis, "a")

    def throttle(texts):
        if len(function.events) < 4:
            raise Throttled("no worker is free")

    function.answer = throttle
    mapping = mapping_of(maximum_retry_attempts=0)
    run(mapping)
    assert (mapping.stats.throttles, mapping.stats.records, mapping.stats.discarded) == (3, 1, 0)


def test_what_is_given_up_reaches_the_failure_destination_and_the_shard_goes_on(kinesis, function, mapping_of, run):
    put(kinesis, "a", "bad", "c", key="k")

    def fail(texts):
        if "bad" in texts:
            raise RuntimeError("never")

    function.answer = fail
    failures = []
    mapping = mapping_of(maximum_retry_attempts=1, bisect_batch_on_function_error=True, on_failure=failures.append)
    run(mapping)
    [failure] = failures
    assert failure["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert failure["responseContext"]["functionError"] == "Unhandled"
    assert failure["KinesisBatchInfo"]["batchSize"] == 1
    [record] = json.loads(failure["payload"])["Records"]
    assert base64.b64decode(record["kinesis"]["data"]) == b"bad"
    assert (mapping.stats.discarded, mapping.stats.records) == (1, 2)


def test_a_record_too_large_for_any_invocation_goes_to_the_destination_unseen(kinesis, function, mapping_of, run):
    put(kinesis, "a", "x" * MAXIMUM_PAYLOAD, "c", key="k")
    failures = []
    run(mapping_of(on_failure=failures.append))
    assert function.texts == ["a", "c"]
    [failure] = failures
    assert failure["requestContext"]["approximateInvokeCount"] == 0


def test_records_past_their_age_are_given_up_while_the_function_fails(kinesis, function, mapping_of, run, clock):
    put(kinesis, "old")
    failures = []

    def fail(texts):
        if "old" in texts:
            raise RuntimeError("never")

    function.answer = fail
    mapping = mapping_of(maximum_record_age_seconds=60, on_failure=failures.append)
    run(mapping, 30)
    assert not failures
    put(kinesis, "new")
    run(mapping, 60)
    assert [failure["requestContext"]["condition"] for failure in failures] == ["RecordAgeExceeded"]
    assert function.texts[-1] == "new"


def test_a_destination_that_raises_is_tried_again_and_the_checkpoint_waits(kinesis, function, mapping_of, run):
    put(kinesis, "bad")
    failures = []

    def fail(texts):
        raise RuntimeError("never")

    def refuse(failure):
        failures.append(failure)
        if len(failures) < 3:
            raise OSError("no such bucket")

    function.answer = fail
    mapping = mapping_of(maximum_retry_attempts=0, on_failure=refuse)
    mapping.step()
    assert mapping.checkpoints == {}
    run(mapping)
    assert len(failures) == 3
    assert (mapping.stats.discarded, mapping.stats.destination_errors) == (1, 2)
    assert len(mapping.checkpoints) == 1


def test_children_are_read_after_their_parents_are_finished(kinesis, function, mapping_of, run, clock):
    put(kinesis, "a", "b", key="k")
    kinesis.split_shard(ShardToSplit="shardId-000000000000")
    put(kinesis, "c", "d", key="k")
    failing = True

    def fail(texts):
        if failing and "a" in texts:
            raise RuntimeError("not yet")

    function.answer = fail
    mapping = mapping_of()
    run(mapping)
    assert set(function.texts) == {"a", "b"}
    failing = False
    run(mapping, 20)
    assert function.texts[-4:] == ["a", "b", "c", "d"]
    assert mapping.checkpoints["shardId-000000000000"] == SHARD_END


def test_a_reshard_while_it_runs_loses_nothing_and_keeps_each_keys_order(clock, function, mapping_of, run):
    kinesis = MemoryKinesis(2, clock=clock)
    mapping = mapping_of(kinesis, batch_size=3)
    keys = [f"key {n}" for n in range(8)]
    sent = {key: [] for key in keys}

    def more(count):
        for key in keys:
            texts = [f"{key}:{len(sent[key]) + n}" for n in range(count)]
            sent[key] += texts
            put(kinesis, *texts, key=key)

    more(5)
    run(mapping, 1)
    kinesis.split_shard(ShardToSplit="shardId-000000000000")
    more(5)
    run(mapping, 0.05)
    kinesis.merge_shards(ShardToMerge="shardId-000000000003", AdjacentShardToMerge="shardId-000000000001")
    more(5)
    run(mapping, 5)
    for key in keys:
        assert [text for text in function.texts if text.startswith(f"{key}:")] == sent[key]
    ended = {shard_id for shard_id, checkpoint in mapping.checkpoints.items() if checkpoint == SHARD_END}
    assert ended == {f"shardId-00000000000{n}" for n in (0, 1, 3)}


def test_children_do_not_wait_for_the_next_regular_listing(kinesis, function, mapping_of, run):
    mapping = mapping_of()
    run(mapping, 1.1)
    kinesis.split_shard(ShardToSplit="shardId-000000000000")
    put(kinesis, "a")
    run(mapping, 0.5)
    assert function.texts == ["a"]


@pytest.mark.parametrize("slow", ["shardId-000000000000", "shardId-000000000001"])
def test_a_merged_shard_waits_for_both_of_its_parents(clock, function, mapping_of, run, slow):
    kinesis = MemoryKinesis(2, clock=clock)
    put(kinesis, *[f"old {n}" for n in range(20)])
    kinesis.merge_shards(ShardToMerge="shardId-000000000000", AdjacentShardToMerge="shardId-000000000001")
    put(kinesis, "new")
    failing = True

    def fail(texts):
        if failing and function.shards[-1] == slow:
            raise RuntimeError("not yet")

    function.answer = fail
    mapping = mapping_of(kinesis)
    run(mapping)
    assert len(set(function.texts)) == 20
    assert "new" not in function.texts
    failing = False
    run(mapping, 20)
    assert function.texts[-1] == "new"


def test_with_latest_a_shard_born_later_is_read_whole(kinesis, function, mapping_of, run):
    put(kinesis, "old")
    mapping = mapping_of(starting_position="LATEST")
    mapping.step()
    kinesis.split_shard(ShardToSplit="shardId-000000000000")
    put(kinesis, "new")
    run(mapping)
    assert function.texts == ["new"]


def test_with_latest_a_child_that_had_to_wait_for_its_parent_misses_nothing(kinesis, function, mapping_of, run, clock):
    put(kinesis, "old")
    kinesis.split_shard(ShardToSplit="shardId-000000000000")
    put(kinesis, "older than the mapping")
    clock.now += 5
    mapping = mapping_of(starting_position="LATEST")
    kinesis.fault = lambda operation, arguments: (
        client_error("InternalFailure", operation) if operation == "GetRecords" else None
    )
    mapping.step()
    put(kinesis, "new")
    kinesis.fault = None
    run(mapping)
    assert function.texts == ["new"]


@pytest.mark.parametrize(("hours", "trimmed"), [(20, 0), (30, 1)])
def test_records_that_may_have_expired_before_they_were_read_are_counted(
    kinesis, function, mapping_of, run, clock, hours, trimmed
):
    """A mapping that is blocked reads no more than two batches; what comes behind them expires in the stream."""

    def hang(texts):
        raise TimedOut("it hangs")

    function.answer = hang
    put(kinesis, "a", "b")
    mapping = mapping_of(batch_size=1)
    run(mapping, 1)
    put(kinesis, "c")
    clock.now += hours * 3600
    function.answer = lambda texts: None
    put(kinesis, "d")
    run(mapping, 10)
    assert function.texts[-2:] == ["c", "d"] if not trimmed else function.texts[-1] == "d"
    assert mapping.stats.trimmed == trimmed


def test_records_known_to_be_unread_that_expire_are_counted(kinesis, function, mapping_of, run, clock, monkeypatch):
    monkeypatch.setattr("processor.local.kinesis_stream.READ_LIMIT", 1)
    put(kinesis, "a", "b")
    mapping = mapping_of()
    clock.now += 20 * 3600
    mapping.step()
    clock.now += 4 * 3600 + 1
    put(kinesis, "c")
    run(mapping, 10)
    assert (function.texts, mapping.stats.trimmed) == (["a", "c"], 1)


def test_a_record_that_comes_while_a_read_is_answered_has_not_expired(
    kinesis, function, mapping_of, run, clock, monkeypatch
):
    monkeypatch.setattr("processor.local.kinesis_stream.READ_LIMIT", 1)
    put(kinesis, "a")
    get_records = kinesis.get_records

    def slowly(**arguments):
        clock.now += 1
        if "b" not in function.texts:
            put(kinesis, "b")
        return get_records(**arguments)

    kinesis.get_records = slowly
    mapping = mapping_of()
    run(mapping, 5)
    assert (set(function.texts), mapping.stats.trimmed) == ({"a", "b"}, 0)


def test_a_read_that_breaks_is_no_longer_under_way(kinesis, mapping_of):
    def broken(**_arguments):
        raise ConnectionResetError

    kinesis.get_records = broken
    mapping = mapping_of()
    with pytest.raises(ConnectionResetError):
        mapping.step()
    [consumer] = mapping._consumers()
    assert not consumer.polling  # disable waits for those that are


def test_a_shard_that_is_deleted_under_the_reader_ends_and_its_children_are_read(kinesis, function, mapping_of, run):
    put(kinesis, "a")
    mapping = mapping_of()
    run(mapping, 1)
    kinesis.split_shard(ShardToSplit="shardId-000000000000")
    kinesis.delete_shard("shardId-000000000000")
    put(kinesis, "b")
    run(mapping, 5)
    assert function.texts == ["a", "b"]


def test_a_mapping_goes_on_where_another_one_ended(kinesis, function, mapping_of, run):
    put(kinesis, "a", "b")
    first = mapping_of()
    run(first, 1)
    kinesis.split_shard(ShardToSplit="shardId-000000000000")
    put(kinesis, "c")
    run(first, 3)
    put(kinesis, "d", key="c")
    second = mapping_of(checkpoints=json.loads(json.dumps(first.checkpoints)))
    run(second, 3)
    assert function.texts == ["a", "b", "c", "d"]
    assert second.stats.records == 1
    assert second.checkpoints["shardId-000000000000"] == SHARD_END


def test_an_unfinished_record_is_delivered_again_by_the_next_mapping(kinesis, function, mapping_of, run):
    put(kinesis, "a", "b", "c", key="k")

    def fail(texts):
        if "b" in texts:
            raise RuntimeError("not now")

    function.answer = fail
    first = mapping_of(batch_size=1)
    run(first, 1)
    function.answer = lambda texts: None
    function.events.clear()
    run(mapping_of(checkpoints=first.checkpoints), 1)
    assert function.texts == ["b", "c"]


def test_expired_iterators_and_failing_reads_lose_and_double_nothing(kinesis, function, mapping_of, run, clock):
    mapping = mapping_of()
    calls = iter(range(10_000))

    def fault(operation, arguments):
        turn = next(calls) % 7
        if operation in ("GetRecords", "ListShards") and turn in (1, 2):
            return client_error("ProvisionedThroughputExceededException", operation)
        if operation == "GetRecords" and turn == 4:
            return client_error("ExpiredIteratorException", operation)
        return None

    mapping.step()
    kinesis.fault = fault
    for number in range(50):
        kinesis.fault = None
        put(kinesis, str(number))
        kinesis.fault = fault
        run(mapping, 0.3)
    run(mapping, 10)
    assert [int(text) for text in function.texts] == list(range(50))
    assert mapping.stats.read_errors > 10


def test_the_iterator_age_is_that_of_a_batchs_last_record_and_zero_when_all_is_done(
    kinesis, function, mapping_of, run, clock
):
    put(kinesis, "a")
    clock.now += 30
    mapping = mapping_of()
    ages = []
    function.answer = lambda texts: ages.append(mapping.stats.iterator_age_ms["shardId-000000000000"])
    mapping.step()
    assert ages == [30_000.0]
    assert mapping.stats.iterator_age_ms == {"shardId-000000000000": 0.0}
    assert mapping.stats.millis_behind_latest == {"shardId-000000000000": 0}


def test_a_blocked_shard_is_not_read_whole_into_memory(kinesis, function, mapping_of, run):
    def fail(texts):
        raise RuntimeError("never")

    function.answer = fail
    mapping = mapping_of(batch_size=1)
    run(mapping, 1)
    put(kinesis, "0", key="k")
    run(mapping, 1)
    for number in range(1, 100):
        put(kinesis, str(number), key="k")
        run(mapping, 1)
    reads = kinesis.calls["GetRecords"]
    run(mapping, 100)
    assert kinesis.calls["GetRecords"] == reads


def test_an_unknown_stream_is_said_at_the_start(clock, function):
    kinesis = MemoryKinesis(
        clock=clock,
        fault=lambda operation, arguments: client_error("ResourceNotFoundException", operation, "no stream"),
    )
    with pytest.raises(LocalError, match=r"cannot read the stream nobody: .*no stream"):
        EventSourceMapping(kinesis, "nobody", function).start()


def test_filtered_records_never_reach_the_function_and_the_checkpoint_passes_them(kinesis, function, mapping_of, run):
    for number in range(20):
        kinesis.put_records(Records=[{"Data": json.dumps({"n": number}).encode(), "PartitionKey": str(number)}])
    put(kinesis, "no JSON")
    mapping = mapping_of(filters=('{"data": {"n": [{"numeric": ["<", 3]}]}}',))
    run(mapping)
    assert sorted(json.loads(text)["n"] for text in function.texts) == [0, 1, 2]
    assert (mapping.stats.records, mapping.stats.filtered) == (3, 18)
    assert [int(number) for number in mapping.checkpoints.values()] == [21]


def test_a_record_nested_beyond_what_can_be_parsed_is_left_out_and_stops_nothing(kinesis, function, mapping_of, run):
    put(kinesis, '{"payloads": ' + "[" * 2000, '{"a": ' * 5000, '{"a": "x"}')
    mapping = mapping_of(filters=('{"data": {"a": ["x"]}}',))
    run(mapping)
    assert (function.texts, mapping.stats.filtered) == (['{"a": "x"}'], 2)


def test_filters_are_applied_before_a_batch_is_filled(kinesis, function, mapping_of, run):
    for number in range(20):
        kinesis.put_records(Records=[{"Data": b"%d" % number, "PartitionKey": "even" if number % 2 == 0 else "odd"}])
    run(mapping_of(batch_size=5, filters=('{"partitionKey": ["even"]}',)))
    assert [len(batch) for batch in function.batches] == [5, 5]


def test_a_disabled_mapping_reads_and_invokes_nothing_and_goes_on_where_it_was(kinesis, function, mapping_of, run):
    put(kinesis, "a")
    mapping = mapping_of()
    run(mapping)
    mapping.disable()
    put(kinesis, "b")
    calls, checkpoints = dict(kinesis.calls), mapping.checkpoints
    run(mapping, 600)
    assert function.texts == ["a"]
    assert kinesis.calls == calls
    assert mapping.checkpoints == checkpoints
    with pytest.raises(LocalError, match="the mapping is disabled"):
        mapping.drain(0.01)
    mapping.enable()
    run(mapping)
    assert function.texts == ["a", "b"]


def test_a_timeout_is_a_failure_like_any_other(kinesis, function, mapping_of, run):
    put(kinesis, "a", "b", key="k")

    def fail(texts):
        if len(texts) > 1:
            raise TimedOut("after 3 s")

    function.answer = fail
    mapping = mapping_of(bisect_batch_on_function_error=True, maximum_retry_attempts=0)
    run(mapping)
    assert function.batches == [["a", "b"], ["a"], ["b"]]
    assert (mapping.stats.errors, mapping.stats.retries, mapping.stats.discarded) == (1, 0, 0)


def test_records_that_expire_unread_in_the_stream_are_passed_over(clock, function, mapping_of, run):
    kinesis = MemoryKinesis(clock=clock, retention_hours=24)
    put(kinesis, "a")
    mapping = mapping_of(kinesis)
    run(mapping)
    mapping.disable()
    put(kinesis, "b")
    clock.now += 25 * 3600
    put(kinesis, "c")
    mapping.enable()
    run(mapping)
    assert function.texts == ["a", "c"]
