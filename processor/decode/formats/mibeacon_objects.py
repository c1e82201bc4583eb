"""The objects of MiBeacon: what each says, in all devices or in those of some products.

Objects below 0x4000 are Xiaomi's general events and attributes: github.com/MiEcosystem/miio_open, ble/04
(BLE object definition; in English in github.com/pvvx/ATC_MiThermometer, InfoMijiaBLE). Those from 0x4000 on belong to a
product's own specification (home.miot-spec.com), so they are read only for the products that
github.com/Bluetooth-Devices/xiaomi-ble 1.21 knows (parser.py, devices.py); it also knows what a product says otherwise.

Left out: locks, toothbrushes, kettles, scales, bands and pillows; body temperature 0x2000, whose formula is a guess.

A remote's buttons are numbered from 1 as they are indexed, a switch's from left to right: `button`, `button_2`...
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from itertools import product as pairs
from math import isfinite

from processor.decode.fields import Codec, Field, FieldType
from processor.decode.tlv import Tlv, Values
from processor.errors import DecodeError
from processor.reading import Value

KNOWN = frozenset((
    0x0083, 0x0098, 0x00DB, 0x0113, 0x0153, 0x015D, 0x01AA, 0x02DF, 0x0347, 0x0380, 0x0387, 0x0391, 0x03B6, 0x03BC,
    0x03BF, 0x03D6, 0x03DD, 0x040A, 0x045B, 0x045C, 0x0489, 0x04E1, 0x04E6, 0x04E9, 0x055B, 0x0576, 0x0599, 0x066F,
    0x068E, 0x069E, 0x069F, 0x06D3, 0x0784, 0x07BF, 0x07F6, 0x0806, 0x0863, 0x098B, 0x098C, 0x0997, 0x09B0, 0x0A83,
    0x0A8D, 0x0B48, 0x0C3C, 0x0DE7, 0x0DFD, 0x0E39, 0x11C2, 0x1203, 0x1568, 0x1569, 0x16E4, 0x1790, 0x1889, 0x1949,
    0x1C10, 0x2387, 0x2542, 0x2832, 0x2AEB, 0x30D9, 0x3531, 0x38BB, 0x3A61, 0x3BD5, 0x3E17, 0x3F0F, 0x3F4C, 0x45C9,
    0x4683, 0x48CF, 0x4B05, 0x4C04, 0x4C47, 0x4C60, 0x4DCB, 0x4F59, 0x4FC2, 0x50FB, 0x520B, 0x55B5, 0x5968, 0x59FA,
    0x59FB, 0x59FC, 0x5BEA, 0x5DB1, 0x6188, 0x6375, 0x6A0F, 0x7712, 0x78A3, 0x78D1, 0x78DB,
))  # fmt: skip
"""The products of xiaomi-ble's devices.py."""

MUE4094RT, MJYD02YL, MCCGQ02HL, SAFE_BOX = 0x03DD, 0x07F6, 0x098B, 0x09B0
CGPR1, RTCGQ02LM, XMOSB01XS, SJWS02LM = 0x0A83, 0x0A8D, 0x4683, 0x6375
XMMF01JQD, YLKG07YL, K9B_1, K9B_2, K9B_3 = 0x04E1, 0x03B6, 0x1568, 0x1569, 0x0DFD
XMWXKG01YL, XMWXKG01LM, K9BB_1, XMWS01XS = 0x1949, 0x2387, 0x1C10, 0x5968
KS1, KS1BP, KS2BB, AFWXKG = 0x3A61, 0x3E17, 0x520B, 0x78A3

_POSITIVE = (False, *[True] * 255)
_PRESSES = ("press", "double_press", "long_press")


def _float(data: bytes) -> Value:
    """Return the shortest decimal that 32 bits of IEEE 754 stand for: a sensor's 25.3 is 25.3."""
    (value,) = struct.unpack("<f", data)
    if not isfinite(value):
        raise DecodeError("range", f"{value} is no measurement", where="mibeacon", payload=data)
    for digits in range(6, 9):
        short = float(f"{value:.{digits}g}")
        if struct.pack("<f", short) == data:
            return short
    return float(f"{value:.9g}")


FLOAT = Codec(_float, lambda value: struct.pack("<f", float(value)))
LIGHT = Codec(
    lambda data: int.from_bytes(data, "little") >= 100, lambda value: (100 if value else 0).to_bytes(3, "little")
)
"""In place of lux: 0 or 1 is dark, 100 or 256 is light."""


def _number(id_: int, name: str, kind: FieldType, scale: str = "1", invalid: int | None = None) -> Tlv:
    field = Field(name, at=0, type=kind, scale=scale, invalid=invalid)
    return Tlv(id_, field.width, (field,))


def _flag(id_: int, name: str) -> Tlv:
    """Return a flag that any other byte than 0 sets."""
    return Tlv(id_, 1, (Field(name, at=0, type="u8", lookup=_POSITIVE),))


def _states(id_: int, states: Mapping[int, Values], *products: int) -> Tlv:
    """Return an object of one byte, of which only some values are defined."""
    return Tlv(
        id_, 1, choices={bytes([code]): said for code, said in states.items()}, products=frozenset(products) or None
    )


def _button(number: int, event: str) -> dict[str, Value]:
    return {"button" if number == 1 else f"button_{number}": event}


def _buttons(numbers: tuple[int, ...], event: str) -> dict[str, Value]:
    return {name: event for number in numbers for name in _button(number, event)}


def _event(id_: int, event: str, *products: int) -> list[Tlv]:
    """Return the objects of an only button's event: with nothing in them, or a byte that says nothing."""
    only = frozenset(products) or None
    field = _bytes("button", 1, Codec(lambda _: event, lambda _: b"\0"))
    return [Tlv(id_, 1, (field,), products=only), Tlv(id_, 0, choices={b"": {"button": event}}, products=only)]


def _motion(kind: FieldType, *more: Field, id_: int, products: tuple[int, ...] = ()) -> Tlv:
    """Return an object that is sent when something moves. It takes none of its bits to say so."""
    moved = Field("motion", at=0, type=kind, bits=(0, 0), lookup=(True,))
    return Tlv(id_, moved.width, (moved, *more), products=frozenset(products) or None)


def _bytes(name: str, size: int, codec: Codec) -> Field:
    return Field(name, at=0, type="bytes", size=size, codec=codec)


def _float_of(id_: int, name: str, *before: Field) -> Tlv:
    return Tlv(id_, 4, (*before, _bytes(name, 4, FLOAT)))


def _general() -> list[Tlv]:
    """Return the objects of Xiaomi's definition."""
    door = {
        0: {"door": True, "left_open": False}, 1: {"door": False, "left_open": False},
        2: {"door": True, "left_open": True}, 4: {"tamper": True}, 5: {"problem": True},
    }  # fmt: skip
    stamped = Tlv(
        0x0007, 5, (
            Field("door", at=0, type="u8", bits=(0, 3), lookup=(True, False, True, *[None] * 5)),
            Field("left_open", at=0, type="u8", bits=(0, 3), lookup=(False, False, True, *[None] * 5)),
            Field("timestamp", at=1, type="u32"),
        ),
    )  # fmt: skip
    alarm = {0: False, 1: True}
    presses = (*_PRESSES, "triple_press")
    return [
        Tlv(0x100D, 4, (
            Field("temperature", at=0, type="i16", scale="0.1"), Field("humidity", at=2, type="u16", scale="0.1"),
        )),
        _number(0x1004, "temperature", "i16", "0.1"),
        _number(0x1006, "humidity", "u16", "0.1"),
        _number(0x1007, "illuminance", "u24"),
        _number(0x1008, "moisture", "u8"),
        _number(0x1009, "conductivity", "u16"),
        _number(0x100A, "battery", "u8"),
        _number(0x1010, "formaldehyde", "u16", "0.01"),
        _number(0x1017, "time_since_motion", "u32"),
        _number(0x000A, "temperature", "i16", "0.01", invalid=0),  # of a body; 0 before the first measurement
        _flag(0x1014, "moisture_detected"),
        _states(0x1012, {code: {"power_on": on} for code, on in alarm.items()}),
        _states(0x1015, {code: {"smoke": on} for code, on in alarm.items()}),
        _states(0x1016, {code: {"gas_detected": on} for code, on in alarm.items()}),
        _states(0x000C, {code: {"moisture_detected": on} for code, on in alarm.items()}),
        _states(0x000D, {code: {"smoke": on} for code, on in alarm.items()}),
        _states(0x000E, {code: {"gas_detected": on} for code, on in alarm.items()}),
        _states(0x1018, {code: {"light": on} for code, on in alarm.items()}),
        _states(0x101B, {0: {"motion": True}, 1: {"motion": False}}),  # 1: nothing moved for as long as is set
        stamped,
        _states(0x0007, door),
        _states(0x100F, {0: {"door": True}, 1: {"door": False}}),
        _states(0x1019, {
            0: {"opening": True, "left_open": False}, 1: {"opening": False, "left_open": False},
            2: {"opening": True, "left_open": True},
        }),
        _motion("u24", id_=0x000F),
        Tlv(0x1001, 3, choices={
            bytes([index, 0, code]): _button(index + 1, event)
            for index, (code, event) in pairs(range(10), enumerate(presses))
        }),
    ]  # fmt: skip


def _otherwise() -> list[Tlv]:
    """Return what products say otherwise than the definition."""
    three: dict[int, tuple[int, ...]] = {0: (1,), 1: (2,), 2: (3,), 3: (1, 2), 4: (2, 3), 5: (1, 3), 6: (1, 2, 3)}
    two: dict[int, tuple[int, ...]] = {0: (1,), 1: (2,), 2: (1, 2)}
    switches: dict[int, dict[int, tuple[int, ...]]] = {K9B_1: {0: (1,)}, K9B_2: two, K9B_3: three}
    moved = _bytes("motion", 3, Codec(lambda _: True, lambda _: bytes(3)))
    light = _bytes("light", 3, LIGHT)
    return [
        *(
            Tlv(0x1001, 3, products=frozenset((product,)), choices={
                bytes([index, 0, code]): _buttons(numbers, press) for (index, numbers), (code, press) in pairs(
                    buttons.items(), enumerate(("press", "long_press", "double_press"))
                )
            })
            for product, buttons in switches.items()
        ),
        Tlv(0x1001, 3, products=frozenset((XMMF01JQD,)), choices={
            b"\0\0\0": {"dimmer": "rotate_right"}, b"\1\0\0": {"dimmer": "rotate_left"},
        }),
        Tlv(0x1001, 3, products=frozenset((YLKG07YL,))),  # its codes are its own, and encrypted as in version 3
        _motion("u8", id_=0x0003, products=(MUE4094RT,)),
        _motion("u24", Field("illuminance", at=0, type="u24"), id_=0x000F, products=(CGPR1,)),
        Tlv(0x000F, 3, (moved, light), products=frozenset((MJYD02YL, RTCGQ02LM))),
        Tlv(0x1007, 3, products=frozenset((MJYD02YL, MCCGQ02HL)), choices={
            bytes([code, 0, 0]): {"light": on} for code, on in ((0, False), (1, False), (100, True))
        }),
        _states(0x100F, {0: {"door": False}, 1: {"door": True}}, SAFE_BOX),
    ]  # fmt: skip


def _products() -> list[Tlv]:
    """Return the objects of products' own specifications."""
    opened = {1: {"opening": True}, 2: {"opening": False}}
    removed: Values = {"opening": True, "tamper": True}
    left_right = {0: "button", 1: "button_2"}
    rows = [
        _float_of(0x4801, "temperature"),
        _number(0x4802, "humidity", "u8"),
        _number(0x4803, "battery", "u8"),
        _states(0x4804, opened),
        _float_of(0x4805, "illuminance"),
        _flag(0x4806, "moisture_detected"),
        _float_of(0x4808, "humidity"),
        _states(0x480C, {0: {"opening": True}, 1: {"opening": False}}),
        _number(0x4818, "time_since_motion", "u16"),
        _flag(0x483C, "occupancy"),
        _flag(0x484E, "occupancy"),
        _flag(0x4A01, "battery_low"),
        _float_of(0x4A08, "illuminance", _bytes("motion", 4, Codec(lambda _: True, lambda _: bytes(4)))),
        *_event(0x4A0C, "press"), *_event(0x4A0D, "double_press"), *_event(0x4A0E, "long_press"),
        _states(0x4A0F, {1: removed}),
        _states(0x4A12, opened),
        _states(0x4A13, {1: {"button": "press"}}),
        _states(0x4A1A, {1: {"opening": True, "left_open": True}}),
        _float_of(0x4C01, "temperature"),
        _number(0x4C02, "humidity", "u8"),
        _number(0x4C03, "battery", "u8"),
        _float_of(0x4C08, "humidity"),
        _flag(0x4E01, "battery_low"),
        _number(0x5003, "battery", "u8"),
    ]  # fmt: skip
    known = [Tlv(each.id, each.length, each.fields, each.choices, KNOWN) for each in rows]
    some = [
        _states(0x484E, {0: {"occupancy": False}, 1: {"occupancy": True}, 2: {"occupancy": False}}, XMOSB01XS),
        Tlv(0x487B, 1, _flag(0, "moisture_detected_2").fields, products=frozenset((SJWS02LM,))),
        _states(0x4A68, {
            0: {"moisture_detected": True}, 1: {"moisture_detected": False},
            2: {"moisture_detected_2": True}, 3: {"moisture_detected_2": False},
        }, SJWS02LM),
        _states(0x4E0C, {
            1: {"button": "press"}, 8: {"button": "long_press"}, 15: {"button": "double_press"},
        }, K9BB_1),
    ]  # fmt: skip
    for offset, event in enumerate(_PRESSES):
        some += [
            _states(0x4A0C + offset, {code: {name: event} for code, name in left_right.items()}, XMWS01XS),
            Tlv(0x4A0C + offset, 0, products=frozenset((XMWS01XS,))),  # which button, it does not say
            _states(
                0x4E0C + offset, {1: _button(1, event), 2: _button(2, event), 3: _buttons((1, 2), event)}, XMWXKG01YL
            ),
            *_event(0x4E0C + offset, event, XMWXKG01LM),
            _states(0x560C + offset, {number: _button(number, event) for number in range(1, 5)}, KS1, KS1BP),
            *_event(0x560C + offset, event, KS2BB, AFWXKG),
        ]
    return [*known, *some]


OBJECTS = (*_general(), *_otherwise(), *_products())
