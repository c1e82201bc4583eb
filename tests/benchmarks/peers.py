"""What a benchmark asks of another decoder: two steps, `given` (not timed) and `decode` (timed), and its answers.

The decoders are in libraries.py and split.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from processor.decode.advertisement import MANUFACTURER_DATA, NAMES, SERVICE_DATA_16, structures
from tests.benchmarks.messages import Message

RSSI = -60

Names = Mapping[str, "str | tuple[str, float]"]
"""Our quantities, by what a peer calls them; with a factor where its unit is another one."""


class Peer(Protocol):
    """A decoder to compare with."""

    @property
    def name(self) -> str:
        """Its name in the package index."""

    @property
    def takes(self) -> str:
        """What it is given, for the reader of the tables."""

    @property
    def kinds(self) -> Iterable[str]:
        """The kinds of messages that it reads."""

    @property
    def names(self) -> Names:
        """The quantities that are compared."""

    @property
    def within(self) -> float:
        """How far its numbers may be from ours, as it rounds, in its own unit."""

    @property
    def splits(self) -> bool:
        """Whether it is given AD structures that somebody has split: `given` does, by its ecosystem's own library."""

    def given(self, message: Message) -> Any:
        """Return a message as the peer takes it."""

    def decode(self, given: Any) -> Any:
        """Decode what `given` returned: all that is timed."""

    def values(self, found: Any) -> Mapping[str, Any]:
        """Return the values in an answer of `decode`."""


HUNDREDTHS = 0.0051
HECTOPASCAL: Names = {"pressure": ("pressure", 100)}


class Split(NamedTuple):
    """An advertisement whose AD structures are split, as Bluetooth stacks hand it over."""

    manufacturer: dict[int, bytes]
    services: dict[str, bytes]
    uuids: list[str]
    name: str

    @classmethod
    def of(cls, message: Message) -> Split:
        found = cls({}, {}, [], "")
        for ad_type, data in structures(message.data):
            number = int.from_bytes(data[:2], "little")
            if ad_type == MANUFACTURER_DATA:
                found.manufacturer[number] = data[2:]
            elif ad_type == SERVICE_DATA_16:
                found.services[_long(number)] = data[2:]
            elif ad_type == 0x03:
                found.uuids.extend(_long(int.from_bytes(data[at : at + 2], "little")) for at in range(0, len(data), 2))
            elif ad_type == 0x07:
                found.uuids.append(str(UUID(bytes=data[::-1])))
            elif ad_type in NAMES:
                found = found._replace(name=data.decode())
        return found


def _long(uuid: int) -> str:
    return f"0000{uuid:04x}-0000-1000-8000-00805f9b34fb"


def compared(peer: Peer, message: Message, found: Any) -> list[str]:
    """Return the quantities in which a peer's answer agrees with the message; AssertionError where one does not."""
    values = peer.values(found)
    agreed = []
    for name, known in peer.names.items():
        key, factor = known if isinstance(known, tuple) else (known, 1)
        if name not in message.values or values.get(key) is None:
            continue
        mine, other = message.values[name], values[key]
        if isinstance(mine, str):
            same = str(other) == mine
        else:
            # A sixth digit: what a float of four bytes or a multiplication leaves.
            same = abs(float(other) * factor - float(mine)) <= peer.within * factor + abs(float(mine)) * 1e-6
        assert same, f"{peer.name}: {name} is {other!r}, not {mine!r}: {message}"
        agreed.append(name)
    assert agreed, f"{peer.name} says nothing of {message}: {values}"
    return agreed


def described(peer: Peer) -> str:
    """Return a peer's name, version and what it is given."""
    return f"{peer.name} {version(peer.name)} was given {peer.takes}"
