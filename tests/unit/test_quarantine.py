"""Quarantine: whole records, named by shard and rejected sequence numbers, each listed once."""

from __future__ import annotations

import base64

import boto3
import pytest
from moto import mock_aws

from processor.quarantine import Quarantine, Rejection


@pytest.fixture
def quarantine(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="bucket")
        yield Quarantine("bucket", lambda: client), client


def keys(client):
    return [entry["Key"] for entry in client.list_objects_v2(Bucket="bucket").get("Contents", [])]


def test_an_object_is_named_by_day_shard_and_the_rejected_sequence_numbers(quarantine, kinesis_event):
    kept, client = quarantine
    first, second, third = kinesis_event(b"a", b"b", b"c", first=9)["Records"]
    kept.put([(third, [Rejection(None, "json", "no")]), (first, [Rejection(0, "hex", "no")])])
    number = "{:056d}".format
    assert keys(client) == [f"quarantine/2023/11/14/shardId-000000000000/{number(9)}-{number(11)}.jsonl"]
    found = list(kept.entries())
    assert [base64.b64decode(entry["data"]) for entry in found] == [b"a", b"c"]
    assert found[0]["rejected"] == [{"index": 0, "reason": "hex", "message": "no"}]
    assert found[0]["stream"].endswith("stream/processor")
    assert found[0]["partition_key"] == "key-0"
    assert second["kinesis"]["sequenceNumber"] not in {entry["sequence_number"] for entry in found}


def test_a_retried_batch_writes_the_same_object_and_other_batches_of_it_are_listed_once(quarantine, kinesis_event):
    kept, client = quarantine
    records = kinesis_event(b"a", b"b")["Records"]
    whole = [(records[0], [Rejection(0, "hex", "no")]), (records[1], [Rejection(1, "hex", "no")])]
    kept.put(whole)
    kept.put(whole)
    kept.put([(records[1], [Rejection(1, "hex", "no"), Rejection(4, "address", "no")])])
    assert len(keys(client)) == 2
    found = list(kept.entries())
    assert [[each["index"] for each in entry["rejected"]] for entry in found] == [[0], [1, 4]]


def test_records_of_two_shards_go_to_two_objects(quarantine, kinesis_event):
    kept, client = quarantine
    events = [kinesis_event(b"x", shard=f"shardId-00000000000{n}")["Records"][0] for n in range(2)]
    kept.put([(record, [Rejection(None, "json", "no")]) for record in events])
    assert len(keys(client)) == 2


def test_the_client_is_made_when_the_first_record_is_rejected():
    made = []
    kept = Quarantine("bucket", lambda: made.append(1))
    kept.put([])
    assert made == []
