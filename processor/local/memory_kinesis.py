"""A Kinesis stream in memory: its clock can be moved by hand, its shards split and merged, its calls made to fail.

For runs under a virtual clock and for tests. It answers boto3's calls, with Kinesis' own rules where the local servers
differ: a closed shard keeps its records, is read to its end, and takes no more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from processor.local.memory_shards import Kept, MemoryShard, MemoryShards, client_error

__all__ = ["MemoryKinesis", "client_error"]

ITERATOR_SECONDS = 300.0
HASH_KEYS = 2**128


class MemoryKinesis(MemoryShards):
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
        super().__init__(
            clock=clock, iterator_seconds=ITERATOR_SECONDS, retention_seconds=retention_hours * 3600.0, fault=fault
        )
        self.arn = f"arn:aws:kinesis:us-east-1:000000000000:stream/{name}"
        self._retention_hours = retention_hours
        self._number = number
        bounds = [HASH_KEYS * index // shards for index in range(shards + 1)]
        self._shards = {
            shard.shard_id: shard
            for shard in (MemoryShard(_id(n), bounds[n], bounds[n + 1] - 1) for n in range(shards))
        }

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
        now = self._clock()
        arrival = datetime.fromtimestamp(now, UTC)
        answer = {"SequenceNumber": number, "ApproximateArrivalTimestamp": arrival, "Data": data, "PartitionKey": key}
        shard.records.append(Kept(number, now, answer))
        return {"ShardId": shard.shard_id, "SequenceNumber": number}

    def get_shard_iterator(self, **arguments: Any) -> dict[str, Any]:
        """Return an iterator that lives five minutes."""
        self._call("GetShardIterator", arguments)
        with self._lock:
            shard = self._shard(arguments["ShardId"], "GetShardIterator")
            return {"ShardIterator": self._token(shard, _start(shard, arguments))}

    def get_records(self, **arguments: Any) -> dict[str, Any]:
        """Return the records behind an iterator, and the next iterator unless a closed shard was read to its end."""
        self._call("GetRecords", arguments)
        with self._lock:
            shard, at, _ = self._position(arguments["ShardIterator"])
            first = max(0, at - shard.trimmed)
            end = min(first + arguments.get("Limit", 10_000), len(shard.records))
            answer: dict[str, Any] = {
                "Records": [record.answer for record in shard.records[first:end]],
                "MillisBehindLatest": 0,
            }
            left = end < len(shard.records)
            if left:
                behind = self._clock() - shard.records[end].arrival
                answer["MillisBehindLatest"] = max(1, int(behind * 1000))
            if left or not shard.closed:
                answer["NextShardIterator"] = self._token(shard, shard.trimmed + end)
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

    def _close(self, parents: tuple[MemoryShard, ...], ranges: tuple[tuple[int, int], ...]) -> None:
        for parent in parents:
            if parent.closed:
                raise client_error("InvalidArgumentException", "Reshard", f"{parent.shard_id} is closed already")
        for first, last in ranges:
            child = MemoryShard(
                _id(max(map(_index, self._shards)) + 1), first, last, tuple(p.shard_id for p in parents)
            )
            self._shards[child.shard_id] = child
        for parent in parents:
            parent.closed = True


def _id(index: int) -> str:
    return f"shardId-{index:012d}"


def _index(shard_id: str) -> int:
    return int(shard_id.partition("-")[2])


def _described(shard: MemoryShard) -> dict[str, Any]:
    found: dict[str, Any] = {
        "ShardId": shard.shard_id,
        "HashKeyRange": {"StartingHashKey": str(shard.first), "EndingHashKey": str(shard.last)},
    }
    return found | dict(zip(("ParentShardId", "AdjacentParentShardId"), shard.parents, strict=False))


def _start(shard: MemoryShard, arguments: dict[str, Any]) -> int:
    """Return the position where an iterator of that type starts."""
    kind: str = arguments["ShardIteratorType"]
    if kind == "TRIM_HORIZON":
        return shard.trimmed
    if kind == "LATEST":
        return shard.end
    if kind == "AT_TIMESTAMP":
        wanted = arguments["Timestamp"].timestamp()
        later = (n for n, record in enumerate(shard.records, shard.trimmed) if record.arrival >= wanted)
        return next(later, shard.end)
    number: str = arguments["StartingSequenceNumber"]
    place = shard.place(number)
    if place is not None:
        return place + (kind == "AFTER_SEQUENCE_NUMBER")
    if shard.trimmed_to and number.isdigit() and int(number) <= int(shard.trimmed_to):
        return shard.trimmed
    raise client_error("InvalidArgumentException", "GetShardIterator", "no such sequence number")
