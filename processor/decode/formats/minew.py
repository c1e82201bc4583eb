"""Minew: the frames of service 0xFFE1 (S1, E5 to E9, B10 and others), and S3 and S4 in manufacturer data of 0x0639.

Sources: Minew, "MiniBeaconPlus Configuration Instruction", section 2 (the info frame and the address's byte order);
github.com/reelyactive/advlib-ble-services 1.7 (lib/minew.js and its vectors) and advlib-ble-manufacturers 1.14
(lib/minew.js) for the other frames. Temperature, humidity and acceleration are signed 8.8 fixed point.

Frames whose units nobody states (0x12, 0x15, 0x16, 0x19) and those of newer families (0xCA, 0x51) are left out, and so
is 0x17: its step of 25/16384 Pa is no exact decimal of 15 digits. No frame counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from processor.decode.fields import Codec, Decoded, Field, Format
from processor.errors import DecodeError

UUID = 0xFFE1
COMPANY = 0x0639
FIXED_8_8 = "0.00390625"
_SOURCE = "github.com/reelyactive/advlib-ble-services 1.7, lib/minew.js"
_INFO = "Minew, MiniBeaconPlus Configuration Instruction, 2.2"
_S_SOURCE = "github.com/reelyactive/advlib-ble-manufacturers 1.14, lib/minew.js"
_PLUS = "MiniBeaconPlus: S1, E5 to E9, B10 and others"
_BIT = (False, True)
_ANY = (False, *[True] * 255)
_BATTERY = Field("battery", at=2, type="u8")
_NAME = 9


def _name(data: bytes) -> str:
    """Return the name that ends an info frame, without the zeros that may fill it up."""
    try:
        return data[_NAME:].rstrip(b"\0").decode()
    except UnicodeDecodeError as error:
        raise DecodeError("utf-8", f"device_name: {error}", where="minew.info", offset=_NAME, payload=data) from None


def _frame(kind: str, products: str, version: int, length: int, *fields: Field) -> Format:
    """Return a frame: 0xA1, its version, the battery, its fields, and the address."""
    address = Field("address", at=length - 6, type="mac.le")
    return Format(
        name=f"minew.{kind}", source=_SOURCE, endian="big", length=length, magic=bytes((0xA1, version)),
        fields=(_BATTERY, *fields, address), products=products,
    )  # fmt: skip


def _flag(name: str, size: int = 1) -> Field:
    return Field(name, at=3, type="u8" if size == 1 else "u16", bits=(0, 1), lookup=_BIT)


CLIMATE = _frame(
    "climate", "S1", 0x01, 13,
    Field("temperature", at=3, type="i16", scale=FIXED_8_8), Field("humidity", at=5, type="i16", scale=FIXED_8_8),
)  # fmt: skip
LIGHT = _frame("light", "E6", 0x02, 10, _flag("light"))
ACCELERATION = _frame(
    "acceleration", "E8", 0x03, 15,
    *(Field(f"acceleration_{axis}", at=at, type="i16", scale=FIXED_8_8) for axis, at in (("x", 3), ("y", 5), ("z", 7))),
)  # fmt: skip
ILLUMINANCE = _frame("illuminance", _PLUS, 0x05, 11, Field("illuminance", at=3, type="u16"))
PIR = _frame("pir", _PLUS, 0x11, 11, _flag("motion", 2))
TEMPERATURE = _frame("temperature", _PLUS, 0x13, 11, Field("temperature", at=3, type="i16", scale=FIXED_8_8))
VIBRATION = _frame("vibration", _PLUS, 0x18, 14, Field("vibration", at=7, type="u8", bits=(0, 1), lookup=_BIT))
TAMPER = _frame("tamper", _PLUS, 0x20, 10, _flag("tamper"))
LEAK = _frame("leak", _PLUS, 0x21, 10, _flag("moisture_detected"))
INFO = Format(
    name="minew.info", products=_PLUS, source=_INFO, endian="big", length=_NAME, magic=b"\xa1\x08",
    fields=(
        _BATTERY,
        Field("address", at=3, type="mac.le"),
        Field("device_name", at=_NAME, type="rest", codec=Codec(_name, lambda value: str(value).encode())),
    ),
)  # fmt: skip

S3 = Format(
    name="minew.s3", products="S3", source=_S_SOURCE, endian="big", length=16, magic=b"\xa3\x03",
    fields=(
        _BATTERY,
        Field("temperature", at=3, type="i16", scale=FIXED_8_8),
        Field("humidity", at=5, type="i16", scale=FIXED_8_8),
        Field("address", at=7, type="mac.le"),
    ),
)  # fmt: skip
S4 = Format(
    name="minew.s4", products="S4", source=_S_SOURCE, endian="big", length=15, magic=b"\xa4\x01",
    fields=(
        _BATTERY,
        Field("door", at=3, type="u8", lookup=_ANY),  # an alarm is a door that is open
        Field("tamper", at=4, type="u8", lookup=_ANY),
        Field("address", at=7, type="mac.le"),
    ),
)  # fmt: skip

FRAMES = (CLIMATE, LIGHT, ACCELERATION, ILLUMINANCE, INFO, PIR, TEMPERATURE, VIBRATION, TAMPER, LEAK)
FORMATS = (*FRAMES, S3, S4)
_FRAMES = {table.magic: table.compile() for table in FRAMES}
_MANUFACTURER = {table.magic: table.compile() for table in (S3, S4)}


def decode(
    data: bytes, address: str | None, keys: Mapping[str, bytes], whole: bytes = b"", model: str | None = None
) -> Decoded | None:
    """Decode Minew's service data, after the UUID. None for a frame not known here."""
    return _by_start(_FRAMES, data, address)


def decode_manufacturer(
    data: bytes, address: str | None, keys: Mapping[str, bytes], whole: bytes = b"", model: str | None = None
) -> Decoded | None:
    """Decode Minew's manufacturer data, after the company identifier. None for a frame not known here."""
    return _by_start(_MANUFACTURER, data, address)


def _by_start(
    readers: Mapping[bytes, Callable[[bytes, str | None], Decoded]], data: bytes, address: str | None
) -> Decoded | None:
    read = readers.get(data[:2])
    return None if read is None else read(data, address)
