"""What of a batch waits for its end: for the registry, asked for many devices at once, or for what a later record says.

Most advertisements wait for nothing. One waits that needs its device's key or registration, where nobody has asked the
registry for it lately; and one of no known format: its model may be in a later record, or in the registry.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from processor.decode.gateways import Advertisement
from processor.errors import DecodeError
from processor.ledger import Source
from processor.reading import Reading
from processor.rules import Directory

Entry = Advertisement | Reading | DecodeError
"""What a gateway heard, decoded itself, or sent and nobody can read."""

Found = list[tuple[Reading, Source]]
"""Readings, and which advertisement each is from."""


class Unasked(Exception):
    """What becomes of an advertisement cannot be told yet. device: whom to ask the registry for, if anybody."""

    def __init__(self, device: str | None) -> None:
        self.device = device
        super().__init__(device)


class AtHand(Mapping[str, bytes]):
    """Bindkeys by address, of devices for which the registry need not be asked. Raises Unasked for others."""

    def __init__(self, keys: Mapping[str, bytes], devices: Directory) -> None:
        self._keys = keys
        self._devices = devices

    def __getitem__(self, address: str) -> bytes:
        if not self._devices.ready(address, key=True):
            raise Unasked(address)
        return self._keys[address]

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


class Waiting(NamedTuple):
    """One advertisement that waits. device: whom to ask the registry for, if anybody."""

    advertisement: Entry
    source: Source
    device: str | None


class Record(NamedTuple):
    """One record of which something waits.

    arrived: ms since 1970. found: what it says so far. better: samples that it has in a better format, in what does not
    count of it.
    """

    place: int
    arrived: int
    found: Found
    better: set[tuple[str, str, int] | None]
    waiting: list[Waiting]

    def take(self) -> list[Waiting]:
        """Return what waits, and forget it."""
        waiting = self.waiting.copy()
        self.waiting.clear()
        return waiting
