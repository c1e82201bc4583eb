"""Readings read back: one device between two times, the latest, the whole table.

Gateways' clocks differ, so copies of one reading can stand in two slots: the reader looks `skew` back and ahead and
counts one identity (counter and digest) once; readings without a counter count once within the resolution.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from queue import Full, Queue
from typing import Any, NamedTuple

from processor.decode.formats import BETTER, SUPERSEDED, sample_of
from processor.reading import Reading
from processor.store.extent import extent
from processor.store.items import pages
from processor.store.tables import (
    RESOLUTION_MS,
    SKEW_MS,
    SLOT_MS,
    SLOT_SECONDS,
    AttributeValue,
    Slot,
    expires_of,
    slot,
    slot_of,
    start_of,
)
from processor.store.unreadable import Note, passed_over
from processor.store.wire import Client

EVER = 1 << 40
"""Seconds: no slot is further from 1970, before or after. (DynamoDB refuses BETWEEN 0 AND -15.)"""


class Seen(NamedTuple):
    """A device that the table knows: its first and last slot's start (epoch seconds), and how many slots it has."""

    device: str
    first: int
    last: int
    slots: int


class Reader:
    """Reads the table `readings` through one client. Items past their expiry are left out: DynamoDB deletes late.

    note: is told of what cannot be read, and is left out, too.
    """

    def __init__(
        self,
        client: Client,
        table: str,
        *,
        threads: int = 16,
        clock: Callable[[], float] = time.time,
        note: Note = passed_over,
    ) -> None:
        self._client = client
        self._table = table
        self._threads = threads
        self._clock = clock
        self._note = note

    def readings(self, device: str, start: int, end: int) -> list[Reading]:
        """Return a device's readings measured in [start, end) (ms since 1970), in order, every copy counted once.

        A reading belongs to the time of its first copy, so neighbouring ranges never count one twice.
        """
        slots = self.slots(device, start - SKEW_MS, end + SKEW_MS)
        return [reading for reading in once(_readings(slots)) if start <= (reading.at or 0) < end]

    def latest(self, device: str, count: int = 1) -> list[Reading]:
        """Return a device's last readings, at most `count`, in order."""
        slots: list[Slot] = []
        cells, enough, oldest = 0, count, None
        for each in self._slots(device, forward=False):
            if oldest is not None and each.start * 1000 + SLOT_MS <= oldest:
                found = list(once(_readings(slots)))
                oldest = _needed(found, count)
                if oldest is not None and each.start * 1000 + SLOT_MS <= oldest:
                    return found[-count:]
            slots.append(each)
            cells += len(each.cells)
            if oldest is None and cells >= enough:
                oldest = _needed(list(once(_readings(slots))), count)
                enough = 2 * cells  # looked at again only when there is twice as much
        return list(once(_readings(slots)))[-count:]

    def slots(self, device: str, start: int, end: int) -> Iterator[Slot]:
        """Yield the device's slots that touch [start, end) (ms since 1970), in order."""
        return self._slots(device, slot_of(start), slot_of(end - 1))

    def stored(
        self, device: str, start: int, end: int, *, deadline: float | None = None, note: Note | None = None
    ) -> Iterator[Slot]:
        """Yield the same slots as they are at this moment, those past their expiry too, until DynamoDB deletes them."""
        return self._slots(device, slot_of(start), slot_of(end - 1), exact=True, deadline=deadline, note=note)

    def around(self, device: str, start: int, end: int) -> tuple[Slot | None, Slot | None]:
        """Return the device's last slot before `start` and its first from `end` on (ms since 1970), None for none.

        They are as at this moment, expired ones too. Nothing is noted of what cannot be read in them.
        """
        before = self._slots(device, -EVER, slot_of(start) - 1, forward=False, exact=True, limit=1, note=passed_over)
        after = self._slots(device, slot_of(end - 1) + 1, EVER, exact=True, limit=1, note=passed_over)
        return next(before, None), next(after, None)

    def extent(self, device: str, start: int, end: int) -> tuple[int, int] | None:
        """Return the starts (epoch seconds) of the device's first and last slot in [start, end) (ms since 1970).

        Expired ones that are not deleted yet count. None where there is no slot.
        """
        return extent(self._client, self._table, "slot", device, slot_of(start), slot_of(end - 1))

    def devices(self) -> list[Seen]:
        """Return every device of the table, by address. It reads the whole table's keys, in parallel."""
        found: dict[str, Seen] = {}
        for item in self.scan(keys_only=True):
            device, start = item["device"]["S"], start_of(item, "readings", "slot", SLOT_SECONDS, self._note)
            if start is None:
                continue
            seen = found.get(device, Seen(device, start, start, 0))
            found[device] = Seen(device, min(seen.first, start), max(seen.last, start), seen.slots + 1)
        return [found[device] for device in sorted(found)]

    def scan(self, *, keys_only: bool = False) -> Iterator[dict[str, AttributeValue]]:
        """Yield every item of the table that is not past its expiry, in no order, by a parallel scan."""
        body: dict[str, Any] = {"TableName": self._table, "TotalSegments": self._threads}
        if keys_only:
            body["ProjectionExpression"] = "#d, #s, #e"
            body["ExpressionAttributeNames"] = {"#d": "device", "#s": "slot", "#e": "expires"}

        pages: Queue[list[dict[str, AttributeValue]] | BaseException | None] = Queue(maxsize=2 * self._threads)
        left = threading.Event()

        def segment(number: int) -> None:
            try:
                for page in self._pages("Scan", body | {"Segment": number}):
                    _offer(pages, page, left)
                    if left.is_set():
                        return
                _offer(pages, None, left)
            except BaseException as error:
                _offer(pages, error, left)

        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="scan")
        try:
            for number in range(self._threads):
                pool.submit(segment, number)
            running = self._threads
            while running:
                page = pages.get()
                if page is None:
                    running -= 1
                elif isinstance(page, BaseException):
                    raise page
                else:
                    yield from page
        finally:
            left.set()
            pool.shutdown(wait=False, cancel_futures=True)  # who leaves waits for no read that waits for its units

    def _slots(
        self,
        device: str,
        first: int | None = None,
        last: int | None = None,
        *,
        forward: bool = True,
        exact: bool = False,
        limit: int | None = None,
        deadline: float | None = None,
        note: Note | None = None,
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
        if limit is not None or not forward:
            body["Limit"] = limit or 20  # the latest readings are nearly always in the last slots
        if exact:
            body["ConsistentRead"] = True
        pages = self._pages("Query", body, expired=exact, deadline=deadline)
        return (slot(item, note or self._note) for page in pages for item in page)

    def _pages(
        self, operation: str, body: dict[str, Any], *, expired: bool = False, deadline: float | None = None
    ) -> Iterator[list[dict[str, AttributeValue]]]:
        """Yield the pages of a Query or Scan; `expired`: with the items past their expiry."""
        now = 0 if expired else self._clock()
        for items in pages(self._client, operation, body, deadline=deadline):
            yield [item for item in items if (until := expires_of(item)) is None or until > now]


def _offer(pages: Queue[Any], page: Any, left: threading.Event) -> None:
    """Put a page where the reader takes it, unless the reader has left."""
    while not left.is_set():
        try:
            pages.put(page, timeout=0.1)
        except Full:
            continue
        return


def _readings(slots: Iterable[Slot]) -> Iterator[Reading]:
    return chain.from_iterable(found.cells.values() for found in slots)


def _needed(found: Sequence[Reading], count: int) -> int | None:
    """Return from when on (ms) all must be read to know the last `count`; None: from earlier, there are not as many.

    Copies of the first of them may stand SKEW_MS before it.
    """
    return None if len(found) < count else (found[-count].at or 0) - SKEW_MS


def _when(reading: Reading) -> tuple[int, str]:
    return reading.at or 0, reading.identity


Times = dict[tuple[str, bool], int]
"""When each identity was seen, in ms since 1970. Superseded formats stand apart: they must not hide the better one."""


def once(readings: Iterable[Reading]) -> Iterator[Reading]:
    """Yield each of one device's readings once, the first copy of each, in the order of time.

    With a counter, an equal identity less than SKEW_MS after the one before is a copy, so is a copy's copy: a sensor
    may repeat one measurement for minutes. Without one, it is a copy less than RESOLUTION_MS after the last that
    counted: a steady value is no copy of itself. A reading of a superseded format is left out where the better one of
    the same sample lies within SKEW_MS.

    So what counts depends on SKEW_MS around it, wherever a query or range begins. But for one thing: of equal payloads
    without a counter that go on in steps of less than RESOLUTION_MS, one counts about each RESOLUTION_MS, and which,
    depends on where reading began. In any stretch, two reads differ by one of them at most; after a pause, not at all.
    """
    seen: Times = {}
    ordered = sorted(readings, key=_when)
    better: dict[Any, list[int]] = {}
    for reading in ordered:
        if reading.format in BETTER:
            better.setdefault(sample_of(reading), []).append(reading.at or 0)
    for reading in ordered:
        at = reading.at or 0
        if is_copy(reading, seen):
            continue
        if better and reading.format in SUPERSEDED and _near(better.get(sample_of(reading), ()), at):
            continue
        yield reading


def is_copy(reading: Reading, seen: Times) -> bool:
    """Tell whether a reading is a copy of one before it; note in `seen` what the next one is compared with."""
    at, key = reading.at or 0, (reading.identity, reading.format in SUPERSEDED)
    before = seen.get(key)
    copy = before is not None and at - before < (RESOLUTION_MS if reading.counter is None else SKEW_MS)
    if not copy or reading.counter is not None:
        seen[key] = at
    return copy


def _near(times: Sequence[int], at: int) -> bool:
    """Tell whether one of the times, in order, lies within SKEW_MS of `at`."""
    place = bisect_left(times, at - SKEW_MS)
    return place < len(times) and times[place] <= at + SKEW_MS
