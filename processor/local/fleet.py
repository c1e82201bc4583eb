"""A simulated fleet: sensors of mixed formats behind gateways of mixed families, from one seed.

Values drift; each measurement is heard by the gateways nearby, some of its advertisements not at all, some twice;
the gateways' clocks are apart; a share of what is sent is malformed. The fleet runs in its own time, from 0 ms on:
whoever sends the records keeps pace with the clock, or does not. The same seed and start give the same bytes.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import orjson

from processor.decode.advertisement import manufacturer_data, service_data, structure
from processor.decode.envelope import seal
from processor.decode.formats import bthome, eddystone, ibeacon, ruuvi
from processor.decode.gateways import Advertisement, binary, cassia, ingics, minew, moko, plain
from processor.decode.gateways import ruuvi as ruuvi_gateway
from processor.reading import Reading, Value, address_of

FLAGS = structure(0x01, b"\x06")
POST_MS = 10_000
"""How often a gateway sends what it heard."""
POST_ADVERTISEMENTS = 500
"""How many advertisements it sends at once, at most."""
MARGIN_MS = 2_000
"""Gateways count in whole seconds, twice: a stored time may be so far from the true one."""
MARGIN_VALUE = 0.02
"""Formats round: a stored temperature may be so far from the true one, in °C."""

Maker = Callable[["Sensor"], list[bytes]]
"""Makes the advertisements of one measurement: nearly always one."""


class Sent(NamedTuple):
    """One record that the fleet sends, `at` ms after its start."""

    at: int
    data: bytes


@dataclass
class Truth:
    """What the fleet knows of what it sent, by construction; the ledger must come to the same."""

    records: int = 0
    advertisements: int = 0
    measured: dict[tuple[str, int], tuple[int, Value]] = field(default_factory=dict)
    """By device and number, every measurement that at least one gateway posted: its true time (ms since 1970), and
    the value that tells it from others, as the sensor had it before it was encoded."""
    malformed: int = 0
    ignored: int = 0
    families: Counter[str] = field(default_factory=Counter)


class Sensor:
    """A simulated sensor: an address, a model, values that drift."""

    def __init__(self, number: int, seed: int, model: str) -> None:
        self.random = random.Random(f"{seed}.sensor.{number}")  # noqa: S311 - a simulation
        self.model = model
        self.address = address_of(b"\xc0" + number.to_bytes(2, "big") + self.random.randbytes(3))
        self.key = self.random.randbytes(16)
        self.temperature = self.random.uniform(-10, 30)
        self.humidity = self.random.uniform(30, 70)
        self.pressure = self.random.uniform(98_000, 103_000)
        self.battery = self.random.uniform(2.6, 3.1)
        self.count = self.random.randrange(60_000)

    def drift(self) -> None:
        """Take the next measurement."""
        self.count += 1
        self.temperature = min(60.0, max(-40.0, self.temperature + self.random.gauss(0, 0.05)))
        self.humidity = min(100.0, max(0.0, self.humidity + self.random.gauss(0, 0.2)))
        self.pressure = min(110_000.0, max(90_000.0, self.pressure + self.random.gauss(0, 5)))
        self.battery = max(1.7, self.battery - 1e-6)

    def advertisements(self) -> list[bytes]:
        """Return what the sensor sends for the measurement it took last."""
        return MODELS[self.model](self)

    @property
    def mark(self) -> Value:
        """The value of this measurement that the fleet remembers."""
        return self.count % 65536 if self.model == "ibeacon" else self.temperature

    @property
    def air(self) -> dict[str, Value]:
        """The values that every environmental sensor has."""
        return {
            "temperature": round(self.temperature, 3),
            "humidity": round(self.humidity, 3),
            "pressure": round(self.pressure),
        }


def _alike(one: tuple[int, Value], other: tuple[int, Value]) -> bool:
    return abs(one[0] - other[0]) <= MARGIN_MS and abs(float(one[1]) - float(other[1])) <= MARGIN_VALUE


def _ruuvi(data: bytes) -> bytes:
    return FLAGS + manufacturer_data(ruuvi.COMPANY, data)


def _rawv2(sensor: Sensor) -> list[bytes]:
    values: dict[str, Value] = sensor.air | {
        "acceleration_x": 0.004,
        "acceleration_y": -0.004,
        "acceleration_z": 1.0,
        "battery_voltage": round(sensor.battery, 3),
        "tx_power": 4,
        "movement_counter": sensor.count // 100 % 255,
        "sequence": sensor.count % 65535,
    }
    return [_ruuvi(ruuvi.RAWV2.encode(values, address=sensor.address))]


def _rawv1(sensor: Sensor) -> list[bytes]:
    values: dict[str, Value] = sensor.air | {"acceleration_z": 1.0, "battery_voltage": round(sensor.battery, 3)}
    return [_ruuvi(ruuvi.RAWV1.encode(values))]


def _ruuvi_air(sensor: Sensor) -> list[bytes]:
    """Send format E1, and every other time format 6 beside it, as a Ruuvi Air does for receivers of Bluetooth 4."""
    values: dict[str, Value] = sensor.air | {
        "pm1_0": 3.1,
        "pm2_5": 4.2,
        "pm4_0": 4.9,
        "pm10": 5.3,
        "co2": 600 + sensor.count % 400,
        "voc_index": 100,
        "nox_index": 2,
        "illuminance": 120.5,
        "sequence": sensor.count,
    }
    sent = [_ruuvi(ruuvi.E1.encode(values, address=sensor.address))]
    if sensor.count % 2:
        sent.append(_ruuvi(ruuvi.DF6.encode(values | {"sequence": sensor.count % 256})))
    return sent


def _bthome_values(sensor: Sensor) -> dict[str, Value]:
    return {
        "packet_id": sensor.count % 256,
        "battery": 90,
        "temperature": round(sensor.temperature, 2),
        "humidity": round(sensor.humidity, 2),
    }


def _bthome(sensor: Sensor) -> list[bytes]:
    return [FLAGS + service_data(bthome.UUID, bthome.encode(_bthome_values(sensor)))]


def _bthome_encrypted(sensor: Sensor) -> list[bytes]:
    data = bthome.encode(_bthome_values(sensor), key=sensor.key, address=sensor.address, counter=sensor.count)
    return [FLAGS + service_data(bthome.UUID, data)]


def _ibeacon(sensor: Sensor) -> list[bytes]:
    values: dict[str, Value] = {
        "uuid": "e2c56db5-dffb-48d2-b060-d0f5a71096e0",
        "major": 1,
        "minor": sensor.count % 65536,
        "tx_power": -59,
    }
    return [FLAGS + manufacturer_data(ibeacon.COMPANY, ibeacon.IBEACON.encode(values))]


def _eddystone(sensor: Sensor) -> list[bytes]:
    values: dict[str, Value] = {
        "battery_voltage": round(sensor.battery, 3),
        "temperature": round(sensor.temperature * 256) / 256,
        "advertisement_count": sensor.count,
        "uptime_s": sensor.count * 10,
    }
    return [FLAGS + service_data(eddystone.UUID, eddystone.TLM.encode(values))]


def _neighbour(sensor: Sensor) -> list[bytes]:
    """Send something that nobody here knows: a gateway hears the neighbours too."""
    return [FLAGS + manufacturer_data(0xFFFF, sensor.random.randbytes(8))]


def _broken_sensor(sensor: Sensor) -> list[bytes]:
    """Send Ruuvi's format 5 with every value "not available"."""
    return [_ruuvi(ruuvi.RAWV2.encode({"sequence": sensor.count % 65535}, address=sensor.address))]


MODELS: dict[str, Maker] = {
    "ruuvi.5": _rawv2,
    "ruuvi.3": _rawv1,
    "ruuvi.e1": _ruuvi_air,
    "bthome": _bthome,
    "bthome.encrypted": _bthome_encrypted,
    "ibeacon": _ibeacon,
    "eddystone.tlm": _eddystone,
    "neighbour": _neighbour,
    "broken": _broken_sensor,
}

MIX = ("ruuvi.5", "bthome", "ruuvi.5", "ruuvi.e1", "ruuvi.5", "bthome.encrypted", "ruuvi.3", "ruuvi.5", "eddystone.tlm",
       "ruuvi.5", "bthome", "ruuvi.5", "ibeacon", "ruuvi.5", "ruuvi.e1", "neighbour", "ruuvi.5", "bthome.encrypted",
       "ruuvi.5", "broken")  # fmt: skip
"""The models, one sensor after the other, round and round."""

IGNORED = {"neighbour", "broken"}
COUNTING = set(MODELS) - IGNORED - {"ruuvi.3", "ibeacon"}
"""The models that count their measurements, so that every copy of one is known for a copy."""


@dataclass
class Heard:
    """One advertisement in a gateway's memory: which measurement it is of, and when, by the gateway's own clock."""

    sensor: Sensor
    number: int
    data: bytes
    rssi: int
    at: int
    true_at: int
    value: Value


class Gateway:
    """A simulated gateway: a family, a clock of its own, and what it heard since its last post."""

    FAMILIES = (
        *("ruuvi.http", "binary", "plain", "ruuvi.mqtt", "plain.list"),
        *("minew.json", "moko", "cassia.mqtt", "ingics"),
    )
    BELIEVED = frozenset(("plain.list", "minew.json", "moko", "cassia.mqtt", "ingics"))
    """Families whose own time is believed: their clocks are right."""
    BINARY = frozenset(("binary", "ingics"))
    """Families that do not send JSON."""

    def __init__(self, number: int, seed: int) -> None:
        self.random = random.Random(f"{seed}.gateway.{number}")  # noqa: S311 - a simulation
        self.family = self.FAMILIES[number % len(self.FAMILIES)]
        self.address = address_of(b"\xd0" + number.to_bytes(2, "big") + self.random.randbytes(3))
        self.imsi = f"29505000{number:07d}"
        self.clock = 0 if self.family in self.BELIEVED else self.random.randrange(-20_000, 20_000)
        self.heard: list[Heard] = []

    def post(self, now: int) -> tuple[list[bytes], list[Heard]]:
        """Return the payloads sent at `now` (true time, ms since 1970), and which advertisements they hold."""
        sent_at = now + self.clock
        heard, self.heard = self.heard, []
        if self.family == "ruuvi.http":  # keeps only the latest of each sensor
            heard = list({each.sensor.address: each for each in heard}.values())
        ads = [Advertisement(each.sensor.address, each.rssi, each.at, each.data) for each in heard]
        if self.family == "ruuvi.mqtt":
            return [ruuvi_gateway.encode_message(ad, self.address, sent_at) for ad in ads], heard
        posts = (ads[first : first + POST_ADVERTISEMENTS] for first in range(0, len(ads), POST_ADVERTISEMENTS))
        return [self._encode(post, sent_at) for post in posts], heard

    def _encode(self, ads: list[Advertisement], sent_at: int) -> bytes:
        if self.family == "ruuvi.http":
            return ruuvi_gateway.encode_post(ads, self.address, sent_at)
        if self.family == "binary":
            return binary.encode(ads, sent_at)
        if self.family == "plain":
            return plain.encode(ads, gateway=self.address, sent_at=sent_at)
        if self.family == "minew.json":
            return minew.encode_post(ads, self.address, sent_at)
        if self.family == "moko":
            return moko.encode(ads, self.address)
        if self.family == "cassia.mqtt":
            return cassia.encode_message(ads, self.address, sent_at)
        if self.family == "ingics":
            return ingics.encode(ads, self.address)
        return plain.encode(ads)


class Fleet:
    """`devices` sensors behind `gateways` gateways that together take `rate` measurements a second.

    start: the true time when the fleet starts, in ms since 1970. malformed: the share of records that are so.
    """

    def __init__(
        self, *, devices: int, gateways: int, rate: float, seed: int, start: int, malformed: float = 0.01
    ) -> None:
        self.random = random.Random(f"{seed}.fleet")  # noqa: S311 - a simulation
        self.sensors = [Sensor(n, seed, MIX[n % len(MIX)]) for n in range(devices)]
        self.gateways = [Gateway(n, seed) for n in range(gateways)]
        self.near = [
            self.random.sample(self.gateways, min(gateways, self.random.choice((1, 2, 2, 3)))) for _ in self.sensors
        ]
        self.interval = devices * 1000 / rate
        self.start = start
        self.malformed = malformed
        self.truth = Truth()

    @property
    def keys(self) -> dict[str, bytes]:
        """The bindkeys of the sensors that encrypt, by address."""
        return {sensor.address: sensor.key for sensor in self.sensors if sensor.model == "bthome.encrypted"}

    def records(self, *, duration_ms: int | None = None, measurements: int | None = None) -> Iterator[Sent]:
        """Yield what the gateways send until so much time has passed or so many measurements were taken.

        Then every gateway sends what it still holds.
        """
        # When (ms), 0 for a sensor or 1 for a gateway, its number.
        due = [(self.random.uniform(0, self.interval), 0, number) for number in range(len(self.sensors))]
        due += [(POST_MS * (number + 1) / len(self.gateways), 1, number) for number in range(len(self.gateways))]
        heapq.heapify(due)
        taken = 0
        at = 0.0
        while measurements is None or taken < measurements:
            when, kind, number = heapq.heappop(due)
            if duration_ms is not None and when > duration_ms:
                break
            at = when
            if kind == 0:
                taken += 1
                self._measure(number, at)
                heapq.heappush(due, (at + self.interval, 0, number))
            else:
                yield from self._post(self.gateways[number], round(at))
                heapq.heappush(due, (at + POST_MS, 1, number))
        for gateway in self.gateways:
            yield from self._post(gateway, round(at))

    def compare(self, stored: Mapping[str, list[Reading]]) -> list[str]:
        """Compare what the sensors measured with the readings stored, by device; return a line for each difference.

        A measurement is found where a reading of its device has its value and, within the gateways' rounding, its time.
        """
        measured: dict[str, list[tuple[int, Value]]] = {}
        for (device, _), mark in self.truth.measured.items():
            measured.setdefault(device, []).append(mark)
        models = {sensor.address: sensor.model for sensor in self.sensors}
        found = []
        for device in sorted(measured.keys() | stored.keys()):
            quantity = "minor" if models.get(device) == "ibeacon" else "temperature"
            there = [(reading.at or 0, reading.values[quantity]) for reading in stored.get(device, ())]
            true = measured.get(device, [])
            lost = sum(not any(_alike(one, other) for other in there) for one in true)
            foreign = sum(not any(_alike(one, other) for other in true) for one in there)
            if lost or foreign:
                found.append(f"{device} ({models.get(device)}): {lost} measurements not stored, {foreign} never made")
            elif models[device] in COUNTING and len(there) != len(true):
                found.append(f"{device} ({models[device]}): {len(true)} measurements, {len(there)} readings")
        return found

    def _measure(self, number: int, at: float) -> None:
        sensor = self.sensors[number]
        sensor.drift()
        for data in sensor.advertisements():
            for gateway in self.near[number]:
                if self.random.random() < 0.1:
                    continue  # not heard
                delay = self.random.randrange(0, 30)
                times = 2 if self.random.random() < 0.1 else 1
                for repeat in range(times):
                    when = round(self.start + at + delay + repeat * 100 + gateway.clock)
                    rssi = self.random.randrange(-95, -40)
                    heard = Heard(sensor, sensor.count, data, rssi, when, round(self.start + at), sensor.mark)
                    gateway.heard.append(heard)

    def _post(self, gateway: Gateway, at: int) -> Iterator[Sent]:
        now = self.start + at
        payloads, heard = gateway.post(now)
        truth = self.truth
        for each in heard:
            truth.advertisements += 1
            if each.sensor.model in IGNORED:
                truth.ignored += 1
            else:
                truth.measured[each.sensor.address, each.number] = (each.true_at, each.value)
        for payload in payloads:
            truth.records += 1
            truth.families[gateway.family] += 1
            yield Sent(at, self._envelope(gateway, payload, now))
        if self.random.random() < self.malformed * len(payloads):
            truth.records += 1
            truth.advertisements += 1
            truth.malformed += 1
            yield Sent(at, self._malformed(gateway, now))

    def _envelope(self, gateway: Gateway, payload: bytes, now: int) -> bytes:
        """Wrap a payload as Funnel does."""
        binary_payload = gateway.family in gateway.BINARY
        content = payload if binary_payload else orjson.Fragment(payload)
        return seal(content, at=now, imsi=gateway.imsi, source_protocol="tcp" if binary_payload else "http")

    def _malformed(self, gateway: Gateway, now: int) -> bytes:
        """Return a record of which exactly one advertisement, or the whole, must be rejected."""
        address = self.sensors[0].address
        good = self.sensors[0].advertisements()[0]
        list_gateway = Gateway(4, 0)
        list_gateway.imsi = gateway.imsi

        def listed(**changes: object) -> bytes:
            entry = {"address": address, "rssi": -60, "timestamp": now, "data": good.hex()} | changes
            return self._envelope(list_gateway, orjson.dumps([entry]), now)

        kinds: list[Callable[[], bytes]] = [
            lambda: listed()[:-40],  # a record cut short
            lambda: b"\xff\xfe not JSON",
            lambda: listed(data=good[:-1].hex()),  # an AD structure cut short
            lambda: listed(data="zz"),
            lambda: listed(address="not an address"),
            lambda: listed(timestamp=(now - 3_000_000_000_000) // 1000),  # 1930: a clock that was never set
            lambda: self._envelope(gateway, orjson.dumps({"temperature": 20}), now),
        ]
        return self.random.choice(kinds)()
