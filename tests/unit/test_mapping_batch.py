"""The event that a batch is sent as, what an answer means for it, and the record of a failure."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import pytest

from processor.errors import LocalError
from processor.local.batch import Batch, failure_record, outcome_of, payload_size
from processor.local.kinesis_stream import KinesisStream
from processor.local.stream import EventSource

ARN = "arn:aws:kinesis:us-east-2:123456789012:stream/lambda-stream"
SOURCE = EventSource.of(ARN, "ingest")
STREAM = KinesisStream(None, ARN, "ingest")
STREAM.source = SOURCE
SHARD = "shardId-000000000006"


def raw(number, data=b"Hello, this is a test.", key="1", arrival=1545084650.987):
    return {
        "SequenceNumber": number,
        "PartitionKey": key,
        "Data": data,
        "ApproximateArrivalTimestamp": datetime.fromtimestamp(arrival, UTC),
    }


def batch_of(*numbers, **more):
    return Batch(SHARD, 0, tuple(STREAM.record(SHARD, raw(number)) for number in numbers), **more)


def test_the_event_is_the_one_of_lambdas_documentation():
    numbers = (
        "49590338271490256608559692538361571095921575989136588898",
        "49590338271490256608559692540925702759324208523137515618",
    )
    first = STREAM.record(SHARD, raw(numbers[0]))
    second = STREAM.record(SHARD, raw(numbers[1], b"This is only a test.", arrival=1545084711.166))
    event = json.loads(Batch(SHARD, 0, (first, second)).event())
    assert event == {
        "Records": [
            {
                "kinesis": {
                    "kinesisSchemaVersion": "1.0",
                    "partitionKey": "1",
                    "sequenceNumber": number,
                    "data": data,
                    "approximateArrivalTimestamp": arrival,
                },
                "eventSource": "aws:kinesis",
                "eventVersion": "1.0",
                "eventID": f"shardId-000000000006:{number}",
                "eventName": "aws:kinesis:record",
                "invokeIdentityArn": "arn:aws:iam::123456789012:role/ingest",
                "awsRegion": "us-east-2",
                "eventSourceARN": ARN,
            }
            for number, data, arrival in (
                (numbers[0], "SGVsbG8sIHRoaXMgaXMgYSB0ZXN0Lg==", 1545084650.987),
                (numbers[1], "VGhpcyBpcyBvbmx5IGEgdGVzdC4=", 1545084711.166),
            )
        ]
    }


@pytest.mark.parametrize("key", ['"quoted"', "back\\slash", "温度", "\ud800", "\n\x00", "😀" * 64])
@pytest.mark.parametrize("data", [b"", b"\x00\xff", bytes(range(256))])
def test_any_key_and_any_bytes_arrive_as_they_were_put(key, data):
    record = json.loads(Batch(SHARD, 0, (STREAM.record(SHARD, raw("0007", data, key)),)).event())["Records"][0]
    assert record["kinesis"]["partitionKey"] == key
    assert base64.b64decode(record["kinesis"]["data"]) == data
    assert record["kinesis"]["sequenceNumber"] == "0007"


@pytest.mark.parametrize("count", [1, 2, 7])
def test_the_payload_size_counts_every_byte_of_the_event(count):
    batch = batch_of(*map(str, range(count)))
    assert payload_size(count, sum(len(record.event) for record in batch.records)) == len(batch.event())


@pytest.mark.parametrize("arn", ["stream", "arn:aws:dynamodb:us-east-1:1:table/x", "arn:aws:kinesis:us-east-1:1"])
def test_what_is_no_stream_arn_is_refused(arn):
    with pytest.raises(LocalError, match="a stream's ARN looks like"):
        EventSource.of(arn, "ingest")


@pytest.mark.parametrize(
    "response",
    [
        None, b"", "", b"null", "null", {}, b"{}", {"batchItemFailures": None}, {"batchItemFailures": []},
        b'{"batchItemFailures": []}', {"statusCode": 200},
    ],
)  # fmt: skip
def test_an_empty_answer_or_an_empty_list_is_success(response):
    assert outcome_of(batch_of("1", "2"), response).kind == "success"


@pytest.mark.parametrize(
    "response",
    [
        b"{", b"\xff", "OK", b'"text"', b"7", [], b"[]", {"batchItemFailures": "2"},
        {"batchItemFailures": {"itemIdentifier": "2"}},
        {"batchItemFailures": ["2"]},
        {"batchItemFailures": [None]},
        {"batchItemFailures": [{}]},
        {"batchItemFailures": [{"itemidentifier": "2"}]},
        {"batchItemFailures": [{"itemIdentifier": None}]},
        {"batchItemFailures": [{"itemIdentifier": ""}]},
        {"batchItemFailures": [{"itemIdentifier": 2}]},
        {"batchItemFailures": [{"itemIdentifier": ["2"]}]},
        {"batchItemFailures": [{"itemIdentifier": "3"}]},
        {"batchItemFailures": [{"itemIdentifier": "02"}]},
        {"batchItemFailures": [{"itemIdentifier": "2"}, {"itemIdentifier": "3"}]},
    ],
)  # fmt: skip
def test_an_answer_that_cannot_be_trusted_fails_the_whole_batch(response):
    outcome = outcome_of(batch_of("1", "2"), response)
    assert (outcome.kind, outcome.at) == ("failed", 0)
    assert outcome.error


def test_the_lowest_reported_number_counts_as_an_integer_whatever_the_order():
    batch = batch_of("8", "9", "10", "11")
    reported = {"batchItemFailures": [{"itemIdentifier": number} for number in ("11", "10", "9")]}
    assert outcome_of(batch, reported)[:2] == ("partial", 1)
    assert outcome_of(batch, json.dumps(reported).encode())[:2] == ("partial", 1)


def test_a_record_reported_twice_is_one_failure():
    reported = {"batchItemFailures": [{"itemIdentifier": "2"}, {"itemIdentifier": "2"}]}
    assert outcome_of(batch_of("1", "2"), reported)[:2] == ("partial", 1)


def test_the_failure_record_is_the_one_of_lambdas_documentation_with_the_event_as_text():
    first, last = raw("100", arrival=1573692484.835), raw("200", arrival=1573692485.58)
    records = tuple(STREAM.record(SHARD, record) for record in (first, last))
    batch = Batch(SHARD, 0, records, invocations=3, condition="RetryAttemptsExhausted", unhandled=True)
    record = failure_record(batch, SOURCE, 1573692486.021)
    assert record["requestContext"].pop("requestId")
    assert record == {
        "requestContext": {
            "functionArn": "arn:aws:lambda:us-east-2:123456789012:function:ingest",
            "condition": "RetryAttemptsExhausted",
            "approximateInvokeCount": 3,
        },
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
        "version": "1.0",
        "timestamp": "2019-11-14T00:48:06.021Z",
        "KinesisBatchInfo": {
            "shardId": SHARD,
            "startSequenceNumber": "100",
            "endSequenceNumber": "200",
            "approximateArrivalOfFirstRecord": "2019-11-14T00:48:04.835Z",
            "approximateArrivalOfLastRecord": "2019-11-14T00:48:05.580Z",
            "batchSize": 2,
            "streamArn": ARN,
        },
        "payload": batch.event().decode(),
    }


def test_a_reported_failure_names_no_function_error_and_an_unseen_batch_no_response():
    reported = failure_record(batch_of("1", invocations=1, condition="RetryAttemptsExhausted"), SOURCE, 0.0)
    assert reported["responseContext"] == {"statusCode": 200, "executedVersion": "$LATEST"}
    assert "responseContext" not in failure_record(batch_of("1", condition="RecordAgeExceeded"), SOURCE, 0.0)
