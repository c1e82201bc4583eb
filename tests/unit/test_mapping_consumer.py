"""The consumer of one shard says how far it is."""

from __future__ import annotations

import pytest

from processor.local.consumer import SHARD_END, ShardConsumer
from processor.local.iterator import ShardIterator
from processor.local.kinesis_stream import KinesisStream
from processor.local.mapping_settings import MappingSettings
from processor.local.memory_kinesis import MemoryKinesis
from processor.local.shard import ShardQueue
from processor.local.stream import Start

SHARD = "shardId-000000000000"


def clock():
    return 1_700_000_000.0


@pytest.fixture
def kinesis():
    return MemoryKinesis(clock=clock)


@pytest.fixture
def consumer(kinesis):
    settings = MappingSettings(batch_size=1, batching_window_seconds=0)
    stream = KinesisStream(kinesis, kinesis.arn, "ingest")
    stream.open()
    return ShardConsumer(
        stream.source,
        ShardIterator(stream, SHARD, Start("TRIM_HORIZON"), clock=clock),
        ShardQueue(SHARD, settings),
        invoke=lambda event: None,
        on_failure=None,
        clock=clock,
    )


def put(kinesis, text):
    kinesis.put_records(Records=[{"Data": text.encode(), "PartitionKey": "k"}])


def test_a_goal_is_what_a_later_read_found_and_does_not_move_with_later_records(kinesis, consumer):
    put(kinesis, "a")
    consumer.poll()
    assert consumer.goal(after_poll=1) is None
    goal = consumer.goal(after_poll=0)
    put(kinesis, "b")
    consumer.poll()
    assert not consumer.reached(goal)
    consumer.send(consumer.take(0))
    assert consumer.reached(goal)
    assert not consumer.reached(consumer.goal(after_poll=1))


def test_a_shard_is_done_when_it_is_read_to_its_end_and_its_last_record_is_finished(kinesis, consumer):
    put(kinesis, "a")
    kinesis.split_shard(ShardToSplit=SHARD)
    assert consumer.wants_poll()
    consumer.poll()
    assert not consumer.wants_poll()
    assert (consumer.done, consumer.checkpoint) == (False, None)
    consumer.send(consumer.take(0))
    assert (consumer.done, consumer.checkpoint) == (True, SHARD_END)


def test_the_progress_names_what_is_left_and_why(kinesis, consumer):
    assert "not read yet" in consumer.progress()
    put(kinesis, "a")
    consumer.poll()
    assert consumer.progress() == (
        f"{SHARD} has 1 unfinished records, the oldest 0.0 s old, its checkpoint is None, it is 0 ms behind the tip"
    )
