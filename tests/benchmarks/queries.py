"""What a day of 200 devices costs to read: this package's tables against one item for each reading.

Read units, computed from real items by AWS's rules (what a page of at most 1 MB holds, rounded up to 4 KB; half a unit
each, for reads need not be consistent). The answers come by the package's own queries, and are compared with the
readings. Two devices are computed, and taken for two hundred.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from processor.ask.choice import Member
from processor.ask.query import Question, Source, summed
from processor.reading import KEYS, Reading
from processor.store.budget import Budget, Metered
from processor.store.reader import Reader
from processor.store.registry import Device
from processor.store.rollups import Rollups, item_of
from processor.store.tables import AttributeValue, cell_name, cell_value, slot, slot_of
from processor.store.units import item_size, read_units
from tests.benchmarks.measure import show, verdict

DEVICES = 200
COMPUTED = 2
DAY = 86_400
START = 1_700_006_400
INTERVALS = (1, 10, 60)
PAGE = 1 << 20
GATEWAY = "C8:25:2D:8E:9C:2C"


class Tables:
    """A client that answers queries from items in memory, in pages of 1 MB."""

    def __init__(self) -> None:
        self.items: dict[tuple[str, str], list[tuple[int, int, dict[str, AttributeValue]]]] = {}

    def put(self, table: str, key: str, item: dict[str, AttributeValue]) -> None:
        place = table, item["device"]["S"]
        self.items.setdefault(place, []).append((int(item[key]["N"]), item_size(item), item))

    def call(self, operation: str, body: Mapping[str, Any], *, deadline: float | None = None) -> dict[str, Any]:
        assert operation == "Query"
        values = body["ExpressionAttributeValues"]
        first, last = int(values[":a"]["N"]), int(values[":b"]["N"])
        after = int(body.get("ExclusiveStartKey", {}).get("key", {}).get("N", -1))
        page, size = [], 0
        forward = body.get("ScanIndexForward", True)
        for key, bytes_, item in self.items.get((body["TableName"], values[":d"]["S"]), [])[:: 1 if forward else -1]:
            if first <= key <= last and key > after:
                page.append(item)
                size += bytes_
                if size > PAGE or len(page) == body.get("Limit"):
                    return {"Items": page, "LastEvaluatedKey": {"key": {"N": str(key)}}}
        return {"Items": page}

    def close(self) -> None:
        pass


def readings(device: str, interval: int) -> list[Reading]:
    """Return a day of a RuuviTag, a reading each `interval` seconds."""
    chance = random.Random(device)
    found = []
    for n in range(DAY // interval):
        values = {
            "temperature": round(chance.gauss(21, 3), 2) // 0.005 * 5 / 1000,
            "humidity": chance.randrange(0, 40_000) * 25 / 10_000,
            "pressure": chance.randrange(98_000, 103_000),
            "acceleration_x": chance.randrange(-1000, 1000) / 1000,
            "acceleration_y": chance.randrange(-1000, 1000) / 1000,
            "acceleration_z": chance.randrange(-1000, 1000) / 1000,
            "battery_voltage": chance.randrange(2900, 3000) / 1000,
            "tx_power": 4,
            "movement_counter": n // 500 % 256,
            "sequence": n % 65_535,
        }
        at = (START + n * interval) * 1000 + chance.randrange(900)
        found.append(Reading(device, at, "ruuvi.5", values, n % 65_535, chance.randrange(1 << 24), GATEWAY, -60))
    return found


def single(reading: Reading, *, short: bool) -> dict[str, AttributeValue]:
    """Return the item that storing a reading on its own would write: full names, or the short keys we use."""
    item: dict[str, AttributeValue] = {
        "device": {"S": reading.device},
        "at": {"N": str(reading.at)},
        "g" if short else "gateway": {"S": reading.gateway or ""},
        "r" if short else "rssi": {"N": str(reading.rssi)},
    }
    for name, value in reading.values.items():
        item[KEYS[name] if short else name] = {"N": repr(value)}
    return item


def stored(tables: Tables, every: list[Reading]) -> None:
    """Put one device's readings into the tables, as ingest and the roll-up function do."""
    items: dict[int, dict[str, AttributeValue]] = {}
    for reading in every:
        start = slot_of(reading.at or 0)
        key: dict[str, AttributeValue] = {"device": {"S": reading.device}, "slot": {"N": str(start)}}
        item = items.setdefault(start, {**key, "expires": {"N": "4000000000"}, f"g{GATEWAY}": {"N": "-60"}})
        offset = (reading.at or 0) - start * 1000
        item[cell_name(reading, offset)] = cell_value(reading, offset)
    for item in items.values():
        tables.put("readings", "slot", item)
    for rollup in summed(every[0].device, START, START + DAY, map(slot, items.values())):
        tables.put("rollups", "start", item_of(rollup))


def paged(sizes: list[int]) -> float:
    """Return the units of a query of items of these sizes."""
    units, page = 0.0, 0
    for size in sizes:
        page += size
        if page > PAGE:
            units, page = units + read_units(page), 0
    return units + (read_units(page) if page else 0)


def units_of(interval: int) -> dict[str, float]:
    """Return the read units of a day of DEVICES devices, by way of storing and asking."""
    found = dict.fromkeys(("one item a reading", "with short names", "raw", "5m", "hour", "day"), 0.0)
    for number in range(COMPUTED):
        device = f"AA:00:00:00:00:{number:02X}"
        every = readings(device, interval)
        found["one item a reading"] += paged([item_size(single(each, short=False)) for each in every])
        found["with short names"] += paged([item_size(single(each, short=True)) for each in every])
        tables = Tables()
        stored(tables, every)
        for resolution in ("raw", "5m", "hour", "day"):
            spent = Budget()
            client = Metered(tables, spent, measure=True)
            source = Source(Reader(client, "readings"), Rollups(client, "rollups"), threads=4)
            question = Question([Member(Device(device))], START * 1000, (START + DAY) * 1000, resolution)
            if resolution == "raw":
                assert [(each.at, dict(each.values)) for each in source.readings(question)] == [
                    (each.at, dict(each.values)) for each in every
                ]
            else:
                assert sum(each.readings for each in source.summaries(question)) == len(every)
            found[resolution] += spent.units
    return {name: units * DEVICES / COMPUTED for name, units in found.items()}


def run(rounds: int, count: int, least: float) -> None:
    """Print the table. None of it is timed, so that rounds and counts change nothing; quick: ten seconds only."""
    rows = []
    for interval in INTERVALS if least else (10,):
        units = units_of(interval)
        plain = units["one item a reading"]
        for way, each in units.items():
            ours = way in ("raw", "5m", "hour", "day")
            rows.append(
                [
                    f"{interval} s, {way}",
                    f"{each:,.0f}",
                    f"{each / plain:.3f}",
                    verdict(each / plain, most=0.1) if ours else "–",
                ]
            )
    head = ("a day of 200 devices, a reading each …", "read units", "of one item a reading", "at most")
    show("Read units by AWS's size rules, eventually consistent.", head, rows)
