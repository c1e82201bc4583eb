"""What is watched of order: the records of a partition key are delivered one batch at a time, and first in their order.

Lambda keeps both for as many batches of a shard as are under way at once, and for a shard's children, which begin when
their parents are finished. A batch that is sent again, whole or in halves, repeats records: that changes no order.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import orjson


class Order:
    """Watches the deliveries of one stream. `problems` says what was seen that must not be."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self._lock = threading.Lock()
        self._under_way: set[str] = set()
        self._last: dict[str, int] = {}
        self._delivered: set[int] = set()

    @contextmanager
    def delivering(self, event: bytes) -> Iterator[None]:
        """Look at a batch of Kinesis records as the mapping sends it, for as long as its invocation takes."""
        records = [
            (record["kinesis"]["partitionKey"], int(record["kinesis"]["sequenceNumber"]))
            for record in orjson.loads(event)["Records"]
        ]
        keys = {key for key, _ in records}
        with self._lock:
            self.problems += [
                f"records of the key {key} are delivered while others of it are under way"
                for key in sorted(keys & self._under_way)
            ]
            keys -= self._under_way
            self._under_way |= keys
            for key, number in records:
                self._first(key, number)
        try:
            yield
        finally:
            with self._lock:
                self._under_way -= keys

    def _first(self, key: str, number: int) -> None:
        if number in self._delivered:
            return
        self._delivered.add(number)
        last = self._last.get(key, -1)
        if number < last:
            self.problems.append(f"record {number} of the key {key} is first delivered after {last}")
        self._last[key] = max(last, number)
