"""Faults of the stream's shards: they split and merge amid the work, or a single one is left of them for a while."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from hashlib import md5
from typing import TYPE_CHECKING, Any

from processor.local.faults.fault import Injector, Sent
from processor.local.faults.input import Source

if TYPE_CHECKING:
    from processor.local.faults.run import Run

MOST_SHARDS = 6
FEW_RECORDS = 5

HOLD_SECONDS = 1.3
"""How long a batch is held: the mapping looks for new shards once a second."""


class Reshard(Injector):
    """Splits a shard, or merges two neighbours, while a batch of theirs is under way, which stays so for a while.

    Records of its key come before it, and behind it in a child: they have to wait until it is finished.
    """

    def __init__(self, how: Callable[[Any, list[dict[str, Any]]], int], *, every: float = 1.0) -> None:
        self.every = every
        self._how = how
        self._came = threading.Event()

    def begin(self, run: Run, name: str, seed: int, pace: float) -> None:
        """Begin with no batch under way."""
        super().begin(run, name, seed, pace)
        self._key = ""
        self._records: list[bytes] = []

    def tick(self) -> None:
        """Put the first record where it is due, and those of the time before are put."""
        if self._records or time.monotonic() < self.run.single_until or not self.due():
            return
        stream = self.run.system.kinesis
        with self.run.resharding:
            if not closed_by(self._how, open_shards(stream)):  # too many already, or one alone
                (split if self._how is merge else merge)(stream, open_shards(stream))
        source = Source(self)
        sensor = source.sensor()
        records = [source.record(source.measure(sensor, [source.now - n])).data for n in range(3)]
        key = _key_within(closed_by(self._how, open_shards(stream)), self.random)
        with self._lock:
            self._key, self._records = key, records[1:]
            self._came.clear()
        self.run.put(Sent(records[0], key))

    def invoke(self, _name: str, event: bytes, following: Callable[[bytes], Any]) -> Any:
        """Reshard when the first record is under way, and hold it until another one of its key is, or for long."""
        with self._lock:
            found = bool(self._key) and self._key.encode() in event
            records, self._records = (self._records, []) if found else ([], self._records)
        if found and not records:
            self._came.set()
        elif found and self._reshard(*records):
            self._came.wait(HOLD_SECONDS)
            self.count()
        return following(event)

    def _reshard(self, before: bytes, after: bytes) -> bool:
        stream = self.run.system.kinesis
        try:
            self.run.system.put(before, self._key).result()
            with self.run.resharding:
                done = time.monotonic() >= self.run.single_until and bool(self._how(stream, open_shards(stream)))
        finally:
            self.run.put(Sent(after, self._key))
        if not done:
            self.again()
        return done

    def end(self) -> None:
        """Hold nothing any more, and put what is left."""
        with self._lock:
            left, self._records = self._records, []
        for record in left:
            self.run.put(Sent(record, self._key))
        self._came.set()


class SingleShard(Injector):
    """Merges all shards into one and keeps it the only one for a while, in which records come; then splits it again.

    It counts where the stream has taken them, and no other shard was there from before the first to after the last.
    """

    def __init__(self, *, every: float = 1.0, seconds: float = 1.0) -> None:
        self.every = every
        self._seconds = seconds
        self._only = ""
        self._taken: list[Future[None]] = []

    def tick(self) -> None:
        """Merge where it is due; look what came of it when its time is over."""
        if self._taken:
            if time.monotonic() >= self.run.single_until:
                self._over()
        elif self.due():
            stream = self.run.system.kinesis
            with self.run.resharding:
                while len(shards := open_shards(stream)) > 1:
                    merge(stream, shards)
                self._only = shards[0]["ShardId"]
                self.run.single_until = time.monotonic() + self._seconds
            source = Source(self)
            sensor = source.sensor()
            for n in range(FEW_RECORDS):
                self._taken.append(self.run.system.put(source.record(source.measure(sensor, [source.now - n])).data))

    def _over(self) -> None:
        for taken in self._taken:
            taken.result()
        with self.run.resharding:
            shards = open_shards(self.run.system.kinesis)
            if [shard["ShardId"] for shard in shards] == [self._only]:
                self.count()
            else:
                self.again()
            split(self.run.system.kinesis, shards)
        self._taken = []


def split(stream: Any, shards: list[dict[str, Any]]) -> int:
    """Split the widest shard, unless there are many."""
    widest = [shard["ShardId"] for shard in closed_by(split, shards)]
    for shard_id in widest:
        stream.split_shard(ShardToSplit=shard_id)
    return len(widest)


def merge(stream: Any, shards: list[dict[str, Any]]) -> int:
    """Merge the two first neighbours, unless there is but one shard."""
    pair = [shard["ShardId"] for shard in closed_by(merge, shards)]
    if pair:
        stream.merge_shards(ShardToMerge=pair[0], AdjacentShardToMerge=pair[1])
    return len(pair) // 2


def closed_by(how: Callable[..., int], shards: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return which of the open shards would be closed by one of the two above: none where it may not be done."""
    if how is merge:
        return shards[:2] if len(shards) > 1 else []
    widest = max(shards, key=lambda shard: _range(shard)[1] - _range(shard)[0])
    return [widest] if len(shards) < MOST_SHARDS else []


def _key_within(shards: list[dict[str, Any]], source: random.Random) -> str:
    """Return a partition key of one of these shards; any key where there are none."""
    while True:
        key = f"{source.getrandbits(64):016x}"
        place = int.from_bytes(md5(key.encode(), usedforsecurity=False).digest(), "big")
        if not shards or any(first <= place <= last for first, last in map(_range, shards)):
            return key


def open_shards(stream: Any) -> list[dict[str, Any]]:
    """Return the shards that take records, by hash key."""
    shards: list[dict[str, Any]] = []
    page: dict[str, Any] = {}
    while not shards or "NextToken" in page:
        page = stream.list_shards(**({"NextToken": page["NextToken"]} if page else {}))
        shards += page["Shards"]
    parents = {shard.get(name) for shard in shards for name in ("ParentShardId", "AdjacentParentShardId")}
    return sorted((shard for shard in shards if shard["ShardId"] not in parents), key=_range)


def _range(shard: dict[str, Any]) -> tuple[int, int]:
    keys = shard["HashKeyRange"]
    return int(keys["StartingHashKey"]), int(keys["EndingHashKey"])
