"""Bytes to Readings. Pure: no AWS, no clock, no environment, no logging.

`decode` takes one advertisement; `envelope` and `gateways` find the advertisements in a Kinesis record.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
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
from processor.decode.fields import Decoded
from processor.decode.formats import BY_NAME, BY_UUID, MANUFACTURERS, SERVICES, Decoder, inkbird
from processor.errors import DecodeError
from processor.reading import Reading
from processor.reading import address as canonical

NO_KEYS: Mapping[str, bytes] = {}

DECODERS: dict[int, dict[int, Decoder]] = {MANUFACTURER_DATA: MANUFACTURERS, SERVICE_DATA_16: SERVICES}
"""By AD type, then by company identifier or UUID."""

_LOOKS_BORROWED = 1 + inkbird.LENGTH
"""The length of an AD structure in which an Inkbird's temperature can be any maker's company identifier, at 24.09 °C
SwitchBot's: there the local name is asked first."""

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
    after = 0
    while after < end:
        # What `structures` does, without its list: most advertisements hold one structure of interest.
        start = after
        length = data[start]
        if not length:
            break
        after = start + 1 + length
        if after > end:
            structures(data)
        decoders = DECODERS.get(data[start + 1])
        if decoders is None:
            continue
        if length < 3:
            raise DecodeError(
                "truncated", "no whole company identifier or UUID", where="advertisement", offset=start, payload=data
            )
        decoder = decoders.get(data[start + 2] | data[start + 3] << 8)
        if decoder is None or length == _LOOKS_BORROWED:
            decoded = _borrowed(data, start, after, address, keys, model)
            if decoded is None and decoder is not None:
                decoded = decoder(data[start + 4 : after], address, keys, data, model)
        else:
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
        digest = crc32(payload if plain is None else plain) & 0xFFFFFF
        found.append(_new(Reading, (device, at, format_name, values, counter, digest, gateway, rssi)))
    return found


def _borrowed(
    data: bytes, start: int, after: int, address: str | None, keys: Mapping[str, bytes], model: str | None
) -> Decoded | None:
    """Decode manufacturer data whose company identifier is data: by the local name, or a UUID, that stands beside it.

    None where no such maker's is there. `model` is the local name heard earlier.
    """
    if data[start + 1] != MANUFACTURER_DATA:
        return None
    decoder = None if model is None else BY_NAME.get(model[:3].encode())
    at, end = 0, len(data)
    while at + 2 < end and data[at]:
        ad_type, next_at = data[at + 1], at + 1 + data[at]
        if ad_type in NAMES:
            decoder = BY_NAME.get(data[at + 2 : at + 5], decoder)
        elif ad_type in UUIDS_16 or ad_type in UUIDS_128:
            size = 2 if ad_type in UUIDS_16 else 16
            for uuid in range(at + 2, min(next_at, end), size):
                decoder = BY_UUID.get(data[uuid : uuid + size], decoder)
        at = next_at
    return None if decoder is None else decoder(data[start + 2 : after], address, keys, data, model)
