"""iBeacon: manufacturer data of company 0x004C (Apple), type 0x02.

Source: Apple, "Proximity Beacon Specification", release R1. A beacon counts nothing that identifies a measurement: it
sends the same bytes each time, and its readings are told apart by time.
"""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from processor.decode.fields import Codec, Decoded, Field, Format
from processor.reading import Value

COMPANY = 0x004C


def _uuid(data: bytes) -> str:
    """Return 16 bytes as RFC 9562 writes a UUID."""
    text = data.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _uuid_bytes(value: Value) -> bytes:
    return UUID(str(value)).bytes


IBEACON = Format(
    name="ibeacon", source="Apple, Proximity Beacon Specification R1", endian="big", length=23, magic=b"\x02\x15",
    products="any iBeacon",
    fields=(
        Field("uuid", at=2, type="bytes", size=16, codec=Codec(_uuid, _uuid_bytes)),
        Field("major", at=18, type="u16"),
        Field("minor", at=20, type="u16"),
        Field("tx_power", at=22, type="i8"),  # as received 1 m away
    ),
)  # fmt: skip

FORMATS = (IBEACON,)
_decode = IBEACON.compile()


def decode(
    data: bytes, address: str | None, keys: Mapping[str, bytes], whole: bytes = b"", model: str | None = None
) -> Decoded | None:
    """Decode Apple's manufacturer data, after the company identifier. None for all but an iBeacon."""
    return _decode(data, address) if data[:2] == IBEACON.magic else None
