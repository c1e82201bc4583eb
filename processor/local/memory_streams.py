"""The stream of a DynamoDB table in memory, behind boto3's calls: a clock moved by hand, splits, expiry, faults.

By the rules of the Amazon DynamoDB Streams API Reference: shards are closed and followed by children, records are kept
for 24 hours, an iterator for 15 minutes, and there is no start at a timestamp.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import orjson

from processor.local.memory_shards import Kept, MemoryShard, MemoryShards, client_error

ITERATOR_SECONDS = 900.0
RETENTION_SECONDS = 24 * 3600.0
HASH_KEYS = 2**128
PAGE = 2
"""Shards of a page: pages are easily forgotten."""

Item = Mapping[str, dict[str, Any]]
"""An item in DynamoDB's JSON."""

EXPIRY = {"Type": "Service", "PrincipalId": "dynamodb.amazonaws.com"}
"""The identity in the record of a deletion by Time to Live."""


class MemoryStreams(MemoryShards):
    """One table's stream behind the calls of a boto3 `dynamodbstreams` client, safe for threads.

    clock: seconds since 1970. keys: the names of the table's key attributes, the partition key's first. view: the
    StreamViewType. fault: is asked before each call, by the operation's name and arguments, and returns what to raise.
    """

    def __init__(
        self,
        shards: int = 1,
        *,
        clock: Callable[[], float],
        table: str = "table",
        keys: tuple[str, ...] = ("device", "slot"),
        view: str = "KEYS_ONLY",
        fault: Callable[[str, dict[str, Any]], Exception | None] | None = None,
    ) -> None:
        super().__init__(
            clock=clock, iterator_seconds=ITERATOR_SECONDS, retention_seconds=RETENTION_SECONDS, fault=fault
        )
        self.arn = f"arn:aws:dynamodb:us-east-1:000000000000:table/{table}/stream/2026-01-01T00:00:00.000"
        self._keys = keys
        self._view = view
        bounds = [HASH_KEYS * index // shards for index in range(shards + 1)]
        for first, last in pairwise(bounds):
            self._add(first, last - 1, ())

    def append(self, old: Item | None, new: Item | None, *, identity: Mapping[str, str] | None = None) -> None:
        """Tell of an item's change: `old` is None for a new one, `new` for a deleted one; no change, no record."""
        if old != new:
            name = "INSERT" if old is None else "REMOVE" if new is None else "MODIFY"
            item = new or old or {}
            self.change(name, {name: item[name] for name in self._keys}, old, new, identity=identity)

    def change(
        self,
        event_name: str,
        keys: Item,
        old: Item | None = None,
        new: Item | None = None,
        *,
        identity: Mapping[str, str] | None = None,
    ) -> None:
        """Tell of a change by its name, whatever the images."""
        images = {"OldImage": old, "NewImage": new}
        shown = {name for name in images if self._view in ("NEW_AND_OLD_IMAGES", _VIEWS.get(name))}
        change = {name: dict(image) for name, image in images.items() if image is not None and name in shown}
        with self._lock:
            now = self._clock()
            number = str(next(self._numbers) * 1000 + 100_000_000_000_000_000_000)
            answer: dict[str, Any] = {
                "eventID": hashlib.md5(number.encode(), usedforsecurity=False).hexdigest(),
                "eventName": event_name,
                "eventVersion": "1.1",
                "eventSource": "aws:dynamodb",
                "awsRegion": "us-east-1",
                "dynamodb": {
                    "ApproximateCreationDateTime": datetime.fromtimestamp(int(now), UTC),
                    "Keys": dict(keys),
                    **change,
                    "SequenceNumber": number,
                    "SizeBytes": len(orjson.dumps([keys, change], default=repr)),
                    "StreamViewType": self._view,
                },
            }
            if identity is not None:
                answer["userIdentity"] = dict(identity)
            hashed = hashlib.md5(repr(keys[self._keys[0]]).encode(), usedforsecurity=False).digest()
            place = int.from_bytes(hashed, "big")
            shard = next(s for s in self._shards.values() if not s.closed and s.first <= place <= s.last)
            shard.records.append(Kept(number, now, answer))

    def describe_stream(self, **arguments: Any) -> dict[str, Any]:
        """Return the stream and two of its shards at most."""
        self._call("DescribeStream", arguments)
        if arguments["StreamArn"] != self.arn:
            raise client_error("ResourceNotFoundException", "DescribeStream", f"no {arguments['StreamArn']}")
        with self._lock:
            ids = list(self._shards)
            after = arguments.get("ExclusiveStartShardId")
            start = ids.index(after) + 1 if after in self._shards else 0
            page = ids[start : start + min(PAGE, arguments.get("Limit", PAGE))]
            description = {"StreamArn": self.arn, "StreamStatus": "ENABLED", "StreamViewType": self._view}
            found: dict[str, Any] = {**description, "Shards": [_described(self._shards[name]) for name in page]}
            if page and page[-1] != ids[-1]:
                found["LastEvaluatedShardId"] = page[-1]
        return {"StreamDescription": found}

    def get_shard_iterator(self, **arguments: Any) -> dict[str, Any]:
        """Return an iterator that lives fifteen minutes."""
        self._call("GetShardIterator", arguments)
        with self._lock:
            shard = self._shard(arguments["ShardId"], "GetShardIterator")
            return {"ShardIterator": self._token(shard, _start(shard, arguments))}

    def get_records(self, **arguments: Any) -> dict[str, Any]:
        """Return the records behind an iterator, and the next iterator unless a closed shard was read to its end."""
        self._call("GetRecords", arguments)
        limit = arguments.get("Limit", 1000)
        if not 1 <= limit <= 1000:
            raise client_error("ValidationException", "GetRecords", f"Limit is 1 to 1000, not {limit}")
        with self._lock:
            shard, at, _ = self._position(arguments["ShardIterator"])
            if at < shard.trimmed:
                raise client_error("TrimmedDataAccessException", "GetRecords")
            first = at - shard.trimmed
            page = shard.records[first : first + limit]
            answer: dict[str, Any] = {"Records": [record.answer for record in page]}
            end = at + len(page)
            if end < shard.end or not shard.closed:
                answer["NextShardIterator"] = self._token(shard, end)
            return answer

    def split_shard(self, shard_id: str) -> None:
        """Close a shard; two children share its items."""
        with self._lock:
            shard = self._shards[shard_id]
            middle = (shard.first + shard.last + 1) // 2
            shard.closed = True
            self._add(shard.first, middle - 1, (shard_id,))
            self._add(middle, shard.last, (shard_id,))

    def roll_shard(self, shard_id: str) -> None:
        """Close a shard; one child goes on in its place, as happens every few hours."""
        with self._lock:
            shard = self._shards[shard_id]
            shard.closed = True
            self._add(shard.first, shard.last, (shard_id,))

    def _add(self, first: int, last: int, parents: tuple[str, ...]) -> None:
        shard_id = f"shardId-{len(self._shards):020d}-{first >> 96:08x}"
        self._shards[shard_id] = MemoryShard(shard_id, first, last, parents)


_VIEWS = {"OldImage": "OLD_IMAGE", "NewImage": "NEW_IMAGE"}


def _described(shard: MemoryShard) -> dict[str, Any]:
    numbers = {"StartingSequenceNumber": shard.records[0].number if shard.records else shard.trimmed_to or "0"}
    if shard.closed:
        numbers["EndingSequenceNumber"] = shard.records[-1].number if shard.records else shard.trimmed_to or "0"
    found: dict[str, Any] = {"ShardId": shard.shard_id, "SequenceNumberRange": numbers}
    return found | dict(zip(("ParentShardId",), shard.parents, strict=False))


def _start(shard: MemoryShard, arguments: dict[str, Any]) -> int:
    """Return the position where an iterator of that type starts."""
    kind: str = arguments["ShardIteratorType"]
    if kind == "TRIM_HORIZON":
        return shard.trimmed
    if kind == "LATEST":
        return shard.end
    if kind not in ("AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"):
        raise client_error("ValidationException", "GetShardIterator", f"no ShardIteratorType {kind}")
    number: str = arguments["SequenceNumber"]
    place = shard.place(number)
    if place is not None:
        return place + (kind == "AFTER_SEQUENCE_NUMBER")
    if number == shard.trimmed_to and kind == "AFTER_SEQUENCE_NUMBER":
        return shard.trimmed
    if shard.trimmed_to and number.isdigit() and int(number) <= int(shard.trimmed_to):
        raise client_error("TrimmedDataAccessException", "GetShardIterator")
    raise client_error("ValidationException", "GetShardIterator", "no such sequence number")
