"""Where a failure record goes: metadata to a queue, the payload too to a bucket, under the name that Lambda gives."""

from __future__ import annotations

import json
import re

import pytest

from processor.local.destination import to_bucket, to_queue
from processor.local.mapping import EventSourceMapping, MappingSettings
from processor.local.memory_kinesis import MemoryKinesis

NOW = 1_700_000_000.0
MAPPING = "2b733gdc-8ac3-cdf5-af3a-1827b3b11284"


class Service:
    """What a boto3 client was called with."""

    def __init__(self):
        self.calls = []

    def put_object(self, **arguments):
        self.calls.append(arguments)

    send_message = put_object


@pytest.fixture
def give_up():
    """Runs a mapping whose function always fails, over one record, with a destination."""

    def give_up(on_failure):
        kinesis = MemoryKinesis(clock=lambda: NOW)
        kinesis.put_records(Records=[{"Data": b"a", "PartitionKey": "k"}])

        def fail(event):
            raise RuntimeError("never")

        settings = MappingSettings(batching_window_seconds=0, maximum_retry_attempts=0)
        EventSourceMapping(kinesis, kinesis.arn, fail, settings, on_failure=on_failure, clock=lambda: NOW).step()

    return give_up


def test_a_bucket_gets_the_payload_under_lambdas_name(give_up):
    s3 = Service()
    give_up(to_bucket(s3, "kept", MAPPING))
    [call] = s3.calls
    assert call["Bucket"] == "kept"
    assert re.fullmatch(
        rf"aws/lambda/{MAPPING}/shardId-000000000000/2023/11/14/2023-11-14T22\.13\.20-[0-9a-f-]{{36}}", call["Key"]
    )
    failure = json.loads(call["Body"])
    assert failure["KinesisBatchInfo"]["batchSize"] == 1
    assert json.loads(failure["payload"])["Records"][0]["kinesis"]["partitionKey"] == "k"


def test_a_queue_gets_metadata_alone(give_up):
    sqs = Service()
    give_up(to_queue(sqs, "https://queue"))
    [call] = sqs.calls
    assert call["QueueUrl"] == "https://queue"
    failure = json.loads(call["MessageBody"])
    assert "payload" not in failure
    assert failure["requestContext"]["condition"] == "RetryAttemptsExhausted"
