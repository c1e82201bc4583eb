"""What the benchmarks decode: advertisements of every format, all different, as a fleet of sensors would send them.

Each kind starts from a published vector. A message of it says other values, at random within what its quantities are in
a room: the bits that the values change are changed in the vector's payload, so that bytes which only peers look at stay
as a real sensor sends them.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from processor.decode.advertisement import manufacturer_data, service_data, structure
from processor.decode.fields import Format
from processor.decode.formats import FORMATS, atc, bthome, inkbird, mibeacon, qingping, sensorpush
from processor.reading import Value

FLAGS = structure(0x01, b"\x06")
"""The AD structure that most advertisements start with: general discoverable, no BR/EDR."""

TURNS = 20
"""Messages of each sensor, where nothing else is asked for."""
VECTORS = Path(__file__).parents[1] / "vectors"
ADDRESS = "CB:B8:33:4C:88:4F"


class Message(NamedTuple):
    """One advertisement: who sent it, its AD structures, what it says.

    key: the bindkey where it is encrypted. model: what is remembered of the sensor, where the format needs that.
    """

    address: str
    data: bytes
    values: Mapping[str, Value]
    key: bytes | None = None
    model: str | None = None


Encode = Callable[[Mapping[str, Value], str, "bytes | None", int], bytes]
"""(values, address, key, counter) → the payload, without its company identifier or UUID."""


class Kind(NamedTuple):
    """A format, or a way that it comes: its vector, how its payload is carried, and what a sensor of it measures."""

    entry: Mapping[str, Any]
    encode: Encode
    steps: Mapping[str, str | None]
    counter: str | None
    choices: Mapping[str, tuple[Value, ...]]
    """Of quantities without a constant step: the values that can be."""

    @property
    def payload(self) -> bytes:
        return bytes.fromhex(self.entry["hex"].replace("XX", "00"))

    @property
    def values(self) -> dict[str, Value]:
        return {name: value for name, value in self.entry["values"].items() if name != "mac"}

    @property
    def address(self) -> str:
        return str(self.entry.get("address", ADDRESS))

    @property
    def key(self) -> bytes | None:
        return bytes.fromhex(self.entry["key"]) if "key" in self.entry else None

    def carried(self, payload: bytes) -> bytes:
        """Return the advertisement: flags, service UUIDs, the payload, the local name."""
        entry = self.entry
        data = FLAGS
        for ad_type, key in ((0x03, "uuids"), (0x07, "uuids128")):
            uuids = [bytes.fromhex(uuid.replace("-", ""))[::-1] for uuid in entry.get(key, ())]
            data += structure(ad_type, b"".join(uuids)) if uuids else b""
        if entry.get("borrowed"):
            data += structure(0xFF, payload)
        elif "company" in entry:
            data += manufacturer_data(int(entry["company"], 16), payload)
        else:
            data += service_data(int(entry["uuid"], 16), payload)
        return data + structure(0x09, entry["name"].encode()) if "name" in entry else data

    def vector(self) -> Message:
        return Message(self.address, self.carried(self.payload), self.values, self.key, self.entry.get("model"))


MAKERS = (
    "airthings", "aranet", "bluemaestro", "ela", "gatt", "govee", "inkbird", "jaalee", "minew", "moko", "mopeka",
    "omron", "sensorpush", "teltonika", "thermopro",
)  # fmt: skip
"""Whose vectors say how they are carried."""

_RUUVI = {"company": "0499"}
_EDDYSTONE = {"uuid": "FEAA", "uuids": ["FEAA"]}
_BTHOME = {"uuid": "FCD2"}
_ATC = {"uuid": "181A", "address": "A4:C1:38:02:83:F4"}
_ATC_KEY = {**_ATC, "key": "e9ea895fac7cca6d30532432a516f3a8"}
_TENTHS = {"temperature": "0.1", "humidity": "0.1"}
_ROOM = {"temperature": 25.0, "humidity": 50.5, "battery": 50, "packet_id": 1}

OTHERS: dict[str, tuple[str, dict[str, str], dict[str, Any]]] = {
    "ruuvi.3": ("ruuvi", {"format": "df3", "case": "valid"}, _RUUVI),
    "ruuvi.5": ("ruuvi", {"format": "df5", "case": "valid"}, _RUUVI),
    "ruuvi.6": ("ruuvi", {"format": "df6", "case": "valid"}, _RUUVI),
    "ruuvi.e1": ("ruuvi", {"format": "e1", "case": "valid"}, _RUUVI),
    "bthome.2": ("bthome", {"case": "temperature and humidity"}, {**_BTHOME, "says": _ROOM}),
    "bthome.2 encrypted": ("bthome", {"case": "encrypted"}, {**_BTHOME, "says": _ROOM}),
    "ibeacon": ("beacons", {"format": "ibeacon", "case": "valid"}, {"company": "004C"}),
    "eddystone.uid": ("beacons", {"format": "eddystone.uid", "case": "valid"}, _EDDYSTONE),
    "eddystone.url": ("beacons", {"format": "eddystone.url", "case": "valid"}, _EDDYSTONE),
    "eddystone.tlm": ("beacons", {"format": "eddystone.tlm", "case": "valid"}, _EDDYSTONE),
    "atc1441": ("atc", {"format": "atc1441", "case": "valid"}, _ATC),
    "pvvx": ("atc", {"format": "pvvx", "case": "valid"}, _ATC),
    "pvvx.short": ("atc", {"format": "pvvx.short", "case": "valid"}, _ATC),
    "pvvx.encrypted": ("atc", {"format": "pvvx.encrypted", "case": "valid"}, _ATC_KEY),
    "atc1441.encrypted": ("atc", {"format": "atc1441.encrypted", "case": "valid"}, _ATC_KEY),
    "mibeacon": ("mibeacon", {"case": "LYWSDCGQ, temperature and humidity"}, {"uuid": "FE95", "steps": _TENTHS}),
    "mibeacon encrypted": (
        "mibeacon", {"case": "LYWSD03MMC, humidity, encrypted"},
        # A peer cuts this model's humidity short.
        {"uuid": "FE95", "steps": _TENTHS, "says": {"temperature": 25.0, "packet_id": 1}},
    ),
    "qingping": ("qingping", {"case": "CGD1"}, {"uuid": "FDCD"}),
    **{
        f"switchbot.{name}": (
            "switchbot", {"format": f"switchbot.{name}", "case": case}, {"uuid": "FD3D", "varies": varies}
        )
        for name, case, varies in (
            ("meter", "captured", ()), ("motion", "captured, motion and light", (3, 4)),
            ("contact", "captured, left open", (4, 5, 6, 7)), ("battery", "Outdoor Meter, captured", ()),
        )
    },
    **{
        f"switchbot.{name}": (
            "switchbot", {"format": f"switchbot.{name}", "case": case}, {"company": "0969", "varies": varies}
        )
        for name, case, varies in (
            ("climate", "Outdoor Meter, captured", (6,)), ("climate_co2", "Meter Pro CO2, captured", (6,)),
            ("hub2", "captured", (6,)), ("motion.passive", "captured, motion and light", (6, 8, 9)),
            ("contact.passive", "captured, left open", (6, 8, 9, 10, 11)), ("leak", "captured, leak", (6,)),
        )
    },
}  # fmt: skip
"""The others: the file of the vector, what tells it from those beside it, and how it is carried. `varies` are bytes
that nobody reads but that change all the time (how long ago something moved): else messages would be the same."""

BESIDE = {"sensorpush.ht1": {"name": "s"}}
"""What a sensor sends beside what the vector holds, and a peer needs."""

RANGES: dict[str, tuple[float, float]] = {
    "temperature": (1, 45), "humidity": (1, 99), "pressure": (95_000, 105_000), "dew_point": (-20, 30),
    "ambient_temperature": (20, 90), "alarm_temperature": (20, 90), "battery": (1, 100), "battery_voltage": (2, 3.5),
    "acceleration_x": (-2, 2), "acceleration_y": (-2, 2), "acceleration_z": (-2, 2), "movement_counter": (0, 254),
    "pm1_0": (0, 100), "pm2_5": (0, 100), "pm4_0": (0, 100), "pm10": (0, 100), "co2": (400, 4000),
    "voc_index": (0, 500), "nox_index": (0, 500), "illuminance": (0, 60_000), "major": (0, 65_535),
    "minor": (0, 65_535), "uptime_s": (0, 1_000_000), "sound_level": (30, 90), "etvoc": (0, 2000), "eco2": (400, 2000),
    "radon": (0, 5000),
    "radiation_dose": (0, 1_000_000), "duration": (0, 1_000_000), "radiation_dose_rate": (0, 10_000),
    "tank_level_raw": (0, 16_000), "pitch": (-90, 90), "roll": (-180, 180), "light_level": (1, 20), "uv_index": (0, 11),
    "discomfort_index": (50, 90), "heat_stroke": (10, 40), "button_count": (0, 15), "count": (0, 32_767),
    "memory_index": (0, 1_000_000), "current": (0, 16), "voltage": (1, 250), "voc_concentration": (0, 2000),
}  # fmt: skip
"""What quantities are; others stay as the vector has them."""

_TEXTS: dict[str, Callable[[random.Random, str], str]] = {
    **dict.fromkeys(("namespace", "instance", "eid", "raw"), lambda chance, was: chance.randbytes(len(was) // 2).hex()),
    "uuid": lambda chance, was: f"{chance.randbytes(4).hex()}-7e1d-4c7a-9d0b-{chance.randbytes(6).hex()}",
    "url": lambda chance, was: f"https://example.com/{chance.randrange(100_000)}",
    "serial_number": lambda chance, was: str(chance.randrange(10 ** (len(was) - 1), 2 * 10 ** (len(was) - 1))),
}


def _entries() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every kind's name and its vector."""
    for file in MAKERS:
        found: dict[str, dict[str, Any]] = {}
        for entry in json.loads((VECTORS / f"{file}.json").read_text())["vectors"]:
            if "error" not in entry and entry["values"]:
                found.setdefault(entry["format"], entry)
        for name, entry in found.items():
            yield name, entry | BESIDE.get(name, {})
    for name, (file, label, carrier) in OTHERS.items():
        entries = json.loads((VECTORS / f"{file}.json").read_text())["vectors"]
        entry = next(entry for entry in entries if entry.items() >= label.items())
        if "mac" in entry:
            entry["address"] = bytes.fromhex(entry["mac"]).hex(":").upper()
        yield name, carrier | entry


@cache
def kinds() -> dict[str, Kind]:
    """Return every kind by its name: the format's, and ` encrypted` where it can be both."""
    tables = {table.name: table for table in FORMATS}
    found = {}
    for name, entry in _entries():
        table = tables[name.removesuffix(" encrypted")]
        fields = table.fields if isinstance(table, Format) else ()
        choices = {
            field.name: tuple(value for value in field.lookup if type(value) is float)
            for field in fields
            if field.lookup is not None and type(field.lookup[0]) is float
        }
        encode = _ENCODERS.get(name) or _overlaid(table, entry)
        steps = {**table.resolutions, **entry.get("steps", {})}
        found[name] = Kind(entry, encode, steps, table.counter, choices)
    return dict(sorted(found.items()))


def _overlaid(table: Any, entry: Mapping[str, Any]) -> Encode:
    """Return an encoder that changes in the vector's payload only the bits that the values change."""
    payload = bytes.fromhex(entry["hex"].replace("XX", "00"))
    if table.name == "eddystone.url":
        return lambda values, address, key, n: table.encode(values)
    said = {name: value for name, value in entry["values"].items() if name != "mac"}
    before = table.encode(said, address=entry.get("address", ADDRESS))

    def encode(values: Mapping[str, Value], address: str, key: bytes | None, n: int) -> bytes:
        after = table.encode(values, address=address)
        changed = int.from_bytes(before) ^ int.from_bytes(after)
        size = len(payload)
        return (int.from_bytes(payload) ^ changed << 8 * (size - len(after))).to_bytes(size)

    return encode


def _mibeacon(product: int) -> Encode:
    return lambda values, address, key, n: mibeacon.encode(values, product=product, address=address, key=key, counter=n)


def _atc(table: Format) -> Encode:
    return lambda values, address, key, n: atc.encode(table, values, address=address, key=key)


_ENCODERS: dict[str, Encode] = {
    "bthome.2": lambda values, address, key, n: bthome.encode(values),
    "bthome.2 encrypted": lambda values, address, key, n: bthome.encode(values, address=address, key=key, counter=n),
    "mibeacon": _mibeacon(0x01AA),
    "mibeacon encrypted": _mibeacon(0x055B),
    "pvvx.encrypted": _atc(atc.PVVX_ENCRYPTED),
    "atc1441.encrypted": _atc(atc.ATC1441_ENCRYPTED),
    "qingping": lambda values, address, key, n: qingping.encode(values, product=0x0C, address=address),
    "inkbird.ibs": lambda values, address, key, n: inkbird.encode(values),
}


def measured(kind: Kind, chance: random.Random, n: int) -> dict[str, Value]:
    """Return what a sensor of this kind says in its n-th message."""
    found = dict(kind.entry.get("says") or kind.values)
    for name, was in found.items():
        step, base = kind.steps.get(name), name if name in RANGES else name.rpartition("_")[0]
        if name == kind.counter:
            found[name] = n
        elif name in _TEXTS:
            found[name] = _TEXTS[name](chance, str(was))
        elif name in kind.choices:
            found[name] = chance.choice(kind.choices[name])
        elif step is not None and base in RANGES and type(was) is not bool:
            low, high = (Fraction(end) / Fraction(step) for end in RANGES[base])
            exact = Fraction(step) * chance.randrange(int(low), int(high) + 1)
            found[name] = int(exact) if type(was) is int else float(exact)
    return found


def messages(name: str, count: int, *, sensors: int | None = None) -> list[Message]:
    """Return `count` different advertisements of a kind, the sensors taking turns; the same ones each time.

    A sensor's counter rises by 12, so that after twenty messages the first one comes next again, as if it had started
    anew after 255: peers that skip what is older than the last one (BTHome's) decode every message of every pass.
    """
    kind, chance = kinds()[name], random.Random(name)
    sensors = sensors or max(1, count // TURNS)
    addresses = [kind.address[:8] + ":" + chance.randbytes(3).hex(":").upper() for _ in range(sensors)]
    keys = [None if kind.key is None else chance.randbytes(16) for _ in range(sensors)]
    found = []
    for n in range(count):
        turn, sensor = divmod(n, sensors)
        address, key, counter = addresses[sensor], keys[sensor], 1 + turn * 12  # a peer takes packet id 0 for none
        values = measured(kind, chance, counter)
        payload = bytearray(kind.encode(values, address, key, counter))
        for at in kind.entry.get("varies", ()):
            payload[at] = chance.randrange(256)
        if name == "sensorpush.ht1":  # its values are rounded from binary fractions: no step, so none was drawn
            raw = 1 << 26 | chance.getrandbits(11) + 2048 << 12 | chance.getrandbits(10) + 1024
            payload = bytearray(raw.to_bytes(4, "little"))
            values = dict(sensorpush.HT1.decode(bytes(payload)).values)
        found.append(Message(address, kind.carried(bytes(payload)), values, key, kind.entry.get("model")))
    return found


def vector(name: str) -> Message:
    """Return the advertisement of a kind's published vector, with the values that its source gives."""
    return kinds()[name].vector()
