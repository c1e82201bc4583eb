"""Quarantine: whole records, named by shard and rejected sequence numbers, each listed once."""

from __future__ import annotations

import base64

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from processor.quarantine import Quarantine, Rejection, merged


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
    (name,) = keys(client)
    beginning, _, digest = name.rpartition("-")
    assert beginning == f"quarantine/2023/11/14/shardId-000000000000/{number(9)}-{number(11)}"
    assert len(digest.removesuffix(".jsonl")) == 16
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
    assert [sorted(each["index"] for each in entry["rejected"]) for entry in found] == [[0], [1, 4]]


def test_a_batch_that_comes_again_changes_nothing_of_what_a_redrive_left(quarantine, kinesis_event):
    """Neither the attempts nor, where the batch is another one of the same first and last record, what is in it."""
    kept, client = quarantine
    first, second, third = kinesis_event(b"a", b"b", b"c")["Records"]
    rejection = [Rejection(0, "hex", "no")]
    kept.put([(first, rejection), (third, rejection)])
    found = kept.read(keys(client)[0])
    assert kept.replace(found, [found.lines[1] | {"attempts": 2}])
    for _ in range(2):
        kept.put([(first, rejection), (third, rejection)])
        assert [(entry["data"], entry["attempts"]) for entry in kept.entries()] == [(third["kinesis"]["data"], 2)]
    kept.put([(first, rejection), (second, rejection), (third, rejection)])
    attempts = {entry["data"]: entry["attempts"] for entry in kept.entries()}
    assert [attempts[each["kinesis"]["data"]] for each in (first, second, third)] == [1, 1, 2]


def test_one_more_attempt_takes_the_place_of_what_said_no_more(quarantine, kinesis_event):
    """Objects of the same records: removed are those that are older in all they say, and no other."""
    kept, client = quarantine
    first, second, third = kinesis_event(b"a", b"b", b"c")["Records"]
    rejection = [Rejection(0, "hex", "no")]
    stays = [
        ([(first, rejection), (third, rejection)], 9),
        ([(first, rejection), (third, [*rejection, Rejection(1, "hex", "no")])], 1),
        ([(first, rejection), (second, rejection), (third, rejection)], 1),
        ([(first, rejection)], 1),
    ]
    for records, attempts in stays:
        kept.put(records, attempts)
    others = {*keys(client)}
    kept.put([(first, rejection), (third, rejection)])
    kept.put([(first, rejection), (third, [Rejection(0, "hex", "in other words")])])
    assert (len(others), len(keys(client))) == (4, 6)
    for attempts in (2, 3):
        kept.put([(first, rejection), (third, rejection)], attempts)
        assert len(keys(client)) == 5
        assert {*keys(client)} > others


def test_what_was_redriven_away_and_comes_again_is_kept_again(quarantine, kinesis_event):
    kept, client = quarantine
    records = [(kinesis_event(b"a")["Records"][0], [Rejection(0, "hex", "no")])]
    kept.put(records)
    assert kept.replace(kept.read(keys(client)[0]), [])
    assert keys(client) == []
    kept.put(records)
    assert len(list(kept.entries())) == 1


@pytest.mark.parametrize("status", [403, 409, 503])
def test_an_answer_that_does_not_say_that_it_is_there_is_raised(kinesis_event, new_bucket, status):
    """409: it is being written or deleted just now, and may be gone in the end."""
    bucket = new_bucket()

    def fail(operation, key):
        raise ClientError({"Error": {"Code": "?"}, "ResponseMetadata": {"HTTPStatusCode": status}}, operation)

    bucket.before = fail
    with pytest.raises(ClientError):
        Quarantine("bucket", lambda: bucket).put([(kinesis_event(b"a")["Records"][0], [Rejection(0, "hex", "no")])])


@pytest.mark.parametrize("order", [1, -1])
def test_a_record_in_two_objects_has_all_its_rejections_and_the_most_attempts(order):
    lines = [
        {
            "shard": "s",
            "sequence_number": "1",
            "rejected": [{"index": index} for index in indexes],
            "attempts": attempts,
        }
        for indexes, attempts in (((0, 1), 3), ((1, 2), 1))
    ]
    (found,) = merged(lines[::order])
    assert sorted(each["index"] for each in found["rejected"]) == [0, 1, 2]
    assert found["attempts"] == 3


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
