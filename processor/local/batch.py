"""A batch of records: the event it is sent as, and what the function's answer means for it.

Shapes and rules are those of Lambda's documentation: "Using Lambda to process records from Amazon Kinesis Data
Streams" (the event), "Configuring partial batch response" and "Retain discarded batch records" (the failure record).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple
from uuid import uuid4

import orjson

from processor.errors import LocalError
from processor.local.stream import BATCH_INFO, EventSource, Record
from processor.local.window import Part

MAXIMUM_PAYLOAD = 6 * 1024 * 1024
"""Bytes of one synchronous invocation, Base64 and metadata included (Lambda's quotas)."""

Condition = Literal["RetryAttemptsExhausted", "RecordAgeExceeded", "PayloadTooLarge"]
"""Why a batch was given up. AWS documents no word for a record that no invocation can hold: the third is ours."""


class Throttled(LocalError):
    """`invoke` raises this where the function could not be invoked at all, for want of a free worker say.

    As on Lambda the batch is then sent again until it is too old: no retry is used up and nothing is bisected.
    """


_OPEN, _CLOSE = b'{"Records":[', b"]}"

WINDOW_ROOM = 1000
"""Bytes kept free for what the event says of its window besides the state."""


def payload_size(records: int, size: int) -> int:
    """Return the bytes of an invocation of so many records whose events are `size` bytes together."""
    return len(_OPEN) + size + max(records - 1, 0) + len(_CLOSE)


@dataclass(frozen=True)
class Batch:
    """Records of one lane of one shard that are sent together, and how often that was tried.

    `retries` counts what the retry limit counts; `invocations` how often the function got the batch, or one that it is
    half of. Both begin anew for what a partial success leaves. `failures` counts those in a row, for the back-off. With
    a `condition` the batch is given up: it is not for the function any more but for the failure destination. `window`
    is its tumbling window, where there are such.
    """

    shard_id: str
    lane: int
    records: tuple[Record, ...]
    retries: int = 0
    invocations: int = 0
    failures: int = 0
    condition: Condition | None = None
    unhandled: bool = False
    window: Part | None = None

    def event(self, stream_arn: str = "") -> bytes:
        """Return the invocation's payload, the JSON that Lambda sends for these records."""
        window = self.window.fields(self.shard_id, stream_arn) if self.window is not None else b""
        return _OPEN + b",".join([record.event for record in self.records]) + b"]" + window + b"}"


class Outcome(NamedTuple):
    """How an invocation ended.

    `kind`: `success`; `partial`: the records from index `at` on are to be retried; `failed`: the whole batch is;
    `throttled`: the function was not invoked. `error` says why, for people; `unhandled` that the function raised.
    `state`: what the function returned for its tumbling window, as JSON.
    """

    kind: Literal["success", "partial", "failed", "throttled"]
    at: int = 0
    error: str = ""
    unhandled: bool = False
    state: bytes | None = None


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
    `responseContext` is absent where the function never got the batch.
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
        BATCH_INFO[source.service]: {
            "shardId": batch.shard_id,
            "startSequenceNumber": first.sequence_number,
            "endSequenceNumber": last.sequence_number,
            "approximateArrivalOfFirstRecord": _iso(first.arrival),
            "approximateArrivalOfLastRecord": _iso(last.arrival),
            "batchSize": len(batch.records),
            "streamArn": source.stream_arn,
        },
        "payload": batch.event(source.stream_arn).decode(),
    }
    if batch.invocations:
        record["responseContext"] = {"statusCode": 200, "executedVersion": "$LATEST"}
        if batch.unhandled:
            record["responseContext"]["functionError"] = "Unhandled"
    return record


def _iso(seconds: float) -> str:
    """Return a time as Lambda writes it: milliseconds where there are any, as in DynamoDB's whole seconds not."""
    at = datetime.fromtimestamp(round(seconds, 3), UTC)
    return at.isoformat(timespec="milliseconds" if at.microsecond else "seconds").replace("+00:00", "Z")
