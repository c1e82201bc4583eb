"""The independent check of a run: what the stream held against what the table and the quarantine hold.

It decodes the stream's records itself, works out the cell where each reading belongs, scans the table, lists the
quarantine, and compares cell by cell, value by value. It reads nothing that the function says of itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from processor.decode import NO_KEYS, readings
from processor.decode.formats import SUPERSEDED
from processor.decode.record import heard
from processor.errors import DecodeError, KeyMissing
from processor.ingest import Limits
from processor.reading import COUNTERS, Reading, Value
from processor.store.tables import AttributeValue, cell_name, slot, slot_of
from processor.store.units import item_size, write_units

Cell = tuple[str, int, str]
"""Device, slot, cell name: where a reading belongs."""


@dataclass
class Expected:
    """What a set of stream records must have become."""

    records: int = 0
    advertisements: int = 0
    """Advertisements, and records that cannot be opened: what the ledger calls received."""
    cells: dict[Cell, Mapping[str, Value]] = field(default_factory=dict)
    copies: int = 0
    """Readings that are one more copy of a cell."""
    rejected: Counter[tuple[str, str, int | None]] = field(default_factory=Counter)
    """(shard, sequence number, index) of everything that belongs in quarantine."""
    ignored: Counter[str] = field(default_factory=Counter)
    single_units: float = 0
    """Write units that one item per received reading would have cost."""

    @classmethod
    def of(cls, records: Iterable[Mapping[str, Any]], limits: Limits, keys: Mapping[str, bytes] = NO_KEYS) -> Expected:
        """Work out what becomes of stream records (GetRecords entries with `ShardId` added) under ingest's limits."""
        found = cls()
        for record in records:
            found.records += 1
            decoded = found._record(record, limits, keys)
            formats = {(reading.device, reading.format) for reading in decoded}
            for reading in decoded:
                if (reading.device, SUPERSEDED.get(reading.format)) in formats:
                    found.ignored["superseded"] += 1
                else:
                    found._reading(reading)
        return found

    def _record(self, record: Mapping[str, Any], limits: Limits, keys: Mapping[str, bytes]) -> list[Reading]:
        arrived = round(record["ApproximateArrivalTimestamp"].timestamp() * 1000)
        earliest, latest = limits.allowed(arrived)
        place = (record["ShardId"], record["SequenceNumber"])
        decoded: list[Reading] = []
        try:
            every = heard(record["Data"], arrived)
        except DecodeError:
            self.advertisements += 1
            self.rejected[*place, None] += 1
            return decoded
        self.advertisements += len(every)
        for index, one in enumerate(every):
            try:
                if isinstance(one, DecodeError):
                    raise one
                found = readings(one.data, one.address, one.at, keys, one.gateway, one.rssi)
                kept = [reading for reading in found if not COUNTERS.issuperset(reading.values)]
                if not kept:
                    self.ignored["no_value" if found else "unknown_format"] += 1
                elif earliest <= one.at <= latest:
                    self.advertisements += len(kept) - 1
                    decoded += kept
                else:
                    self.rejected[*place, index] += 1
            except KeyMissing:
                self.ignored["no_key"] += 1
            except DecodeError:
                self.rejected[*place, index] += 1
        return decoded

    def _reading(self, reading: Reading) -> None:
        at = reading.at or 0
        start = slot_of(at)
        cell = (reading.device, start, cell_name(reading, at - start * 1000))
        if cell in self.cells:
            self.copies += 1
        self.cells[cell] = reading.values
        self.single_units += write_units(0, item_size(_single_item(reading)))


def _single_item(reading: Reading) -> dict[str, AttributeValue]:
    """Return the item that storing each reading on its own would write: full names, the usual plain design."""
    item: dict[str, AttributeValue] = {
        "device": {"S": reading.device},
        "at": {"N": str(reading.at)},
        "gateway": {"S": reading.gateway or ""},
        "rssi": {"N": str(reading.rssi or 0)},
    }
    for name, value in reading.values.items():
        item[name] = {"S": str(value)} if isinstance(value, str) else {"N": str(value)}
    return item


@dataclass
class Verdict:
    """What the check found. It passes when nothing is lost, foreign, changed or unaccounted for."""

    sent: int
    """Records that the sender knows it sent."""
    expected: Expected
    found: int = 0
    """Cells in the table."""
    lost: list[Cell] = field(default_factory=list)
    foreign: list[Cell] = field(default_factory=list)
    """Cells that nothing sent explains."""
    changed: list[Cell] = field(default_factory=list)
    """Cells whose values are not those that were sent."""
    missing_records: int = 0
    """Records that were sent and are not in the stream."""
    not_quarantined: list[tuple[str, str, int | None]] = field(default_factory=list)
    wrongly_quarantined: list[tuple[str, str, int | None]] = field(default_factory=list)
    quarantined: int = 0
    items: int = 0
    largest_item: int = 0

    @property
    def passed(self) -> bool:
        """Tell whether every advertisement sent is accounted for, and nothing else is there."""
        return not (
            self.lost
            or self.foreign
            or self.changed
            or self.missing_records
            or self.not_quarantined
            or self.wrongly_quarantined
        )

    def differences(self) -> list[str]:
        """Return a line for each kind of difference, with the first few of it."""
        kinds: list[tuple[str, Iterable[Any], int]] = [
            ("lost: sent, but not in the table", self.lost, len(self.lost)),
            ("foreign: in the table, but never sent", self.foreign, len(self.foreign)),
            ("changed: other values than were sent", self.changed, len(self.changed)),
            ("not in the stream: sent records", (), self.missing_records),
            ("rejected, but not in quarantine", self.not_quarantined, len(self.not_quarantined)),
            ("in quarantine, but fit to be stored", self.wrongly_quarantined, len(self.wrongly_quarantined)),
        ]
        return [
            f"{count} {what}" + "".join(f"\n    {one}" for one in list(some)[:5])
            for what, some, count in kinds
            if count
        ]


def compare(
    sent: Iterable[bytes],
    records: Iterable[Mapping[str, Any]],
    items: Iterable[Mapping[str, AttributeValue]],
    quarantined: Iterable[Mapping[str, Any]],
    limits: Limits,
    keys: Mapping[str, bytes] = NO_KEYS,
) -> Verdict:
    """Compare what was sent with what is there.

    sent: the records' data, from whoever sent them. records: the stream's, read back. items: a scan of the table.
    quarantined: `Quarantine.entries`. limits: ingest's.
    """
    records = list(records)
    expected = Expected.of(records, limits, keys)
    sent_data = Counter(sent)
    verdict = Verdict(sent=sent_data.total(), expected=expected)
    verdict.missing_records = (sent_data - Counter(record["Data"] for record in records)).total()
    left = dict(expected.cells)
    for item in items:
        verdict.items += 1
        verdict.largest_item = max(verdict.largest_item, item_size(item))
        stored = slot(item)
        for name, reading in stored.cells.items():
            verdict.found += 1
            cell = (stored.device, stored.start, name)
            values = left.pop(cell, None)
            if values is None:
                verdict.foreign.append(cell)
            elif dict(values) != dict(reading.values):
                verdict.changed.append(cell)
    verdict.lost = list(left)
    kept = {
        (entry["shard"], entry["sequence_number"], rejection["index"])
        for entry in quarantined
        for rejection in entry["rejected"]
    }
    verdict.quarantined = len(kept)
    verdict.not_quarantined = sorted(set(expected.rejected) - kept, key=str)
    verdict.wrongly_quarantined = sorted(kept - set(expected.rejected), key=str)
    return verdict


def stream_records(kinesis: Any, stream: str) -> list[dict[str, Any]]:
    """Read a whole stream back, every shard from its oldest record, each record with its `ShardId`."""
    found = []
    for shard in kinesis.list_shards(StreamName=stream)["Shards"]:
        name = shard["ShardId"]
        iterator = kinesis.get_shard_iterator(StreamName=stream, ShardId=name, ShardIteratorType="TRIM_HORIZON")
        token = iterator["ShardIterator"]
        while token:
            page = kinesis.get_records(ShardIterator=token, Limit=10_000)
            found += [{**record, "ShardId": name} for record in page["Records"]]
            if not page["Records"] and not page.get("MillisBehindLatest"):
                break
            token = page.get("NextShardIterator")
    return found
