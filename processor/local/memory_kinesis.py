"""A Kinesis stream in memory: its clock can be moved by hand, its shards split and merged, its calls made to fail.

For runs under a virtual clock and for tests. It answers boto3's calls, with Kinesis' own rules where the local servers
differ: a closed shard keeps its records, is read to its end, and takes no more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from threading import Lock
from typing import Any

from botocore.exceptions import ClientError

ITERATOR_SECONDS = 300.0
HASH_KEYS = 2**128


def client_error(code: str, operation: str, message: str = "") -> ClientError:
    """Return the error that boto3 raises for an error code."""
    return ClientError({"Error": {"Code": code, "Message": message or code}}, operation)


@dataclass
class _Shard:
    shard_id: str
    first: int
    last: int
    parents: tuple[str, ...] = ()
    closed: bool = False
    records: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class _Position:
    shard: _Shard
    index: int
    expires: float


class MemoryKinesis:
    """One stream behind the calls of a boto3 client, safe for threads.

    clock: seconds since 1970. number: makes the text of the n-th sequence number, n from 1. fault: is asked before each
    call, by the operation's name and arguments, and returns what to raise, or None.
    """

    def __init__(
        self,
        shards: int = 1,
        *,
        clock: Callable[[], float],
        name: str = "stream",
        retention_hours: int = 24,
        number: Callable[[int], str] = "{:056d}".format,
        fault: Callable[[str, dict[str, Any]], Exception | None] | None = None,
    ) -> None:
        self.arn = f"arn:aws:kinesis:us-east-1:000000000000:stream/{name}"
        self.calls: dict[str, int] = {}
        self.fault = fault
        self._clock = clock
        self._retention_hours = retention_hours
        self._number = number
        self._numbers = count(1)
        self._tokens = count(1)
        self._positions: dict[str, _Position] = {}
        self._lock = Lock()
        bounds = [HASH_KEYS * index // shards for index in range(shards + 1)]
        self._shards = {
            shard.shard_id: shard for shard in (_Shard(_id(n), bounds[n], bounds[n + 1] - 1) for n in range(shards))
        }

    def expire_iterators(self) -> None:
        """Make every iterator that was handed out invalid."""
        with self._lock:
            self._positions.clear()

    def describe_stream_summary(self, **arguments: Any) -> dict[str, Any]:
        """Return the stream's ARN and retention."""
        self._call("DescribeStreamSummary", arguments)
        summary = {"StreamARN": self.arn, "RetentionPeriodHours": self._retention_hours, "StreamStatus": "ACTIVE"}
        return {"StreamDescriptionSummary": summary}

    def list_shards(self, **arguments: Any) -> dict[str, Any]:
        """Return two shards a page: pages are easily forgotten."""
        self._call("ListShards", arguments)
        start = int(arguments.get("NextToken", 0))
        with self._lock:
            page = list(self._shards.values())[start : start + 2]
            answer: dict[str, Any] = {"Shards": [_described(shard) for shard in page]}
            if start + 2 < len(self._shards):
                answer["NextToken"] = str(start + 2)
        return answer

    def put_records(self, **arguments: Any) -> dict[str, Any]:
        """Put records into the open shards that hold their keys' hashes."""
        self._call("PutRecords", arguments)
        entries = arguments["Records"]
        with self._lock:
            results = [self._put(entry["Data"], entry["PartitionKey"]) for entry in entries]
        return {"FailedRecordCount": 0, "Records": results}

    def _put(self, data: bytes, key: str) -> dict[str, Any]:
        hashed = int.from_bytes(hashlib.md5(key.encode(), usedforsecurity=False).digest(), "big")
        shard = next(s for s in self._shards.values() if not s.closed and s.first <= hashed <= s.last)
        number = self._number(next(self._numbers))
        arrival = datetime.fromtimestamp(self._clock(), UTC)
        shard.records.append(
            {"SequenceNumber": number, "ApproximateArrivalTimestamp": arrival, "Data": data, "PartitionKey": key}
        )
        return {"ShardId": shard.shard_id, "SequenceNumber": number}

    def get_shard_iterator(self, **arguments: Any) -> dict[str, Any]:
        """Return an iterator that lives five minutes."""
        self._call("GetShardIterator", arguments)
        with self._lock:
            shard = self._shards.get(arguments["ShardId"])
            if shard is None:
                raise client_error("ResourceNotFoundException", "GetShardIterator", f"no {arguments['ShardId']}")
            return {"ShardIterator": self._token(shard, _start(shard.records, arguments))}

    def get_records(self, **arguments: Any) -> dict[str, Any]:
        """Return the records behind an iterator, and the next iterator unless a closed shard was read to its end."""
        self._call("GetRecords", arguments)
        with self._lock:
            position = self._positions.get(arguments["ShardIterator"])
            now = self._clock()
            if position is None or position.expires < now:
                raise client_error("ExpiredIteratorException", "GetRecords")
            shard = position.shard
            if shard.shard_id not in self._shards:
                raise client_error("ResourceNotFoundException", "GetRecords", f"no {shard.shard_id}")
            end = min(position.index + arguments.get("Limit", 10_000), len(shard.records))
            left = shard.records[end:]
            answer: dict[str, Any] = {"Records": shard.records[position.index : end], "MillisBehindLatest": 0}
            if left:
                behind = now - left[0]["ApproximateArrivalTimestamp"].timestamp()
                answer["MillisBehindLatest"] = max(1, int(behind * 1000))
            if left or not shard.closed:
                answer["NextShardIterator"] = self._token(shard, end)
            return answer

    def split_shard(self, **arguments: Any) -> None:
        """Close a shard; two children share its hash keys from `NewStartingHashKey` on."""
        self._call("SplitShard", arguments)
        with self._lock:
            shard = self._shards[arguments["ShardToSplit"]]
            middle = int(arguments.get("NewStartingHashKey", (shard.first + shard.last + 1) // 2))
            self._close((shard,), ((shard.first, middle - 1), (middle, shard.last)))

    def merge_shards(self, **arguments: Any) -> None:
        """Close two adjacent shards; one child has the hash keys of both."""
        self._call("MergeShards", arguments)
        with self._lock:
            pair = (self._shards[arguments["ShardToMerge"]], self._shards[arguments["AdjacentShardToMerge"]])
            self._close(pair, ((min(shard.first for shard in pair), max(shard.last for shard in pair)),))

    def delete_shard(self, shard_id: str) -> None:
        """Forget a shard: Kinesis does once a closed one's records have expired, MiniStack at any reshard."""
        with self._lock:
            del self._shards[shard_id]

    def _close(self, parents: tuple[_Shard, ...], ranges: tuple[tuple[int, int], ...]) -> None:
        for first, last in ranges:
            child = _Shard(_id(max(map(_index, self._shards)) + 1), first, last, tuple(p.shard_id for p in parents))
            self._shards[child.shard_id] = child
        for parent in parents:
            parent.closed = True

    def _call(self, operation: str, arguments: dict[str, Any]) -> None:
        with self._lock:
            self.calls[operation] = self.calls.get(operation, 0) + 1
        error = self.fault(operation, arguments) if self.fault is not None else None
        if error is not None:
            raise error

    def _token(self, shard: _Shard, index: int) -> str:
        if len(self._positions) > 10_000:
            now = self._clock()
            self._positions = {token: found for token, found in self._positions.items() if found.expires >= now}
        token = str(next(self._tokens))
        self._positions[token] = _Position(shard, index, self._clock() + ITERATOR_SECONDS)
        return token


def _id(index: int) -> str:
    return f"shardId-{index:012d}"


def _index(shard_id: str) -> int:
    return int(shard_id.partition("-")[2])


def _described(shard: _Shard) -> dict[str, Any]:
    found: dict[str, Any] = {
        "ShardId": shard.shard_id,
        "HashKeyRange": {"StartingHashKey": str(shard.first), "EndingHashKey": str(shard.last)},
    }
    return found | dict(zip(("ParentShardId", "AdjacentParentShardId"), shard.parents, strict=False))


def _start(records: list[dict[str, Any]], arguments: dict[str, Any]) -> int:
    """Return the index where an iterator of that type starts; sequence numbers match as text, as they are."""
    kind: str = arguments["ShardIteratorType"]
    if kind == "TRIM_HORIZON":
        return 0
    if kind == "LATEST":
        return len(records)
    if kind == "AT_TIMESTAMP":
        matches = [record["ApproximateArrivalTimestamp"] >= arguments["Timestamp"] for record in records]
        return matches.index(True) if True in matches else len(records)
    numbers: list[str] = [record["SequenceNumber"] for record in records]
    try:
        return numbers.index(arguments["StartingSequenceNumber"]) + (kind == "AFTER_SEQUENCE_NUMBER")
    except ValueError:
        raise client_error("InvalidArgumentException", "GetShardIterator", "no such sequence number") from None
