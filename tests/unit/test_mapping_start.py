"""Where and when a new mapping begins to read: what is put before its first poll, by starting position."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest

from processor.errors import SettingsError
from processor.local.memory_kinesis import MemoryKinesis, client_error
from processor.local.memory_streams import MemoryStreams

MINUTES = 180


class Function:
    """Remembers what it was invoked with, as text: the data of Kinesis, or the item's key of DynamoDB."""

    def __init__(self):
        self.texts = []

    def __call__(self, event):
        for record in json.loads(event)["Records"]:
            if "kinesis" in record:
                self.texts.append(base64.b64decode(record["kinesis"]["data"]).decode())
            else:
                self.texts.append(record["dynamodb"]["Keys"]["slot"]["S"])


@pytest.fixture
def function():
    return Function()


@pytest.fixture
def streams(clock):
    return MemoryStreams(clock=clock)


def put(stream, text, key="k"):
    if isinstance(stream, MemoryStreams):
        stream.append(None, {"device": {"S": "a"}, "slot": {"S": text}})
    else:
        stream.put_records(Records=[{"Data": text.encode(), "PartitionKey": key}])


def put_to(kinesis, shard_id, text):
    """Put a record into that shard, whatever its key is."""
    tried = 0
    while True:
        hashed = int.from_bytes(hashlib.md5(str(tried).encode(), usedforsecurity=False).digest(), "big")
        if kinesis._shards[shard_id].first <= hashed <= kinesis._shards[shard_id].last:
            return put(kinesis, text, str(tried))
        tried += 1


def put_before_during_and_after_the_delay(stream, mapping, run, clock):
    """Put a record before the mapping is made, while it does not poll yet, and afterwards."""
    put(stream, "before")
    clock.now += 10
    begin = mapping()
    run(begin, MINUTES / 2)
    put(stream, "while it starts")
    run(begin, MINUTES / 2 + 1)
    put(stream, "after")
    run(begin)


@pytest.mark.parametrize(
    ("position", "delivered"),
    [
        ({"starting_position": "LATEST"}, ["after"]),
        ({"starting_position": "TRIM_HORIZON"}, ["before", "while it starts", "after"]),
        (
            {"starting_position": "AT_TIMESTAMP", "starting_position_timestamp": 1_700_000_005.0},
            ["while it starts", "after"],
        ),
    ],
    ids=lambda value: value.get("starting_position") if isinstance(value, dict) else None,
)
def test_what_is_put_before_polling_begins_is_missed_with_latest_alone(
    kinesis, function, mapping_of, run, clock, position, delivered
):
    put_before_during_and_after_the_delay(
        kinesis, lambda: mapping_of(start_delay_seconds=MINUTES, **position), run, clock
    )
    assert function.texts == delivered


@pytest.mark.parametrize(
    ("position", "delivered"), [("LATEST", ["after"]), ("TRIM_HORIZON", ["before", "while it starts", "after"])]
)
def test_of_a_tables_stream_too(streams, function, mapping_of, run, clock, position, delivered):
    put_before_during_and_after_the_delay(
        streams, lambda: mapping_of(streams, start_delay_seconds=MINUTES, starting_position=position), run, clock
    )
    assert function.texts == delivered


def test_no_shard_is_read_before_its_time_not_even_one_that_is_found_later(kinesis, function, mapping_of, run):
    mapping = mapping_of(start_delay_seconds=MINUTES)
    run(mapping, 1)
    kinesis.split_shard(ShardToSplit="shardId-000000000000")
    kinesis.delete_shard("shardId-000000000000")  # its children wait for nobody
    put(kinesis, "a")
    run(mapping, MINUTES - 2)
    assert "GetRecords" not in kinesis.calls
    run(mapping)
    assert function.texts == ["a"]


def test_a_child_that_waits_for_its_parent_has_missed_the_same_with_latest(kinesis, function, mapping_of, run, clock):
    kinesis.split_shard(ShardToSplit="shardId-000000000000")
    put_before_during_and_after_the_delay(
        kinesis, lambda: mapping_of(start_delay_seconds=MINUTES, starting_position="LATEST"), run, clock
    )
    assert function.texts == ["after"]


@pytest.mark.parametrize("stream_name", ["kinesis", "streams"])
def test_without_a_delay_nothing_put_after_the_start_is_missed_with_latest(
    request, function, mapping_of, run, stream_name
):
    stream = request.getfixturevalue(stream_name)
    put(stream, "before")
    mapping = mapping_of(stream, starting_position="LATEST")
    mapping.step()
    put(stream, "after")
    run(mapping)
    assert function.texts == ["after"]


@pytest.mark.parametrize("shards", [1, 2])
def test_with_latest_another_mapping_goes_on_with_all_that_was_put_since_the_first_one_started(
    clock, function, mapping_of, run, shards
):
    kinesis = MemoryKinesis(shards, clock=clock)
    put(kinesis, "before")
    clock.now += 10
    first = mapping_of(kinesis, starting_position="LATEST")
    first.step()
    put_to(kinesis, kinesis.open_shards[0], "a")
    run(first)
    clock.now += 10
    put(kinesis, "b")
    for shard_id in list(kinesis.open_shards):
        put_to(kinesis, shard_id, f"to {shard_id}")
        kinesis.split_shard(ShardToSplit=shard_id)
    for shard_id in list(kinesis.open_shards):  # children, which the first one never heard of
        put_to(kinesis, shard_id, f"to {shard_id}")
    wanted = sorted(["a", "b"] + [f"to {shard_id}" for shard_id in kinesis._shards])
    clock.now += 10
    checkpoints = first.checkpoints
    for _ in range(2):  # the second of them may end before it has read anything, too
        second = mapping_of(kinesis, starting_position="LATEST", checkpoints=json.loads(json.dumps(checkpoints)))
        checkpoints = second.checkpoints
    run(second)
    assert sorted(function.texts) == wanted
    third = mapping_of(kinesis, starting_position="LATEST", checkpoints=second.checkpoints)
    run(third)
    assert sorted(function.texts) == wanted


@pytest.mark.parametrize("stream_name", ["kinesis", "streams"])
def test_with_latest_a_first_call_that_fails_moves_no_start(request, function, mapping_of, run, clock, stream_name):
    stream = request.getfixturevalue(stream_name)
    put(stream, "before")
    clock.now += 10
    stream.fault = lambda operation, arguments: (
        client_error("LimitExceededException", operation) if operation == "GetShardIterator" else None
    )
    mapping = mapping_of(stream, starting_position="LATEST")
    mapping.step()
    put(stream, "after")
    run(mapping, 5)
    stream.fault = None
    run(mapping)
    assert function.texts == ["after"]


def test_with_latest_a_stream_whose_clock_is_behind_loses_nothing(clock, function, mapping_of, run):
    kinesis = MemoryKinesis(clock=lambda: clock.now - 3)
    mapping = mapping_of(kinesis, starting_position="LATEST")
    mapping.step()
    put(kinesis, "after")
    run(mapping)
    assert function.texts == ["after"]


@pytest.mark.parametrize("again", ["another mapping", "a failed read"])
def test_with_latest_a_stream_whose_clock_goes_in_whole_seconds_loses_nothing(clock, function, mapping_of, run, again):
    clock.now += 0.7
    kinesis = MemoryKinesis(clock=lambda: int(clock.now))
    mapping = mapping_of(kinesis, starting_position="LATEST")
    if again == "a failed read":
        kinesis.fault = lambda operation, arguments: (
            client_error("InternalFailure", operation) if operation == "GetRecords" else None
        )
    mapping.step()
    put(kinesis, "after")
    kinesis.fault = None
    if again == "another mapping":
        mapping = mapping_of(kinesis, starting_position="LATEST", checkpoints=mapping.checkpoints)
    run(mapping)
    assert function.texts == ["after"]


def test_with_latest_shards_that_are_listed_later_than_the_first_time_are_read_whole(
    kinesis, function, mapping_of, run
):
    list_shards, turns = kinesis.list_shards, iter(range(100))
    kinesis.list_shards = lambda **arguments: {"Shards": []} if next(turns) < 3 else list_shards(**arguments)
    mapping = mapping_of(starting_position="LATEST")
    mapping.step()
    put(kinesis, "after")
    run(mapping)
    assert function.texts == ["after"]


def test_a_timestamp_in_the_future_is_refused(mapping_of, clock):
    mapping_of(starting_position="AT_TIMESTAMP", starting_position_timestamp=clock.now).step()
    mapping = mapping_of(starting_position="AT_TIMESTAMP", starting_position_timestamp=clock.now + 60)
    with pytest.raises(SettingsError, match=r"not in the future: .* is 60 s from now"):
        mapping.step()
