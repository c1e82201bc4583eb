"""Whose manufacturer data are, where that is told by what stands beside them: a local name, or service UUIDs."""

from __future__ import annotations

from functools import lru_cache

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


@lru_cache(maxsize=4096)
def told_by(
    beside: bytes, model: str | None, known: bool, length: int
) -> tuple[Decoder | None, str | None, Whole | None, bool]:
    """Return whose manufacturer data may be, whose company identifier is data, their local name and the short way.

    And whether that says all: nothing that can be decoded stands beside.

    It is told by the local name, or a UUID, among the AD structures that stand `beside`, the same in a sensor's every
    advertisement. model: the local name heard earlier. known: whether the company is one, which then is Nokia's, or has
    to ask first. length: the structure's.
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
            uuid = at + 2
            while uuid < next_at:
                borrower = BY_UUID.get(beside[uuid : uuid + size], borrower)
                uuid += size
        at = next_at
    only = _nothing_in(beside)
    called = str(name, "utf-8", "replace") if name else model
    if known:
        return (borrower if length == LOOKS_BORROWED else None), called, nokia_ways(beside, model).get(length), only
    return borrower, called, borrowed_ways(borrower, called or "").get(length), only


def _nothing_in(beside: bytes) -> bool:
    """Whether AD structures are whole, and none is decoded."""
    try:
        return all(ad_type != MANUFACTURER_DATA and ad_type != SERVICE_DATA_16 for ad_type, _ in structures(beside))
    except DecodeError:
        return False
