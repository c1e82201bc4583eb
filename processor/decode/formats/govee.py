"""Govee thermometers, hygrometers and meat thermometers: manufacturer data of several company identifiers.

Govee publishes no specification. Sources: github.com/Bluetooth-Devices/govee-ble 1.5 and its captures,
github.com/Ernst79/bleparser (govee.py, test_govee_parser.py), github.com/wcbonner/GoveeBTTempLogger.

0xEC88 and 0x8801 are Govee's own habit and tell the model by the length. 0x0001, which is Nokia's, is taken only where
the local name or the UUID 0xEC88 stands beside it; there the name tells models of one length apart, so that `model`,
the remembered local name, helps where a gateway leaves the name out. The meat thermometers put anything in the place
of the company identifier and are known by their service UUID.

In a packed value, 24 bits with the sign in the highest, the thousands are tenths of a degree and the rest tenths of a
percent. The battery's highest bit is an error: temperature and humidity are then not available. A temperature outside
-40 to 100 °C is an altered packet. Nothing counts the measurements.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache

from processor.decode.advertisement import local_name
from processor.decode.custom import Custom
from processor.decode.fields import Decoded, Field, Format
from processor.decode.linear import Linear
from processor.decode.short import BORROWED_HEAD, Whole
from processor.errors import DecodeError
from processor.reading import Value

COMPANY = 0xEC88
COMPANY_H5179 = 0x8801
COMPANY_NOKIA = 0x0001
_OWN_UUID = b"\x88\xec"
_GLUED, _GLUE = b"INTELLI_ROCKS", 25
"""Some receivers glue Govee's iBeacon, 25 bytes, to the end of its manufacturer data."""

_SOURCE = "github.com/Bluetooth-Devices/govee-ble 1.5"
_CLIMATE = {"temperature": "0.1", "humidity": "0.1", "battery": "1"}
_TENTHS = Linear.of("0.1")
_unpack = struct.Struct(">HBB").unpack_from
_new = tuple.__new__
LOW, HIGH = -40, 100
"""°C, what a temperature must be within."""
_HIGHEST = HIGH * 10_000 + 999
"""Of a packed value without its sign."""


def _packed(data: bytes, at: int, name: str) -> tuple[float, float]:
    """Return temperature and humidity of the 24 bits from `at` on."""
    number = int.from_bytes(data[at : at + 3])
    tenths, humidity = divmod(number & 0x7FFFFF, 1000)
    temperature = (-tenths if number >> 23 else tenths) / 10
    if not LOW <= temperature <= HIGH:
        raise DecodeError("range", f"{temperature} °C: the packet was altered", where=name, offset=at, payload=data)
    return temperature, humidity / 10


def _pack(values: Mapping[str, Value], second: str = "") -> tuple[int, bool]:
    """Return the thousands and the rest that `_packed` reads, and whether the sign is set. Raises ValueError."""
    tenths = _TENTHS.raw(values.get(f"temperature{second}", 0))
    humidity = _TENTHS.raw(values.get(f"humidity{second}", 0))
    if not LOW * 10 <= tenths <= HIGH * 10 or not 0 <= humidity <= 999:
        raise ValueError(f"-40 to 100 °C and 0 to 99.9 %, not {tenths / 10} °C and {humidity / 10} %")
    return abs(tenths) * 1000 + humidity, tenths < 0


def _pack_24(values: Mapping[str, Value], second: str = "") -> bytes:
    packed, negative = _pack(values, second)
    return (packed | negative << 23).to_bytes(3)


def _battery(values: Mapping[str, Value], second: str = "") -> int:
    """Return the battery byte, its error bit set where there is no temperature. Raises ValueError."""
    level = int(values.get(f"battery{second}", 0))
    if not 0 <= level <= 127:
        raise ValueError(f"battery is 0 to 127, not {level}")
    return level if f"temperature{second}" in values else level | 0x80


def _climate(name: str, products: str, start: bytes, size: int) -> Custom:
    """Return a format of `size` bytes: `start`, a packed value and the battery; what follows is not known."""
    at = len(start)

    def say(data: bytes, first: int) -> dict[str, Value] | None:
        return _said(data, first + at)

    def read(data: bytes) -> Decoded:
        _check(data, size, name)
        values = say(data, 0)
        if values is None:
            _packed(data, at, name)  # raises, and says why
        return _new(Decoded, (name, values, None, None, None))

    def write(values: Mapping[str, Value]) -> bytes:
        return (start + _pack_24(values) + bytes([_battery(values)])).ljust(size, b"\0")

    return Custom(
        name, _SOURCE, _CLIMATE, read, write, length=size, magic=start, say=say, products=products
    )  # fmt: skip


def _said(data: bytes, at: int) -> dict[str, Value] | None:
    """Return what a packed value and the battery say; None for an altered packet. `_packed`, but faster."""
    packed, low, battery = _unpack(data, at)
    packed = packed << 8 | low
    if battery > 0x7F:
        return {"battery": battery & 0x7F}
    if packed <= _HIGHEST:
        return {"temperature": packed // 1000 / 10, "humidity": packed % 1000 / 10, "battery": battery}
    tenths, humidity = divmod(packed & 0x7FFFFF, 1000)
    if packed <= 0x7FFFFF or -tenths < LOW * 10:
        return None
    return {"temperature": -tenths / 10, "humidity": humidity / 10, "battery": battery}


def _check(data: bytes, size: int, name: str) -> None:
    if len(data) != size:
        raise DecodeError("length", f"expected {size} bytes, got {len(data)}", where=name, payload=data)


def _read_h5108(data: bytes) -> Decoded:
    """Read a thermometer without hygrometer: the humidity it sends, 0, is that of no air."""
    decoded = _H5108.decode(data)
    if not decoded.values.get("humidity"):
        decoded.values.pop("humidity", None)
    return decoded


def _say_h5178(data: bytes, at: int) -> dict[str, Value] | None:
    """Say a base station's own values (sensor 0) or those of the outdoor sensor that it hears (1)."""
    sensor = data[at + 2]
    values = _said(data, at + 3)
    if values is None or not sensor:
        return values
    return None if sensor > 1 else {f"{quantity}_2": value for quantity, value in values.items()}


def _read_h5178(data: bytes) -> Decoded:
    _check(data, 9, "govee.h5178")
    values = _say_h5178(data, 0)
    if values is None:
        if data[2] > 1:
            raise DecodeError("range", f"no sensor {data[2]}", where="govee.h5178", offset=2, payload=data)
        _packed(data, 3, "govee.h5178")  # raises, and says why
    return _new(Decoded, ("govee.h5178", values, None, None, None))


def _write_h5178(values: Mapping[str, Value]) -> bytes:
    second = "_2" if "battery_2" in values or "temperature_2" in values else ""
    return bytes([1, 1, second != ""]) + _pack_24(values, second) + bytes([_battery(values, second), 0, 0])


def _read_h5140(data: bytes) -> Decoded:
    _check(data, 8, "govee.h5140")
    if data[7]:  # the error byte
        return Decoded("govee.h5140", {})
    temperature, humidity = _packed(data, 2, "govee.h5140")
    return Decoded("govee.h5140", {"temperature": temperature, "humidity": humidity, "co2": data[5] << 8 | data[6]})


def _write_h5140(values: Mapping[str, Value]) -> bytes:
    co2 = int(values.get("co2", 0)).to_bytes(2)
    return b"\1\1" + _pack_24(values) + co2 + bytes(["temperature" not in values])


def _read_h5106(data: bytes) -> Decoded:
    """Read 32 bits, sign in the highest: millions are tenths of a degree, thousands of a percent, the rest PM2.5."""
    _check(data, 6, "govee.h5106")
    number = int.from_bytes(data[2:])
    thousands, pm2_5 = divmod(number & 0x7FFFFFFF, 1000)
    tenths, humidity = divmod(thousands, 1000)
    temperature = (-tenths if number >> 31 else tenths) / 10
    if not LOW <= temperature <= HIGH:
        raise DecodeError("range", f"{temperature} °C: the packet was altered", where="govee.h5106", payload=data)
    return Decoded("govee.h5106", {"temperature": temperature, "humidity": humidity / 10, "pm2_5": pm2_5})


def _write_h5106(values: Mapping[str, Value]) -> bytes:
    pm2_5 = int(values.get("pm2_5", 0))
    if not 0 <= pm2_5 <= 999:
        raise ValueError(f"pm2_5 is 0 to 999, not {pm2_5}")
    packed, negative = _pack(values)
    return b"\1\1" + (packed * 1000 + pm2_5 | negative << 31).to_bytes(4)


def _probe(number: int, at: int) -> tuple[Field, Field]:
    """Return a meat probe's temperature and the one it shall sound the alarm at; not plugged in is FFFF."""
    second = f"_{number}" if number > 1 else ""
    return (
        Field(f"temperature{second}", at=at, type="i16", scale="0.01", invalid=0xFFFF),
        Field(f"alarm_temperature{second}", at=at + 2, type="i16", scale="0.01", invalid=0xFFFF),
    )


def _meat(name: str, products: str, length: int, *probes: tuple[Field, Field]) -> Format:
    fields = tuple(field for probe in probes for field in probe)
    return Format(
        name=name, source=_SOURCE, endian="big", length=length, magic=b"", fields=fields, products=products
    )  # fmt: skip


H5074 = Format(
    name="govee.h5074", products="H5074", source=_SOURCE, endian="little", length=7, magic=b"\x00",
    fields=(
        Field("temperature", at=1, type="i16", scale="0.01"),
        Field("humidity", at=3, type="u16", scale="0.01"),
        Field("battery", at=5, type="u8"),
    ),
)  # fmt: skip

H5051 = Format(
    name="govee.h5051", products="H5051, H5052, H5071", source=_SOURCE, endian="little", length=9, magic=b"\x00",
    fields=H5074.fields,
)  # fmt: skip

H5179 = Format(
    name="govee.h5179", products="H5179", source=_SOURCE, endian="little", length=9, magic=b"\xec\x00\x01\x01",
    fields=(
        Field("temperature", at=4, type="i16", scale="0.01"),
        Field("humidity", at=6, type="u16", scale="0.01"),
        Field("battery", at=8, type="u8"),
    ),
)  # fmt: skip

# With the two bytes in the place of the company identifier.
H5181 = _meat("govee.h5181", "H5181, H5183", 16, _probe(1, 10))
H5182 = _meat("govee.h5182", "H5182", 19, _probe(1, 10), _probe(2, 15))
H5184_FRONT = _meat("govee.h5184.1", "H5184, its first two probes", 19, _probe(1, 10), _probe(2, 15))
H5184_BACK = _meat("govee.h5184.2", "H5184, its other two probes", 19, _probe(3, 10), _probe(4, 15))

H5075 = _climate("govee.h5075", "H5072, H5075, H5129", b"\0", 6)
H5101 = _climate(
    "govee.h5101", "H5100 to H5105, H5110, H5174, H5177 and the newer H5179", b"\1\1", 6
)  # fmt: skip
_H5108 = _climate("govee.h5108", "H5108", b"\1\1", 8)
H5108 = replace(_H5108, decode=_read_h5108, say=None)
H5178 = Custom(
    "govee.h5178", _SOURCE, _CLIMATE, _read_h5178, _write_h5178, length=9, magic=b"\1\1", say=_say_h5178,
    products="H5178 and the outdoor sensor that it hears",
)  # fmt: skip
H5140 = Custom(
    "govee.h5140", _SOURCE, {"temperature": "0.1", "humidity": "0.1", "co2": "1"}, _read_h5140, _write_h5140,
    products="H5140",
)  # fmt: skip
H5106 = Custom(
    "govee.h5106", _SOURCE, {"temperature": "0.1", "humidity": "0.1", "pm2_5": "1"}, _read_h5106, _write_h5106,
    products="H5106",
)  # fmt: skip

FORMATS = (
    H5075, H5074, H5051, H5101, H5108, H5178, H5179, H5106, H5140, H5181, H5182, H5184_FRONT, H5184_BACK
)  # fmt: skip

Read = Callable[..., Decoded]
_BY_LENGTH: dict[int, Read] = {6: H5075.decode, 7: H5074.compile(), 9: H5051.compile()}
_NOKIA: dict[tuple[int, str], Read] = {
    (6, "5106"): H5106.decode, (8, "5108"): H5108.decode, (8, "5140"): H5140.decode, (9, "5178"): H5178.decode
}  # fmt: skip
_NOKIA_ANY: dict[int, Read] = {6: H5101.decode, 9: H5178.decode}
"""Where only the length is known. Of eight bytes there are three models that mean different things."""
_h5179 = H5179.compile()
_h5181, _h5182 = H5181.compile(), H5182.compile()
_PAIRS: dict[int, Read] = {1: H5184_FRONT.compile(), 2: H5184_BACK.compile()}


def decode(
    data: bytes, address: str | None, keys: Mapping[str, bytes], whole: bytes = b"", model: str | None = None
) -> Decoded | None:
    """Decode manufacturer data of 0xEC88, after the company identifier. None for a length not known here."""
    read = _BY_LENGTH.get(len(data))
    if read is None and _GLUED in data:
        data = data[:-_GLUE]
        read = _BY_LENGTH.get(len(data))
    return None if read is None else read(data)


def decode_h5179(
    data: bytes, address: str | None, keys: Mapping[str, bytes], whole: bytes = b"", model: str | None = None
) -> Decoded | None:
    """Decode manufacturer data of 0x8801, after the company identifier. None for what the H5179 does not send."""
    return _h5179(data, address) if data[:2] == b"\xec\x00" else None


def decode_nokia(
    data: bytes, address: str | None, keys: Mapping[str, bytes], whole: bytes = b"", model: str | None = None
) -> Decoded | None:
    """Decode manufacturer data of 0x0001, after the company identifier. None where nothing says that it is Govee's."""
    number = _number(local_name(whole) or model or "")
    if not number and _OWN_UUID not in whole:
        return None
    size = len(data)
    if size > _GLUE and _GLUED in data:
        data = data[:-_GLUE]
        size = len(data)
    read = _NOKIA.get((size, number)) or _NOKIA_ANY.get(size)
    return None if read is None else read(data)


def decode_h5181(
    data: bytes, address: str | None, keys: Mapping[str, bytes], whole: bytes = b"", model: str | None = None
) -> Decoded | None:
    """Decode all the manufacturer data of an H5181 or H5183, of one probe. None for another length."""
    return _h5181(data, address) if len(data) == H5181.length else None


def decode_h5182(
    data: bytes, address: str | None, keys: Mapping[str, bytes], whole: bytes = b"", model: str | None = None
) -> Decoded | None:
    """Decode all the manufacturer data of an H5182, of two probes. None for another length."""
    return _h5182(data, address) if len(data) == H5182.length else None


def decode_h5184(
    data: bytes, address: str | None, keys: Mapping[str, bytes], whole: bytes = b"", model: str | None = None
) -> Decoded | None:
    """Decode all the manufacturer data of an H5184, two of its four probes. None for another length or pair."""
    read = _PAIRS.get(data[8] & 0x3F) if len(data) == H5184_FRONT.length else None  # the bits above are not known
    return None if read is None else read(data)


MEAT: dict[bytes, Callable[..., Decoded | None]] = {
    b"\x51\x81": decode_h5181, b"\x51\x82": decode_h5182, b"\x51\x83": decode_h5181, b"\x51\x84": decode_h5184
}  # fmt: skip
"""The meat thermometers by their service UUIDs, as advertised: H5181 says 0x8151."""


MEAT_WAYS: dict[Callable[..., Decoded | None], Mapping[int, Whole]] = {
    decoder: {1 + table.length: table.compile_whole(BORROWED_HEAD)}
    for decoder, table in ((decode_h5181, H5181), (decode_h5182, H5182))
}
"""The short ways of these decoders' sensors, by the length of the AD structure."""

_H5178_WAY = {3 + H5178.length: H5178.compile_whole()}
_NOKIA_WAYS = {3 + H5101.length: H5101.compile_whole(), **_H5178_WAY}


def nokia_ways(beside: bytes, model: str | None) -> Mapping[int, Whole]:
    """Return the short ways of manufacturer data of 0x0001, by the length of the AD structure.

    As in `decode_nokia`, a local name or a UUID that stands `beside`, or `model`, has to say that it is Govee's.
    """
    number = _number(local_name(beside) or model or "")
    if not number and _OWN_UUID not in beside:
        return {}
    return _H5178_WAY if number == "5106" else _NOKIA_WAYS


@lru_cache(maxsize=1024)
def _number(name: str) -> str:
    """Return the model's four digits in a local name such as `GVH5102_CB9B`, `Govee_H5179_AB12` or `B51784555`."""
    for prefix in ("GV", "Govee_", "B5"):
        if name.startswith(prefix):
            return name.removeprefix(prefix if prefix != "B5" else "B").removeprefix("H")[:4]
    return ""
