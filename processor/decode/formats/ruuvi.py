"""Ruuvi data formats 3, 5, 6 and E1: manufacturer data of company 0x0499.

Source: docs.ruuvi.com, "Data format 3 (RAWv1)", "Data format 5 (RAWv2)", "Data format 6" and "Data format E1".
Bytes that those pages call reserved are not read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from processor.decode.fields import Decoded, Field, Format
from processor.errors import DecodeError

COMPANY = 0x0499

RAWV1 = Format(
    name="ruuvi.3", source="docs.ruuvi.com, data format 3 (RAWv1)", endian="big", length=14, magic=b"\x03",
    products="RuuviTag, firmware 1",
    fields=(
        Field("humidity", at=1, type="u8", scale="0.5"),
        Field("temperature", at=2, type="sign.int.cents", scale="0.01"),
        Field("pressure", at=4, type="u16", offset="50000"),
        Field("acceleration_x", at=6, type="i16", scale="0.001"),
        Field("acceleration_y", at=8, type="i16", scale="0.001"),
        Field("acceleration_z", at=10, type="i16", scale="0.001"),
        Field("battery_voltage", at=12, type="u16", scale="0.001"),
    ),
)  # fmt: skip

RAWV2 = Format(
    name="ruuvi.5", source="docs.ruuvi.com, data format 5 (RAWv2)", endian="big", length=24, magic=b"\x05",
    products="RuuviTag, RuuviTag Pro",
    fields=(
        Field("temperature", at=1, type="i16", scale="0.005", invalid=0x8000),
        Field("humidity", at=3, type="u16", scale="0.0025", invalid=0xFFFF),
        Field("pressure", at=5, type="u16", offset="50000", invalid=0xFFFF),
        Field("acceleration_x", at=7, type="i16", scale="0.001", invalid=0x8000),
        Field("acceleration_y", at=9, type="i16", scale="0.001", invalid=0x8000),
        Field("acceleration_z", at=11, type="i16", scale="0.001", invalid=0x8000),
        Field("battery_voltage", at=13, type="u16", bits=(5, 11), scale="0.001", offset="1.6", invalid=2047),
        Field("tx_power", at=13, type="u16", bits=(0, 5), scale="2", offset="-40", invalid=31),
        Field("movement_counter", at=15, type="u8", invalid=0xFF),
        Field("sequence", at=16, type="u16", invalid=0xFFFF),
        Field("address", at=18, type="mac"),
    ),
    counter="sequence",
)  # fmt: skip


def _illuminance(code: int) -> float | None:
    """Return the lux of format 6's logarithmic code, to two decimals; 255 is not available."""
    return None if code == 255 else round(math.exp(code * math.log(65536) / 254) - 1, 2)


DF6 = Format(
    name="ruuvi.6", source="docs.ruuvi.com, data format 6", endian="big", length=20, magic=b"\x06",
    products="Ruuvi Air",
    fields=(
        Field("temperature", at=1, type="i16", scale="0.005", invalid=0x8000),
        Field("humidity", at=3, type="u16", scale="0.0025", invalid=0xFFFF),
        Field("pressure", at=5, type="u16", offset="50000", invalid=0xFFFF),
        Field("pm2_5", at=7, type="u16", scale="0.1", invalid=0xFFFF),
        Field("co2", at=9, type="u16", invalid=0xFFFF),
        Field("voc_index", at=11, type="u8", low_bit=(16, 6), invalid=0x1FF),
        Field("nox_index", at=12, type="u8", low_bit=(16, 7), invalid=0x1FF),
        Field("illuminance", at=13, type="u8", lookup=tuple(map(_illuminance, range(256)))),
        Field("sequence", at=15, type="u8"),  # 255 is a sequence number like any other
    ),
    counter="sequence",
)  # fmt: skip

E1 = Format(
    name="ruuvi.e1", source="docs.ruuvi.com, data format E1", endian="big", length=40, magic=b"\xe1",
    products="Ruuvi Air, extended advertising",
    fields=(
        Field("temperature", at=1, type="i16", scale="0.005", invalid=0x8000),
        Field("humidity", at=3, type="u16", scale="0.0025", invalid=0xFFFF),
        Field("pressure", at=5, type="u16", offset="50000", invalid=0xFFFF),
        Field("pm1_0", at=7, type="u16", scale="0.1", invalid=0xFFFF),
        Field("pm2_5", at=9, type="u16", scale="0.1", invalid=0xFFFF),
        Field("pm4_0", at=11, type="u16", scale="0.1", invalid=0xFFFF),
        Field("pm10", at=13, type="u16", scale="0.1", invalid=0xFFFF),
        Field("co2", at=15, type="u16", invalid=0xFFFF),
        Field("voc_index", at=17, type="u8", low_bit=(28, 6), invalid=0x1FF),
        Field("nox_index", at=18, type="u8", low_bit=(28, 7), invalid=0x1FF),
        Field("illuminance", at=19, type="u24", scale="0.01", invalid=0xFFFFFF),
        Field("sequence", at=25, type="u24", invalid=0xFFFFFF),
        Field("address", at=34, type="mac"),
    ),
    counter="sequence",
)  # fmt: skip

FORMATS = (RAWV1, RAWV2, DF6, E1)
_DECODERS = {table.magic[0]: table.compile() for table in FORMATS}


def decode(
    data: bytes, address: str | None, keys: Mapping[str, bytes], whole: bytes = b"", model: str | None = None
) -> Decoded | None:
    """Decode Ruuvi's manufacturer data, after the company identifier. None for a data format not known here."""
    if not data:
        raise DecodeError("length", "no data format byte", where="ruuvi", payload=data)
    decoder = _DECODERS.get(data[0])
    return None if decoder is None else decoder(data, address)


SUPERSEDED = {DF6.name: (E1.name, 0xFF)}
"""Format 6 carries the lowest byte of E1's sequence number for the same sample (data format 6, byte 15)."""
