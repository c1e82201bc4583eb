"""What came of a run under faults, told from what was sent and from the tables alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from processor.local.check import Verdict, compare, stream_records
from processor.local.expected import Cell
from processor.local.faults.balance import Balance
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
from processor.verify.plan import Plan
from processor.verify.verifier import Verifier


@dataclass
class Judgement:
    """What a run came to.

    lost: not stored, or rejected and not kept in quarantine. doubled: stored, and not explained by what was sent, or
    counted more often than it was measured. problems: whatever else must not be.
    """

    verdict: Verdict
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
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
    verdict = compare(system.sent, records, items, entries, system.limits, keys, known_gateways(system.settings))
    found = Judgement(verdict)
    rotated = Rotated.of(run, records, entries, verdict)
    found.lost += [f"{cell}" for cell in verdict.lost] + rotated.lost
    found.lost += [f"{place} is rejected, and not in quarantine" for place in verdict.not_quarantined]
    if verdict.missing_records:
        found.lost.append(f"{verdict.missing_records} records are not in the stream")
    found.doubled += [f"{cell} was never sent" for cell in verdict.foreign if cell not in rotated.stored]
    reasons = {
        (entry["shard"], entry["sequence_number"], each["index"]): each["reason"]
        for entry in entries
        for each in entry["rejected"]
    }
    found.problems += [
        f"{place} is in quarantine for {reasons[place]}, and fit to be stored"
        for place in verdict.wrongly_quarantined
        if place[:2] not in rotated.places
    ]
    found.problems += [f"{cell} is not as it was sent" for cell in _changed(verdict, items, run.versions.changed)]
    found.problems += [f"{each}" for each in verdict.unreadable]
    found.problems += run.witness.firsts.see(items)
    _balance(found, rotated)
    _ledger(found, system.totals.ledger)
    _truth(found, run, rotated)
    if fleet is not None:
        own = {sensor.address for sensor in fleet.sensors}
        stored = {device: each for device, each in verdict.readings.items() if device in own}
        found.problems += [f"the fleet's measurements: {line}" for line in fleet.compare(stored)]
    _rollups(found, run)
    found.problems += run.witness.problems + run.order.problems + run.errors
    return found


@dataclass
class Rotated:
    """What became of the records of sensors whose key was changed: stored or in quarantine, as the key was just then.

    places: all of them. stored: their cells that the table holds. kept: per device, records that only quarantine holds.
    lost: records that neither holds.
    """

    places: set[tuple[str, str]] = field(default_factory=set)
    stored: set[Cell] = field(default_factory=set)
    kept: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)

    @classmethod
    def of(
        cls, run: Run, records: Iterable[Mapping[str, Any]], entries: Iterable[Mapping[str, Any]], verdict: Verdict
    ) -> Rotated:
        """Open each record by the key that it was sealed with, and look for it in the table and in quarantine."""
        found = cls()
        quarantined = {(entry["shard"], entry["sequence_number"]) for entry in entries}
        for record in records:
            if record["Data"] not in run.rotated:
                continue
            device, key = run.rotated[record["Data"]]
            place = (record["ShardId"], record["SequenceNumber"])
            cells = run.expected([record], {device: key}).cells.keys()
            found.places.add(place)
            found.stored |= cells & set(verdict.foreign)
            if not cells <= found.stored:
                found.kept[device] += place in quarantined
                found.lost += [] if place in quarantined else [f"{place}, of {device}, whose key was changed"]
        return found


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


def _balance(found: Judgement, rotated: Rotated) -> None:
    """Add up what the scans found: every advertisement sent must be in one of the places, and nothing else there."""
    twice = sum(place[:2] in rotated.places for place in found.verdict.wrongly_quarantined)
    # Without its key, which changed, an advertisement counts as one of a neighbour's.
    ledger = Balance.of(found.verdict, quarantined=rotated.kept.total() - twice, ignored=-len(rotated.places))
    found.balance = str(ledger)
    if not ledger.holds and not found.lost:
        found.problems.append(f"the ledger does not balance: {found.balance}")


def _ledger(found: Judgement, ledger: Mapping[str, int]) -> None:
    """Add up what the function said of itself: each invocation's parts are all that it received."""
    parts = sum(ledger.get(name, 0) for name in ("stored", "duplicates", "rejected", "ignored", "failed"))
    if parts != ledger.get("received", 0):
        found.problems.append(f"the function's ledger: {ledger.get('received', 0):,} received, and parts of {parts:,}")


def _truth(found: Judgement, run: Run, rotated: Rotated) -> None:
    """Compare the readings of the faults' own sensors with how often those measured."""
    for device, measured in run.truth.items():
        there = len(found.verdict.readings.get(device, ())) + rotated.kept[device]
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
