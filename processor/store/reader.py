"""Readings read back: one device between two times, the latest, many devices in parallel, the whole table.

Gateways' clocks differ, so copies of one reading can stand in two slots: the reader looks `skew` back and counts
one identity (counter and digest) once; readings without a counter count once within the resolution.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any, NamedTuple

from processor.reading import Reading
from processor.store.tables import RESOLUTION_MS, SKEW_MS, AttributeValue, Slot, slot, slot_of
from processor.store.wire import Client


class Seen(NamedTuple):
    """A device that the table knows: its first and last slot's start (epoch seconds), and how many slots it has."""

    device: str
    first: int
    last: int
    slots: int


class Reader:
    """Reads the table `readings` through one client. Items past their expiry are left out: DynamoDB deletes late."""

    def __init__(
        self, client: Client, table: str, *, threads: int = 16, clock: Callable[[], float] = time.time
    ) -> None:
        self._client = client
        self._table = table
        self._threads = threads
        self._clock = clock

    def readings(self, device: str, start: int, end: int) -> list[Reading]:
        """Return a device's readings measured in [start, end) (ms since 1970), in order, every copy counted once.

        A reading belongs to the time of its first copy, so neighbouring ranges never count one twice.
        """
        slots = self.slots(device, start - SKEW_MS, end)
        return [reading for reading in once(_readings(slots)) if start <= (reading.at or 0) < end]

    def latest(self, device: str, count: int = 1) -> list[Reading]:
        """Return a device's last readings, at most `count`, in order."""
        slots: list[Slot] = []
        enough: int | None = None
        for found in self._slots(device, forward=False):
            if enough is not None and found.start < enough:
                break
            slots.insert(0, found)
            if enough is None and len(list(once(_readings(slots)))) >= count:
                enough = found.start - SKEW_MS // 1000  # copies of the oldest of them may stand so far back
        return list(once(_readings(slots)))[-count:]

    def many(self, devices: Iterable[str], start: int, end: int) -> Iterator[tuple[str, list[Reading]]]:
        """Yield (device, readings) as `readings` gives them, devices in order, read in parallel."""
        devices = list(devices)
        with ThreadPoolExecutor(self._threads) as pool:
            yield from zip(devices, pool.map(lambda device: self.readings(device, start, end), devices), strict=True)

    def slots(self, device: str, start: int, end: int) -> Iterator[Slot]:
        """Yield the device's slots that touch [start, end) (ms since 1970), in order."""
        return self._slots(device, slot_of(start), slot_of(end - 1))

    def devices(self) -> list[Seen]:
        """Return every device of the table, by address. It reads the whole table's keys, in parallel."""
        found: dict[str, Seen] = {}
        for item in self.scan(keys_only=True):
            device, start = item["device"]["S"], int(item["slot"]["N"])
            seen = found.get(device, Seen(device, start, start, 0))
            found[device] = Seen(device, min(seen.first, start), max(seen.last, start), seen.slots + 1)
        return [found[device] for device in sorted(found)]

    def scan(self, *, keys_only: bool = False) -> Iterator[dict[str, AttributeValue]]:
        """Yield every item of the table that is not past its expiry, in no order, by a parallel scan."""
        body: dict[str, Any] = {"TableName": self._table, "TotalSegments": self._threads}
        if keys_only:
            body["ProjectionExpression"] = "#d, #s, #e"
            body["ExpressionAttributeNames"] = {"#d": "device", "#s": "slot", "#e": "expires"}

        def segment(number: int) -> list[dict[str, AttributeValue]]:
            return list(self._items("Scan", body | {"Segment": number}))

        with ThreadPoolExecutor(self._threads) as pool:
            for items in pool.map(segment, range(self._threads)):
                yield from items

    def _slots(
        self, device: str, first: int | None = None, last: int | None = None, *, forward: bool = True
    ) -> Iterator[Slot]:
        body: dict[str, Any] = {
            "TableName": self._table,
            "KeyConditionExpression": "#d = :d",
            "ExpressionAttributeNames": {"#d": "device"},
            "ExpressionAttributeValues": {":d": {"S": device}},
            "ScanIndexForward": forward,
        }
        if first is not None:
            body["KeyConditionExpression"] += " AND #s BETWEEN :a AND :b"
            body["ExpressionAttributeNames"] = {"#d": "device", "#s": "slot"}
            body["ExpressionAttributeValues"] |= {":a": {"N": str(first)}, ":b": {"N": str(last)}}
        if not forward:
            body["Limit"] = 20  # the latest readings are nearly always in the last slots
        return map(slot, self._items("Query", body))

    def _items(self, operation: str, body: dict[str, Any]) -> Iterator[dict[str, AttributeValue]]:
        """Yield the items of every page of a Query or Scan, without those past their expiry."""
        now = self._clock()
        while True:
            page = self._client.call(operation, body)
            for item in page["Items"]:
                expires = item.get("expires")
                if expires is None or int(expires["N"]) > now:
                    yield item
            if "LastEvaluatedKey" not in page:
                return
            body = body | {"ExclusiveStartKey": page["LastEvaluatedKey"]}


def _readings(slots: Iterable[Slot]) -> Iterator[Reading]:
    return chain.from_iterable(found.cells.values() for found in slots)


def _when(reading: Reading) -> tuple[int, str]:
    return reading.at or 0, reading.identity


def once(readings: Iterable[Reading]) -> Iterator[Reading]:
    """Yield each of one device's readings once, the first copy of each, in the order of time.

    Within SKEW_MS (with a counter) or RESOLUTION_MS (without one) of the first copy, an equal identity is a copy.
    """
    seen: dict[str, int] = {}
    for reading in sorted(readings, key=_when):
        at, identity = reading.at or 0, reading.identity
        within = RESOLUTION_MS if reading.counter is None else SKEW_MS
        before = seen.get(identity)
        if before is not None and at - before < within:
            continue
        seen[identity] = at
        yield reading
