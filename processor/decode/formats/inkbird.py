"""Inkbird IBS-TH, IBS-TH2 and IBS-P01B: manufacturer data whose company identifier is the temperature.

Inkbird publishes no specification. Sources: github.com/Bluetooth-Devices/inkbird-ble 1.7 and its issues 141 and 155,
github.com/Ernst79/bleparser (inkbird.py, test_inkbird.py). The two bytes before the battery are a Modbus CRC-16 of the
first five; that of bleparser's capture fits.

The local name `sps` (IBS-TH) or `tps` (IBS-TH2, IBS-P01B) says that it is Inkbird's: in the same advertisement, or
remembered as `model`. A P01B has no hygrometer and sends 0 or FFFF. Nothing counts the measurements.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import replace

from processor.decode.fields import Decoded, Field, Format
from processor.decode.short import BORROWED_HEAD, Whole
from processor.errors import DecodeError
from processor.reading import Value

NAMES = (b"sps", b"tps")
LENGTH = 9
_CHECKED = 5
_CRC = slice(5, 7)
_FIELDS = (
    Field("temperature", at=0, type="i16", scale="0.01"),
    Field("humidity", at=2, type="u16", scale="0.01", invalid=0xFFFF),
    Field("external_probe", at=4, type="u8", lookup=(False, *[True] * 255)),
    Field("battery", at=7, type="u8"),
)
IBS = Format(
    name="inkbird.ibs", source="github.com/Bluetooth-Devices/inkbird-ble 1.7", endian="little", length=LENGTH,
    magic=b"", fields=_FIELDS, products="IBS-TH, IBS-TH2, IBS-P01B",
)  # fmt: skip

FORMATS = (IBS,)
_unpack = struct.Struct("<5BHB").unpack_from
_ABOVE = 10_000 >> 8


def check(data: bytes, at: int) -> None:
    """See that the CRC is right and no percentage above 100. Raises DecodeError."""
    a, b, c, d, e, found, battery = _unpack(data, at)
    if found != _A[a] ^ _B[b] ^ _C[c] ^ _D[d] ^ _E[e]:
        payload = data[at : at + LENGTH]
        expected = crc(payload[:_CHECKED])
        raise DecodeError(
            "crc", f"the CRC is {payload[_CRC].hex()}, expected {expected.hex()}: the packet was altered",
            where=IBS.name, offset=_CHECKED, payload=payload,
        )  # fmt: skip
    if battery > 100 or (d >= _ABOVE and 10_000 < d << 8 | c < 0xFFFF):
        payload = data[at : at + LENGTH]
        raise DecodeError("range", "battery or humidity above 100 %", where=IBS.name, payload=payload)


_TABLES = {"sps": replace(IBS, check=check), "tps": replace(IBS, check=check, unmeasured=(("humidity",),))}
_READERS = {name: table.compile() for name, table in _TABLES.items()}
_WAYS = {name: {1 + LENGTH: table.compile_whole(BORROWED_HEAD)} for name, table in _TABLES.items()}


def ways(model: str) -> Mapping[int, Whole]:
    """Return the short way of a sensor of this local name, by the length of its AD structure."""
    return _WAYS.get(model, {})


def decode(
    data: bytes, address: str | None, keys: Mapping[str, bytes], whole: bytes = b"", model: str | None = None
) -> Decoded | None:
    """Decode all of Inkbird's manufacturer data, company identifier included. None for another sensor's."""
    read = _READERS.get(model or "")
    return None if read is None or len(data) != LENGTH else read(data, address)


def encode(values: Mapping[str, Value]) -> bytes:
    """Return the manufacturer data that says `values`, company identifier and CRC included. Raises ValueError."""
    data = bytearray(IBS.encode(values))
    data[_CRC] = crc(bytes(data[:_CHECKED]))
    return bytes(data)


def crc(data: bytes) -> bytes:
    """Return the Modbus CRC-16 (polynomial 0xA001, start 0xFFFF) of five bytes, least significant byte first."""
    a, b, c, d, e = data
    return (_A[a] ^ _B[b] ^ _C[c] ^ _D[d] ^ _E[e]).to_bytes(2, "little")


def _shifted(value: int, bits: int) -> int:
    for _ in range(bits):
        value = value >> 1 ^ 0xA001 if value & 1 else value >> 1
    return value


_E, _D, _C, _B = (tuple(_shifted(byte, 8 * (1 + after)) for byte in range(256)) for after in range(4))
_A = tuple(_shifted(0xFFFF, 8 * _CHECKED) ^ _shifted(byte, 8 * _CHECKED) for byte in range(256))
"""What each of the five bytes does to the CRC, the first one's with the start: a CRC is linear."""
