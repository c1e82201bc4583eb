"""MOKO H4 and H6 (BeaconX Pro): service data of UUID 0xFEAB, frames 0x40 (device) and 0x70 (temperature and humidity).

MOKO's own description was not found. Source: github.com/theengs/decoder (MBXPRO), facts only. What follows the known
bytes is not read. Frame 0x60, acceleration, is left out, as the unit of its axes is not established. No frame counts.
"""

from __future__ import annotations

from collections.abc import Mapping

from processor.decode.fields import Decoded, Field, Format

UUID = 0xFEAB
_SOURCE = "github.com/theengs/decoder, MBXPRO"
_PRODUCTS = "H4, H6 (BeaconX Pro)"

DEVICE = Format(
    name="moko.device", source=_SOURCE, endian="big", length=5, magic=b"\x40", products=_PRODUCTS,
    fields=(Field("battery_voltage", at=3, type="u16", scale="0.001"),),
)  # fmt: skip
CLIMATE = Format(
    name="moko.climate", source=_SOURCE, endian="big", length=9, magic=b"\x70", products=_PRODUCTS,
    fields=(
        Field("temperature", at=3, type="i16", scale="0.1"),
        Field("humidity", at=5, type="u16", scale="0.1"),
        Field("battery_voltage", at=7, type="u16", scale="0.001"),
    ),
)  # fmt: skip

FORMATS = (DEVICE, CLIMATE)
_READERS = {table.magic[0]: (table.length, table.compile()) for table in FORMATS}


def decode(
    data: bytes, address: str | None, keys: Mapping[str, bytes], whole: bytes = b"", model: str | None = None
) -> Decoded | None:
    """Decode MOKO's service data, after the UUID. None for a frame not known here."""
    known = _READERS.get(data[0]) if data else None
    if known is None:
        return None
    length, read = known
    return read(data[:length], address)
