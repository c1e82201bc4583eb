"""The count: what the tables hold of the marked readings, read by boto3, item by item, and compared with what was sent.

The readings' cells and the roll-ups are taken apart here by their documented shapes (processor/store/tables.py,
rollups.py), not by the code that wrote them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from processor.audit.marks import Mark, Post

RANGE_SECONDS = 300
THREADS = 8

Item = Mapping[str, Any]


class Tables(NamedTuple):
    """What the tables hold of the marked devices: items as boto3's client gives them."""

    readings: list[Item]
    rollups: list[Item]
    devices: list[Item]


class Truth:
    """What was sent, to compare with: by place, which is what the cell's name and key say."""

    def __init__(self, posts: Iterable[Post]) -> None:
        self.marks: dict[tuple[str, int], Mark] = {}
        """Each reading as it was first measured, by device and counter."""
        self.places: set[tuple[str, int, int]] = set()
        """Device, slot and counter of each cell that must be there: a copy heard later may stand in the next slot."""
        latest: dict[str, int] = {}
        copies = 0
        for mark in (mark for post in posts for mark in post.marks):
            copies += 1
            self.places.add((mark.device, mark.slot, mark.counter))
            known = self.marks.get((mark.device, mark.counter))
            if known is None or mark.at < known.at:
                self.marks[mark.device, mark.counter] = mark
            latest[mark.device] = max(mark.at, latest.get(mark.device, 0))
        self.copies = copies - len(self.marks)
        """How many readings were sent a second time."""
        self.last: dict[str, tuple[int, int]] = dict.fromkeys(latest, (0, 0))
        """When each device was last seen, from and to: the first copy of a reading may be stored, or a later one."""
        for mark in self.marks.values():
            self.last[mark.device] = max(mark.at, self.last[mark.device][0]), latest[mark.device]

    @property
    def devices(self) -> list[str]:
        """The marked devices, in order."""
        return sorted(self.last)

    def ranges(self) -> dict[tuple[str, int], tuple[int, Decimal]]:
        """Return what each range's roll-up must say: how many readings, and the sum of their pressures."""
        found: dict[tuple[str, int], tuple[int, Decimal]] = {}
        for mark in self.marks.values():
            place = mark.device, mark.at // 1000 // RANGE_SECONDS * RANGE_SECONDS
            count, total = found.get(place, (0, Decimal(0)))
            found[place] = count + 1, total + mark.pressure
        return found


@dataclass
class Counts:
    """What became of the marked readings. The lists name each that is not as it should be, in words."""

    sent: int = 0
    stored: int = 0
    items: int = 0
    streamed: int | None = None
    """Items that the table's stream told of at least once; None where it could not be read."""
    rolled_up: int = 0
    ranges: int = 0
    devices: int = 0
    missing: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Tell whether every reading is accounted for: stored, streamed and rolled up, once, and as it was sent."""
        return not (self.missing or self.doubled or self.changed)


def count(truth: Truth, tables: Tables, streamed: Mapping[tuple[str, int], int] | None) -> Counts:
    """Compare the tables with what was sent. streamed: how often each item was in the stream; None: not read."""
    counts = Counts(sent=len(truth.marks))
    _count_readings(truth, tables.readings, counts)
    _count_rollups(truth, tables.rollups, counts)
    _count_devices(truth, tables.devices, counts)
    if streamed is not None:
        items = {(device, slot) for device, slot, _ in truth.places}
        counts.streamed = len(items & streamed.keys())
        counts.missing += [
            f"{device} {_iso(slot)}: not in the stream" for device, slot in sorted(items - streamed.keys())
        ]
    return counts


def _count_readings(truth: Truth, items: Iterable[Item], counts: Counts) -> None:
    found: Counter[tuple[str, int, int]] = Counter()
    for item in items:
        device, slot = item["device"]["S"], int(item["slot"]["N"])
        counts.items += 1
        for name, value in item.items():
            if name[0] not in "ct" or "." not in name or "M" not in value:
                continue
            digits = name[1:].partition(".")[0]
            place = device, slot, int(digits) if name[0] == "c" and digits.isdecimal() else -1
            found[place] += 1
            what = f"{device} {_iso(slot)} counter {place[2]}"
            mark = truth.marks.get((device, place[2]))
            if mark is None:
                counts.doubled.append(f"{what}: stored, and never sent")
            elif place not in truth.places:
                counts.doubled.append(f"{what}: stored in a slot in which it was not measured")
            elif found[place] > 1:
                counts.doubled.append(f"{what}: stored {found[place]} times")
            elif (said := _values(value["M"])) != (Decimal(str(mark.temperature)), Decimal(mark.pressure)):
                counts.changed.append(f"{what}: stored as {said[0]} °C, {said[1]} Pa; sent as {mark.temperature} °C, "
                                      f"{mark.pressure} Pa")  # fmt: skip
    counts.stored = len({(device, counter) for device, _, counter in found if (device, counter) in truth.marks})
    for device, slot, counter in sorted(truth.places - found.keys()):
        counts.missing.append(f"{device} {_iso(slot)} counter {counter}: not stored")


def _values(cell: Item) -> tuple[Decimal | None, Decimal | None]:
    temperature, pressure = (Decimal(cell[key]["N"]) if "N" in cell.get(key, ()) else None for key in ("t", "p"))
    return temperature, pressure


def _count_rollups(truth: Truth, items: Iterable[Item], counts: Counts) -> None:
    expected = truth.ranges()
    found: set[tuple[str, int]] = set()
    for item in items:
        place = item["device"]["S"], int(item["start"]["N"])
        readings = int(item.get("r", {}).get("N", 0))
        counts.rolled_up += readings
        counts.ranges += readings > 0
        found.add(place)
        wanted, total = expected.get(place, (0, Decimal(0)))
        what = f"roll-up of {place[0]} {_iso(place[1])}"
        if readings != wanted:
            (counts.doubled if readings > wanted else counts.missing).append(
                f"{what}: {readings} readings, not {wanted}"
            )
            continue
        summaries = item.get("q", {}).get("M", {})
        said = {key: (int(each["M"]["n"]["N"]), Decimal(each["M"]["sum"]["N"])) for key, each in summaries.items()}
        numbers = [said.get(key, (0, Decimal(0))) for key in ("t", "p")]
        if [each[0] for each in numbers] != [wanted, wanted] or numbers[1][1] != total:
            counts.changed.append(
                f"{what}: {numbers[0][0]} temperatures, {numbers[1][0]} pressures of {numbers[1][1]} Pa together; sent "
                f"{wanted} of each, {total} Pa"
            )
    for device, start in sorted(expected.keys() - found):
        counts.missing.append(f"roll-up of {device} {_iso(start)}: none")


def _count_devices(truth: Truth, items: Iterable[Item], counts: Counts) -> None:
    seen = {item["device"]["S"]: int(item["last_seen"]["N"]) for item in items if "last_seen" in item}
    counts.devices = len(seen.keys() & truth.last.keys())
    for device, (first, last) in sorted(truth.last.items()):
        if device not in seen:
            counts.missing.append(f"state of {device}: none")
        elif not first <= seen[device] <= last:
            counts.changed.append(f"state of {device}: last seen {_iso(seen[device] / 1000)}, not {_iso(last / 1000)}")


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


class Auditor:
    """Reads the marked devices' items, and deletes them. dynamodb: a boto3 client; names: of the three tables.

    whole: scan the tables, which are ours alone, so that what went to another device is seen too.
    """

    def __init__(self, dynamodb: Any, names: tuple[str, str, str], devices: list[str], whole: bool) -> None:
        self._dynamodb = dynamodb
        self._names = names
        self._devices = devices
        self._whole = whole

    def read(self) -> Tables:
        """Return what the tables hold now."""
        return Tables(*(list(self._items(name)) for name in self._names))

    def _items(self, table: str) -> Iterator[Item]:
        if self._whole:
            for page in self._dynamodb.get_paginator("scan").paginate(TableName=table, ConsistentRead=True):
                yield from page["Items"]
            return
        with ThreadPoolExecutor(THREADS) as pool:
            for found in pool.map(lambda device: self._query(table, device), self._devices):
                yield from found

    def _query(self, table: str, device: str) -> list[Item]:
        pages = self._dynamodb.get_paginator("query").paginate(
            TableName=table,
            ConsistentRead=True,
            KeyConditionExpression="#d = :d",
            ExpressionAttributeNames={"#d": "device"},
            ExpressionAttributeValues={":d": {"S": device}},
        )
        return [item for page in pages for item in page["Items"]]

    def clean(self, wait: Callable[[Callable[[], bool]], None]) -> int:
        """Delete all that the marked devices left; return how many items.

        The roll-up function answers the deletion of readings with empty roll-ups. So those go last, when `wait`, which
        is given what tells it, has seen them, and once more a moment later; what it still writes after that is empty.
        Not where the tables are `whole`: it would empty them.
        """
        readings, rollups, devices = self._names
        gone = self._delete(readings, ("device", "slot"))
        wait(lambda: all(item["n"]["N"] == "0" for item in self._items(rollups)))
        gone += self._delete(rollups, ("device", "start")) + self._delete(devices, ("device",))
        wait(lambda: not self._delete(rollups, ("device", "start")))
        return gone

    def _delete(self, table: str, names: tuple[str, ...]) -> int:
        keys = [{name: item[name] for name in names} for item in self._items(table)]
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(lambda key: self._dynamodb.delete_item(TableName=table, Key=key), keys))
        return len(keys)
