"""The tables as Parquet files, partitioned by day; an interrupted export goes on where it was.

DIRECTORY/readings/day=2026-11-20/part-00000-0.parquet   calibrated readings, every copy counted once
DIRECTORY/rollups/day=2026-11-20/part-00000-0.parquet    what each five minutes come to
DIRECTORY/devices/devices.parquet                        who they are

It goes part by part: a day of a bucket of devices. A part's slots come by queries, device by device, or by one scan of
the whole table, sorted on disk beforehand (spool.py). From there on both go the same way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from itertools import groupby, islice
from pathlib import Path
from typing import NamedTuple

from processor.ask.choice import Choice, Member
from processor.ask.columns import arrow, devices_table, readings_table, rollups_table
from processor.ask.parquet import TEMPORARY, Files, write_file
from processor.ask.plan import LOCK, TABLES, Log, Part, Plan
from processor.ask.query import MOST, calibrated, cells, chosen, combine, only, summed
from processor.ask.spool import DAY_MS, Spool, bucket_of, days_of_range, days_of_slot, parsed
from processor.ask.store import Store
from processor.ask.way import Way, buckets, cheaper, described
from processor.errors import QueryError
from processor.lock import lock
from processor.store.flow import flow
from processor.store.parallel import ahead
from processor.store.registry import Device
from processor.store.rollups import RANGE_MS, RANGE_SECONDS, Rollup, rollup_from, window
from processor.store.tables import SKEW_MS, SLOT_SECONDS, AttributeValue, Slot, expires_of, slot, slot_of, start_of
from processor.times import iso

SPOOL = "scan"
BATCH = 10_000


class Progress(NamedTuple):
    """How far an export is: `done` of `total` parts, or while it scans items (total: None where nobody knows)."""

    what: str
    done: int
    total: int | None
    readings: int
    units: float


class Brought(NamedTuple):
    """What one device has for one part: its slots, in order, and its roll-ups, uncalibrated."""

    device: str
    slots: list[Slot]
    rollups: list[Rollup]


class Export:
    """An export into a directory. `plan` is what it does, `why` the reason for its way.

    start, end: ms since 1970, None for all there is up to now; typed: as they were asked for. by: `scan` or `query`;
    None: what costs less. quantities, tables: those only. report: is told how far it is. Raises QueryError.
    """

    def __init__(
        self,
        store: Store,
        folder: Path,
        choice: Choice,
        *,
        start: int | None = None,
        end: int | None = None,
        typed: tuple[str, str] = ("", ""),
        quantities: Iterable[str] = (),
        tables: Iterable[str] = TABLES,
        raw: bool = False,
        by: str | None = None,
        report: Callable[[Progress], None] | None = None,
    ) -> None:
        arrow()
        self._store = store
        self._folder = folder
        self._report = report or (lambda _progress: None)
        self._there = there = Plan.read(folder)
        now = round(time.time() * 1000)
        self._members = self._find(choice, by)
        table = described(store)
        way = Way(by, "as asked") if by else cheaper(table, choice, self._members, start or 0, end or now)
        begin, finish = start or 0, now if end is None else end
        if begin >= finish:
            raise QueryError(f"{iso(begin)} is not before {iso(finish)}: another --from, or --to?")
        asked = Plan(
            begin,
            finish,
            typed,
            choice,
            tuple(sorted(quantities)),
            tuple(tables),
            raw,
            way.by,
            buckets(table, self._members),
            now,
        )
        self.plan = asked if there is None else there.continued(asked, folder)
        self.continues = self.plan is there
        self.why = "as begun" if self.continues else way.why
        self._devices: dict[str, Device] = {member.device.address: member.device for member in self._members}
        self._quantities = frozenset(self.plan.quantities)

    def run(self) -> Mapping[str, int]:
        """Export what is not there yet; return how many rows of each table there are.

        Raises QueryError, and changes nothing, where another export is at work in the folder, or was since the plan; or
        where something of what a scan brought there is lost.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / LOCK).open("ab") as file:
            lock(file.fileno(), self._folder, kind="directory", job="export", error=QueryError)
            if Plan.read(self._folder) != self._there:
                raise QueryError(f"another export was at work in {self._folder} just now: run the command again")
            return self._run()

    def _run(self) -> Mapping[str, int]:
        spool = Spool(self._folder / SPOOL, self.plan.buckets) if self.plan.by == "scan" else None
        self.plan.write(self._folder)
        self._log = Log(self._folder)
        self._log.keep(lambda part: self.plan.part(part.day, part.bucket) == part, self.plan.begun)
        self._clean()
        if {"readings", "rollups"} & set(self.plan.tables):
            self._parts(spool)
        if "devices" in self.plan.tables:
            write_file(self._folder / "devices" / "devices.parquet", devices_table(self._everyone()))
        replace(self.plan, finished=True).write(self._folder)
        return {table: self._log.total(table) for table in ("readings", "rollups")} | {"devices": len(self._devices)}

    def _parts(self, spool: Spool | None) -> None:
        if spool is not None:
            self._scan(spool)
            days = [
                day for day in spool.days() if self.plan.start < (day + 1) * DAY_MS and day * DAY_MS < self.plan.end
            ]
            parts = self._waiting(days)
            self._write(((part, self._spooled(spool, part)) for part in parts), len(parts))
            spool.remove()
        else:
            jobs = self._jobs()
            self._write(self._queried(jobs), len({part for part, _ in jobs}))

    def _waiting(self, days: Iterable[int]) -> list[Part]:
        """Return the parts that are not there yet."""
        return [part for part in self.plan.parts(days) if not self._log.done(part.day, part.bucket)]

    def _write(self, parts: Iterable[tuple[Part, Iterable[Brought]]], total: int) -> None:
        """Write each part's files, and note it."""
        for done, (part, brought) in enumerate(parts, 1):
            day = datetime.fromtimestamp(part.day * 86_400, UTC).date()
            files: dict[str, Files] = {
                table: Files(self._folder / table / f"day={day}", f"part-{part.bucket:05d}")
                for table in ("readings", "rollups")
                if table in self.plan.tables
            }
            try:
                for each in brought:
                    self._add(part, each, files)
            except BaseException:
                for each_file in files.values():
                    each_file.abandon()
                raise
            for each_file in files.values():
                each_file.finish()
            self._log.add(part, self.plan.begun, {table: each_file.rows for table, each_file in files.items()})
            self._report(Progress("exporting", done, total, self._log.total("readings"), self._store.budget.units))

    def _add(self, part: Part, brought: Brought, files: Mapping[str, Files]) -> None:
        """Put one device's readings and roll-ups into the part's files."""
        device = self._devices.get(brought.device) or Device(brought.device)
        self._devices.setdefault(brought.device, device)
        if "readings" in files:
            first, last = slot_of(part.start - SKEW_MS), slot_of(part.end + SKEW_MS - 1)
            readings = (
                only(reading if self.plan.raw else device.calibrated(reading), self._quantities)
                for reading in flow(each for each in brought.slots if first <= each.start <= last)
                if part.start <= (reading.at or 0) < part.end
                and (not self._quantities or reading.values.keys() & self._quantities)
            )
            while batch := list(islice(readings, BATCH)):
                files["readings"].add(readings_table(batch, self._devices))
        if "rollups" in files:
            rollups = [
                kept if self.plan.raw else calibrated(kept, device)
                for rollup in brought.rollups
                if rollup.readings and (kept := chosen(rollup, self._quantities)) is not None
            ]
            files["rollups"].add(rollups_table(rollups, self._devices))

    def _jobs(self) -> list[tuple[Part, str]]:
        """Return what is to be queried, part by part: the devices that have anything there."""
        plan, source = self.plan, self._store.source

        def ends(member: Member) -> tuple[int, int] | None:
            return source.extent(member.device.address, plan.start, plan.end)

        devices: dict[Part, list[str]] = {}
        for member, between in ahead(self._members, ends, threads=source.threads, weigh=lambda _: 1, most=MOST):
            first, last = between or (0, -1)
            for day in range(first // DAY_MS, last // DAY_MS + 1):
                part = plan.part(day, bucket_of(member.device.address, plan.buckets))
                devices.setdefault(part, []).append(member.device.address)
        waiting = [part for part in sorted(devices) if not self._log.done(part.day, part.bucket)]
        return [(part, device) for part in waiting for device in devices[part]]

    def _queried(self, jobs: Iterable[tuple[Part, str]]) -> Iterator[tuple[Part, Iterator[Brought]]]:
        """Yield the parts with their devices, read ahead in parallel, across the borders of the parts too."""
        answers = ahead(jobs, self._read, threads=self._store.source.threads, weigh=_weight, most=MOST)
        for part, each in groupby(answers, key=lambda answer: answer[0][0]):
            yield part, (brought for _, brought in each)

    def _read(self, job: tuple[Part, str]) -> Brought:
        """Query what one device has for one part."""
        part, device = job
        if "readings" not in self.plan.tables:
            return Brought(device, [], self._store.source.rolled(device, part.start, part.end))
        begin, end = part.ranges
        from_ms, to_ms = window(begin, (end - begin) // RANGE_SECONDS)
        slots = list(self._store.reader.slots(device, from_ms, to_ms))
        if "rollups" not in self.plan.tables:
            return Brought(device, slots, [])
        stored = self._store.source.rollups.read(device, begin, end)
        return Brought(device, slots, _joined(device, part, slots, stored))

    def _spooled(self, spool: Spool, part: Part) -> Iterator[Brought]:
        """Yield what the scan brought for one part, device by device."""
        readings = spool.load("readings", part.day, part.bucket)
        rollups = spool.load("rollups", part.day, part.bucket)
        for device in sorted(readings.keys() | rollups.keys()):
            note = self._store.unread.add
            slots = [slot(item, note) for item in parsed(readings.get(device, {}))]
            stored = filter(None, (rollup_from(item, note) for item in parsed(rollups.get(device, {}))))
            yield Brought(device, slots, _joined(device, part, slots, stored))

    def _scan(self, spool: Spool) -> None:
        """Bring the tables to disk, if they are not there yet."""
        wanted = None if self.plan.choice.whole else {member.device.address for member in self._members}
        earliest = (self.plan.start - RANGE_MS - SKEW_MS) // 1000 - SLOT_SECONDS
        latest = (self.plan.end + RANGE_MS + SKEW_MS) // 1000
        now = time.time()
        expected = described(self._store).get("ItemCount") or None

        def keep(table: str, key: str, seconds: int) -> Callable[[Mapping[str, AttributeValue]], bool]:
            def keeps(item: Mapping[str, AttributeValue]) -> bool:
                if wanted is not None and item["device"]["S"] not in wanted:
                    return False
                if (until := expires_of(item)) is not None and until <= now:
                    return False
                start = start_of(item, table, key, seconds, self._store.unread.add)
                return start is not None and earliest <= start <= latest

            return keeps

        def report(items: int) -> None:
            self._report(Progress("scanning", items, expected, 0, self._store.budget.units))

        client, settings = self._store.client, self._store.settings
        spool.scan(client, settings.readings_table, "readings", sort_key="slot", days=days_of_slot,
                   wanted=keep("readings", "slot", SLOT_SECONDS), report=report)  # fmt: skip
        if "rollups" in self.plan.tables:
            spool.scan(client, settings.rollups_table, "rollups", sort_key="start", days=days_of_range,
                       wanted=keep("rollups", "start", RANGE_SECONDS), report=report)  # fmt: skip

    def _clean(self) -> None:
        """Remove files that no noted part has: halves, and what an interrupted export or an older one left."""
        for file in self._folder.glob("r*/day=*/part-*"):
            try:
                day = datetime.fromisoformat(file.parent.name.removeprefix("day=")).replace(tzinfo=UTC)
                bucket = int(file.name.split("-")[1])
            except ValueError:
                continue  # somebody else's
            if file.name.endswith(TEMPORARY) or not self._log.done(round(day.timestamp()) // 86_400, bucket):
                file.unlink()

    def _find(self, choice: Choice, by: str | None) -> list[Member]:
        """Return the devices; a scan finds by itself those that the table `devices` does not know."""
        settings = self._store.settings
        found = choice.members(self._store.client, settings.devices_table, None, self._store.unread.add)
        if by == "query" and not any(member.state for member in found):
            return self._store.members(choice)
        return found

    def _everyone(self) -> list[Member]:
        known = {member.device.address: member for member in self._members}
        return [known.get(address) or Member(device) for address, device in sorted(self._devices.items())]


def _joined(device: str, part: Part, slots: Iterable[Slot], stored: Iterable[Rollup]) -> list[Rollup]:
    """Return a part's roll-ups: computed from the slots, and those that the table alone still has.

    A range that the part cuts is computed; the table's is of the whole of it.
    """
    begin, end = part.ranges
    found = {
        rollup.start: rollup
        for rollup in stored
        if part.start <= rollup.start * 1000 and rollup.start * 1000 + RANGE_MS <= part.end
    }
    combine(found, summed(device, begin, end, slots, (part.start, part.end)))
    return [found[start] for start in sorted(found)]


def _weight(brought: Brought) -> int:
    return cells(brought.slots) + sum(len(rollup.quantities) for rollup in brought.rollups)
