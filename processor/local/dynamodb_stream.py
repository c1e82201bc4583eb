"""The stream of a DynamoDB table as the source of a mapping.

The event is the one of the Lambda Developer Guide, "Using AWS Lambda with Amazon DynamoDB"; the calls are those of the
Amazon DynamoDB Streams API Reference. There is no AT_TIMESTAMP: `ShardIterator` reads from the start and passes over
what is older.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

import orjson

from processor.local.stream import EventSource, Page, Record, Start

READ_LIMIT = 1000
"""Records of a GetRecords call, at most; at most 1 MB too."""

RETENTION_SECONDS = 24 * 3600.0
"""Fixed: a stream's records are kept for a day."""

TYPES = {"AT_TIMESTAMP": "TRIM_HORIZON"}
"""Where to begin instead, for what this API lacks."""


class DynamoDBStream:
    """A table's stream by its ARN; see `Stream` for the methods.

    streams: a boto3 client of `dynamodbstreams`, or what answers describe_stream, get_shard_iterator and get_records
    alike.
    """

    source: EventSource
    retention_seconds = RETENTION_SECONDS

    def __init__(self, streams: Any, stream_arn: str, function_name: str) -> None:
        self._streams = streams
        self._stream_arn = stream_arn
        self._function_name = function_name

    def open(self) -> None:
        """See that the stream is there."""
        self.source = EventSource.of(self._stream_arn, self._function_name)
        self._streams.describe_stream(StreamArn=self._stream_arn, Limit=1)

    def shards(self) -> dict[str, tuple[str, ...]]:
        """Return the shards' ids with those of their parents: one at most, for a shard only splits or rolls over."""
        found: dict[str, tuple[str, ...]] = {}
        more: dict[str, str] = {}
        while True:
            page = self._streams.describe_stream(StreamArn=self._stream_arn, **more)["StreamDescription"]
            for shard in page["Shards"]:
                found[shard["ShardId"]] = (shard["ParentShardId"],) if shard.get("ParentShardId") else ()
            if not page.get("LastEvaluatedShardId"):
                return found
            more = {"ExclusiveStartShardId": page["LastEvaluatedShardId"]}

    def iterator(self, shard_id: str, start: Start) -> str:
        """Return an iterator at that place of the shard; for a timestamp, at the shard's start."""
        arguments = {"ShardId": shard_id, "ShardIteratorType": TYPES.get(start.type, start.type)}
        if start.sequence_number is not None:
            arguments["SequenceNumber"] = start.sequence_number
        iterator: str = self._streams.get_shard_iterator(StreamArn=self._stream_arn, **arguments)["ShardIterator"]
        return iterator

    def read(self, shard_id: str, iterator: str) -> Page:  # noqa: ARG002 - Kinesis' records name it
        """Return up to 1,000 records, or 1 MB. Only an empty answer says that the tip is reached."""
        answer = self._streams.get_records(ShardIterator=iterator, Limit=READ_LIMIT)
        records = [self.record(raw) for raw in answer["Records"]]
        following: str | None = answer.get("NextShardIterator")
        at_tip = following is None or not records
        return Page(records, following, following is not None and len(records) == READ_LIMIT, at_tip, 0)

    def record(self, raw: Mapping[str, Any]) -> Record:
        """Return the record that GetRecords gave, its part of the event encoded once for all its invocations."""
        change = dict(raw["dynamodb"])
        created: datetime = change["ApproximateCreationDateTime"]
        arrival = created.timestamp()
        change["ApproximateCreationDateTime"] = int(arrival) if arrival.is_integer() else arrival
        event = {
            "eventID": raw["eventID"],
            "eventName": raw["eventName"],
            "eventVersion": raw.get("eventVersion", "1.1"),
            "eventSource": "aws:dynamodb",
            "awsRegion": raw.get("awsRegion") or self.source.region,
            "dynamodb": change,
            "eventSourceARN": self._stream_arn,
        }
        if identity := raw.get("userIdentity"):
            event["userIdentity"] = {"type": identity["Type"], "principalId": identity["PrincipalId"]}
        return Record(
            change["SequenceNumber"], order_key(change["Keys"]), arrival, orjson.dumps(event, default=_base64)
        )


def order_key(keys: Mapping[str, Mapping[str, Any]]) -> str:
    """Return one text for an item's keys, whatever their order and however its numbers are written."""
    canonical = {
        name: {kind: str(Decimal(value).normalize()) if kind == "N" else value for kind, value in typed.items()}
        for name, typed in keys.items()
    }
    return orjson.dumps(canonical, default=_base64, option=orjson.OPT_SORT_KEYS).decode()


def _base64(value: bytes) -> str:
    """Return binary, which boto3 gives as bytes, as DynamoDB's JSON has it."""
    return b2a_base64(value, newline=False).decode()
