"""The independent check of a run: what the stream held against what the table and the quarantine hold.

It decodes the stream's records itself, works out the cell where each reading belongs, scans the table, lists the
quarantine, and compares cell by cell, value by value. It reads nothing that the function says of itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from processor.decode import NO_KEYS
from processor.decode.gateways import ALL, Known
from processor.local.expected import Cell, Expected, Place
from processor.reading import Reading
from processor.rules import Limits
from processor.store.reader import once
from processor.store.tables import AttributeValue, slot
from processor.store.units import item_size
from processor.store.unreadable import Unreadable


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


def _kept(quarantined: Iterable[Mapping[str, Any]], rejected: Collection[Place]) -> set[Place]:
    """Return what is in quarantine. Where too many were rejected, one line stands for all that is of its record."""
    kept: set[Place] = set()
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
