"""What a batch of the table's stream touched: runs of neighbouring ranges, and how many of them are done at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any

from processor.store.rollups import RANGE_SECONDS, ranges_of
from processor.store.states import State
from processor.store.tables import SLOT_SECONDS, start_of
from processor.store.unreadable import Note, passed_over

RUN = 12
"""So many neighbouring ranges are read at once: an hour, which bounds the memory that a replay takes."""

TTL = "dynamodb.amazonaws.com"
"""Who deletes expired items, as the stream's records name it ("Working with expired items", Developer Guide)."""

GROWTH = 4
"""So many times the last one's runs a slice may have."""

SAFETY = 2
"""So many times as long as the last one a slice may take, for its weight, and still be done in time."""


@dataclass(slots=True)
class Run:
    """Neighbouring ranges of one device, to be read at once, and what became of them.

    starts: theirs, epoch seconds. lowest: the lowest sequence number of the records that touched them. rebuild: the
    starts of those that lost readings.
    """

    device: str
    starts: list[int]
    lowest: int
    rebuild: set[int] = field(default_factory=set)
    state: State | None = None
    written: int = 0
    stale: int = 0
    error: str = ""
    invalid: str = ""

    @property
    def weight(self) -> int:
        """About how many calls it takes: a read, a write for each range, and the device's state."""
        return len(self.starts) + 2


def runs_of(records: Iterable[Mapping[str, Any]], note: Note = passed_over) -> list[Run]:
    """Return what these stream records touched, in the order of the lowest sequence numbers. Expiries touch nothing.

    Nor does an item whose slot is none: readers see no readings in it. `note` is told of it, unless it was deleted.
    """
    lowest: dict[tuple[str, int], int] = {}
    rebuild = set()
    for record in records:
        if expired(record):
            continue
        change, removed = record["dynamodb"], record["eventName"] == "REMOVE"
        device = change["Keys"]["device"]["S"]
        slot = start_of(change["Keys"], "readings", "slot", SLOT_SECONDS, passed_over if removed else note)
        if slot is None:
            continue
        number = int(change["SequenceNumber"])
        for start in ranges_of(slot):
            place = device, start
            lowest[place] = min(number, lowest.get(place, number))
            if removed:
                rebuild.add(place)
    runs: list[Run] = []
    for (device, start), number in sorted(lowest.items()):
        last = runs[-1] if runs else None
        if last is None or last.device != device or last.starts[-1] + RANGE_SECONDS != start or len(last.starts) == RUN:
            last = Run(device, [], number)
            runs.append(last)
        last.starts.append(start)
        last.lowest = min(last.lowest, number)
        if (device, start) in rebuild:
            last.rebuild.add(start)
    return sorted(runs, key=lambda run: run.lowest)


def expired(record: Mapping[str, Any]) -> bool:
    """Tell whether the record is DynamoDB's own deletion of an expired item."""
    by = record.get("userIdentity") or {}
    return record["eventName"] == "REMOVE" and by.get("type") == "Service" and by.get("principalId") == TTL


def take(waiting: deque[Run], most: int, weight: float) -> list[Run]:
    """Take the next slice off what waits: at most so many runs, of at most this weight together.

    But what one record touched is never parted: with half of it done, the checkpoint stays where it was.
    """
    taken: list[Run] = []
    while waiting and (
        (len(taken) < most and waiting[0].weight <= weight) or (taken and waiting[0].lowest == taken[-1].lowest)
    ):
        taken.append(waiting.popleft())
        weight -= taken[-1].weight
    return taken


def fitting(done: Iterable[Run], took: float, left: float) -> float:
    """Return what the next slice may weigh to be done in the seconds left, where the last one took so many."""
    return sum(run.weight for run in done) * left / (took * SAFETY) if took > 0 else inf
