"""A batch of records: the event it is sent as, and what the function's answer means for it.

Shapes and rules are those of Lambda's documentation: "Using Lambda to process records from Amazon Kinesis Data
Streams" (the event), "Configuring partial batch response" and "Retain discarded batch records" (the failure record).
"""

from __future__ import annotations

import json
from binascii import b2a_base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Literal, NamedTuple
from uuid import uuid4

import orjson

from processor.errors import LocalError

MAXIMUM_PAYLOAD = 6 * 1024 * 1024
"""Bytes of one synchronous invocation, Base64 and metadata included (Lambda's quotas)."""

Condition = Literal["RetryAttemptsExhausted", "RecordAgeExceeded", "PayloadTooLarge"]
"""Why a batch was given up. AWS documents no word for a record that no invocation can hold: the third is ours."""


class Throttled(LocalError):
    """`invoke` raises this where the function could not be invoked at all, for want of a free worker say.

    As on Lambda the batch is then sent again until it is too old: no retry is used up and nothing is bisected.
    """


class Record(NamedTuple):
    """One record of a shard. `event` is its part of the invocation's JSON, `arrival` seconds since 1970."""

    sequence_number: str
    partition_key: str
    arrival: float
    event: bytes

    @property
    def sequence(self) -> int:
        """The sequence number to compare by: as texts, those of unequal length would sort wrongly."""
        return int(self.sequence_number)


@dataclass(frozen=True)
class EventSource:
    """Where a mapping's records come from, and the function they go to."""

    stream_arn: str
    function_arn: str
    role_arn: str

    @classmethod
    def of(cls, stream_arn: str, function_name: str) -> EventSource:
        """Return the source of a stream whose function and role live in the stream's own account and region."""
        parts = stream_arn.split(":")
        if len(parts) != 6 or parts[2] != "kinesis":
            raise LocalError(
                f"a stream's ARN looks like arn:aws:kinesis:REGION:ACCOUNT:stream/NAME, not {stream_arn!r}"
            )
        _, partition, _, region, account, _ = parts
        return cls(
            stream_arn,
            f"arn:{partition}:lambda:{region}:{account}:function:{function_name}",
            f"arn:{partition}:iam::{account}:role/{function_name}",
        )

    @property
    def region(self) -> str:
        """The stream's region."""
        return self.stream_arn.split(":")[3]

    @cached_property
    def _tail(self) -> str:
        return (
            f',"eventName":"aws:kinesis:record","invokeIdentityArn":{json.dumps(self.role_arn)}'
            f',"awsRegion":{json.dumps(self.region)},"eventSourceARN":{json.dumps(self.stream_arn)}}}'
        )

    def record(self, shard_id: str, raw: Mapping[str, Any]) -> Record:
        """Return the record that GetRecords gave, its part of the event encoded once for all its invocations."""
        number: str = raw["SequenceNumber"]
        key: str = raw["PartitionKey"]
        arrived: datetime = raw["ApproximateArrivalTimestamp"]
        arrival = round(arrived.timestamp(), 3)
        event = (
            f'{{"kinesis":{{"kinesisSchemaVersion":"1.0","partitionKey":{json.dumps(key)}'
            f',"sequenceNumber":"{number}","data":"{b2a_base64(raw["Data"], newline=False).decode()}"'
            f',"approximateArrivalTimestamp":{arrival!r}}}'
            f',"eventSource":"aws:kinesis","eventVersion":"1.0","eventID":"{shard_id}:{number}"{self._tail}'
        )
        return Record(number, key, arrival, event.encode())


_OPEN, _CLOSE = b'{"Records":[', b"]}"


def payload_size(records: int, size: int) -> int:
    """Return the bytes of an invocation of so many records whose events are `size` bytes together."""
    return len(_OPEN) + size + max(records - 1, 0) + len(_CLOSE)


@dataclass(frozen=True)
class Batch:
    """Records of one lane of one shard that are sent together, and how often that was tried.

    `retries` counts what the retry limit counts; `invocations` every time the function saw the first record in a batch;
    `failures` the failures in a row, for the back-off. With a `condition` the batch is given up: it is not for the
    function any more but for the failure destination.
    """

    shard_id: str
    lane: int
    records: tuple[Record, ...]
    retries: int = 0
    invocations: int = 0
    failures: int = 0
    condition: Condition | None = None
    unhandled: bool = False

    def event(self) -> bytes:
        """Return the invocation's payload, the JSON that Lambda sends for these records."""
        return _OPEN + b",".join([record.event for record in self.records]) + _CLOSE


class Outcome(NamedTuple):
    """How an invocation ended.

    `kind`: `success`; `partial`: the records from index `at` on are to be retried; `failed`: the whole batch is;
    `throttled`: the function was not invoked. `error` says why, for people; `unhandled` that the function raised.
    """

    kind: Literal["success", "partial", "failed", "throttled"]
    at: int = 0
    error: str = ""
    unhandled: bool = False


SUCCESS = Outcome("success")


def outcome_of(batch: Batch, response: object) -> Outcome:
    """Return what a function's answer means where ReportBatchItemFailures is on.

    `response` is the answer's body (bytes or text) or the object it encodes. No body, null, `{}`, and a null, absent
    or empty list are success. The lowest reported sequence number is the checkpoint. A report that names anything but
    this batch's own records cannot be trusted: the whole batch failed.
    """
    if isinstance(response, (bytes, bytearray, memoryview, str)):
        try:
            response = orjson.loads(response) if response else None
        except orjson.JSONDecodeError as error:
            return Outcome("failed", error=f"the response is not JSON: {error}")
    if response is None:
        return SUCCESS
    if not isinstance(response, Mapping):
        return Outcome("failed", error=f"the response is no object but {_shown(response)}")
    failures = response.get("batchItemFailures")
    if failures is None:
        return SUCCESS
    if not isinstance(failures, list):
        return Outcome("failed", error=f"batchItemFailures is no list but {_shown(failures)}")
    places = {record.sequence_number: index for index, record in enumerate(batch.records)} if failures else {}
    lowest = len(batch.records)
    for item in failures:
        identifier = item.get("itemIdentifier") if isinstance(item, Mapping) else None
        place = places.get(identifier) if isinstance(identifier, str) else None
        if place is None:
            return Outcome("failed", error=f"batchItemFailures names no record of the batch: {_shown(item)}")
        lowest = min(lowest, place)
    if lowest == len(batch.records):
        return SUCCESS
    return Outcome("partial", lowest, f"reported from {batch.records[lowest].sequence_number} on")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else text[:100] + "…"


def failure_record(batch: Batch, source: EventSource, now: float) -> dict[str, Any]:
    """Return what Lambda sends to a failure destination for a batch that was given up.

    With `payload`, the whole event as text: only the S3 kind of destination gets it, drop it for SQS and SNS.
    `responseContext` is absent where the function never saw the records.
    """
    first, last = batch.records[0], batch.records[-1]
    record: dict[str, Any] = {
        "requestContext": {
            "requestId": str(uuid4()),
            "functionArn": source.function_arn,
            "condition": batch.condition,
            "approximateInvokeCount": batch.invocations,
        },
        "version": "1.0",
        "timestamp": _iso(now),
        "KinesisBatchInfo": {
            "shardId": batch.shard_id,
            "startSequenceNumber": first.sequence_number,
            "endSequenceNumber": last.sequence_number,
            "approximateArrivalOfFirstRecord": _iso(first.arrival),
            "approximateArrivalOfLastRecord": _iso(last.arrival),
            "batchSize": len(batch.records),
            "streamArn": source.stream_arn,
        },
        "payload": batch.event().decode(),
    }
    if batch.invocations:
        record["responseContext"] = {"statusCode": 200, "executedVersion": "$LATEST"}
        if batch.unhandled:
            record["responseContext"]["functionError"] = "Unhandled"
    return record


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
