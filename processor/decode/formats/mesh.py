"""Bluetooth Mesh Sensor Status: the access message that a mesh sensor publishes.

Sources: Bluetooth SIG, "Mesh Model" 1.1, section 4.2.14 (Sensor Status, marshalled property ids), "Mesh Protocol" 1.1,
"Segmented Access message", "Upper Transport Access PDU" and "Access payload" (how long a message is at most), "Mesh
Device Properties" 2 and "GATT Specification Supplement" (the characteristics); compared with Nordic's
github.com/nrfconnect/sdk-nrf (subsys/bluetooth/mesh/sensor.c, sensor_types.c, properties.h).

A mesh message is advertised as AD type 0x2A and encrypted twice, with the keys of the network and of the application,
under nonces of its sequence number and the network's IV index: none of this can be undone from one advertisement. So
nothing here is reached from an advertisement; a gateway that is a node of the network decrypts, and its module hands
the access message, opcode first, to `decode` together with the element's address as it pleases.

The message says nothing that counts; the sequence number belongs to the network layer. Left out: properties of
several values (statistics, series), and those of luminaires.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from processor.decode.custom import Custom
from processor.decode.fields import Decoded
from processor.decode.linear import Linear
from processor.errors import DecodeError
from processor.reading import Value

OPCODE = 0x52
NAME = "mesh.sensor_status"
LONGEST = 32 * 12 - 4
"""An access message has at most so many bytes: 32 segments of 12, less the TransMIC, which has 4 at least."""
LONGEST_A, PROPERTIES_A = 16, 0x800
"""What format A of a marshalled property id can say: up to so many bytes, of a property below this."""


class Property(NamedTuple):
    """A device property of one value: its id, its quantity, bytes, sign, step and the raw values it may have.

    `unknown` are raw values that mean that the value is not known, not valid or beyond the range, unsigned.
    """

    id: int
    name: str
    kind: str
    scale: str
    unknown: tuple[int, ...] = ()
    low: int | None = None
    high: int | None = None

    @property
    def size(self) -> int:
        """Its bytes."""
        return int(self.kind[1:]) // 8

    def read(self, data: bytes) -> Value | None:
        """Return the value that its bytes say, None where it is not known. Raises ValueError out of the range."""
        raw = int.from_bytes(data, "little")
        if raw in self.unknown:
            return None
        if self.kind[0] == "i":
            raw = int.from_bytes(data, "little", signed=True)
        if (self.low is not None and raw < self.low) or (self.high is not None and raw > self.high):
            raise ValueError(f"{raw} is out of {self.low} to {self.high}")
        return raw != 0 if self.name == "presence" else Linear.of(self.scale).value(raw)

    def write(self, value: Value | None) -> bytes:
        """Return the bytes that say `value`, rounded; None is not known. Raises ValueError or OverflowError."""
        if value is None:
            if not self.unknown:
                raise ValueError("it is always known")
            return self.unknown[0].to_bytes(self.size, "little")
        raw = Linear.of(self.scale).raw(int(value) if isinstance(value, bool) else value)
        data = raw.to_bytes(self.size, "little", signed=self.kind[0] == "i")
        if self.read(data) is None:
            raise ValueError("its code means not known")
        return data


_CELSIUS = ("temperature", "i16", "0.01", (0x8000,), -27315)
_CELSIUS_8 = ("temperature", "i8", "0.5", (0x7F,))
_HUMIDITY = ("humidity", "u16", "0.01", (0xFFFF,), 0, 10_000)
_LUX = ("illuminance", "u24", "0.01", (0xFFFFFF,))
_PASCAL = ("pressure", "u32", "0.1")
_AMPERE = ("current", "u16", "0.01", (0xFFFF,))
_VOLT = ("voltage", "u16", "0.015625", (0xFFFF,), 0, 65_408)  # 1022 V
_WATT = ("power", "u24", "0.1", (0xFFFFFF,))
_KWH = ("energy", "u32", "0.001", (0xFFFFFFFF, 0xFFFFFFFE))

PROPERTIES = (
    Property(0x0075, *_CELSIUS),  # ambient, precise
    Property(0x0054, *_CELSIUS),  # of the device
    Property(0x004F, *_CELSIUS_8),  # ambient
    Property(0x0056, *_CELSIUS_8),  # indoors
    Property(0x005B, *_CELSIUS_8),  # outdoors
    Property(0x0076, *_HUMIDITY),  # ambient
    Property(0x00A7, *_HUMIDITY),  # indoors
    Property(0x00A8, *_HUMIDITY),  # outdoors
    Property(0x0082, *_PASCAL),  # of the air
    Property(0x00A9, *_PASCAL),
    Property(0x004E, *_LUX),  # ambient light level
    Property(0x0055, *_LUX),
    Property(0x0077, "co2", "u16", "1", (0xFFFF, 0xFFFE)),  # 0xFFFE: 65,534 or more
    Property(0x0078, "voc_concentration", "u16", "1", (0xFFFF, 0xFFFE)),
    Property(0x0079, "sound_level", "u8", "1", (0xFF, 0xFE)),
    Property(0x0057, *_AMPERE),  # input
    Property(0x005C, *_AMPERE),  # output
    Property(0x0059, *_VOLT),  # input
    Property(0x005D, *_VOLT),  # output
    Property(0x0052, *_WATT),  # input
    Property(0x0081, *_WATT),  # active, load side
    Property(0x0072, *_KWH),  # total, precise
    Property(0x0080, *_KWH),  # active, load side
    Property(0x006A, "energy", "u24", "1", (0xFFFFFF,)),  # total
    Property(0x0042, "motion_level", "u8", "0.5", (0xFF,), 0, 200),  # motion sensed
    Property(0x004C, "people_count", "u16", "1", (0xFFFF,)),
    Property(0x004D, "presence", "u8", "1", (), 0, 1),
    Property(0x0068, "time_since_motion", "u16", "1", (0xFFFF,)),
)
_BY_ID = {each.id: each for each in PROPERTIES}
_BY_NAME: dict[str, list[Property]] = {}
for _each in PROPERTIES:
    _BY_NAME.setdefault(_each.name, []).append(_each)


def decode(message: bytes) -> Decoded | None:
    """Decode an access message. None for another opcode than Sensor Status.

    A quantity's second property is `<name>_2`, and so on; an unknown property is passed over. Raises DecodeError where
    the message is longer than any, or a property is cut off, of another length than its own, or out of its range.
    """
    if not message:
        raise DecodeError("length", "no opcode", where=NAME, payload=message)
    return _read(message) if message[0] == OPCODE else None


def _read(message: bytes) -> Decoded:
    values: dict[str, Value] = {}
    counts: dict[str, int] = {}
    at, end = 1, len(message)
    if end > LONGEST:
        raise DecodeError("length", f"{end} bytes, at most {LONGEST}", where=NAME, payload=message)
    while at < end:
        first = message[at]
        start = at + 3 if first & 1 else at + 2
        if start > end:
            raise DecodeError("truncated", "a property id is cut off", where=NAME, offset=at, payload=message)
        if first & 1:  # format B: a length less one of 7 bits (all set: none), then the id
            length, id_ = ((first >> 1) + 1) & 0x7F, message[at + 1] | message[at + 2] << 8
        else:  # format A: a length less one of 4 bits, an id of 11
            length, id_ = (first >> 1 & 15) + 1, first >> 5 | message[at + 1] << 3
        after = start + length
        if after > end:
            raise DecodeError(
                "truncated", f"property 0x{id_:04X} has {length} bytes, but {end - start} are left",
                where=NAME, offset=at, payload=message,
            )  # fmt: skip
        each = _BY_ID.get(id_)
        if each is not None and length:
            value = _value(each, message, start, after)
            counts[each.name] = number = counts.get(each.name, 0) + 1
            if value is not None:
                values[each.name if number == 1 else f"{each.name}_{number}"] = value
        at = after
    return Decoded(NAME, values)


def _value(each: Property, message: bytes, start: int, after: int) -> Value | None:
    if after - start != each.size:
        raise DecodeError(
            "length", f"property 0x{each.id:04X} has {each.size} bytes, got {after - start}",
            where=NAME, offset=start, payload=message,
        )  # fmt: skip
    try:
        return each.read(message[start:after])
    except ValueError as error:
        raise DecodeError("range", f"{each.name}: {error}", where=NAME, offset=start, payload=message) from None


def _write(values: Mapping[str, Value]) -> bytes:
    """Return the message that says `values`, each by the first property of its quantity that can.

    Before a second one without a first, the first comes as not known.
    """
    written = bytes([OPCODE])
    numbered: dict[str, dict[int, Value]] = {}
    for name, value in values.items():
        base, _, number = name.rpartition("_")
        if number.isdecimal():
            numbered.setdefault(base, {})[int(number)] = value
        else:
            numbered.setdefault(name, {})[1] = value
    for base, wanted in numbered.items():
        for count in range(1, max(wanted) + 1):
            written += _property(base, wanted.get(count))
    return written


def _property(name: str, value: Value | None) -> bytes:
    for each in _BY_NAME.get(name, ()):
        try:
            data = each.write(value)
        except (ValueError, OverflowError):
            continue
        return _marshalled(each.id, len(data)) + data
    raise ValueError(f"{NAME} has no property for {name} = {value!r}")


def _marshalled(id_: int, length: int) -> bytes:
    """Return a property's id and length as a message has them, in format A where it can be."""
    if length <= LONGEST_A and id_ < PROPERTIES_A:
        return (id_ << 5 | (length - 1) << 1).to_bytes(2, "little")
    return bytes([(length - 1) << 1 | 1]) + id_.to_bytes(2, "little")


_STEPS: dict[str, str | None] = {name: min((row.scale for row in rows), key=float) for name, rows in _BY_NAME.items()}

SENSOR_STATUS = Custom(
    NAME,
    "Bluetooth SIG, Mesh Model 1.1, 4.2.14, and Mesh Device Properties",
    _STEPS | {"presence": None},
    _read,
    _write,
    products="any Bluetooth Mesh sensor whose messages a gateway decrypts",
)

FORMATS = (SENSOR_STATUS,)
