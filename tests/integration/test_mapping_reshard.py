"""Resharding against moto, whose shards, parents and hash ranges are another hand's reading of Kinesis than ours.

moto keeps a closed shard's parents, but goes on putting into the closed shard and never ends its iterator; Kinesis does
neither, so both are mended here.
"""

from __future__ import annotations

import base64
import json

import boto3
import pytest
from moto import mock_aws
from moto.kinesis.models import KinesisBackend, Stream
from moto.kinesis.utils import decompose_shard_iterator

from processor.local.mapping import SHARD_END, EventSourceMapping, MappingSettings

NAME = "processor"


@pytest.fixture
def kinesis(monkeypatch):
    for_key, get_records = Stream.get_shard_for_key, KinesisBackend.get_records

    def only_open(self, partition_key, explicit_hash_key):
        every = self.shards
        self.shards = {shard_id: shard for shard_id, shard in every.items() if shard.is_open}
        try:
            return for_key(self, partition_key, explicit_hash_key)
        finally:
            self.shards = every

    def ending(self, stream_arn, shard_iterator, limit):
        following, records, behind = get_records(self, stream_arn, shard_iterator, limit)
        name, shard_id, last = decompose_shard_iterator(following)
        shard = self.describe_stream(stream_arn, name).get_shard(shard_id)
        ended = not shard.is_open and int(last) >= shard.get_max_sequence_number()
        return (None if ended else following), records, behind

    monkeypatch.setattr(Stream, "get_shard_for_key", only_open)
    monkeypatch.setattr(KinesisBackend, "get_records", ending)
    with mock_aws():
        client = boto3.client("kinesis", "us-east-1", aws_access_key_id="test", aws_secret_access_key="test")
        client.create_stream(StreamName=NAME, ShardCount=2)
        yield client
        client.close()


def put(kinesis, *numbers):
    kinesis.put_records(
        StreamName=NAME, Records=[{"Data": str(n).encode(), "PartitionKey": f"key {n}"} for n in numbers]
    )


def middle(kinesis, shard_id):
    [shard] = [s for s in kinesis.list_shards(StreamName=NAME)["Shards"] if s["ShardId"] == shard_id]
    return str((int(shard["HashKeyRange"]["StartingHashKey"]) + int(shard["HashKeyRange"]["EndingHashKey"])) // 2)


@pytest.fixture
def seen():
    """What was delivered: (shard, number), in the order of delivery."""
    return []


@pytest.fixture
def mapping(kinesis, seen):
    def invoke(event):
        for record in json.loads(event)["Records"]:
            shard = record["eventID"].partition(":")[0]
            seen.append((shard, int(base64.b64decode(record["kinesis"]["data"]))))

    settings = MappingSettings(batch_size=5, batching_window_seconds=0)
    with EventSourceMapping(kinesis, NAME, invoke, settings) as mapping:
        yield mapping


def test_a_split_shard_is_read_to_its_end_and_then_its_children(kinesis, mapping, seen):
    put(kinesis, *range(40))
    mapping.drain(30)
    kinesis.split_shard(
        StreamName=NAME,
        ShardToSplit="shardId-000000000000",
        NewStartingHashKey=middle(kinesis, "shardId-000000000000"),
    )
    put(kinesis, *range(40, 120))
    mapping.drain(30)
    assert {number for _, number in seen} == set(range(120))
    assert {shard for shard, number in seen if number >= 40} == {f"shardId-00000000000{n}" for n in (1, 2, 3)}
    assert mapping.checkpoints["shardId-000000000000"] == SHARD_END


def test_merged_shards_are_read_to_their_ends_and_then_the_child(kinesis, mapping, seen):
    put(kinesis, *range(40))
    mapping.drain(30)
    kinesis.merge_shards(
        StreamName=NAME, ShardToMerge="shardId-000000000000", AdjacentShardToMerge="shardId-000000000001"
    )
    put(kinesis, *range(40, 80))
    mapping.drain(30)
    assert {number for _, number in seen} == set(range(80))
    assert {shard for shard, number in seen if number >= 40} == {"shardId-000000000002"}
    ended = {shard_id for shard_id, checkpoint in mapping.checkpoints.items() if checkpoint == SHARD_END}
    assert ended == {"shardId-000000000000", "shardId-000000000001"}


def test_an_updated_shard_count_is_followed_while_records_come(kinesis, mapping, seen):
    put(kinesis, *range(50))
    kinesis.update_shard_count(StreamName=NAME, TargetShardCount=4, ScalingType="UNIFORM_SCALING")
    put(kinesis, *range(50, 100))
    mapping.drain(30)
    kinesis.update_shard_count(StreamName=NAME, TargetShardCount=1, ScalingType="UNIFORM_SCALING")
    put(kinesis, *range(100, 150))
    mapping.drain(30)
    assert {number for _, number in seen} == set(range(150))
