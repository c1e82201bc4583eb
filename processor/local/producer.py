"""Records into a Kinesis stream: batched, under random partition keys, entries that failed sent again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from processor.errors import LocalError

MAX_RECORDS = 500
MAX_BYTES = 5 * 1024 * 1024
"""PutRecords takes at most so many records, and so many bytes with their partition keys."""

ATTEMPTS = 10


class Put(NamedTuple):
    """Where one record went."""

    shard: str
    sequence_number: str


class Producer:
    """Puts records into one stream. Use it from one thread at a time.

    key: makes each record's partition key; by default a random one, as Funnel's `randomizePartitionKey` does.
    """

    def __init__(
        self,
        kinesis: Any,
        stream: str,
        *,
        key: Callable[[], str] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._kinesis = kinesis
        self._stream = stream
        self._key = key or (lambda: f"{random.getrandbits(64):016x}")
        self._sleep = sleep
        self.resent = 0

    def put(self, records: Sequence[bytes], keys: Sequence[str] | None = None) -> list[Put]:
        """Put every record; return where each went, in order. Raises LocalError when some are refused to the end."""
        if keys is None:
            keys = [self._key() for _ in records]
        found: list[Put] = []
        batch: list[dict[str, Any]] = []
        size = 0
        for data, key in zip(records, keys, strict=True):
            cost = len(data) + len(key)
            if batch and (len(batch) == MAX_RECORDS or size + cost > MAX_BYTES):
                found += self._put(batch)
                batch, size = [], 0
            batch.append({"Data": data, "PartitionKey": key})
            size += cost
        if batch:
            found += self._put(batch)
        return found

    def _put(self, entries: list[dict[str, Any]]) -> list[Put]:
        found: dict[int, Put] = {}
        left = list(range(len(entries)))
        for attempt in range(ATTEMPTS):
            if attempt:
                self.resent += len(left)
                self._sleep(random.uniform(0, min(2.0, 0.05 * 2**attempt)))  # noqa: S311 - full jitter
            answer = self._kinesis.put_records(StreamName=self._stream, Records=[entries[place] for place in left])
            refused = []
            for place, result in zip(left, answer["Records"], strict=True):
                if "SequenceNumber" in result:
                    found[place] = Put(result["ShardId"], result["SequenceNumber"])
                else:
                    refused.append((place, result.get("ErrorCode"), result.get("ErrorMessage")))
            if not refused:
                return [found[place] for place in range(len(entries))]
            left = [place for place, _, _ in refused]
        raise LocalError(
            f"PutRecords to {self._stream} refused {len(left)} of {len(entries)} records {ATTEMPTS} times: "
            f"{refused[0][1]}: {refused[0][2]}"
        )
