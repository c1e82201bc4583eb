"""What the streams in memory have in common: shards, iterators that expire, records that expire, calls that fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from threading import Lock
from typing import Any, NamedTuple

from botocore.exceptions import ClientError


def client_error(code: str, operation: str, message: str = "") -> ClientError:
    """Return the error that boto3 raises for an error code."""
    return ClientError({"Error": {"Code": code, "Message": message or code}}, operation)


class Kept(NamedTuple):
    """A record as its stream answers it, and what it is found by."""

    number: str
    arrival: float
    answer: dict[str, Any]


@dataclass
class MemoryShard:
    """A shard. `trimmed` counts the records that have expired: a position counts from the very first record."""

    shard_id: str
    first: int = 0
    last: int = 0
    parents: tuple[str, ...] = ()
    closed: bool = False
    records: list[Kept] = field(default_factory=list)
    trimmed: int = 0
    trimmed_to: str = ""

    @property
    def end(self) -> int:
        """The position behind the last record."""
        return self.trimmed + len(self.records)

    def trim(self, before: float) -> None:
        """Forget what came before that time."""
        old = 0
        while old < len(self.records) and self.records[old].arrival < before:
            old += 1
        if old:
            self.trimmed_to = self.records[old - 1].number
            self.trimmed += old
            del self.records[:old]

    def place(self, number: str) -> int | None:
        """Return the position of a sequence number, which matches as text, as it is; None where there is no such."""
        return next((self.trimmed + n for n, record in enumerate(self.records) if record.number == number), None)


class Position(NamedTuple):
    """What an iterator stands for."""

    shard: MemoryShard
    at: int
    expires: float


class MemoryShards:
    """The shards of one stream, safe for threads.

    clock: seconds since 1970. fault: is asked before each call, by the operation's name and arguments, and returns what
    to raise, or None.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        iterator_seconds: float,
        retention_seconds: float,
        fault: Callable[[str, dict[str, Any]], Exception | None] | None,
    ) -> None:
        self.calls: dict[str, int] = {}
        self.fault = fault
        self._clock = clock
        self._iterator_seconds = iterator_seconds
        self._retention_seconds = retention_seconds
        self._numbers = count(1)
        self._tokens = count(1)
        self._positions: dict[str, Position] = {}
        self._lock = Lock()
        self._shards: dict[str, MemoryShard] = {}

    def expire_iterators(self) -> None:
        """Make every iterator that was handed out invalid."""
        with self._lock:
            self._positions.clear()

    @property
    def open_shards(self) -> list[str]:
        """The ids of the shards that take records, those of neighbouring keys side by side."""
        with self._lock:
            taking = [shard for shard in self._shards.values() if not shard.closed]
            return [shard.shard_id for shard in sorted(taking, key=lambda shard: shard.first)]

    def delete_shard(self, shard_id: str) -> None:
        """Forget a shard: the services do once a closed one's records have expired, MiniStack at any reshard."""
        with self._lock:
            del self._shards[shard_id]

    def _call(self, operation: str, arguments: dict[str, Any]) -> None:
        with self._lock:
            self.calls[operation] = self.calls.get(operation, 0) + 1
        error = self.fault(operation, arguments) if self.fault is not None else None
        if error is not None:
            raise error

    def _shard(self, shard_id: str, operation: str) -> MemoryShard:
        shard = self._shards.get(shard_id)
        if shard is None:
            raise client_error("ResourceNotFoundException", operation, f"no {shard_id}")
        shard.trim(self._clock() - self._retention_seconds)
        return shard

    def _position(self, token: str) -> Position:
        position = self._positions.get(token)
        if position is None or position.expires < self._clock():
            raise client_error("ExpiredIteratorException", "GetRecords")
        self._shard(position.shard.shard_id, "GetRecords")
        return position

    def _token(self, shard: MemoryShard, at: int) -> str:
        if len(self._positions) > 10_000:
            now = self._clock()
            self._positions = {token: found for token, found in self._positions.items() if found.expires >= now}
        token = str(next(self._tokens))
        self._positions[token] = Position(shard, at, self._clock() + self._iterator_seconds)
        return token
