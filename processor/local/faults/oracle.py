"""What came of a run under faults, told from what was sent and from the tables alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from processor.local.check import Cell, Expected, Verdict, compare, stream_records
from processor.local.faults.run import Run
from processor.local.faults.versions import LATER
from processor.local.fleet import Fleet
from processor.local.rollup_check import compare_rollups
from processor.local.system import STREAM
from processor.quarantine import Quarantine
from processor.reading import Reading
from processor.rules import known_gateways
from processor.store import client
from processor.store.tables import AttributeValue, slot
from processor.verify import Plan, Verifier

EXCUSED = {"invalid_write"}
"""Reasons for which what was fit to be decoded may be in quarantine: the item was full."""


@dataclass
class Judgement:
    """What a run came to.

    lost: neither stored nor kept in quarantine. doubled: stored, and not explained by what was sent, or counted more
    often than it was measured. problems: whatever else must not be.
    """

    verdict: Verdict
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    quarantined: int = 0
    """Readings that no item had room for."""
    balance: str = ""
    rollups: int = 0

    @property
    def passed(self) -> bool:
        """Tell whether nothing is wrong."""
        return not (self.lost or self.doubled or self.problems)

    def lines(self) -> list[str]:
        """Return the first of all that is wrong."""
        kinds = (("lost", self.lost), ("doubled", self.doubled), ("wrong", self.problems))
        return [f"{kind}: {each}" for kind, found in kinds for each in found[:5]]


def judge(run: Run, fleet: Fleet | None = None) -> Judgement:
    """Judge a run that has been drained."""
    system = run.system
    s3 = system.aws.client("s3")
    entries = list(Quarantine(system.settings.quarantine_bucket, lambda: s3).entries())
    records = stream_records(system.kinesis, STREAM)
    items = list(system.reader.scan())
    keys = {**system.settings.bindkeys, **run.registered.keys}
    known = known_gateways(system.settings)
    verdict = compare(system.sent, records, items, entries, system.limits, keys, known)
    found = Judgement(verdict)
    rotated = _rotated_places(run, records)
    _quarantine(found, entries, rotated)
    spared = _spared(verdict, records, lambda some: Expected.of(some, system.limits, keys, known))
    lost = [cell for cell in verdict.lost if cell[0] not in run.rotated]
    found.quarantined = len(spared.intersection(lost))
    found.lost += [f"{cell}" for cell in lost if cell not in spared]
    if verdict.missing_records:
        found.lost.append(f"{verdict.missing_records} records are not in the stream")
    found.doubled += [f"{cell} was never sent" for cell in verdict.foreign if cell[0] not in run.rotated]
    older = any(run.injected[name] for name in ("deploy-mid-batch", "old-version-replays"))
    found.problems += [f"{cell} is not as it was sent" for cell in _changed(verdict, items, older)]
    _balance(found, run, rotated)
    _truth(found, run, spared, _kept_of_rotated(entries, rotated))
    if fleet is not None:
        own = {sensor.address for sensor in fleet.sensors}
        stored = {device: each for device, each in verdict.readings.items() if device in own}
        found.problems += [f"the fleet's measurements: {line}" for line in fleet.compare(stored)]
    _rollups(found, run)
    found.problems += run.witness.problems + run.errors
    return found


def _rotated_places(run: Run, records: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], str]:
    """Return the records of sensors whose key was changed: either outcome is right, by the moment."""
    devices = {data: device for device, each in run.rotated.items() for data in each}
    return {
        (record["ShardId"], record["SequenceNumber"]): devices[record["Data"]]
        for record in records
        if record["Data"] in devices
    }


def _kept_of_rotated(entries: Iterable[Mapping[str, Any]], rotated: Mapping[tuple[str, str], str]) -> dict[str, int]:
    kept: dict[str, int] = {}
    for entry in entries:
        device = rotated.get((entry["shard"], entry["sequence_number"]))
        if device is not None:
            kept[device] = kept.get(device, 0) + 1
    return kept


def _quarantine(found: Judgement, entries: Iterable[Mapping[str, Any]], rotated: Mapping[tuple[str, str], str]) -> None:
    """Judge what quarantine holds, and what it does not."""
    reasons = {
        (entry["shard"], entry["sequence_number"], each["index"]): each["reason"]
        for entry in entries
        for each in entry["rejected"]
    }
    found.lost += [
        f"{place} is rejected, and not in quarantine"
        for place in found.verdict.not_quarantined
        if place[:2] not in rotated
    ]
    found.problems += [
        f"{place} is in quarantine for {reasons[place]}, and fit to be stored"
        for place in found.verdict.wrongly_quarantined
        if place[:2] not in rotated and reasons[place] not in EXCUSED
    ]


def _spared(verdict: Verdict, records: Iterable[Mapping[str, Any]], expected: Any) -> set[Cell]:
    """Return the cells of the records that quarantine holds although they can be decoded: they are not lost."""
    places = {place[:2] for place in verdict.wrongly_quarantined}
    some = [record for record in records if (record["ShardId"], record["SequenceNumber"]) in places]
    return set(expected(some).cells) if some else set()


def _changed(verdict: Verdict, items: Iterable[Mapping[str, AttributeValue]], older: bool) -> list[Cell]:
    """Return what is stored with another content; an older version reads one value less of some."""
    if not verdict.changed:
        return []
    wanted = set(verdict.changed)
    stored: dict[Cell, Reading] = {}
    for item in items:
        there = slot(item)
        stored |= {
            cell: reading
            for name, reading in there.cells.items()
            if (cell := (there.device, there.start, name)) in wanted
        }
    return [
        cell
        for cell, reading in stored.items()
        if not older or not any(_by_older(reading, copy) for copy in verdict.expected.cells[cell])
    ]


def _by_older(stored: Reading, sent: Reading) -> bool:
    """Tell whether the older version makes that of what was sent: all values but the one that it does not know."""
    known = {name: value for name, value in sent.values.items() if name != LATER}
    return (stored.at, stored.format, stored.values) == (sent.at, sent.format, known)


def _balance(found: Judgement, run: Run, rotated: Mapping[tuple[str, str], str]) -> None:
    """Add up what the scans found: every advertisement sent must be in one of the places."""
    verdict, expected = found.verdict, found.verdict.expected
    stored = len(expected.cells) - len(verdict.lost)
    kept = len(expected.rejected) - len(verdict.not_quarantined) + found.quarantined
    ignored = expected.ignored.total()
    either = len(expected.unknown) - expected.ignored["unknown_format"]
    changed = sum(cell[0] in run.rotated for cell in verdict.lost)
    changed += sum(place[:2] in rotated for place in verdict.not_quarantined)
    total = stored + expected.copies + kept + ignored + either + changed
    found.balance = (
        f"{expected.advertisements:,} advertisements = {stored:,} stored + {expected.copies:,} copies + "
        f"{kept:,} quarantined + {ignored:,} ignored" + (f" + {changed:,} under a changed key" if changed else "")
    )
    if total != expected.advertisements and not found.lost:
        found.problems.append(f"the ledger does not balance: {found.balance}")


def _truth(found: Judgement, run: Run, spared: set[Cell], kept: Mapping[str, int]) -> None:
    """Compare the readings of the faults' own sensors with how often those measured."""
    full: dict[str, int] = {}
    for device, _, _ in spared.intersection(found.verdict.lost):
        full[device] = full.get(device, 0) + 1
    for device, measured in run.truth.items():
        there = len(found.verdict.readings.get(device, ())) + full.get(device, 0) + kept.get(device, 0)
        if there < measured:
            found.lost.append(f"{device}: {measured} measurements, {there} readings")
        elif there > measured:
            found.doubled.append(f"{device}: {measured} measurements, {there} readings")


def _rollups(found: Judgement, run: Run) -> None:
    """Compute the roll-ups and the devices' states anew, in two ways, and compare."""
    system = run.system
    found.rollups, wrong = compare_rollups(found.verdict.readings, system.rollups.all())
    found.problems += [f"roll-ups: {line}" for line in wrong]
    wire = client(system.settings)
    try:
        report = Verifier(wire, system.settings).verify(Plan(wait=0.5, lag=0.0))
    finally:
        wire.close()
    found.problems += [f"recomputed: {each.device} {each.start}: {each.kind}" for each in report.first]
