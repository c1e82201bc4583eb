"""What the benchmarks decode: advertisements of every format, all different, as a fleet of sensors would send them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from processor.decode.advertisement import manufacturer_data, service_data, structure
from processor.decode.formats import bthome, eddystone, ibeacon, ruuvi
from processor.reading import Value

FLAGS = structure(0x01, b"\x06")
"""The AD structure that most advertisements start with: general discoverable, no BR/EDR."""

SENSORS = 50
VECTORS = Path(__file__).parents[1] / "vectors"


class Message(NamedTuple):
    """One advertisement: who sent it, its AD structures, what it says, and the bindkey where it is encrypted."""

    address: str
    data: bytes
    values: Mapping[str, Value]
    key: bytes | None = None


Values = Callable[[random.Random, int], "dict[str, Value]"]
"""(chance, the sensor's n-th message) → what it measured."""


def _weather(chance: random.Random, n: int) -> dict[str, Value]:
    return {
        "temperature": chance.randrange(-4000, 8000) / 200,
        "humidity": chance.randrange(0, 40000) / 400,
        "pressure": chance.randrange(95000, 105000),
        "sequence": n,
    }


def _tag(chance: random.Random, n: int) -> dict[str, Value]:
    axes = {f"acceleration_{axis}": chance.randrange(-2000, 2000) / 1000 for axis in "xyz"}
    voltage = chance.randrange(2000, 3600) / 1000
    return _weather(chance, n) | axes | {"battery_voltage": voltage, "tx_power": 4, "movement_counter": n % 255}


def _old_tag(chance: random.Random, n: int) -> dict[str, Value]:
    found = _tag(chance, n)
    found |= {"humidity": chance.randrange(200) / 2, "temperature": chance.randrange(-2000, 4000) / 100}
    return {name: value for name, value in found.items() if name not in ("sequence", "tx_power", "movement_counter")}


def _air(chance: random.Random, n: int) -> dict[str, Value]:
    tenths = {name: chance.randrange(1000) / 10 for name in ("pm1_0", "pm2_5", "pm4_0", "pm10")}
    counts = {
        "co2": chance.randrange(400, 4000),
        "voc_index": chance.randrange(500),
        "nox_index": chance.randrange(500),
    }
    return _weather(chance, n) | tenths | counts | {"illuminance": chance.randrange(100_000) / 100}


def _small_air(chance: random.Random, n: int) -> dict[str, Value]:
    found = _air(chance, n)
    found["illuminance"] = ruuvi.DF6.fields[7].lookup[chance.randrange(255)]  # type: ignore[index, assignment]
    return {name: value for name, value in found.items() if name not in ("pm1_0", "pm4_0", "pm10")}


def _room(chance: random.Random, n: int) -> dict[str, Value]:
    return {
        "packet_id": n,
        "battery": chance.randrange(101),
        "temperature": chance.randrange(-2000, 4000) / 100,
        "humidity": chance.randrange(10_000) / 100,
    }


def _proximity(chance: random.Random, n: int) -> dict[str, Value]:
    numbers = {"major": chance.randrange(65536), "minor": n, "tx_power": -59}
    return {"uuid": f"{chance.randbytes(4).hex()}-7e1d-4c7a-9d0b-{chance.randbytes(6).hex()}", **numbers}


def _place(chance: random.Random, n: int) -> dict[str, Value]:
    return {"tx_power": -20, "namespace": chance.randbytes(10).hex(), "instance": chance.randbytes(6).hex()}


def _page(chance: random.Random, n: int) -> dict[str, Value]:
    return {"tx_power": -20, "url": f"https://example.com/{chance.randrange(100_000)}"}


def _beacon(chance: random.Random, n: int) -> dict[str, Value]:
    return {
        "battery_voltage": chance.randrange(2000, 3600) / 1000,
        "temperature": chance.randrange(-5000, 10_000) / 256,
        "advertisement_count": chance.randrange(1 << 24) + n,
        "uptime_s": chance.randrange(1 << 24) / 10,
    }


Encode = Callable[[Mapping[str, Value], str, "bytes | None", int], bytes]
"""(values, address, key, counter) → the advertisement."""

MAKERS: dict[str, tuple[Values, Encode]] = {
    "ruuvi.3": (_old_tag, lambda values, *_: _ruuvi(ruuvi.RAWV1.encode(values))),
    "ruuvi.5": (_tag, lambda values, address, *_: _ruuvi(ruuvi.RAWV2.encode(values, address=address))),
    "ruuvi.6": (_small_air, lambda values, *_: _ruuvi(ruuvi.DF6.encode(values))),
    "ruuvi.e1": (_air, lambda values, address, *_: _ruuvi(ruuvi.E1.encode(values, address=address))),
    "bthome.2": (_room, lambda values, *_: _bthome(bthome.encode(values))),
    "bthome.2 encrypted": (
        _room,
        lambda values, address, key, n: _bthome(bthome.encode(values, address=address, key=key, counter=n)),
    ),
    "ibeacon": (_proximity, lambda values, *_: _ibeacon(ibeacon.IBEACON.encode(values))),
    "eddystone.uid": (_place, lambda values, *_: _eddystone(eddystone.UID.encode(values))),
    "eddystone.url": (_page, lambda values, *_: _eddystone(eddystone.URL.encode(values))),
    "eddystone.tlm": (_beacon, lambda values, *_: _eddystone(eddystone.TLM.encode(values))),
}
"""What a sensor of each format measures, and how it says so in an advertisement."""


def _ruuvi(payload: bytes) -> bytes:
    return FLAGS + manufacturer_data(ruuvi.COMPANY, payload)


def _bthome(payload: bytes) -> bytes:
    return FLAGS + service_data(bthome.UUID, payload)


def _ibeacon(payload: bytes) -> bytes:
    return FLAGS + manufacturer_data(ibeacon.COMPANY, payload)


def _eddystone(payload: bytes) -> bytes:
    return FLAGS + structure(0x03, eddystone.UUID.to_bytes(2, "little")) + service_data(eddystone.UUID, payload)


def messages(kind: str, count: int, *, sensors: int = SENSORS) -> list[Message]:
    """Return `count` different advertisements, the sensors taking turns; the same ones each time."""
    chance = random.Random(kind)
    measure, encode = MAKERS[kind]
    encrypted = kind.endswith("encrypted")
    addresses = [chance.randbytes(6).hex(":").upper() for _ in range(sensors)]
    keys = [chance.randbytes(16) if encrypted else None for _ in range(sensors)]
    found = []
    for n in range(count):
        turn, sensor = divmod(n, sensors)
        address, key, counter = addresses[sensor], keys[sensor], turn + 1  # a peer takes packet id 0 for none
        values = measure(chance, counter)
        found.append(Message(address, encode(values, address, key, counter), values, key))
    return found


def vector(kind: str) -> Message:
    """Return the advertisement of a published test vector, with the values that its specification gives."""
    file, label = VECTOR_OF[kind]
    entries = json.loads((VECTORS / file).read_text())["vectors"]
    entry = next(entry for entry in entries if entry.items() >= label.items())
    payload = bytes.fromhex(entry["hex"].replace("XX", "00"))
    values = {name: value for name, value in entry["values"].items() if name != "mac"}
    address = entry.get("mac", "CBB8334C884F")
    key = bytes.fromhex(entry["key"]) if "key" in entry else None
    wrapped = {"ruuvi.json": _ruuvi, "bthome.json": _bthome}.get(file, _ibeacon if kind == "ibeacon" else _eddystone)
    return Message(bytes.fromhex(address).hex(":").upper(), wrapped(payload), values, key)


VECTOR_OF: dict[str, tuple[str, dict[str, str]]] = {
    "ruuvi.3": ("ruuvi.json", {"format": "df3", "case": "valid"}),
    "ruuvi.5": ("ruuvi.json", {"format": "df5", "case": "valid"}),
    "ruuvi.6": ("ruuvi.json", {"format": "df6", "case": "valid"}),
    "ruuvi.e1": ("ruuvi.json", {"format": "e1", "case": "valid"}),
    "bthome.2": ("bthome.json", {"case": "temperature and humidity"}),
    "bthome.2 encrypted": ("bthome.json", {"case": "encrypted"}),
    "ibeacon": ("beacons.json", {"format": "ibeacon", "case": "valid"}),
    "eddystone.uid": ("beacons.json", {"format": "eddystone.uid", "case": "valid"}),
    "eddystone.url": ("beacons.json", {"format": "eddystone.url", "case": "valid"}),
    "eddystone.tlm": ("beacons.json", {"format": "eddystone.tlm", "case": "valid"}),
}
"""The vector of each format: its file in tests/vectors, and what tells it from the others there."""
