"""A mapping of a real table's stream, over local servers: every change is delivered, and what changes nothing is none.

Seen in MiniStack 1.5.33: one shard a stream, which never closes; numbers with leading zeros; an update that changes
nothing makes no record, as in DynamoDB; a deletion by Time to Live makes none either, unlike DynamoDB. moto 5.2.5 makes
a MODIFY record of an UpdateItem that changes nothing, and two records of one that makes an item.
"""

from __future__ import annotations

import json
import threading

import boto3
import pytest
from moto import mock_aws

from processor.local.aws import EmbeddedAws
from processor.local.mapping import EventSourceMapping, MappingSettings
from processor.store import tables

TABLE = "processor-readings"
QUICK = MappingSettings(batching_window_seconds=0, parallelization_factor=3, report_batch_item_failures=True)
GROW = {
    "UpdateExpression": "SET #c = if_not_exists(#c, :c)",
    "ExpressionAttributeNames": {"#c": "c1.AAAA"},
    "ExpressionAttributeValues": {":c": {"M": {"o": {"N": "0"}}}},
}


@pytest.fixture(scope="module")
def aws():
    with EmbeddedAws() as aws:
        yield aws


@pytest.fixture
def dynamodb(aws):
    aws.reset()
    client = aws.client("dynamodb")
    tables.create_table(client, TABLE, "readings")
    return client


def stream_of(dynamodb):
    return dynamodb.describe_table(TableName=TABLE)["Table"]["LatestStreamArn"]


def key(device, slot):
    return {"device": {"S": device}, "slot": {"N": str(slot)}}


class Rollup:
    """A function that remembers the changes it was told of; its first invocation fails."""

    def __init__(self):
        self.changes = []
        self._lock = threading.Lock()
        self._failed = False

    def __call__(self, event):
        with self._lock:
            if not self._failed:
                self._failed = True
                raise RuntimeError("the first invocation fails")
            for record in json.loads(event)["Records"]:
                keys = record["dynamodb"]["Keys"]
                self.changes.append((record["eventName"], keys["device"]["S"], int(keys["slot"]["N"])))
        return {"batchItemFailures": []}

    def of(self, device):
        return [change for change in self.changes if change[1] == device]


@pytest.fixture
def rollup():
    return Rollup()


def test_every_change_of_the_table_is_delivered_in_the_order_of_its_item(aws, dynamodb, rollup):
    client = aws.client("dynamodbstreams")
    with EventSourceMapping(client, stream_of(dynamodb), rollup, QUICK, function_name="rollup") as mapping:
        for slot in range(0, 150, 15):
            dynamodb.put_item(TableName=TABLE, Item=key("a", slot))
            dynamodb.update_item(TableName=TABLE, Key=key("b", slot), **GROW)
        mapping.drain(60)
        dynamodb.update_item(TableName=TABLE, Key=key("a", 0), **GROW)
        dynamodb.delete_item(TableName=TABLE, Key=key("a", 0))
        mapping.drain(60)
    assert mapping.stats.errors == 1
    assert sorted(rollup.of("b")) == [("INSERT", "b", slot) for slot in range(0, 150, 15)]
    assert [change for change in rollup.of("a") if change[2] == 0] == [
        ("INSERT", "a", 0),
        ("MODIFY", "a", 0),
        ("REMOVE", "a", 0),
    ]
    assert len(rollup.changes) == 22


def test_a_duplicate_write_that_changes_nothing_makes_no_record(aws, dynamodb, rollup):
    client = aws.client("dynamodbstreams")
    with EventSourceMapping(client, stream_of(dynamodb), rollup, QUICK) as mapping:
        for _ in range(5):
            dynamodb.update_item(TableName=TABLE, Key=key("a", 15), **GROW)
        dynamodb.put_item(TableName=TABLE, Item=key("z", 0))
        mapping.drain(60)
    assert sorted(rollup.changes) == [("INSERT", "a", 15), ("INSERT", "z", 0)]


def test_the_event_has_keys_only_and_the_streams_own_numbers(aws, dynamodb):
    dynamodb.update_item(TableName=TABLE, Key=key("a", 15), **GROW)
    arn = stream_of(dynamodb)
    events = []
    with EventSourceMapping(aws.client("dynamodbstreams"), arn, events.append, QUICK) as mapping:
        mapping.drain(60)
    [record] = json.loads(events[0])["Records"]
    change = record["dynamodb"]
    assert (record["eventSource"], record["eventVersion"], record["eventSourceARN"]) == ("aws:dynamodb", "1.1", arn)
    assert (change["Keys"], change["StreamViewType"]) == (key("a", 15), "KEYS_ONLY")
    assert "NewImage" not in change
    assert isinstance(change["ApproximateCreationDateTime"], int)
    assert list(mapping.checkpoints.values()) == [change["SequenceNumber"]]


def test_a_mapping_goes_on_from_the_checkpoints_of_the_one_before(aws, dynamodb, rollup):
    client, arn = aws.client("dynamodbstreams"), stream_of(dynamodb)
    dynamodb.put_item(TableName=TABLE, Item=key("a", 0))
    with EventSourceMapping(client, arn, rollup, QUICK) as first:
        first.drain(60)
    dynamodb.put_item(TableName=TABLE, Item=key("a", 15))
    checkpoints = json.loads(json.dumps(first.checkpoints))
    assert all(number.startswith("0") for number in checkpoints.values())
    with EventSourceMapping(client, arn, rollup, QUICK, checkpoints=checkpoints) as second:
        second.drain(60)
    assert rollup.changes == [("INSERT", "a", 0), ("INSERT", "a", 15)]


def test_a_mapping_that_starts_at_the_latest_misses_nothing_put_after_its_start(aws, dynamodb, rollup):
    dynamodb.put_item(TableName=TABLE, Item=key("old", 0))
    settings = MappingSettings(batching_window_seconds=0, starting_position="LATEST")
    with EventSourceMapping(aws.client("dynamodbstreams"), stream_of(dynamodb), rollup, settings) as mapping:
        dynamodb.put_item(TableName=TABLE, Item=key("new", 0))
        mapping.drain(60)
    assert rollup.changes == [("INSERT", "new", 0)]


def test_another_hands_streams_are_read_too(rollup):
    with mock_aws():
        known = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        dynamodb = boto3.client("dynamodb", "us-east-1", **known)
        client = boto3.client("dynamodbstreams", "us-east-1", **known)
        tables.create_table(dynamodb, TABLE, "readings")
        with EventSourceMapping(client, stream_of(dynamodb), rollup, QUICK) as mapping:
            for slot in range(0, 75, 15):
                dynamodb.put_item(TableName=TABLE, Item=key("a", slot))
            dynamodb.delete_item(TableName=TABLE, Key=key("a", 0))
            mapping.drain(60)
        dynamodb.close()
        client.close()
    assert sorted(rollup.changes) == sorted([("INSERT", "a", slot) for slot in range(0, 75, 15)] + [("REMOVE", "a", 0)])
