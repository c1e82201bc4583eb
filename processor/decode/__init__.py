"""Bytes to Readings. Pure: no AWS, no clock, no environment, no logging.

`decode` takes one advertisement; `envelope` and `gateways` find the advertisements in a Kinesis record.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from zlib import crc32

from processor.decode.advertisement import (
    MANUFACTURER_DATA,
    MAX_LENGTH,
    NAMES,
    SERVICE_DATA_16,
    UUIDS_16,
    UUIDS_128,
    structures,
)
from processor.decode.compiler import DIGEST, Whole
from processor.decode.formats import (
    BY_NAME,
    BY_UUID,
    MANUFACTURERS,
    MODELLED,
    SERVICES,
    WHOLE,
    Decoder,
    borrowed_ways,
    inkbird,
)
from processor.decode.formats.govee import decode_nokia, nokia_ways
from processor.errors import DecodeError
from processor.reading import Reading
from processor.reading import address as canonical

NO_KEYS: Mapping[str, bytes] = {}

DECODERS: dict[bytes, Decoder] = {
    bytes([ad_type]) + number.to_bytes(2, "little"): decoder
    for ad_type, decoders in ((MANUFACTURER_DATA, MANUFACTURERS), (SERVICE_DATA_16, SERVICES))
    for number, decoder in decoders.items()
}
"""By AD type and company identifier or UUID, as they are advertised."""

_find, _whole, _modelled = DECODERS.get, WHOLE.get, MODELLED.get
_FLAGS = b"\x02\x01"
"""How the AD structure of flags starts, which is three bytes and says nothing here: most advertisements' first."""

_ALONE = 4
"""An AD structure that starts before here and ends the advertisement has nothing beside it but flags, if that."""

_LOOKS_BORROWED = 1 + inkbird.LENGTH
"""The length of an AD structure in which an Inkbird's temperature can be any maker's company identifier, at 24.09 °C
SwitchBot's: there the local name is asked first."""
_NAME = 0
_BESIDE = {**dict.fromkeys(NAMES, _NAME), **dict.fromkeys(UUIDS_16, 2), **dict.fromkeys(UUIDS_128, 16)}
"""What may stand beside manufacturer data and say whose they are: a name, or UUIDs of so many bytes."""
_NAMED = 1 + _LOOKS_BORROWED + 5
"""The length of an advertisement that has an Inkbird's name beside such a structure."""

_new = tuple.__new__  # a NamedTuple's own constructor costs three times as much


def decode(
    data: bytes | str,
    address: str | None = None,
    received_at: datetime | int | None = None,
    keys: Mapping[str, bytes] = NO_KEYS,
) -> list[Reading]:
    """Decode one advertisement (AD structures, as bytes or hexadecimal text) into its Readings.

    address: the sensor's, in any spelling; where it is missing, the payload's own is taken. received_at: an aware
    datetime or ms since 1970. keys: bindkeys (16 bytes) by address. An advertisement of no known format
    gives an empty list. Raises DecodeError.
    """
    if isinstance(data, str):
        try:
            data = bytes.fromhex(data)
        except ValueError as error:
            raise DecodeError("hex", f"{error}: {data[:40]!r}", where="advertisement") from None
    if isinstance(received_at, datetime):
        if received_at.tzinfo is None:
            raise ValueError("received_at has no time zone: give an aware datetime, or ms since 1970")
        received_at = round(received_at.timestamp() * 1000)
    if address is not None:
        address = canonical(address)
    return readings(data, address, received_at, keys)


def readings(
    data: bytes,
    address: str | None,
    at: int | None,
    keys: Mapping[str, bytes] = NO_KEYS,
    gateway: str | None = None,
    rssi: int | None = None,
    model: str | None = None,
) -> list[Reading]:
    """Decode one advertisement on the hot path: as `decode`, with the address in its one spelling."""
    found: list[Reading] = []
    end = len(data)
    if end > MAX_LENGTH:
        structures(data)  # raises, and says why
    after = 3 if data[:2] == _FLAGS and end > 2 else 0
    while after < end:
        # What `structures` does, without its list: most advertisements hold one structure of interest.
        start = after
        length = data[start]
        if not length:
            break
        after = start + 1 + length
        if after > end:
            structures(data)
        ad_type = data[start + 1]
        if ad_type != MANUFACTURER_DATA and ad_type != SERVICE_DATA_16:
            continue
        read = _whole(data[start : start + 5])
        if read is None and model is not None and start < _ALONE and after == end:
            read = _modelled((model, data[start : start + 4]))
        if read is not None and address is not None and (length != _LOOKS_BORROWED or (end < _NAMED and model is None)):
            reading = read(data, start, after, address, at, gateway, rssi)
            if reading is not None:
                found.append(reading)
                continue
        decoder = _find(data[start + 1 : start + 4])
        if length < 3:
            raise DecodeError(
                "truncated", "no whole company identifier or UUID", where="advertisement", offset=start, payload=data
            )
        decoded = None
        if ad_type == MANUFACTURER_DATA and (decoder is None or decoder is decode_nokia or length == _LOOKS_BORROWED):
            borrower, called, read = _beside(data[:start] + data[after:], model, decoder is not None, length)
            if read is not None and address is not None:
                reading = read(data, start, after, address, at, gateway, rssi)
                if reading is not None:
                    found.append(reading)
                    continue
            if borrower is not None:
                decoded = borrower(data[start + 2 : after], address, keys, data, called)
        if decoded is None and decoder is not None:
            decoded = decoder(data[start + 4 : after], address, keys, data, model)
        if decoded is None:
            continue
        format_name, values, counter, own, plain = decoded
        payload = data[start + 2 : after]
        device = address or own
        if device is None:
            raise DecodeError(
                "address", "neither the gateway nor the payload gives the sensor's address: let the gateway send it",
                where=format_name, payload=payload,
            )  # fmt: skip
        digest = crc32(payload if plain is None else plain) & DIGEST
        found.append(_new(Reading, (device, at, format_name, values, counter, digest, gateway, rssi)))
    return found


@lru_cache(maxsize=4096)
def _beside(
    beside: bytes, model: str | None, known: bool, length: int
) -> tuple[Decoder | None, str | None, Whole | None]:
    """Return whose manufacturer data may be, whose company identifier is data, their local name and the short way.

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
    called = str(name, "utf-8", "replace") if name else model
    if known:
        return (borrower if length == _LOOKS_BORROWED else None), called, nokia_ways(beside, model).get(length)
    return borrower, called, borrowed_ways(borrower, called or "").get(length)
