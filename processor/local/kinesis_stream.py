"""A Kinesis data stream as the source of a mapping.

The event is the one of the Lambda Developer Guide, "Using Lambda to process records from Amazon Kinesis Data Streams".
"""

from __future__ import annotations

import json
from binascii import b2a_base64
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from processor.local.stream import EventSource, Page, Record, Start

READ_LIMIT = 10_000
"""Records of a GetRecords call: the most that the API allows."""


class KinesisStream:
    """A stream of Kinesis by its ARN or name; see `Stream` for the methods.

    kinesis: a boto3 client, or what answers describe_stream_summary, list_shards, get_shard_iterator and get_records
    alike.
    """

    source: EventSource
    retention_seconds: float

    def __init__(self, kinesis: Any, stream: str, function_name: str) -> None:
        self._kinesis = kinesis
        self._stream = {"StreamARN" if stream.startswith("arn:") else "StreamName": stream}
        self._function_name = function_name

    def open(self) -> None:
        """Ask for the stream's ARN and retention."""
        answer = self._kinesis.describe_stream_summary(**self._stream)["StreamDescriptionSummary"]
        self.source = EventSource.of(answer["StreamARN"], self._function_name)
        self.retention_seconds = answer["RetentionPeriodHours"] * 3600.0

    def shards(self) -> dict[str, tuple[str, ...]]:
        """Return the shards' ids with those of their parents."""
        answer = self._kinesis.list_shards(**self._stream)
        found = list(answer["Shards"])
        while token := answer.get("NextToken"):
            answer = self._kinesis.list_shards(NextToken=token)
            found += answer["Shards"]
        parents = ("ParentShardId", "AdjacentParentShardId")
        return {shard["ShardId"]: tuple(shard[name] for name in parents if shard.get(name)) for shard in found}

    def iterator(self, shard_id: str, start: Start) -> str:
        """Return an iterator at that place of the shard."""
        arguments: dict[str, Any] = {"ShardId": shard_id, "ShardIteratorType": start.type}
        if start.sequence_number is not None:
            arguments["StartingSequenceNumber"] = start.sequence_number
        if start.timestamp is not None:
            arguments["Timestamp"] = datetime.fromtimestamp(start.timestamp, UTC)
        iterator: str = self._kinesis.get_shard_iterator(**self._stream, **arguments)["ShardIterator"]
        return iterator

    def read(self, shard_id: str, iterator: str) -> Page:
        """Return up to 10,000 records."""
        answer = self._kinesis.get_records(ShardIterator=iterator, Limit=READ_LIMIT)
        records = [self.record(shard_id, raw) for raw in answer["Records"]]
        following: str | None = answer.get("NextShardIterator")
        behind = 0 if following is None else answer.get("MillisBehindLatest", 0)
        # A full answer may say 0 and still leave records of the same millisecond behind.
        at_tip = following is None or (not behind and len(records) < READ_LIMIT)
        return Page(records, following, not at_tip, at_tip, behind)

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

    @cached_property
    def _tail(self) -> str:
        return (
            f',"eventName":"aws:kinesis:record","invokeIdentityArn":{json.dumps(self.source.role_arn)}'
            f',"awsRegion":{json.dumps(self.source.region)},"eventSourceARN":{json.dumps(self.source.stream_arn)}}}'
        )
