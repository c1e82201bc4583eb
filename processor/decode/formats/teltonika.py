"""Teltonika EYE sensor (BTSMP1) and EYE beacon (BTSID1): manufacturer data of company 0x089A, protocol version 1.

Source: wiki.teltonika-gps.com, "EYE SENSOR / BTSMP1", Protocol description, table 1, and its example. A byte of flags
says which values follow, most significant byte first, in the order of `_VALUES`: bit 0 temperature, 1 humidity, 2 and 3
the magnetic sensor and its state, 4 the movement's state and count, 5 the angle, 6 low battery, 7 the battery's
voltage. Nothing counts the measurements.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from processor.decode.custom import Custom
from processor.decode.fields import Decoded
from processor.decode.linear import Linear
from processor.errors import DecodeError
from processor.reading import Value

COMPANY = 0x089A
VERSION = 1
NAME = "teltonika.eye"
TEMPERATURE, HUMIDITY, MAGNET, MAGNET_NEAR, MOVEMENT, ANGLE, BATTERY_LOW, VOLTAGE = (1 << bit for bit in range(8))

_VALUES = ((TEMPERATURE, "h"), (HUMIDITY, "B"), (MOVEMENT, "H"), (ANGLE, "bh"), (VOLTAGE, "B"))
_LAYOUTS = [struct.Struct(">" + "".join(code for bit, code in _VALUES if flags & bit)) for flags in range(256)]
"""What follows each of the flags."""
_HUNDREDTHS, _SUPPLY = Linear.of("0.01"), Linear.of("0.01", "2")


def _read(data: bytes) -> Decoded:
    """Read the payload, version included."""
    if len(data) < 2:
        raise DecodeError("length", f"expected flags, got {len(data)} bytes", where=NAME, payload=data)
    flags = data[1]
    layout = _LAYOUTS[flags]
    if len(data) != 2 + layout.size:
        raise DecodeError(
            "length", f"flags 0x{flags:02X} promise {2 + layout.size} bytes, got {len(data)}", where=NAME, payload=data
        )
    rest = iter(layout.unpack_from(data, 2))
    values: dict[str, Value] = {}
    if flags & TEMPERATURE:
        values["temperature"] = next(rest) / 100
    if flags & HUMIDITY:
        values["humidity"] = next(rest)
    if flags & MAGNET:
        values["magnet"] = flags & MAGNET_NEAR != 0
    if flags & MOVEMENT:
        movement = next(rest)
        values["moving"] = movement >> 15 == 1
        values["movement_counter"] = movement & 0x7FFF
    if flags & ANGLE:
        values["pitch"], values["roll"] = next(rest), next(rest)
    values["battery_low"] = flags & BATTERY_LOW != 0
    if flags & VOLTAGE:
        values["battery_voltage"] = _SUPPLY.value(next(rest))
    return Decoded(NAME, values)


def _write(values: Mapping[str, Value]) -> bytes:
    flags, pieces = 0, []
    if "temperature" in values:
        flags, pieces = flags | TEMPERATURE, [_HUNDREDTHS.raw(values["temperature"])]
    if "humidity" in values:
        flags |= HUMIDITY
        pieces.append(int(values["humidity"]))
    if "magnet" in values:
        flags |= MAGNET | (MAGNET_NEAR if values["magnet"] else 0)
    if "movement_counter" in values or "moving" in values:
        flags |= MOVEMENT
        count = int(values.get("movement_counter", 0))
        if not 0 <= count < 1 << 15:
            raise ValueError(f"movement_counter is 0 to 32767, not {count}")
        pieces.append(bool(values.get("moving")) << 15 | count)
    if "pitch" in values or "roll" in values:
        flags |= ANGLE
        pieces += [int(values.get("pitch", 0)), int(values.get("roll", 0))]
    if values.get("battery_low"):
        flags |= BATTERY_LOW
    if "battery_voltage" in values:
        flags |= VOLTAGE
        pieces.append(_SUPPLY.raw(values["battery_voltage"]))
    try:
        return bytes((VERSION, flags)) + _LAYOUTS[flags].pack(*pieces)
    except struct.error as error:
        raise ValueError(f"{NAME}: a value does not fit: {error}") from None


EYE = Custom(
    NAME, "wiki.teltonika-gps.com, EYE SENSOR / BTSMP1, protocol description",
    {
        "temperature": "0.01", "humidity": "1", "magnet": None, "moving": None, "movement_counter": "1", "pitch": "1",
        "roll": "1", "battery_low": None, "battery_voltage": "0.01",
    },
    _read, _write, products="EYE sensor (BTSMP1), EYE beacon (BTSID1)",
)  # fmt: skip

FORMATS = (EYE,)


def decode(
    data: bytes, address: str | None, keys: Mapping[str, bytes], whole: bytes = b"", model: str | None = None
) -> Decoded | None:
    """Decode Teltonika's manufacturer data, after the company identifier. None for another protocol version."""
    return _read(data) if data[:1] == b"\x01" else None
