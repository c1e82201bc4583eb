"""`once` for a whole year: one device's readings, each counted once, from slots as they come, in little memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from processor.decode.formats import BETTER, SUPERSEDED, sample_of
from processor.reading import Reading
from processor.store.reader import Times, is_copy
from processor.store.tables import SKEW_MS, Slot


def flow(slots: Iterable[Slot]) -> Iterator[Reading]:
    """Yield what `once` gives of all the slots' readings; the slots are one device's, in order.

    A reading waits until everything within SKEW_MS after it has come: no longer, so that is all that is held.
    """
    waiting: deque[Reading] = deque()
    seen: Times = {}
    better: dict[Any, deque[int]] = {}
    swept = 0
    for slot in slots:
        for reading in sorted(slot.cells.values(), key=lambda each: (each.at or 0, each.identity)):
            at = reading.at or 0
            if reading.format in BETTER:
                better.setdefault(sample_of(reading), deque()).append(at)
            waiting.append(reading)
            while (waiting[0].at or 0) + SKEW_MS < at:
                yield from _settled(waiting.popleft(), seen, better)
            if at - swept > 4 * SKEW_MS:
                _forget(seen, better, (waiting[0].at or 0) - SKEW_MS)
                swept = at
    while waiting:
        yield from _settled(waiting.popleft(), seen, better)


def _settled(reading: Reading, seen: Times, better: dict[Any, deque[int]]) -> Iterator[Reading]:
    """Yield a reading unless it is a copy, or of a superseded format where a better one is near."""
    if is_copy(reading, seen):
        return
    at = reading.at or 0
    if reading.format in SUPERSEDED and any(abs(each - at) <= SKEW_MS for each in better.get(sample_of(reading), ())):
        return
    yield reading


def _forget(seen: Times, better: dict[Any, deque[int]], before: int) -> None:
    """Drop what is too old to matter to any reading that still waits."""
    for identity in [identity for identity, at in seen.items() if at < before]:
        del seen[identity]
    for sample in list(better):
        times = better[sample]
        while times and times[0] < before:
            times.popleft()
        if not times:
            del better[sample]
