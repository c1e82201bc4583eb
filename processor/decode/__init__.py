"""Bytes to Readings. Pure: no AWS, no clock, no environment, no logging.

`decode` takes one advertisement; `envelope` and `gateways` find the advertisements in a Kinesis record.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from zlib import crc32

from processor.decode.advertisement import (
    MANUFACTURER_DATA,
    MAX_LENGTH,
    SERVICE_DATA_16,
    structures,
)
from processor.decode.beside import LOOKS_BORROWED, Told
from processor.decode.beside import told_by as _told_by
from processor.decode.formats import (
    MANUFACTURERS,
    MODELLED,
    OBJECTS,
    SERVICES,
    STARTS,
    WHOLE,
    Decoder,
    alone_of,
)
from processor.decode.formats.govee import decode_nokia
from processor.decode.short import DIGEST, FLAGS, HEAD, Alone, Whole, nothing
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
_HEAD = slice(FLAGS + 5)
"""Flags, and an AD structure's length, type, identifier and first byte of payload."""
_alone: dict[bytes | tuple[str, bytes], Alone] = {}
"""The shortest ways, by that or the remembered model and that: learned from what was read, not to compile all."""
_MOST = 4096
"""So many are kept."""
_ANY = range(256)  # bytes
_SECOND = FLAGS + 4
"""Where the AD structure starts that follows flags and one UUID of 16 bits."""
_LEAST = _SECOND + 1
"""Where its type is."""
_told: dict[bytes | tuple[str, bytes], tuple[Decoder | None, Whole | None]] = {}
"""The decoder of a known company or None, and the short way of what is its or nobody's manufacturer data, None where it
is not known either: by the AD structures before and after it, its length and type; or by the model and them."""

_FIRST = 4
"""An AD structure that starts before here and ends the advertisement has nothing beside it but flags, if that."""

_NAMED = 1 + LOOKS_BORROWED + 5
"""The length of an advertisement that has an Inkbird's name beside such a structure."""

MOST_ASKED = 32
"""So often may the AD structures of one advertisement ask a maker's decoder, which may look at all the others every
time: twice what a legacy advertisement and its scan response hold together, in 62 bytes; sensors send one to five."""

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
    """Decode one advertisement on the hot path: as `decode`, with the address in its one spelling.

    What is like one before is known by its first bytes, or by what stands beside its payload; the rest is walked.
    """
    head = data[_HEAD]
    shortest = _alone.get(head if model is None else (model, head))
    if shortest is not None and address is not None:
        alone = shortest(data, address, at, keys, gateway, rssi)
        if alone is not None:
            return alone
    end = len(data)
    if end > _LEAST and address is not None:
        start = FLAGS if data[FLAGS + 1] == MANUFACTURER_DATA else _SECOND
        after = start + 1 + data[start]
        beside = data[: start + 2] + data[after:]
        told = _told.get(beside if model is None else (model, beside))
        if told is not None and after <= end:
            decoder, read = told
            if _find(data[start + 1 : start + 4]) is decoder:
                if read is None:
                    return []
                reading = read(data, start, after, address, at, gateway, rssi)
                if reading is not None:
                    return [reading]
    return _walked(data, address, at, keys, gateway, rssi, model)


def _walked(
    data: bytes,
    address: str | None,
    at: int | None,
    keys: Mapping[str, bytes],
    gateway: str | None,
    rssi: int | None,
    model: str | None,
) -> list[Reading]:
    """Decode one advertisement, AD structure by AD structure, and remember the short way of others like it."""
    found: list[Reading] = []
    end = len(data)
    if end > MAX_LENGTH:
        structures(data)  # raises, and says why
    told: Told | None = None
    asked = after = 0
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
        if length < 3:
            raise DecodeError(
                "truncated", "no whole company identifier or UUID", where="advertisement", offset=start, payload=data
            )
        decoder = _find(data[start + 1 : start + 4])
        borrower = decoded = None
        if decoder is not None and (length != LOOKS_BORROWED or (end < _NAMED and model is None)):
            way = _whole(data[start : start + 5])
            if way is None and model is not None and start < _FIRST and after == end:
                way = _modelled((model, data[start : start + 4]))
            if way is not None and address is not None:
                reading = way(data, start, after, address, at, gateway, rssi)
                if reading is not None:
                    found.append(reading)
                    if start == FLAGS and after == end:
                        _learn(_alone, data[_HEAD], model, alone_of(way, end))
                    continue
        borrowed = ad_type == MANUFACTURER_DATA and (decoder is decode_nokia or length == LOOKS_BORROWED)
        if borrowed or decoder is None:
            if told is None:
                told = _told_by(data[:start] + data[after:], model)
            way = None
            if ad_type == MANUFACTURER_DATA:
                if decoder is None:
                    borrower, way = told.borrower, told.borrowed.get(length)
                else:  # Nokia's, or one that has to ask first
                    borrower = told.borrower if length == LOOKS_BORROWED else None
                    way = told.nokia.get(length)
            usual = end > _LEAST and start == (FLAGS if data[FLAGS + 1] == MANUFACTURER_DATA else _SECOND)
            if usual and told.alone and (way is not None or (borrower is None and decoder is None)):
                _learn(_told, data[: start + 2] + data[after:], model, (decoder, way))
            if way is not None and address is not None:
                reading = way(data, start, after, address, at, gateway, rssi)
                if reading is not None:
                    found.append(reading)
                    continue
            if borrower is not None:
                asked = _asked(asked, data)
                decoded = borrower(data[start + 2 : after], address, keys, data, told.called)
        if decoded is None and decoder is not None:
            asked = _asked(asked, data)
            decoded = decoder(data[start + 4 : after], address, keys, data, model)
        alone = start == FLAGS and after == end
        if decoded is None:
            if alone and borrower is None and length >= HEAD and data[start + HEAD] not in STARTS.get(decoder, _ANY):
                _learn(_alone, data[_HEAD], model, nothing)
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
        if alone and decoder in OBJECTS:
            _learn(_alone, data[_HEAD], model, OBJECTS[decoder]())
    return found


def _asked(before: int, data: bytes) -> int:
    """Return the count of decoders that an advertisement has asked, one more. Raises DecodeError beyond MOST_ASKED."""
    if before == MOST_ASKED:
        message = f"more than {MOST_ASKED} AD structures to decode"
        raise DecodeError("many", message, where="advertisement", payload=data)
    return before + 1


def _learn(ways: dict[Any, Any], start: bytes, model: str | None, way: Any) -> None:
    """Remember a short way by how the advertisement starts, and the remembered model where there is one."""
    if way is not None:
        if len(ways) >= _MOST:
            ways.clear()
        ways[start if model is None else (model, start)] = way
