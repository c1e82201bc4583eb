"""Bytes to Readings. Pure: no AWS, no clock, no environment, no logging.

`decode` takes one advertisement; `envelope` and `gateways` find the advertisements in a Kinesis record.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from zlib import crc32

from processor.decode.advertisement import MANUFACTURER_DATA, SERVICE_DATA_16, structures
from processor.decode.formats import MANUFACTURERS, SERVICES
from processor.errors import DecodeError
from processor.reading import Reading
from processor.reading import address as canonical

NO_KEYS: Mapping[str, bytes] = {}


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
) -> list[Reading]:
    """Decode one advertisement on the hot path: as `decode`, with the address in its one spelling."""
    found = []
    for ad_type, payload in structures(data):
        if ad_type == MANUFACTURER_DATA:
            decoders, what = MANUFACTURERS, "manufacturer data"
        elif ad_type == SERVICE_DATA_16:
            decoders, what = SERVICES, "service data"
        else:
            continue
        if len(payload) < 2:
            raise DecodeError("truncated", f"{what} of {len(payload)} bytes", where="advertisement", payload=data)
        decoder = decoders.get(payload[0] | payload[1] << 8)
        if decoder is None:
            continue
        decoded = decoder(payload[2:], address, keys)
        if decoded is None:
            continue
        format_name, values, counter, own = decoded
        device = address or own
        if device is None:
            raise DecodeError(
                "address", "neither the gateway nor the payload gives the sensor's address: let the gateway send it",
                where=format_name, payload=payload,
            )  # fmt: skip
        found.append(Reading(device, at, format_name, values, counter, crc32(payload) & 0xFFFFFF, gateway, rssi))
    return found
