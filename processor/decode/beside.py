"""Whose manufacturer data are, where that is told by what stands beside them: a local name, or service UUIDs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from processor.decode.advertisement import MANUFACTURER_DATA, NAMES, SERVICE_DATA_16, UUIDS_16, UUIDS_128, structures
from processor.decode.formats import BY_NAME, BY_UUID, Decoder, borrowed_ways, inkbird
from processor.decode.formats.govee import nokia_ways
from processor.decode.short import Whole
from processor.errors import DecodeError

LOOKS_BORROWED = 1 + inkbird.LENGTH
"""The length of an AD structure in which an Inkbird's temperature can be any maker's company identifier, at 24.09 °C
SwitchBot's: there the local name is asked first."""
_NAME = 0
_BESIDE = {**dict.fromkeys(NAMES, _NAME), **dict.fromkeys(UUIDS_16, 2), **dict.fromkeys(UUIDS_128, 16)}
"""What may stand beside manufacturer data and say whose they are: a name, or UUIDs of so many bytes."""


class Told(NamedTuple):
    """What stands beside manufacturer data says of them.

    borrower: whose they may be, whose company identifier is data. called: their local name, else the one heard earlier.
    nokia, borrowed: the short ways of Nokia's and of the borrower's, by the AD structure's length. alone: whether
    nothing that can be decoded stands beside.
    """

    borrower: Decoder | None
    called: str | None
    nokia: Mapping[int, Whole]
    borrowed: Mapping[int, Whole]
    alone: bool


@lru_cache(maxsize=4096)
def told_by(beside: bytes, model: str | None) -> Told:
    """Return what the AD structures that stand `beside` say, the same in a sensor's every advertisement.

    It is told by the local name, or a UUID. model: the local name heard earlier. Of several manufacturer data in one
    advertisement the first one's answer is that of all: none is a name or a UUID, and each has the others beside.
    """
    borrower = None if model is None else BY_NAME.get(model[:3].encode())
    name = b""
    at, last = 0, len(beside) - 2
    while at < last and beside[at]:
        next_at = at + 1 + beside[at]
        size = _BESIDE.get(beside[at + 1])
        if size == _NAME:
            name = name or beside[at + 2 : next_at]
            borrower = BY_NAME.get(name[:3], borrower)
        elif size is not None:
            for uuid in range(at + 2, next_at - size + 1, size):
                borrower = BY_UUID.get(beside[uuid : uuid + size], borrower)
        at = next_at
    called = str(name, "utf-8", "replace") if name else model
    return Told(
        borrower, called, nokia_ways(beside, model), borrowed_ways(borrower, called or ""), _nothing_in(beside)
    )  # fmt: skip


def _nothing_in(beside: bytes) -> bool:
    """Whether AD structures are whole, and none is decoded."""
    try:
        return all(ad_type != MANUFACTURER_DATA and ad_type != SERVICE_DATA_16 for ad_type, _ in structures(beside))
    except DecodeError:
        return False
