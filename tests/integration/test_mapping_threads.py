"""The mapping's own threads, over a stream in memory: concurrency, draining, stopping."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import threading
import time

import pytest

from processor.errors import LocalError
from processor.local.consumer import ShardConsumer
from processor.local.mapping import EventSourceMapping, MappingSettings
from processor.local.memory_kinesis import MemoryKinesis, client_error

QUICK = {"batching_window_seconds": 0}


@pytest.fixture
def kinesis():
    return MemoryKinesis(2, clock=time.time)


def put(kinesis, *texts, key=None):
    kinesis.put_records(Records=[{"Data": text.encode(), "PartitionKey": key or text} for text in texts])


def texts_of(event):
    return [base64.b64decode(record["kinesis"]["data"]).decode() for record in json.loads(event)["Records"]]


def threads():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("mapping")]


def test_what_was_put_before_a_drain_is_processed_after_it(kinesis):
    seen = []
    put(kinesis, *map(str, range(500)))
    with EventSourceMapping(kinesis, kinesis.arn, lambda event: seen.extend(texts_of(event))) as mapping:
        put(kinesis, *map(str, range(500, 1000)))
        mapping.drain(30)
        assert sorted(map(int, seen)) == list(range(1000))
        put(kinesis, "late")
        mapping.drain(30)
        assert seen[-1] == "late"
    assert mapping.stats.records == 1001
    assert not threads()


def test_lanes_run_at_the_same_time_and_never_with_the_same_key(kinesis):
    under_way, seen, most = [], [], []
    lock, turns, together = threading.Lock(), itertools.count(), threading.Barrier(2)
    sent = {f"key {n}": [f"key {n}:{m}" for m in range(20)] for n in range(12)}
    for key, texts in sent.items():
        put(kinesis, *texts, key=key)

    def invoke(event):
        keys = {text.partition(":")[0] for text in texts_of(event)}
        with lock:
            assert not any(keys & other for other in under_way)
            under_way.append(keys)
            most.append(len(under_way))
        if next(turns) < 2:
            together.wait(30)  # the first two meet, or the test fails
        with lock:
            under_way.remove(keys)
            seen.extend(texts_of(event))

    settings = MappingSettings(batch_size=3, parallelization_factor=4, **QUICK)
    with EventSourceMapping(kinesis, kinesis.arn, invoke, settings) as mapping:
        mapping.drain(60)
    assert max(most) >= 2
    assert mapping.stats.errors == 0
    for key, texts in sent.items():
        assert [text for text in seen if text.startswith(f"{key}:")] == texts


def test_stop_lets_the_running_invocation_finish_and_keeps_its_checkpoint(kinesis):
    begun, go_on = threading.Event(), threading.Event()
    put(kinesis, "a", "b", "c", key="k")

    def invoke(event):
        begun.set()
        go_on.wait(30)

    mapping = EventSourceMapping(kinesis, kinesis.arn, invoke, MappingSettings(batch_size=1, **QUICK))
    mapping.start()
    assert begun.wait(30)
    stopper = threading.Thread(target=mapping.stop)
    stopper.start()
    assert mapping._stopping.wait(30)
    go_on.set()
    stopper.join(30)
    assert not threads()
    assert [int(checkpoint) for checkpoint in mapping.checkpoints.values()] == [1]
    seen = []
    with EventSourceMapping(
        kinesis, kinesis.arn, lambda event: seen.extend(texts_of(event)), checkpoints=mapping.checkpoints
    ) as second:
        second.drain(30)
    assert seen == ["b", "c"]


def test_stop_waits_for_no_interval(kinesis, monkeypatch):
    monkeypatch.setattr("processor.local.mapping.DISCOVER_SECONDS", 3600)
    mapping = EventSourceMapping(kinesis, kinesis.arn, lambda event: None, MappingSettings(batching_window_seconds=300))
    mapping.start()
    put(kinesis, "waits for its window")
    stopper = threading.Thread(target=mapping.stop, daemon=True)
    stopper.start()
    stopper.join(30)
    assert not stopper.is_alive()


def test_a_drain_that_takes_too_long_says_how_far_each_shard_is(kinesis):
    put(kinesis, "a", key="k")

    def invoke(event):
        raise RuntimeError("the table is gone")

    with EventSourceMapping(kinesis, kinesis.arn, invoke, MappingSettings(**QUICK)) as mapping:
        with pytest.raises(LocalError) as error:
            mapping.drain(0.5)
        assert "not drained after 0.5 s" in str(error.value)
        assert "1 unfinished records" in str(error.value)
        assert "RuntimeError: the table is gone" in str(error.value)


def test_a_drain_does_not_wait_for_what_is_put_after_it(kinesis):
    stop = threading.Event()
    put(kinesis, "first")

    def feed():
        while not stop.wait(0.001):
            put(kinesis, "x" * 10)

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        with EventSourceMapping(kinesis, kinesis.arn, lambda event: None, MappingSettings(**QUICK)) as mapping:
            mapping.drain(30)
    finally:
        stop.set()
        feeder.join()


def test_a_drain_ends_with_an_error_when_the_mapping_is_stopped(kinesis):
    put(kinesis, "a")
    mapping = EventSourceMapping(kinesis, kinesis.arn, lambda event: None, MappingSettings(batching_window_seconds=300))
    mapping.start()
    threading.Timer(0.1, mapping.stop).start()
    with pytest.raises(LocalError, match="was stopped before it was drained"):
        mapping.drain(30)
    mapping.stop()


def test_a_reshard_under_load_is_followed(kinesis):
    seen = []
    with EventSourceMapping(
        kinesis, kinesis.arn, lambda event: seen.extend(texts_of(event)), MappingSettings(batch_size=10, **QUICK)
    ) as mapping:
        put(kinesis, *map(str, range(100)))
        kinesis.split_shard(ShardToSplit="shardId-000000000000")
        put(kinesis, *map(str, range(100, 200)))
        kinesis.merge_shards(ShardToMerge="shardId-000000000003", AdjacentShardToMerge="shardId-000000000001")
        put(kinesis, *map(str, range(200, 300)))
        mapping.drain(30)
    assert sorted(map(int, seen)) == list(range(300))


def test_records_that_come_while_the_function_is_busy_wait_and_fill_the_next_batch(kinesis):
    batches, go_on, begun = [], threading.Event(), threading.Event()

    def invoke(event):
        batches.append(texts_of(event))
        begun.set()
        go_on.wait(30)

    put(kinesis, "a", key="k")
    with EventSourceMapping(kinesis, kinesis.arn, invoke, MappingSettings(**QUICK)) as mapping:
        assert begun.wait(30)
        put(kinesis, "b", key="k")
        put(kinesis, "c", key="k")
        reads = kinesis.calls["GetRecords"]
        while kinesis.calls["GetRecords"] < reads + 4:
            time.sleep(0.01)
        go_on.set()
        mapping.drain(30)
    assert batches == [["a"], ["b", "c"]]


def test_a_fault_of_the_mappings_own_is_told_and_stops_it(kinesis):
    put(kinesis, "a")
    mapping = EventSourceMapping(kinesis, kinesis.arn, lambda event: None)
    mapping.start()
    kinesis.fault = lambda operation, arguments: ZeroDivisionError("a bug") if operation == "GetRecords" else None
    with pytest.raises(LocalError, match="the mapping broke: ZeroDivisionError"):
        mapping.drain(30)
    with pytest.raises(LocalError, match="the mapping broke"):
        mapping.stop()
    assert not threads()


def test_a_stream_that_cannot_be_listed_for_a_while_is_only_delayed(kinesis):
    seen = []
    with EventSourceMapping(
        kinesis, kinesis.arn, lambda event: seen.extend(texts_of(event)), MappingSettings(**QUICK)
    ) as mapping:
        refused = iter([True] * 3 + [False] * 10_000)
        kinesis.fault = lambda operation, arguments: (
            client_error("LimitExceededException", operation) if operation == "ListShards" and next(refused) else None
        )
        put(kinesis, "a")
        mapping.drain(30)
    assert seen == ["a"]


def test_with_latest_what_is_put_once_start_has_returned_is_not_missed(kinesis):
    put(kinesis, "old")
    opened_by = []
    kinesis.fault = lambda operation, arguments: (
        opened_by.append(threading.current_thread()) if operation == "GetShardIterator" else None
    )
    seen = []
    settings = MappingSettings(starting_position="LATEST", **QUICK)
    with EventSourceMapping(kinesis, kinesis.arn, lambda event: seen.extend(texts_of(event)), settings) as mapping:
        put(kinesis, "new")
        mapping.drain(30)
    assert seen == ["new"]
    assert opened_by == [threading.current_thread()] * 2


def test_a_mapping_starts_once_and_is_either_stepped_or_started(kinesis):
    mapping = EventSourceMapping(kinesis, kinesis.arn, lambda event: None)
    with mapping:
        with pytest.raises(LocalError, match="starts once"):
            mapping.start()
        with pytest.raises(LocalError, match="do not go together"):
            mapping.step()


def test_disable_waits_for_the_running_invocation_and_enable_goes_on(kinesis):
    begun, go_on, seen = threading.Event(), threading.Event(), []
    put(kinesis, "a", "b", key="k")

    def invoke(event):
        begun.set()
        assert go_on.wait(30)
        seen.extend(texts_of(event))

    with EventSourceMapping(kinesis, kinesis.arn, invoke, MappingSettings(batch_size=1, **QUICK)) as mapping:
        assert begun.wait(30)
        disabler = threading.Thread(target=mapping.disable)
        disabler.start()
        assert mapping._disabled.wait(30)
        assert not seen
        go_on.set()
        disabler.join(30)
        assert seen == ["a"]
        checkpoints = mapping.checkpoints
        put(kinesis, "c", key="k")
        with pytest.raises(LocalError, match="the mapping is disabled"):
            mapping.drain(0.3)
        assert (seen, mapping.checkpoints) == (["a"], checkpoints)
        mapping.enable()
        mapping.drain(30)
    assert seen == ["a", "b", "c"]


def test_no_read_begins_or_goes_on_once_disable_has_returned(kinesis):
    reading, go_on = threading.Event(), threading.Event()
    get_records = kinesis.get_records

    def slowly(**arguments):
        reading.set()
        assert go_on.wait(30)
        return get_records(**arguments)

    kinesis.get_records = slowly
    with EventSourceMapping(kinesis, kinesis.arn, lambda event: None, MappingSettings(**QUICK)) as mapping:
        assert reading.wait(30)
        disabler = threading.Thread(target=mapping.disable)
        disabler.start()
        assert mapping._disabled.wait(30)
        disabler.join(0.2)
        assert disabler.is_alive()  # the reads under way hold it
        go_on.set()
        disabler.join(30)
        for _ in range(5):
            mapping.enable()
            time.sleep(0.02)
            mapping.disable()
            calls = kinesis.calls["GetRecords"]
            time.sleep(0.3)  # longer than a shard waits for its next poll
            assert kinesis.calls["GetRecords"] == calls


def test_disable_returns_where_the_mapping_breaks(kinesis, monkeypatch):
    put(kinesis, "a")
    began, go_on = threading.Event(), threading.Event()

    def broken(*_arguments):
        began.set()
        go_on.wait(30)
        raise ZeroDivisionError

    monkeypatch.setattr(ShardConsumer, "send", broken)
    mapping = EventSourceMapping(kinesis, kinesis.arn, lambda event: None, MappingSettings(**QUICK))
    mapping.start()
    assert began.wait(30)
    threading.Timer(0.2, go_on.set).start()

    def disable():
        with contextlib.suppress(LocalError):
            mapping.disable()

    disabler = threading.Thread(target=disable, daemon=True)
    disabler.start()
    disabler.join(30)
    assert not disabler.is_alive()
    with pytest.raises(LocalError, match="ZeroDivisionError"):
        mapping.disable()
    with pytest.raises(LocalError, match="ZeroDivisionError"):
        mapping.stop()
