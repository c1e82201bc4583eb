"""Expiry: what the readings that are left tell of those that are gone. Pure.

An item is kept as long as its own `expires` says, which is not always RETENTION_DAYS: the shell may lack the
deployment's, another one held when it was written, or somebody shortened it, to have that item deleted. What was
measured beside it at about the same time was probably kept as long; another time's, or another device's, need not be.
So only what lies nearest counts: the slots of the range's own window, and the next ones around it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import NamedTuple

from processor.store.differences import EMPTIED, EXPIRED, Difference
from processor.store.rollups import window
from processor.store.tables import SLOT_MS, SLOT_SECONDS, Slot

FOREVER = 1 << 40
"""Seconds."""

start_of_slot = attrgetter("start")


class Kept(NamedTuple):
    """For how many seconds an item of `readings` is kept. slot: its start, epoch seconds."""

    seconds: int
    device: str
    slot: int


def kept(slot: int, expires: int | None) -> int:
    """Return for how many seconds an item is kept, by its expiry; for ever where it has none."""
    return expires - slot - SLOT_SECONDS if expires else FOREVER


def shortest_kept(slots: Sequence[Slot], start: int) -> Kept | None:
    """Return the slot that is kept the shortest, of those (in order) of a range's window and the next on either side.

    start: the range's, epoch seconds. None where there are no slots.
    """
    begin, end = window(start)
    first = bisect_left(slots, (begin - SLOT_MS) // 1000, key=start_of_slot)
    last = bisect_left(slots, -(-end // 1000), key=start_of_slot)
    near = slots[max(first - 1, 0) : last + 1]  # of those within, what came late may be all that is left
    return min((Kept(kept(slot.start, slot.expires), slot.device, slot.start) for slot in near), default=None)


def outlived(start: int, seconds: int, now: float) -> bool:
    """Tell whether some of a range's readings may have expired by now, if they were kept for so many seconds."""
    return window(start)[0] - SLOT_MS < (now - seconds) * 1000


def by_expiry(found: Iterable[Difference], slots: Sequence[Slot], now: float) -> tuple[list[Difference], list[Kept]]:
    """Return one device's differences, those EXPIRED that lack what may have, and by which item, one for each of these.

    slots: the device's in order, the nearest before and after those differences that are EMPTIED among them.
    """
    judged, by = [], []
    for each in found:
        nearest = shortest_kept(slots, each.start) if each.kind in ("foreign", EMPTIED) else None
        if nearest is not None and outlived(each.start, nearest.seconds, now):
            judged.append(each._replace(kind=EXPIRED))
            by.append(nearest)
        else:
            judged.append(each)
    return judged, by
