"""ThermoPro TP35x and TP39x hygrometers, TP96x and TP970 probes: manufacturer data that uses the company identifier.

ThermoPro publishes no specification. Sources: github.com/Bluetooth-Devices/thermopro-ble 1.1 and its captures;
github.com/theengs/decoder (TP35X_393, for the first byte C2). The local name says that it is ThermoPro's: in the same
advertisement, or remembered as `model`.

A hygrometer's battery has three levels, which thermopro-ble found on a power supply; 1, 50 and 100 % stand for them. A
probe's battery, of no known unit, is left out, and so is the TP972 with its fractions of Fahrenheit. A station sends
its probes in turn: the second one's temperatures are `temperature_2` and `ambient_temperature_2`. Nothing counts.
"""

from __future__ import annotations

from collections.abc import Mapping

from processor.decode.fields import Decoded, Field, Format
from processor.decode.short import BORROWED_HEAD, Whole
from processor.errors import DecodeError

NAMES = (b"TP3", b"TP9")
_CLIMATE_NAMES = ("TP35", "TP39")
_SOURCE = "github.com/Bluetooth-Devices/thermopro-ble 1.1"

CLIMATE = Format(
    name="thermopro.tp35x", products="TP35x, TP39x", source=_SOURCE, endian="little", length=6, magic=b"\xc2",
    fields=(
        Field("temperature", at=1, type="i16", scale="0.1", blank=-1),
        Field("humidity", at=3, type="u8", invalid=0xFF, blank=0xFF),
        Field("battery", at=4, type="u8", bits=(0, 2), lookup=(1, 50, 100, None)),
    ),
    unmeasured=(("temperature", "humidity"),),
)  # fmt: skip
PROBE = Format(
    name="thermopro.tp96x", products="TP96x, TP970", source=_SOURCE, endian="little", length=7, magic=b"",
    fields=(
        Field("channel", at=0, type="u8"),  # which probe, the first is 0
        Field("temperature", at=1, type="u16", offset="-30"),  # in the food
        Field("ambient_temperature", at=5, type="u16", offset="-30"),  # around it
    ),
)  # fmt: skip

FORMATS = (CLIMATE, PROBE)
_climate, _probe = CLIMATE.compile(), PROBE.compile()
_CLIMATE_LENGTHS, _PROBE_LENGTHS = (6, 7), (7, 13)
"""What follows the known bytes is not known: of a probe it may be the station's address."""
PROBES = 4
_WAYS = dict.fromkeys([1 + size for size in _CLIMATE_LENGTHS], CLIMATE.compile_whole(BORROWED_HEAD))


def ways(model: str) -> Mapping[int, Whole]:
    """Return the short way of a sensor of this local name, by the length of its AD structure; probes have none."""
    return _WAYS if model.startswith(_CLIMATE_NAMES) else {}


def decode(
    data: bytes, address: str | None, keys: Mapping[str, bytes], whole: bytes = b"", model: str | None = None
) -> Decoded | None:
    """Decode all of ThermoPro's manufacturer data, company identifier included. None for a model not known here."""
    name = model or ""
    size = len(data)
    if name.startswith(_CLIMATE_NAMES):
        if data[:1] != CLIMATE.magic:
            return None
        if size not in _CLIMATE_LENGTHS:
            raise DecodeError("length", f"expected 6 or 7 bytes, got {size}", where=CLIMATE.name, payload=data)
        return _climate(data[:6], address)
    if name.startswith(("TP96", "TP970")) and size in _PROBE_LENGTHS:
        return _of_probe(_probe(data[:7], address), data)
    return None


def _of_probe(decoded: Decoded, data: bytes) -> Decoded:
    number = data[0] + 1
    if number > PROBES:
        raise DecodeError("range", f"no probe {number}", where=PROBE.name, offset=0, payload=data)
    if number > 1:
        for name in ("temperature", "ambient_temperature"):
            decoded.values[f"{name}_{number}"] = decoded.values.pop(name)
    return decoded
