"""Jaalee JHT (F525, F51C): an iBeacon with one byte more, and service data of 0xF525 or 0xF51C.

Sources: the maker's formula of sensor.jaalee.com/scan_api.html, as github.com/custom-components/ble_monitor 12.9
(ble_parser/jaalee.py; issue 1285 says why its earlier, estimated formula was wrong) and github.com/theengs/decoder
(JAALEE_json.h) have it; captures in ble_monitor's issues 1042 and 1306. One sensor sends both kinds, with the same raw
values.

Temperature and humidity are an SHT3x's: 16 bits of -45 to 130 °C and of 0 to 100 %, a step of 1/65535 of that. That is
no decimal, so they are rounded to thousandths, which keep all raw values apart. Nothing means "not available", and
nothing counts the measurements.
"""

from __future__ import annotations

from collections.abc import Mapping

from processor.decode.fields import Codec, Decoded, Field, Format
from processor.errors import DecodeError
from processor.reading import Value

UUID = 0xF525
UUID_NEW = 0xF51C
_SOURCE = "sensor.jaalee.com, scan API, as in github.com/custom-components/ble_monitor 12.9, jaalee.py"
_JHT = "JHT (F525)"
_FULL = 0xFFFF


def _of_range(low: int, high: int) -> Codec:
    """Return the codec of 16 bits that divide the range from `low` to `high`."""
    span = high - low

    def encode(value: Value) -> bytes:
        raw = round((float(value) - low) * _FULL / span)
        if not 0 <= raw <= _FULL:
            raise ValueError(f"it is {low} to {high}")
        return raw.to_bytes(2, "big")

    return Codec(lambda data: round(int.from_bytes(data, "big") * span / _FULL + low, 3), encode)


def _climate(at: int) -> tuple[Field, Field]:
    return (
        Field("temperature", at=at, type="bytes", size=2, codec=_of_range(-45, 130)),
        Field("humidity", at=at + 2, type="bytes", size=2, codec=_of_range(0, 100)),
    )


BEACON = Format(
    name="jaalee.beacon", products=_JHT, source=_SOURCE, endian="big", length=24,
    magic=bytes.fromhex("0215ebefd08370a247c89837e7b5634df525"),
    fields=(*_climate(18), Field("tx_power", at=22, type="i8"), Field("battery", at=23, type="u8")),
)  # fmt: skip
SERVICE = Format(
    name="jaalee.service", products=_JHT, source=_SOURCE, endian="big", length=11, magic=b"",
    fields=(Field("battery", at=0, type="u8"), Field("address", at=1, type="mac.le"), *_climate(7)),
)  # fmt: skip
SERVICE_NEW = Format(
    name="jaalee.service_new", products="JHT (F51C)", source=_SOURCE, endian="big", length=12, magic=b"",
    fields=(Field("battery", at=0, type="u8"), Field("address", at=1, type="mac.le"), *_climate(8)),
)  # fmt: skip

FORMATS = (BEACON, SERVICE, SERVICE_NEW)
_beacon = BEACON.compile()
_service = {table.length: table.compile() for table in (SERVICE, SERVICE_NEW)}


def is_ours(data: bytes) -> bool:
    """Whether Apple's manufacturer data, after the company identifier, are Jaalee's: an iBeacon alone is shorter."""
    return len(data) == BEACON.length and data.startswith(BEACON.magic)


def decode_beacon(
    data: bytes, address: str | None, keys: Mapping[str, bytes], whole: bytes = b"", model: str | None = None
) -> Decoded | None:
    """Decode Apple's manufacturer data, after the company identifier. None for what is not Jaalee's."""
    return _beacon(data, address) if is_ours(data) else None


def decode(
    data: bytes, address: str | None, keys: Mapping[str, bytes], whole: bytes = b"", model: str | None = None
) -> Decoded | None:
    """Decode Jaalee's service data, after the UUID; the new kind has one byte more, whose meaning nobody states."""
    read = _service.get(len(data))
    if read is None:
        raise DecodeError("length", f"expected 11 or 12 bytes, got {len(data)}", where=SERVICE.name, payload=data)
    return read(data, address)
