"""The verifier: roll-ups and states computed anew, compared, looked at again, put right."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from processor.errors import InvalidWrite
from processor.settings import Settings
from processor.store.differences import (
    EMPTIED,
    EXPIRED,
    STATE,
    UNREADABLE,
    Difference,
    Place,
    differences,
    state_difference,
)
from processor.store.reader import Reader
from processor.store.rollups import RANGE_SECONDS, Rollup, Rollups
from processor.store.states import STATE_PART, State, States, join, state_of
from processor.store.tables import SKEW_MS, SLOT_SECONDS, expires_of, start_of
from processor.store.unreadable import Note, Unread, Unreadable
from processor.store.wire import Client
from processor.verify.expiry import Kept, by_expiry, kept, outlived
from processor.verify.plan import EVER, Plan
from processor.verify.report import Report

DAY = 86_400
"""A day of a device is compared at once."""

ROUNDS = 5
"""So often what differs is looked at again, while it changes."""

TRIES = 5
"""So often a roll-up is put right anew, where somebody else writes it meanwhile."""

AHEAD = 1000
"""So many jobs are handed to the threads at once."""

Job = TypeVar("Job")
Found = TypeVar("Found")


class Day(NamedTuple):
    """What one device's day came to. by: the items for whose short lives some of `found` are EXPIRED, one for each."""

    device: str
    ranges: int
    found: list[Difference]
    by: list[Kept]
    state: State | None


Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is, and how much there is."""


class Verifier:
    """Verifies the tables that the settings name, through one client. clock: epoch seconds."""

    def __init__(
        self,
        client: Client,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._unread = Unread()
        threads, note = settings.writer_threads, self._unread.add
        self._reader = Reader(client, settings.readings_table, threads=threads, clock=clock, note=note)
        self._rollups = Rollups(client, settings.rollups_table)
        self._rollup_items = Reader(client, settings.rollups_table, threads=threads)
        self._states = States(client, settings.devices_table)
        self._retention = settings.retention_days * DAY
        self._longest: int | None = None
        self._threads = threads
        self._clock = clock
        self._sleep = sleep

    def verify(self, plan: Plan, progress: Progress = lambda _what, _done, _all: None) -> Report:
        """Compare, look again at what differs, put right what is to be; return what came of it."""
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="verify")
        try:
            return self._verified(plan, progress)
        finally:  # who is interrupted does not wait for reads that wait for their units: closing the client ends them
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _verified(self, plan: Plan, progress: Progress) -> Report:
        days = self._days(plan, progress)
        report = Report(self._most, len({device for device, _ in days}), unread=self._unread)
        states: dict[str, State] = {}
        suspects: dict[Place, int] = {}
        for done, day in enumerate(self._each(lambda place: self._day(*place, plan.span), sorted(days)), 1):
            report.ranges += day.ranges
            report.expired += sum(each.kind == EXPIRED for each in day.found)
            report.shorten(day.by, plan.shown)
            suspects |= self._suspects(day.found, plan, report)
            if day.state is not None:
                known = states.get(day.device)
                states[day.device] = day.state if known is None else join(known, day.state)
            progress("comparing", done, len(days))
        suspects |= self._suspects(self._behind(states), plan, report)
        settled = self._settle(suspects, states, plan, report, progress)
        self._conclude(settled, states, plan, report, progress)
        return report

    def _days(self, plan: Plan, progress: Progress) -> set[Place]:
        """Return the devices' days (their starts, epoch seconds) that have readings or roll-ups."""
        days: set[Place] = set()
        for count, (device, start) in enumerate(self._starts(plan)):
            if plan.span[0] <= start // RANGE_SECONDS * RANGE_SECONDS < plan.span[1]:
                days.add((device, start // DAY * DAY))
            if count % 1000 == 0:
                progress("listing", count, 0)
        return days

    def _starts(self, plan: Plan) -> Iterator[Place]:
        """Yield the device and start of each slot and each roll-up: those of named devices, or of the whole tables.

        Note on the way for how long the longest-lived of the readings is kept.
        """
        self._longest = None
        if plan.devices is None:
            for item in self._reader.scan(keys_only=True):
                if (slot := start_of(item, "readings", "slot", SLOT_SECONDS, self._unread.add)) is not None:
                    self._longest = max(self._longest or 0, kept(slot, expires_of(item)))
                    yield item["device"]["S"], slot
            for item in self._rollup_items.scan():
                if (start := start_of(item, "rollups", "start", RANGE_SECONDS, self._unread.add)) is not None:
                    yield item["device"]["S"], start
            return
        first, end = plan.span
        for device in plan.devices:
            for found in self._reader.slots(device, first * 1000, end * 1000):
                self._longest = max(self._longest or 0, kept(found.start, found.expires))
                yield device, found.start
            unreadable: list[int] = []
            for rollup in self._rollups.read(device, first, end, note=self._noted(unreadable)):
                yield device, rollup.start
            yield from ((device, start) for start in unreadable)

    @property
    def _most(self) -> int:
        """For how many seconds any reading is kept: the settings may be another deployment's, or nobody's."""
        return self._retention if self._longest is None else min(self._retention, self._longest)

    def _noted(self, starts: list[int]) -> Note:
        """Return what gathers the starts of roll-ups that cannot be read: these can be written anew."""

        def note(each: Unreadable) -> None:
            if each.start is None:
                self._unread.add(each)
            else:
                starts.append(each.start)

        return note

    def _day(self, device: str, day: int, span: tuple[int, int], only: Collection[int] | None = None) -> Day:
        """Compare one device's day; `only`: those ranges of it. Roll-ups are read first: they can only be behind."""
        if only is not None:
            span = min(only), max(only) + RANGE_SECONDS
        span = max(day, span[0]), min(day + DAY, span[1])
        unreadable: list[int] = []
        note = self._noted(unreadable)
        stored = {each.start: each for each in self._rollups.read(device, *span, consistent=True, note=note)}
        slots = list(self._reader.stored(device, span[0] * 1000 - SKEW_MS, span[1] * 1000 + SKEW_MS))
        horizon = round((self._clock() - self._retention) * 1000)
        found = list(differences(device, stored, slots, span, horizon, unreadable))
        own = [slot for slot in slots if span[0] <= slot.start < span[1]]
        ranges = len(
            {slot.start // RANGE_SECONDS * RANGE_SECONDS for slot in own if slot.cells} | stored.keys() | {*unreadable}
        )
        if only is not None:
            found = [each for each in found if each.start in only]
        if any(each.kind == EMPTIED for each in found):  # what lies nearest may be another day's
            before, after = self._reader.around(device, span[0] * 1000 - SKEW_MS, span[1] * 1000 + SKEW_MS)
            slots = [each for each in (before, *slots, after) if each is not None]
        return Day(device, ranges, *by_expiry(found, slots, self._clock()), state_of(device, own))

    def _behind(self, states: Mapping[str, State]) -> list[Difference]:
        """Return the devices whose stored state is behind. It is read after the readings: it can only be ahead."""
        unreadable: set[str] = set()

        def note(each: Unreadable) -> None:
            if each.part == STATE_PART:
                unreadable.add(each.device)
            else:
                self._unread.add(each)

        known = self._states.known(states, note=note)
        found = (state_difference(state, known.get(device, (None, None))[0]) for device, state in states.items())
        return [
            each._replace(kind=UNREADABLE) if each.device in unreadable else each for each in found if each is not None
        ]

    def _suspects(self, found: Iterable[Difference], plan: Plan, report: Report) -> dict[Place, int]:
        """Return what is to be looked at again: by place, a hash by which to see whether it changed."""
        suspects = {}
        young = (self._clock() - plan.lag) * 1000
        for each in found:
            if each.kind == EXPIRED:
                continue
            if each.newest > young:
                report.pending += 1
            else:
                suspects[each.place] = hash(repr(each))
        return suspects

    def _settle(
        self,
        suspects: dict[Place, int],
        states: Mapping[str, State],
        plan: Plan,
        report: Report,
        progress: Progress,
    ) -> list[Place]:
        """Look at the suspects until they stand unchanged for `wait`; return those. Those that do not are pending."""
        settled: list[Place] = []
        for number in range(ROUNDS):
            if not suspects:
                break
            progress(f"waiting {plan.wait:g} s to look at {len(suspects):,} differences again", number, ROUNDS)
            self._sleep(plan.wait)
            again = {each.place: hash(repr(each)) for each in self._look(suspects, states) if each.kind != EXPIRED}
            report.caught_up += len(suspects) - len(again)
            settled += [place for place, mark in again.items() if mark == suspects[place]]
            suspects = {place: mark for place, mark in again.items() if mark != suspects[place]}
        report.pending += len(suspects)
        return sorted(settled)

    def _look(self, places: Iterable[Place], states: Mapping[str, State]) -> Iterator[Difference]:
        """Yield the differences that are still at these places."""
        starts: dict[Place, list[int]] = {}
        devices = []
        for device, start in places:
            if start == STATE:
                devices.append(device)
            else:
                starts.setdefault((device, start // DAY * DAY), []).append(start)
        jobs = sorted(starts.items())
        for day in self._each(lambda job: self._day(*job[0], EVER, frozenset(job[1])), jobs):
            yield from day.found
        yield from self._behind({device: states[device] for device in devices})

    def _conclude(
        self, settled: list[Place], states: Mapping[str, State], plan: Plan, report: Report, progress: Progress
    ) -> None:
        """Put right what is to be, and report the rest."""
        done = 0
        for difference, fixed in self._each(lambda each: self._fixed(each, plan), self._look(settled, states)):
            done += 1
            progress("putting right" if plan.fix else "looking again", done, len(settled))
            if difference.kind == EXPIRED:
                continue
            (report.fixed if fixed else report.left)[difference.kind] += 1
            if not fixed and len(report.first) < plan.shown:
                report.first.append(difference)
        report.caught_up += len(settled) - done

    def _fixed(self, difference: Difference, plan: Plan) -> tuple[Difference, bool]:
        """Put one difference right where the plan says so; tell whether it is."""
        if not self._to_be_fixed(difference, plan):
            return difference, False
        if isinstance(difference.right, State):
            self._states.join(difference.right)
            return difference, True
        for _ in range(TRIES):
            if self._replaced(difference):
                return difference, True
            device, start = difference.place
            now = self._day(device, start // DAY * DAY, EVER, frozenset((start,))).found
            if not now:
                return difference, True  # whoever wrote meanwhile wrote what is right
            difference = now[0]
            if not self._to_be_fixed(difference, plan):
                break
        return difference, False

    def _to_be_fixed(self, difference: Difference, plan: Plan) -> bool:
        """Tell whether the plan says so, and nothing is emptied that is older than any reading that was seen lives."""
        if difference.kind == EXPIRED or not plan.fixes(difference):
            return False
        return difference.kind != EMPTIED or not outlived(difference.start, self._most, self._clock())

    def _replaced(self, difference: Difference) -> bool:
        """Write what is right, unless the roll-up has changed since it was compared."""
        stored, right = difference.stored, difference.right
        if not isinstance(right, Rollup):
            return False  # there are no readings to write it from: it has to be deleted
        try:
            if difference.kind == UNREADABLE:
                self._rollups.rebuild(right)
                return False  # nothing guarded that: it is looked at again
            return self._rollups.replace(right, stored.cells if isinstance(stored, Rollup) else None)
        except InvalidWrite:  # a sum too large for DynamoDB, say: it stays a difference
            return False

    def _each(self, do: Callable[[Job], Found], jobs: Iterable[Job]) -> Iterator[Found]:
        """Yield what `do` makes of each job, in order, by the threads."""
        waiting: Iterator[Any] = iter(jobs)
        while some := list(islice(waiting, AHEAD)):
            yield from self._pool.map(do, some)
