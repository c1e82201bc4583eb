"""The failure destinations of a mapping: a queue or topic gets metadata, a bucket the payload too.

By the Lambda Developer Guide, "Retain discarded batch records for a Kinesis Data Streams event source" and "… for a
DynamoDB event source". Each function here makes an `on_failure` for a mapping.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

import orjson

from processor.failures import key_of

OnFailure = Callable[[Mapping[str, Any]], None]


def to_bucket(s3: Any, bucket: str, mapping: str | None = None) -> OnFailure:
    """Keep each failure record, payload included, in an object named as Lambda names it.

    s3: a boto3 client. mapping: the mapping's UUID, a new one by default.
    """
    identifier = mapping or str(uuid4())

    def keep(failure: Mapping[str, Any]) -> None:
        s3.put_object(Bucket=bucket, Key=key_of(failure, identifier), Body=orjson.dumps(failure))

    return keep


def to_queue(sqs: Any, queue_url: str) -> OnFailure:
    """Send each failure record without its payload to a queue. sqs: a boto3 client."""

    def send(failure: Mapping[str, Any]) -> None:
        metadata = {name: value for name, value in failure.items() if name != "payload"}
        sqs.send_message(QueueUrl=queue_url, MessageBody=orjson.dumps(metadata).decode())

    return send
