"""AD structures: what a Bluetooth advertisement is made of, legacy or extended.

Source: Bluetooth Core Specification, Vol 3, Part C, section 11; types from the Assigned Numbers document, 2.3.
"""

from __future__ import annotations

from processor.errors import DecodeError

UUIDS_16 = (0x02, 0x03)
UUIDS_128 = (0x06, 0x07)
NAMES = (0x08, 0x09)
SERVICE_DATA_16 = 0x16
MANUFACTURER_DATA = 0xFF

MAX_LEGACY = 31
"""A legacy advertisement, or a scan response, holds at most so many bytes (Vol 6, Part B, 2.3.1)."""

MAX_LENGTH = 1650
"""An extended advertisement, chained to its end, holds at most so many bytes (Vol 4, Part E, 7.8.54)."""


def structures(data: bytes) -> list[tuple[int, bytes]]:
    """Split advertisement data into (AD type, data) pairs, in order.

    A length of zero ends it early, as the specification has it. Raises DecodeError, with the offset, where a
    structure would reach past the end or the whole is longer than any advertisement.
    """
    end = len(data)
    if end > MAX_LENGTH:
        raise DecodeError("length", f"{end} bytes, at most {MAX_LENGTH}", where="advertisement", payload=data)
    found = []
    at = 0
    while at < end:
        length = data[at]
        if not length:
            break
        after = at + 1 + length
        if after > end:
            raise DecodeError(
                "truncated", f"an AD structure of {length} bytes, but {end - at - 1} are left",
                where="advertisement", offset=at, payload=data,
            )  # fmt: skip
        found.append((data[at + 1], data[at + 2 : after]))
        at = after
    return found


def local_name(data: bytes) -> str | None:
    """Return the local name that advertisement data carry, shortened or complete; None without one."""
    at, last = 0, len(data) - 2
    while at < last:
        ad_type, length = data[at + 1], data[at]
        if not length:
            break
        if ad_type == 0x09 or ad_type == 0x08:
            return data[at + 2 : at + 1 + length].decode(errors="replace")
        at += 1 + length
    return None


def structure(ad_type: int, data: bytes) -> bytes:
    """Return one AD structure: `structures` backwards. Raises ValueError beyond 254 bytes of data."""
    if len(data) > 254:
        raise ValueError(f"an AD structure holds at most 254 bytes of data, not {len(data)}")
    return bytes((len(data) + 1, ad_type)) + data


def service_data(uuid: int, data: bytes) -> bytes:
    """Return the AD structure of service data of a 16-bit UUID."""
    return structure(SERVICE_DATA_16, uuid.to_bytes(2, "little") + data)


def manufacturer_data(company: int, data: bytes) -> bytes:
    """Return the AD structure of manufacturer data of a company identifier."""
    return structure(MANUFACTURER_DATA, company.to_bytes(2, "little") + data)
