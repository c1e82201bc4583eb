"""SensorPush HT1, HT.w and HTP.xw: manufacturer data that uses the company identifier.

SensorPush publishes no specification. Source: github.com/Bluetooth-Devices/sensorpush-ble 1.9 and its captures. The
service UUID or the local name (`SensorPush HT.w 1A2B`) says that it is SensorPush's: in the same advertisement, or
remembered as `model`.

Newer ones start with a byte of a page (its low two bits; only page 0 has measurements) and a type (the rest). What
follows is one number, least significant byte first, in mixed radix: steps of 0.0025 °C, of 0.0025 % and of 1 Pa. An HT1
sends the raw values of its Si7021, which are rounded to hundredths here. Nothing counts the measurements.
"""

from __future__ import annotations

from collections.abc import Mapping

from processor.decode.custom import Custom
from processor.decode.fields import Decoded
from processor.decode.linear import Linear
from processor.errors import DecodeError
from processor.reading import Value

UUID_HT1 = bytes.fromhex("ef09000011d642ba93b89dd7ec090aa9")[::-1]
UUID = bytes.fromhex("ef09000011d642ba93b89dd7ec090ab0")[::-1]
NAMES = (b"Sen",)
_SOURCE = "github.com/Bluetooth-Devices/sensorpush-ble 1.9"

Digits = tuple[tuple[str, int, Linear], ...]
"""The digits of the mixed radix, lowest first: the quantity, how many values it has, and what makes one of them."""

_HUMIDITY = ("humidity", 40001, Linear.of("0.0025"))
_HT: Digits = (("temperature", 66001, Linear.of("0.0025", "-40")), _HUMIDITY)
_HTP: Digits = (
    ("temperature", 72001, Linear.of("0.0025", "-40")), _HUMIDITY, ("pressure", 95001, Linear.of("1", "30000"))
)  # fmt: skip


def _packed(name: str, products: str, start: int, size: int, digits: Digits) -> Custom:
    """Return a format of `size` bytes that starts with `start`, its page and type."""

    def read(data: bytes) -> Decoded:
        if len(data) != size:
            raise DecodeError("length", f"expected {size} bytes, got {len(data)}", where=name, payload=data)
        number = int.from_bytes(data[1:], "little")
        values: dict[str, Value] = {}
        for quantity, count, linear in digits:
            number, raw = divmod(number, count)
            values[quantity] = linear.value(raw)
        if number:
            raise DecodeError("range", "more than its values can make: it was altered", where=name, payload=data)
        return Decoded(name, values)

    def write(values: Mapping[str, Value]) -> bytes:
        number = 0
        for quantity, count, linear in reversed(digits):
            raw = linear.raw(values.get(quantity, linear.value(0)))
            if not 0 <= raw < count:
                raise ValueError(f"{quantity} is {linear.value(0)} to {linear.value(count - 1)}")
            number = number * count + raw
        return bytes([start]) + number.to_bytes(size - 1, "little")

    steps = {quantity: "1" if quantity == "pressure" else "0.0025" for quantity, _, _ in digits}
    return Custom(name, _SOURCE, steps, read, write, products=products)


def _read_ht1(data: bytes) -> Decoded:
    """Read 12 bits of humidity, 14 of temperature and 5 of the type, which is 1."""
    if len(data) != 4:
        raise DecodeError("length", f"expected 4 bytes, got {len(data)}", where="sensorpush.ht1", payload=data)
    number = int.from_bytes(data, "little")
    if number >> 26 & 31 != 1:
        raise DecodeError("range", f"type {number >> 26 & 31} is no HT1", where="sensorpush.ht1", payload=data)
    humidity = round(125 * (number & 0xFFF) / 4096 - 6, 2)
    temperature = round(175.72 * (number >> 12 & 0x3FFF) / 16384 - 46.85, 2)
    return Decoded("sensorpush.ht1", {"temperature": temperature, "humidity": min(max(humidity, 0.0), 100.0)})


def _write_ht1(values: Mapping[str, Value]) -> bytes:
    percent = float(values.get("humidity", 0))
    # Beyond the ends, which stand for all that is beyond them.
    humidity = 0 if percent == 0 else 0xFFF if percent == 100 else round((percent + 6) * 4096 / 125)
    temperature = round((float(values.get("temperature", 0)) + 46.85) * 16384 / 175.72)
    if not 0 <= humidity < 1 << 12 or not 0 <= temperature < 1 << 14:
        raise ValueError("a Si7021 measures -46.85 to 128.86 °C and 0 to 100 %")
    return (1 << 26 | temperature << 12 | humidity).to_bytes(4, "little")


HTW = _packed("sensorpush.htw", "HT.w", 0x04, 5, _HT)
HTP = _packed("sensorpush.htp", "HTP.xw", 0x00, 7, _HTP)
HT1 = Custom("sensorpush.ht1", _SOURCE, {"temperature": None, "humidity": None}, _read_ht1, _write_ht1, products="HT1")

FORMATS = (HT1, HTW, HTP)
_BY_START = {0x04: HTW.decode, 0x00: HTP.decode}


def decode(
    data: bytes, address: str | None, keys: Mapping[str, bytes], whole: bytes = b"", model: str | None = None
) -> Decoded | None:
    """Decode all of SensorPush's manufacturer data, company identifier included. None for what is not known here."""
    if UUID_HT1 in whole:
        return _read_ht1(data)
    if UUID not in whole and not (model or "").startswith("SensorPush"):
        return None
    read = _BY_START.get(data[0]) if data else None
    return None if read is None else read(data)
