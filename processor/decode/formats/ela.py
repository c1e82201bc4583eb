"""ELA Innovation Blue COIN and Blue PUCK: manufacturer data of company 0x0757.

Sources: docs.elainnovation.com, "BLE Frame Specifications" (company identifier, where a tag sends which kind of data);
github.com/reelyactive/advlib-ble-manufacturers 1.14 (lib/elainnovation.js and its vectors) for the frames. Tags that
send service data instead use the UUIDs of Bluetooth's own characteristics: gatt.py reads them. A frame's first byte is
its type; MAG, MOV, DI, PIR and TOUCH are a state in the lowest bit and a count of changes above it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from processor.decode.fields import Decoded, Field, Format

COMPANY = 0x0757
_SOURCE = "docs.elainnovation.com, BLE Frame Specifications; advlib-ble-manufacturers 1.14, lib/elainnovation.js"


def _frame(name: str, products: str, frame: bytes, length: int, *fields: Field) -> Format:
    return Format(
        name=f"ela.{name}", source=_SOURCE, endian="little", length=length, magic=frame, fields=fields,
        products=f"Blue COIN and Blue PUCK {products}",
    )  # fmt: skip


def _state(name: str, frame: int, quantity: str, count: str = "count") -> Format:
    return _frame(
        name, name.upper(), bytes([frame]), 3,
        Field(quantity, at=1, type="u16", bits=(0, 1), lookup=(False, True)),
        Field(count, at=1, type="u16", bits=(1, 15)),
    )  # fmt: skip


T = _frame("t", "T", b"\x12", 3, Field("temperature", at=1, type="i16", scale="0.01"))
RHT = replace(  # humidity, and after it what the frame of a temperature is
    _frame(
        "rht", "RHT", b"\x21\0\x12", 5,
        Field("humidity", at=1, type="u8"), Field("temperature", at=3, type="i16", scale="0.01"),
    ),
    mask=b"\xff\0\xff",
)  # fmt: skip
ANG = _frame(
    "ang", "ANG", b"\x56", 7,
    *(Field(f"acceleration_{axis}", at=at, type="i16", scale="0.001") for axis, at in (("x", 1), ("y", 3), ("z", 5))),
)  # fmt: skip
MAG = _state("mag", 0x32, "magnet")
MOV = _state("mov", 0x42, "moving", "movement_counter")
DI = _state("di", 0x62, "digital_input")
PIR = _state("pir", 0x92, "motion")
TOUCH = _state("touch", 0xB2, "button_pressed")
BATTERY = _frame("batt.percent", "of any kind", b"\xf1", 2, Field("battery", at=1, type="u8"))
VOLTAGE = _frame("batt.voltage", "of any kind", b"\xf2", 3, Field("battery_voltage", at=1, type="u16", scale="0.001"))

FORMATS = (T, RHT, ANG, MAG, MOV, DI, PIR, TOUCH, BATTERY, VOLTAGE)
_READERS = {table.magic[0]: table.compile() for table in FORMATS}


def decode(
    data: bytes, address: str | None, keys: Mapping[str, bytes], whole: bytes = b"", model: str | None = None
) -> Decoded | None:
    """Decode ELA's manufacturer data, after the company identifier. None for a frame not known here."""
    read = _READERS.get(data[0]) if data else None
    if read is None or (data[0] == RHT.magic[0] and len(data) == RHT.length and data[2] != RHT.magic[2]):
        return None
    return read(data, address)
