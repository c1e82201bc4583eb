"""What the tables answer: readings, or their summaries by five minutes, hour or day, of many devices in parallel.

Summaries come from the table `rollups` where it has them, and from the readings where it cannot: for ranges that the
asked time cuts, for the newest, and for those that are missing there. Either way they are `rollup_of` the stored
readings, so that an answer is the same as if every reading had been read and summed up.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from processor.ask.choice import Member
from processor.reading import Reading, quantity
from processor.store.flow import flow
from processor.store.parallel import ahead
from processor.store.reader import Reader
from processor.store.registry import Calibration, Device
from processor.store.rollups import (
    EXACT,
    RANGE_MS,
    RANGE_SECONDS,
    Rollup,
    Rollups,
    Summary,
    folded,
    rollup_of,
    window,
)
from processor.store.tables import SKEW_MS, SLOT_MS, Slot

RESOLUTIONS = {"raw": 0, "5m": RANGE_SECONDS, "hour": 3600, "day": 86_400}
"""Seconds that one row of an answer stands for; 0: one reading."""

SETTLED_MS = 900_000
"""Ranges that ended so long ago are rolled up: the roll-up function's batching window is 300 s, a retry's too.
What a gateway delivers later still is rolled up as soon after it came."""

READINGS_CHUNK_MS = 6 * 3_600_000
ROLLUPS_CHUNK_MS = 7 * 86_400_000
"""One device's time is read in such pieces, all at once: whole days, so that no fold is cut."""

FEW = 5
"""So many pieces are read without asking first from when to when there is anything."""

MOST = 200_000
"""So many readings, about 200 MB, wait at most to be taken."""

NEAR = 32
"""Reading so many cells costs what another request costs, half a read unit: 4 KB."""


@dataclass(frozen=True)
class Question:
    """What is asked of some devices: from `start` to `end` (ms since 1970, the end not included).

    last: the last so many readings instead, whenever they were. quantities: those only, and what has none of them left
    out; empty, all. raw: as stored, without the devices' calibration.
    """

    members: Sequence[Member]
    start: int = 0
    end: int = 0
    resolution: str = "raw"
    quantities: frozenset[str] = frozenset()
    last: int | None = None
    raw: bool = False


class Piece(NamedTuple):
    """A part of one device's time, ms since 1970."""

    member: Member
    start: int
    end: int


Extent = Callable[[str, int, int], tuple[int, int] | None]
"""From when to when there is anything of a device, within [start, end), in ms since 1970."""


class Source:
    """Answers questions from the tables. threads: how many reads go on at once."""

    def __init__(
        self, reader: Reader, rollups: Rollups, *, threads: int = 200, clock: Callable[[], float] = time.time
    ) -> None:
        self.reader = reader
        self.rollups = rollups
        self.threads = threads
        self._clock = clock

    def readings(self, question: Question) -> Iterator[Reading]:
        """Yield the readings, device by device in the order asked, each device's in the order of time."""
        found = self._latest(question) if question.last is not None else self._flowing(question)
        for member, readings in found:
            for reading in readings:
                if question.quantities and not (reading.values.keys() & question.quantities):
                    continue
                corrected = reading if question.raw else member.device.calibrated(reading)
                yield only(corrected, question.quantities)

    def summaries(self, question: Question) -> Iterator[Rollup]:
        """Yield the roll-ups of the question's resolution, in the same order. Those without a reading are left out."""
        seconds = RESOLUTIONS[question.resolution]

        def read(piece: Piece) -> list[Rollup]:
            found = self.rolled(piece.member.device.address, piece.start, piece.end)
            return [rollup for rollup in folded(found, seconds) if rollup.readings]

        pieces = self._pieces(question, ROLLUPS_CHUNK_MS, 0, self.extent)
        answers = ahead(pieces, read, threads=self.threads, weigh=_weight, most=MOST)
        for piece, rollups in answers:
            for rollup in rollups:
                kept = chosen(rollup, question.quantities)
                if kept is not None:
                    yield kept if question.raw else calibrated(kept, piece.member.device)

    def rolled(self, device: str, start: int, end: int) -> list[Rollup]:
        """Return a device's five-minute roll-ups of [start, end) (ms since 1970), in order, uncalibrated."""
        whole = -(-start // RANGE_MS) * RANGE_SECONDS
        settled = (min(end, round(self._clock() * 1000) - SETTLED_MS)) // RANGE_MS * RANGE_SECONDS
        found: dict[int, Rollup] = {}
        if whole < settled:
            found = {rollup.start: rollup for rollup in self.rollups.read(device, whole, settled)}
        for first, last in _gaps(
            found, start // RANGE_MS * RANGE_SECONDS, -(-end // RANGE_MS) * RANGE_SECONDS, settled
        ):
            begin, finish = window(first, (last - first) // RANGE_SECONDS)
            combine(found, summed(device, first, last, self.reader.slots(device, begin, finish), (start, end)))
        return [found[first] for first in sorted(found)]

    def extent(self, device: str, start: int, end: int) -> tuple[int, int] | None:
        """Return the part of [start, end) (ms since 1970) outside of which neither table has anything of a device."""
        ends = [self._readings_extent(device, start - SKEW_MS, end + SKEW_MS)]
        rolled = self.rollups.extent(device, start // 1000 - RANGE_SECONDS, -(-end // 1000))
        if rolled is not None:
            ends.append((rolled[0] * 1000, rolled[1] * 1000 + RANGE_MS))
        there = [each for each in ends if each is not None]
        if not there:
            return None
        return max(start, min(first for first, _ in there)), min(end, max(last for _, last in there))

    def _readings_extent(self, device: str, start: int, end: int) -> tuple[int, int] | None:
        found = self.reader.extent(device, start, end)
        return None if found is None else (max(start, found[0] * 1000), min(end, found[1] * 1000 + SLOT_MS))

    def _pieces(self, question: Question, length: int, margin: int, extent: Extent) -> Iterator[Piece]:
        """Yield the question's time of each device, a margin before and after it included, in pieces.

        They are cut at multiples of `length`. Where there are more than a few, it is asked first from when to when the
        device has anything.
        """
        start, end = question.start - margin, question.end + margin

        def ends(member: Member) -> tuple[int, int] | None:
            return (start, end) if end - start <= FEW * length else extent(member.device.address, start, end)

        found = ahead(question.members, ends, threads=self.threads, weigh=lambda _: 1, most=MOST)
        for member, between in found:
            at, last = between or (0, 0)
            while at < last:
                cut = min((at // length + 1) * length, last)
                yield Piece(member, at, cut)
                at = cut

    def _flowing(self, question: Question) -> Iterator[tuple[Member, Iterator[Reading]]]:
        """Yield each device with its readings: pieces are read in parallel, and joined so that no copy is missed."""

        def read(piece: Piece) -> list[Slot]:
            return list(self.reader.slots(piece.member.device.address, piece.start, piece.end))

        pieces = self._pieces(question, READINGS_CHUNK_MS, SKEW_MS, self._readings_extent)
        answers = ahead(pieces, read, threads=self.threads, weigh=cells, most=MOST)
        for member, parts in groupby(answers, key=lambda answer: answer[0].member):
            slots = (slot for _, part in parts for slot in part)
            yield member, (each for each in flow(slots) if question.start <= (each.at or 0) < question.end)

    def _latest(self, question: Question) -> Iterator[tuple[Member, list[Reading]]]:
        count = question.last or 1

        def read(member: Member) -> list[Reading]:
            return self.reader.latest(member.device.address, count)

        return ahead(question.members, read, threads=self.threads, weigh=len, most=MOST)


def cells(slots: Iterable[Slot]) -> int:
    """Return how many readings there are in slots, copies too."""
    return sum(len(slot.cells) for slot in slots)


def _weight(rollups: Iterable[Rollup]) -> int:
    return sum(4 + 8 * len(rollup.quantities) for rollup in rollups) // 8


def _gaps(found: dict[int, Rollup], first: int, last: int, settled: int) -> Iterator[tuple[int, int]]:
    """Yield the ranges, from, to (epoch seconds), that must be computed from readings: those not found.

    Where the last settled one is missing, the roll-up function may have stopped at the one before, and left it half
    done. Gaps so near to each other that a request costs more than what lies between become one.
    """
    missing = [start for start in range(first, last, RANGE_SECONDS) if start not in found]
    if found and settled - RANGE_SECONDS not in found:
        missing = sorted({*missing, max(found)})
    if not missing:
        return
    begin = end = missing[0]
    between = 0
    for start in missing:
        between = sum(found[each].cells for each in range(end, start, RANGE_SECONDS) if each in found)
        if between > NEAR:
            yield begin, end
            begin = start
        end = start + RANGE_SECONDS
    yield begin, end


def summed(
    device: str, first: int, last: int, slots: Iterable[Slot], within: tuple[int, int] | None = None
) -> Iterator[Rollup]:
    """Yield the roll-ups of the ranges that start in [first, last) (epoch seconds), from slots that come in order.

    within: only of what was measured from, to (ms since 1970).
    """
    coming = iter(slots)
    near: deque[Slot] = deque()
    upcoming = next(coming, None)
    for start in range(first, last, RANGE_SECONDS):
        begin, end = window(start)
        while upcoming is not None and upcoming.start * 1000 < end:
            near.append(upcoming)
            upcoming = next(coming, None)
        while near and near[0].start * 1000 + SLOT_MS <= begin:
            near.popleft()
        if near and (rollup := rollup_of(device, start, near, within=within)) is not None:
            yield rollup


def combine(found: dict[int, Rollup], computed: Iterable[Rollup]) -> None:
    """Put computed roll-ups beside those found, in place of such of fewer cells: cells only grow, until they expire."""
    for rollup in computed:
        there = found.get(rollup.start)
        if there is None or there.cells <= rollup.cells:
            found[rollup.start] = rollup


def only(reading: Reading, quantities: frozenset[str]) -> Reading:
    """Return a reading with these quantities only; all, if there are none of them."""
    if not quantities:
        return reading
    return reading._replace(values={name: value for name, value in reading.values.items() if name in quantities})


def chosen(rollup: Rollup, quantities: frozenset[str]) -> Rollup | None:
    """Return a roll-up with these quantities only, None where it has none of them; all, if there are none of them."""
    if not quantities:
        return rollup
    kept = {name: each for name, each in rollup.quantities.items() if name in quantities}
    return rollup._replace(quantities=kept) if kept else None


def calibrated(rollup: Rollup, device: Device) -> Rollup:
    """Return a roll-up with the device's corrections applied: a negative scale makes the least the most."""
    if not device.calibration:
        return rollup
    quantities = dict(rollup.quantities)
    for name, calibration in device.calibration.items():
        if name in quantities and quantity(name).kind != "flag":
            quantities[name] = _corrected(quantities[name], calibration)
    return rollup._replace(quantities=quantities)


def _corrected(summary: Summary, calibration: Calibration) -> Summary:
    scale, offset = calibration
    least, most, last = (
        EXACT.add(EXACT.multiply(value, scale), offset) for value in (summary.min, summary.max, summary.last)
    )
    total = EXACT.add(EXACT.multiply(summary.sum, scale), EXACT.multiply(offset, summary.count))
    return Summary(summary.count, total, min(least, most), max(least, most), last)
