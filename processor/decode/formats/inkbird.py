"""Inkbird IBS-TH, IBS-TH2 and IBS-P01B: manufacturer data whose company identifier is the temperature.

Inkbird publishes no specification. Sources: github.com/Bluetooth-Devices/inkbird-ble 1.7 and its issues 141 and 155,
github.com/Ernst79/bleparser (inkbird.py, test_inkbird.py). The two bytes before the battery are a Modbus CRC-16 of the
first five; that of bleparser's capture fits.

The local name `sps` (IBS-TH) or `tps` (IBS-TH2, IBS-P01B) says that it is Inkbird's: in the same advertisement, or
remembered as `model`. A P01B has no hygrometer and sends 0 or FFFF. Nothing counts the measurements.
"""

from __future__ import annotations

from collections.abc import Mapping

from processor.decode.fields import Decoded, Field, Format
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
    magic=b"", fields=_FIELDS,
)  # fmt: skip

FORMATS = (IBS,)
_read = IBS.compile()


def decode(
    data: bytes, address: str | None, keys: Mapping[str, bytes], whole: bytes = b"", model: str | None = None
) -> Decoded | None:
    """Decode all of Inkbird's manufacturer data, company identifier included. None for another sensor's."""
    if len(data) != LENGTH or model not in ("sps", "tps"):
        return None
    expected = crc(data[:_CHECKED])
    if data[_CRC] != expected:
        raise DecodeError(
            "crc", f"the CRC is {data[_CRC].hex()}, expected {expected.hex()}: the packet was altered",
            where=IBS.name, offset=_CHECKED, payload=data,
        )  # fmt: skip
    decoded = _read(data, address)
    values = decoded.values
    if model == "tps" and values.get("humidity") == 0:
        del values["humidity"]
    if data[7] > 100 or ("humidity" in values and float(values["humidity"]) > 100):
        raise DecodeError("range", "battery or humidity above 100 %", where=IBS.name, payload=data)
    return decoded


def encode(values: Mapping[str, Value]) -> bytes:
    """Return the manufacturer data that says `values`, company identifier and CRC included. Raises ValueError."""
    data = bytearray(IBS.encode(values))
    data[_CRC] = crc(bytes(data[:_CHECKED]))
    return bytes(data)


def crc(data: bytes) -> bytes:
    """Return the Modbus CRC-16 (polynomial 0xA001, start 0xFFFF), least significant byte first."""
    value = 0xFFFF
    for byte in data:
        value = value >> 8 ^ _BYTES[(value ^ byte) & 0xFF]
    return value.to_bytes(2, "little")


def _shifted(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ 0xA001 if value & 1 else value >> 1
    return value


_BYTES = tuple(map(_shifted, range(256)))
"""What a byte does to the CRC."""
