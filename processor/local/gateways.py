"""Simulated gateways: a family, a clock of its own, and what it heard since its last post."""

from __future__ import annotations

import random
from dataclasses import dataclass

from processor.decode.gateways import Advertisement, binary, cassia, ingics, minew, moko, plain
from processor.decode.gateways import ruuvi as ruuvi_gateway
from processor.local.sensors import Sensor
from processor.reading import Value, address_of

POST_ADVERTISEMENTS = 500
"""How many advertisements a gateway sends at once, at most."""


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
