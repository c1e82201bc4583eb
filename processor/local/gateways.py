"""Simulated gateways: a family, a clock of its own, and what it heard since its last post."""

from __future__ import annotations

import random
from dataclasses import dataclass

from processor.decode.gateways import Advertisement, binary, cassia, ingics, minew, moko, plain
from processor.decode.gateways import ruuvi as ruuvi_gateway
from processor.local.sensors import Sensor
from processor.reading import Value, address_of

POST_ADVERTISEMENTS = 500
"""How many advertisements a gateway sends at once, at most; scan responses come on top."""


@dataclass
class Heard:
    """One advertisement in a gateway's memory: which measurement it is of, and when, by the gateway's own clock.

    response: the scan response that came with it; once posted, empty where the post had it already.
    """

    sensor: Sensor
    number: int
    data: bytes
    rssi: int
    at: int
    true_at: int
    value: Value
    response: bytes = b""


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
    JOINING = frozenset(("ruuvi.http", "ruuvi.mqtt"))
    """Families that send one entry of each sensor, or one a message: a scan response is joined to its advertisement."""

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
        size = 1 if self.family == "ruuvi.mqtt" else POST_ADVERTISEMENTS
        parts = (heard[first : first + size] for first in range(0, len(heard), size))
        return [self._encode(self._told(part), sent_at) for part in parts], heard

    def _told(self, part: list[Heard]) -> list[Advertisement]:
        """Return the advertisements of one payload. A sensor's scan response comes once in it, before what it explains.

        So no record's meaning depends on another, which may come later.
        """
        told = []
        answered: set[str] = set()
        for each in part:
            address, data = each.sensor.address, each.data
            if self.family in self.JOINING:
                data += each.response
            elif address in answered:
                each.response = b""
            elif each.response:
                answered.add(address)
                told.append(Advertisement(address, each.rssi, each.at, each.response))
            told.append(Advertisement(address, each.rssi, each.at, data))
        return told

    def _encode(self, ads: list[Advertisement], sent_at: int) -> bytes:
        if self.family == "ruuvi.http":
            return ruuvi_gateway.encode_post(ads, self.address, sent_at)
        if self.family == "ruuvi.mqtt":
            return ruuvi_gateway.encode_message(ads[0], self.address, sent_at)
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
