"""Qingping, formerly ClearGrass: service data of UUID 0xFDCD.

Qingping publishes no specification of it. Sources: github.com/Bluetooth-Devices/qingping-ble 1.3 (parser.py, captures
and issues), github.com/Ernst79/bleparser (qingping.py), github.com/pvvx/TLB2Z (ble_scaning.c) for the frame control.

A payload: the frame control, the product, the address (least significant byte first), and objects. The control's bit 6
marks an event, such as a change of motion, whose illuminance is not valid. A battery of 255 is external power. Some
frames carry a packet id, which is then the measurement's.
"""

from __future__ import annotations

from collections.abc import Mapping

from processor.decode.fields import Decoded, Field, FieldType, Format
from processor.decode.tlv import Tlv, TlvFormat
from processor.errors import DecodeError
from processor.reading import Value, address_of

UUID = 0xFDCD
HEAD = 8
ADDRESS, EVENT = 0x08, 0x40
PRODUCTS = frozenset((
    0x01, 0x04, 0x07, 0x09, 0x0C, 0x0E, 0x0F, 0x10, 0x12, 0x15, 0x16, 0x18, 0x1E, 0x24, 0x26, 0x33, 0x4F, 0x52, 0x5D,
    0x62,
))  # fmt: skip
"""The product types of qingping-ble's parser.py; others may be other frames altogether."""
_POSITIVE = (False, *[True] * 255)


def _number(id_: int, name: str, kind: FieldType, scale: str = "1", invalid: int | None = None) -> Tlv:
    field = Field(name, at=0, type=kind, scale=scale, invalid=invalid)
    return Tlv(id_, field.width, (field,))


_MOTION = Field("motion", at=0, type="u8", lookup=_POSITIVE)
_EVENTS = frozenset((EVENT,))
"""In place of a product: an object that an event's frame reads otherwise."""

QINGPING = TlvFormat(
    name="qingping", source="github.com/Bluetooth-Devices/qingping-ble 1.3, parser.py", id_size=1, counter="packet_id",
    products=(
        "CGG1, CGG3, CGH1, CGP1W, CGP22C, CGP23W, CGD1, CGDN1, CGM1, CGDK2, CGPR1, CGF1W, CGC1, CGR1PC (door, climate, "
        "motion, CO2, air monitors)"
    ),
    objects=(
        Tlv(0x01, 4, (
            Field("temperature", at=0, type="i16", scale="0.1"), Field("humidity", at=2, type="u16", scale="0.1"),
        )),
        _number(0x02, "battery", "u8", invalid=0xFF),
        Tlv(0x04, 1, choices={
            b"\0": {"door": True, "left_open": False}, b"\1": {"door": False, "left_open": False},
            b"\2": {"door": True, "left_open": True},
        }),
        _number(0x07, "pressure", "u16", "10"),
        Tlv(0x08, 4, (_MOTION, Field("illuminance", at=1, type="u24"))),
        Tlv(0x08, 4, (_MOTION,), products=_EVENTS),
        _number(0x09, "illuminance", "u32"),
        _number(0x0F, "packet_id", "u8"),
        Tlv(0x11, 1, (Field("light", at=0, type="u8", lookup=_POSITIVE),)),
        Tlv(0x12, 4, (Field("pm2_5", at=0, type="u16"), Field("pm10", at=2, type="u16"))),
        _number(0x13, "co2", "u16"),
        _number(0x15, "voc_index", "u16"),
        _number(0x19, "sound_level", "u8"),
    ),
)  # fmt: skip

FORMATS = (QINGPING,)
_NAME = QINGPING.name
_read = QINGPING.compile()
_new = tuple.__new__


def decode(
    data: bytes, address: str | None, keys: Mapping[str, bytes], whole: bytes = b"", model: str | None = None
) -> Decoded | None:
    """Decode Qingping's service data, after the UUID. None for a product not known here, or a frame without address."""
    size = len(data)
    if size >= 2 and (data[1] not in PRODUCTS or not data[0] & ADDRESS):
        return None
    if size < HEAD:
        raise DecodeError("length", f"expected {HEAD} bytes or more, got {size}", where=_NAME, payload=data)
    values = _read(data, HEAD, data[0] & EVENT)
    own = address_of(data[7:1:-1]) if address is None else None
    return _new(Decoded, (_NAME, values, values.get("packet_id"), own, None))


def table_of(data: bytes) -> Format | None:
    """Return the layout of service data, after the UUID, that are like these, which `decode` has read."""
    return QINGPING.table_of(data, HEAD, data[0] & EVENT, range(2, HEAD))


def encode(values: Mapping[str, Value], *, product: int, address: str, event: bool = False) -> bytes:
    """Return the service data in which a device of `product` says `values`. Raises ValueError where no object does."""
    control = ADDRESS | (EVENT if event else 0)
    mac = bytes.fromhex(address.replace(":", ""))[::-1]
    return bytes([control, product]) + mac + QINGPING.write(values, control & EVENT)
