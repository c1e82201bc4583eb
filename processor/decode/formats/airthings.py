"""Airthings Wave family (Wave, Wave Mini, Wave Plus, Wave Radon): manufacturer data of company 0x0334.

Source: github.com/esphome/esphome, airthings_ble, and github.com/ztroop/wave-reader-utils, docs/specs.md. They
advertise only their serial number, whose first four digits are the model; measurements are read over a connection.
"""

from __future__ import annotations

from collections.abc import Mapping

from processor.decode.fields import Codec, Decoded, Field, Format
from processor.reading import Value

COMPANY = 0x0334


def _serial(data: bytes) -> str:
    return str(int.from_bytes(data, "little"))


def _serial_bytes(value: Value) -> bytes:
    return int(value).to_bytes(4, "little")


WAVE = Format(
    name="airthings.wave", source="github.com/esphome/esphome, airthings_ble", endian="little", length=6, magic=b"",
    products="Wave, Wave Mini, Wave Plus, Wave Radon: the serial number alone",
    fields=(Field("serial_number", at=0, type="bytes", size=4, codec=Codec(_serial, _serial_bytes)),),
)  # fmt: skip

FORMATS = (WAVE,)
_read = WAVE.compile()


def decode(
    data: bytes, address: str | None, keys: Mapping[str, bytes], whole: bytes = b"", model: str | None = None
) -> Decoded | None:
    """Decode Airthings' manufacturer data, after the company identifier. None for another length."""
    return _read(data, address) if len(data) == WAVE.length else None
