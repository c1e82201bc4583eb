"""Marked readings: of devices and with values of which nobody else has any, in posts of several families of gateways.

The devices' addresses are 02:AD, three bytes of the run's number, and the device's own: locally administered (IEEE 802,
the second bit of the first byte), so that no maker's sensor has one, and no Bluetooth random static address does.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import orjson

from processor.decode.advertisement import manufacturer_data, structure
from processor.decode.envelope import seal
from processor.decode.formats import ruuvi
from processor.decode.gateways import Advertisement, binary, moko, plain
from processor.reading import Value, address_of
from processor.store.tables import SLOT_SECONDS

BLOCK = b"\x02\xad"
SEEDS = 1 << 24
"""So many runs can be told apart."""

DEVICES = 256
PER_DEVICE = 100
"""Readings of a device, until there are DEVICES of them."""

PER_SLOT = 12
"""A device measures every 1.2 seconds: so many readings share an item."""

PER_POST = 2
"""Devices in a gateway's post."""

COPIES = 0.2
"""The share of posts that comes twice: the same record again, or from a second gateway that heard the devices later."""

LATER_MS = 1500
MAXIMUM = 1_000_000

FLAGS = structure(0x01, b"\x06")
SLOT_MS = SLOT_SECONDS * 1000


class Mark(NamedTuple):
    """One marked reading. at: ms since 1970. The counter is its own among the device's."""

    device: str
    counter: int
    at: int
    temperature: float
    pressure: int

    @property
    def slot(self) -> int:
        """The slot it belongs to: its start, epoch seconds."""
        return self.at // SLOT_MS * SLOT_SECONDS


class Post(NamedTuple):
    """One record for the stream, and what is in it, at the times that it says."""

    data: bytes
    marks: list[Mark]


def marks(count: int, seed: int, now: int) -> list[Mark]:
    """Return `count` marked readings, measured up to `now` (ms since 1970), one slot after the other going back."""
    source = random.Random(f"{seed}.marks")  # noqa: S311 - no secret
    number = min(DEVICES, max(8, -(-count // PER_DEVICE)))
    last = -(-count // number)
    first = [source.randrange(0xFFFF - last) for _ in range(number)]
    found = []
    for n in range(count):
        place, device = divmod(n, number)
        slot, within = divmod(place, PER_SLOT)
        start = now // SLOT_MS * SLOT_MS - (slot + 1) * SLOT_MS
        counter = first[device] + place
        found.append(
            Mark(
                address(seed, device),
                counter,
                start + within * 1200 + source.randrange(1000),
                counter % 1000 / 200,
                50_000 + source.randrange(0xFFFF),
            )
        )
    return found


def address(seed: int, number: int) -> str:
    """Return the address of a run's device."""
    return address_of(BLOCK + seed.to_bytes(3, "big") + bytes((number,)))


def posts(sent: Iterable[Mark], seed: int) -> list[Post]:
    """Return the records that carry the marked readings, in any order, some of them twice."""
    source = random.Random(f"{seed}.posts")  # noqa: S311 - no secret
    found = []
    for number, each in enumerate(_grouped(sent)):
        families = list(FAMILIES)
        family = families[number % len(families)]
        found.append(post(family, each, number))
        if source.random() < COPIES:
            if source.random() < 0.5:
                found.append(found[-1])
            else:
                later = [mark._replace(at=mark.at + LATER_MS) for mark in each]
                found.append(post(families[(number + 1) % len(families)], later, number + 1))
    source.shuffle(found)
    return found


def _grouped(sent: Iterable[Mark]) -> Iterator[list[Mark]]:
    """Yield what one post holds: the readings that a few devices took in one slot."""
    slots: dict[int, dict[str, list[Mark]]] = {}
    for mark in sent:
        slots.setdefault(mark.slot, {}).setdefault(mark.device, []).append(mark)
    for devices in slots.values():
        groups = list(devices.values())
        for first in range(0, len(groups), PER_POST):
            yield [mark for group in groups[first : first + PER_POST] for mark in group]


def post(family: str, heard: list[Mark], number: int) -> Post:
    """Return the record of a family's gateway, by its number, that carries these readings at the times they say."""
    at = max(mark.at for mark in heard) + 300
    gateway = address_of(BLOCK + b"\xff" + number.to_bytes(3, "big"))
    payload = FAMILIES[family]([_advertisement(mark) for mark in heard], gateway, at)
    content = payload if family == "binary" else orjson.Fragment(payload)
    protocol = "tcp" if family == "binary" else "http"
    return Post(seal(content, at=at, imsi=f"29505{number:010d}", source_protocol=protocol), heard)


def _advertisement(mark: Mark) -> Advertisement:
    values: dict[str, Value] = {
        "temperature": mark.temperature,
        "pressure": mark.pressure,
        "sequence": mark.counter,
    }
    data = manufacturer_data(ruuvi.COMPANY, ruuvi.RAWV2.encode(values, address=mark.device))
    return Advertisement(mark.device, -60, mark.at, FLAGS + data)


Encode = Callable[[list[Advertisement], str, int], bytes]

FAMILIES: dict[str, Encode] = {
    "plain": lambda heard, gateway, at: plain.encode(heard, gateway=gateway, sent_at=at),
    "binary": lambda heard, _gateway, at: binary.encode(heard, at),
    "moko": lambda heard, gateway, _at: moko.encode(heard, gateway),
}
"""How the families of gateways send what they heard; their times are exact to the millisecond."""
