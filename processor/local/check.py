"""The independent check of a run: what the stream held against what the table and the quarantine hold.

It decodes the stream's records itself, works out the cell where each reading belongs, scans the table, lists the
quarantine, and compares cell by cell, value by value. It reads nothing that the function says of itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from processor.decode import NO_KEYS, readings
from processor.decode.formats import BETTER, SUPERSEDED, model_of, sample_of
from processor.decode.gateways import ALL, Advertisement, Known
from processor.decode.record import heard
from processor.errors import DecodeError, KeyMissing
from processor.reading import COUNTERS, Reading
from processor.rules import Limits
from processor.store.reader import once
from processor.store.tables import AttributeValue, cell_name, slot, slot_of
from processor.store.units import item_size, write_units
from processor.store.unreadable import Unreadable

Cell = tuple[str, int, str]
"""Device, slot, cell name: where a reading belongs."""

Place = tuple[str, str, int | None]
"""Shard, sequence number, and the index of an advertisement in the record: None for the record as a whole."""


@dataclass
class Expected:
    """What a set of stream records must have become."""

    records: int = 0
    advertisements: int = 0
    """Advertisements, and records that cannot be opened: what the ledger calls received."""
    cells: dict[Cell, list[Reading]] = field(default_factory=dict)
    """The copies of each reading, by the cell they share: any of them may be the one that stays."""
    places: dict[Cell, list[Place]] = field(default_factory=dict)
    """Where each of these copies came from."""
    copies: int = 0
    """Readings that are one more copy of a cell."""
    rejected: Counter[Place] = field(default_factory=Counter)
    """Everything that belongs in quarantine."""
    ignored: Counter[str] = field(default_factory=Counter)
    unknown: list[Advertisement] = field(default_factory=list)
    """Advertisements that their record alone does not explain."""
    models: dict[str, str] = field(default_factory=dict)
    """What sensors said of their models anywhere in the stream."""
    optional: dict[Cell, list[Reading]] = field(default_factory=dict)
    """Cells that are there only if the sensor's model was known by then, from another record."""
    single_units: float = 0
    """Write units that one item per received reading would have cost."""

    @classmethod
    def of(
        cls,
        records: Iterable[Mapping[str, Any]],
        limits: Limits,
        keys: Mapping[str, bytes] = NO_KEYS,
        known: Known = ALL,
    ) -> Expected:
        """Work out what becomes of stream records (GetRecords entries with `ShardId` added) under ingest's limits."""
        found = cls()
        for record in records:
            found.records += 1
            decoded = found._record(record, limits, keys, known)
            better = {sample_of(reading) for reading, _ in decoded if reading.format in BETTER}
            for reading, index in decoded:
                if reading.format in SUPERSEDED and sample_of(reading) in better:
                    found.ignored["superseded"] += 1
                else:
                    found._reading(reading, (record["ShardId"], record["SequenceNumber"], index))
        found._settle_unknown(keys)
        return found

    def _settle_unknown(self, keys: Mapping[str, bytes]) -> None:
        """Tell what another record's model explains from what nothing does."""
        for one in self.unknown:
            model = self.models.get(one.address or "")
            found = [] if model is None else readings(one.data, one.address, one.at, keys, one.gateway, one.rssi, model)
            for reading in found:
                self.optional.setdefault(_cell(reading), []).append(reading)
            if not found:
                self.ignored["unknown_format"] += 1

    def _record(
        self, record: Mapping[str, Any], limits: Limits, keys: Mapping[str, bytes], known: Known
    ) -> list[tuple[Reading, int]]:
        arrived = round(record["ApproximateArrivalTimestamp"].timestamp() * 1000)
        earliest, latest = limits.allowed(arrived)
        place = (record["ShardId"], record["SequenceNumber"])
        decoded: list[tuple[Reading, int]] = []
        try:
            every = heard(record["Data"], arrived, known)
        except DecodeError:
            self.advertisements += 1
            self.rejected[*place, None] += 1
            return decoded
        self.advertisements += len(every)
        models = {
            each.address: model
            for each in every
            if isinstance(each, Advertisement)
            and each.address is not None
            and (model := model_of(each.data)) is not None
        }
        self.models |= models
        for index, one in enumerate(every):
            try:
                if isinstance(one, DecodeError):
                    raise one
                if isinstance(one, Reading):
                    found = [one]
                else:
                    model = models.get(one.address or "")
                    found = readings(one.data, one.address, one.at, keys, one.gateway, one.rssi, model)
                if not found and isinstance(one, Advertisement):
                    self.unknown.append(one)
                    continue
                kept = [reading for reading in found if not COUNTERS.issuperset(reading.values)]
                if not kept:
                    self.ignored["no_value"] += 1
                elif earliest <= (one.at or 0) <= latest:
                    self.advertisements += len(kept) - 1
                    decoded += [(reading, index) for reading in kept]
                else:
                    self.rejected[*place, index] += 1
            except KeyMissing:
                self.ignored["no_key"] += 1
            except DecodeError:
                self.rejected[*place, index] += 1
        return decoded

    def _reading(self, reading: Reading, place: Place) -> None:
        cell = _cell(reading)
        copies = self.cells.setdefault(cell, [])
        self.copies += bool(copies)
        copies.append(reading)
        self.places.setdefault(cell, []).append(place)
        self.single_units += write_units(0, item_size(_single_item(reading)))


def _cell(reading: Reading) -> Cell:
    at = reading.at or 0
    start = slot_of(at)
    return reading.device, start, cell_name(reading, at - start * 1000)


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
    optional: int = 0
    """Those of them that are there only because a sensor's model was known by then, from another record."""
    lost: list[Cell] = field(default_factory=list)
    foreign: list[Cell] = field(default_factory=list)
    """Cells that nothing sent explains."""
    changed: list[Cell] = field(default_factory=list)
    """Cells whose time, format or values are not those of any copy that was sent."""
    unreadable: list[Unreadable] = field(default_factory=list)
    """What is in the table and can be read as no cell, gateway or slot: nobody sent that either."""
    missing_records: int = 0
    """Records that were sent and are not in the stream."""
    not_quarantined: list[Place] = field(default_factory=list)
    wrongly_quarantined: list[Place] = field(default_factory=list)
    quarantined: int = 0
    readings: dict[str, list[Reading]] = field(default_factory=dict)
    """What each device's readings are, read back: the copies of one in several slots count once."""
    items: int = 0
    largest_item: int = 0

    @property
    def passed(self) -> bool:
        """Tell whether every advertisement sent is accounted for, and nothing else is there."""
        return not (
            self.lost
            or self.foreign
            or self.changed
            or self.unreadable
            or self.missing_records
            or self.not_quarantined
            or self.wrongly_quarantined
        )

    def differences(self) -> list[str]:
        """Return a line for each kind of difference, with the first few of it."""
        kinds: list[tuple[str, Iterable[Any], int]] = [
            ("lost: sent, but not in the table", self.lost, len(self.lost)),
            ("foreign: in the table, but never sent", self.foreign, len(self.foreign)),
            ("changed: another time, format or value than was sent", self.changed, len(self.changed)),
            ("unreadable: in the table, and not as anything is stored there", self.unreadable, len(self.unreadable)),
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
    known: Known = ALL,
) -> Verdict:
    """Compare what was sent with what is there.

    sent: the records' data, from whoever sent them. records: the stream's, read back. items: a scan of the table.
    quarantined: `Quarantine.entries`. limits: ingest's.
    """
    records = list(records)
    expected = Expected.of(records, limits, keys, known)
    sent_data = Counter(sent)
    verdict = Verdict(sent=sent_data.total(), expected=expected)
    verdict.missing_records = (sent_data - Counter(record["Data"] for record in records)).total()
    left = dict(expected.cells)
    found: dict[str, list[Reading]] = {}
    for item in items:
        verdict.items += 1
        verdict.largest_item = max(verdict.largest_item, item_size(item))
        stored = slot(item, verdict.unreadable.append)
        for name, reading in stored.cells.items():
            verdict.found += 1
            cell = (stored.device, stored.start, name)
            found.setdefault(stored.device, []).append(reading)
            copies = left.pop(cell, None)
            if copies is None:
                copies = expected.optional.get(cell)
                verdict.optional += copies is not None
            if copies is None:
                verdict.foreign.append(cell)
            elif not any(_same(copy, reading) for copy in copies):
                verdict.changed.append(cell)
    verdict.readings = {device: list(once(each)) for device, each in found.items()}
    verdict.lost = list(left)
    kept = _kept(quarantined, set(expected.rejected))
    verdict.quarantined = len(kept)
    verdict.not_quarantined = sorted(set(expected.rejected) - kept, key=str)
    verdict.wrongly_quarantined = sorted(kept - set(expected.rejected), key=str)
    return verdict


def _kept(
    quarantined: Iterable[Mapping[str, Any]], rejected: Collection[tuple[str, str, int | None]]
) -> set[tuple[str, str, int | None]]:
    """Return what is in quarantine. Where too many were rejected, one line stands for all that is of its record."""
    kept: set[tuple[str, str, int | None]] = set()
    for entry in quarantined:
        place = entry["shard"], entry["sequence_number"]
        for rejection in entry["rejected"]:
            folded = rejection["index"] is None and rejection["reason"] == "many"
            every = {each for each in rejected if each[:2] == place} if folded else set()
            kept |= every or {(*place, rejection["index"])}
    return kept


def _same(sent: Reading, stored: Reading) -> bool:
    return (sent.at, sent.format, dict(sent.values)) == (stored.at, stored.format, dict(stored.values))


def stream_records(kinesis: Any, stream: str) -> list[dict[str, Any]]:
    """Read a whole stream back, every shard from its oldest record, each record with its `ShardId`."""
    return [record for shard in _shards(kinesis, stream) for record in shard_records(kinesis, stream, shard)]


def shard_records(kinesis: Any, stream: str, shard: str, last: str | None = None) -> Iterator[dict[str, Any]]:
    """Yield a shard's records, those behind a sequence number where one is given, each with its `ShardId`."""
    start = {"ShardIteratorType": "TRIM_HORIZON"}
    if last is not None:
        start = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": last}
    token = kinesis.get_shard_iterator(StreamName=stream, ShardId=shard, **start)["ShardIterator"]
    while token:
        page = kinesis.get_records(ShardIterator=token, Limit=10_000)
        for record in page["Records"]:
            yield {**record, "ShardId": shard}
        if not page["Records"] and not page.get("MillisBehindLatest"):
            break
        token = page.get("NextShardIterator")


def _shards(kinesis: Any, stream: str) -> list[str]:
    """Return the ids of all shards, closed ones included; a listing comes in pages."""
    page = kinesis.list_shards(StreamName=stream)
    found = [shard["ShardId"] for shard in page["Shards"]]
    while "NextToken" in page:
        page = kinesis.list_shards(NextToken=page["NextToken"])
        found += [shard["ShardId"] for shard in page["Shards"]]
    return found
