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

from processor.decode.envelope import seal
from processor.local.gateways import Gateway, Heard
from processor.local.sensors import COUNTING, IGNORED, MIX, Sensor
from processor.reading import Reading, Value

POST_MS = 10_000
"""How often a gateway sends what it heard."""
MARGIN_MS = 2_000
"""Gateways count in whole seconds, twice: a stored time may be so far from the true one."""
MARGIN_VALUE = 0.06
"""Formats round: a stored temperature may be so far from the true one, in °C."""


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


def _alike(one: tuple[int, Value], other: tuple[int, Value]) -> bool:
    return abs(one[0] - other[0]) <= MARGIN_MS and abs(float(one[1]) - float(other[1])) <= MARGIN_VALUE


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
        return {sensor.address: sensor.key for sensor in self.sensors if sensor.encrypts}

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
            readings = (reading for reading in stored.get(device, ()) if quantity in reading.values)
            there = [(reading.at or 0, reading.values[quantity]) for reading in readings]
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
                    true_at = round(self.start + at)
                    gateway.heard.append(
                        Heard(sensor, sensor.count, data, rssi, when, true_at, sensor.mark, sensor.response)
                    )

    def _post(self, gateway: Gateway, at: int) -> Iterator[Sent]:
        now = self.start + at
        payloads, heard = gateway.post(now)
        truth = self.truth
        for each in heard:
            truth.advertisements += 1 + bool(each.response)  # which holds a reading of its own
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
