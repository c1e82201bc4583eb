"""What stream records must have become, worked out anew: cells, what belongs in quarantine, what is ignored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from processor.decode import NO_KEYS, readings
from processor.decode.formats import BETTER, SUPERSEDED, model_of, sample_of
from processor.decode.gateways import ALL, Advertisement, Known
from processor.decode.record import heard
from processor.errors import DecodeError, KeyMissing
from processor.reading import COUNTERS, Reading
from processor.rules import Limits
from processor.store.tables import AttributeValue, cell_name, slot_of
from processor.store.units import item_size, write_units

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
