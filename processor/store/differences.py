"""Differences: where the tables `rollups` and `devices` do not say what the stored readings come to. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from processor.store.rollups import RANGE_SECONDS, Rollup, rollup_of, window
from processor.store.states import State, join
from processor.store.tables import SLOT_MS, Slot

UNREADABLE = "unreadable"

EMPTIED = "without readings"

KINDS = {
    "missing": "there are readings, and no roll-up",
    "stale": "it counts fewer readings than are stored",
    "different": "it counts as many readings as are stored, and says something else of them",
    "foreign": "it counts readings that are not there, too young to have expired: somebody deleted them, or it",
    EMPTIED: "no reading is left of those it counts: if ever a shorter RETENTION_DAYS held, they expired",
    UNREADABLE: "somebody wrote it by hand, and it is none; where no readings are left to write it from, delete it",
    "no state": "the device has readings, and no state",
    "state behind": "the device's state does not know all of its readings",
}
"""What can be wrong of a range's roll-up, or of a device's state."""

EXPIRED = "expired"
"""Not wrong: some of the range's readings may have expired, and its roll-up outlives them."""

STATE = -1
"""Stands for a device's state where otherwise a range's start stands."""

Place = tuple[str, int]
"""A device and a range's start (epoch seconds), or STATE."""


class Difference(NamedTuple):
    """One range whose roll-up is not what its readings come to; `right` is (None: there is nothing to go by).

    start: epoch seconds. newest: the latest reading around, ms since 1970; 0 where there are none.
    """

    device: str
    start: int
    kind: str
    stored: Rollup | State | None
    right: Rollup | State | None
    newest: int = 0

    @property
    def place(self) -> Place:
        """Which range it is, or whose state."""
        return self.device, self.start


def kind_of(stored: Rollup | None, right: Rollup | None, worn: bool) -> str | None:
    """Return what is wrong of a range's roll-up, None where nothing is. worn: some of its readings may have expired.

    What expires only makes fewer cells than were counted. Of as many, the last that came was rolled up with all the
    others that are there, so that what is said of them must be right, however old they are.
    """
    if stored == right:
        return None
    if stored is None:
        return "missing"
    there, here = stored.cells, 0 if right is None else right.cells
    if there < here:
        return "stale"
    if there == here:
        return "different"
    if worn:
        return EXPIRED
    return "foreign" if here else EMPTIED


def differences(
    device: str,
    stored: Mapping[int, Rollup],
    slots: list[Slot],
    span: tuple[int, int],
    horizon: int,
    unreadable: Collection[int] = (),
) -> Iterator[Difference]:
    """Yield where a device's roll-ups (by start) differ from what its slots, in order, come to; EXPIRED ones too.

    span: the ranges that start in it are compared (epoch seconds, the end not included); the slots go SKEW_MS beyond
    it. horizon: readings of before may have expired (ms since 1970). unreadable: the starts of roll-ups that are none.
    """
    starts = [slot.start for slot in slots]
    touched = {slot.start // RANGE_SECONDS * RANGE_SECONDS for slot in slots if slot.cells}
    touched |= stored.keys() | {*unreadable}
    for start in sorted(touched):
        if not span[0] <= start < span[1]:
            continue
        begin, end = window(start)
        near = slots[bisect_left(starts, (begin - SLOT_MS) // 1000) : bisect_left(starts, -(-end // 1000))]
        there, right = stored.get(start), rollup_of(device, start, near)
        if there is not None and right is None:
            right = Rollup(device, start, 0, 0, {})  # as the roll-up function leaves a range that lost its readings
        kind = UNREADABLE if start in unreadable else kind_of(there, right, begin - SLOT_MS < horizon)
        if kind is not None:
            newest = max((reading.at or 0 for slot in near for reading in slot.cells.values()), default=0)
            yield Difference(device, start, kind, there, right, newest)


def state_difference(state: State, stored: State | None) -> Difference | None:
    """Return how a device's stored state is behind what its readings come to; None where it is not."""
    if stored is None:
        return Difference(state.device, STATE, "no state", None, state, state.last_seen)
    joined = join(stored, state)
    return (
        None if joined == stored else Difference(state.device, STATE, "state behind", stored, joined, state.last_seen)
    )
