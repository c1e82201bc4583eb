"""Mopeka Pro tank sensors (Check, Plus, H2O, Universal, Lippert, 200, TD40): manufacturer data of 0x0059 (Nordic).

Sources: github.com/Bluetooth-Devices/mopeka-iot-ble 1.0 and its captures; github.com/esphome/esphome,
mopeka_pro_check. Many makers use 0x0059: Mopeka's ten bytes are taken only beside the service UUID 0xFEE5.

The level is a raw echo: what it means in metres depends on what is in the tank and how warm it is, which only the owner
knows. A reading of quality 0 has no level. Nothing counts the measurements.
"""

from __future__ import annotations

from collections.abc import Mapping

from processor.decode.fields import Decoded, Field, Format

COMPANY = 0x0059
UUID = b"\xe5\xfe"
TYPES = frozenset((0x03, 0x04, 0x05, 0x06, 0x08, 0x09, 0x0A, 0x0B, 0x0C, 0x12))

PRO = Format(
    name="mopeka.pro", source="github.com/Bluetooth-Devices/mopeka-iot-ble 1.0", endian="little", length=10, magic=b"",
    products="Pro Check, Pro Plus, Pro Check H2O, Pro Check Universal, Lippert BottleCheck, Pro 200, TD40",
    fields=(
        Field("device_type_id", at=0, type="u8"),
        Field("battery_voltage", at=1, type="u8", bits=(0, 7), scale="0.03125"),
        Field("temperature", at=2, type="u8", bits=(0, 7), offset="-40"),
        Field("button_pressed", at=2, type="u8", bits=(7, 1), lookup=(False, True)),
        Field("tank_level_raw", at=3, type="u16", bits=(0, 14)),
        Field("reading_quality", at=3, type="u16", bits=(14, 2)),
    ),
)  # fmt: skip

FORMATS = (PRO,)
_read = PRO.compile()


def is_ours(data: bytes, whole: bytes) -> bool:
    """Whether manufacturer data of 0x0059, after the company identifier, are Mopeka's."""
    return len(data) == PRO.length and data[0] in TYPES and UUID in whole


def decode(
    data: bytes, address: str | None, keys: Mapping[str, bytes], whole: bytes = b"", model: str | None = None
) -> Decoded | None:
    """Decode Nordic's manufacturer data, after the company identifier. None for what is not Mopeka's."""
    if not is_ours(data, whole):
        return None
    decoded = _read(data, address)
    if not decoded.values["reading_quality"]:
        del decoded.values["tank_level_raw"]
    return decoded
