"""SwitchBot's sensors: manufacturer data of company 0x0969 (older 0x0059) and service data of 0xFD3D (older 0x0D00).

Sources: github.com/OpenWonderLabs/SwitchBotAPI-BLE, devicetypes/meter.md, motionsensor.md and contactsensor.md for the
service data; github.com/sblibs/pySwitchbot 3.1, adv_parsers and its captures for the manufacturer data, which SwitchBot
does not document.

Only the service data, which come with the scan response, tell the model (and the battery); the manufacturer data have
the same identifier for every product. So the model is taken from service data that stand beside, else from `model`,
what `model_of` said of an earlier advertisement, else nothing is said. Where both say the same, the service data do.

A meter whose temperature and humidity are all zero has not measured yet; where its battery is zero too it says nothing
at all, and a CO2 or a light of zero is none. Nothing is known to count measurements. The
seconds since something last moved, whose 17 bits are scattered, and the counts of entrances are not read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from processor.decode.advertisement import SERVICE_DATA_16
from processor.decode.fields import Decoded, Field, Format
from processor.errors import DecodeError

COMPANY, COMPANY_NORDIC = 0x0969, 0x0059
UUID, UUID_OLD = 0xFD3D, 0x0D00
_API = "github.com/OpenWonderLabs/SwitchBotAPI-BLE, devicetypes/"
_LIBRARY = "github.com/sblibs/pySwitchbot 3.1, adv_parsers/"
_BIT = (False, True)
_OPEN = (False, True, True, True)
_LEFT_OPEN = (False, False, True, True)

MODELS = {
    "switchbot.meter": b"Tt", "switchbot.meter_plus": b"Ii", "switchbot.outdoor_meter": b"Ww",
    "switchbot.meter_pro": b"4\x14", "switchbot.meter_pro_co2": b"5\x15", "switchbot.hub2": b"Vv",
    "switchbot.motion": b"Ss", "switchbot.contact": b"Dd", "switchbot.leak": b"&\x06",
}  # fmt: skip
"""What `model_of` says, and the first byte of service data, its highest bit aside: one is for pairing."""
_MODELS: dict[int, str] = {byte: model for model, codes in MODELS.items() for byte in codes}


def _climate(at: int) -> tuple[Field, Field]:
    return (
        Field("temperature", at=at, type="tenths.sign.int", scale="0.1"),
        Field("humidity", at=at + 2, type="u8", bits=(0, 7)),
    )


def _models(*names: str) -> frozenset[str]:
    return frozenset(f"switchbot.{name}" for name in names)


_ADDRESS = Field("address", at=0, type="mac")
_UNMEASURED = (("temperature", "humidity"),)
_TYPE = b"\x5f"
"""The bits of a device type that count: the highest is for pairing, and either case of its letter is the product."""
_BATTERY = Field("battery", at=2, type="u8", bits=(0, 7))

METER = Format(
    name="switchbot.meter", products="Meter, Meter Plus",
    source=_API + "meter.md", endian="big", length=6, magic=b"T", mask=_TYPE,
    fields=(_BATTERY, *_climate(3)), unmeasured=(*_UNMEASURED, ("battery", "temperature", "humidity")),
)  # fmt: skip
MOTION = Format(
    name="switchbot.motion", products="Motion Sensor",
    source=_API + "motionsensor.md", endian="big", length=6, magic=b"s", mask=_TYPE,
    fields=(
        Field("motion", at=1, type="u8", bits=(6, 1), lookup=_BIT),
        _BATTERY,
        Field("light", at=5, type="u8", bits=(0, 2), lookup=(None, False, True, None)),
    ),
)  # fmt: skip
CONTACT = Format(
    name="switchbot.contact", products="Contact Sensor",
    source=_API + "contactsensor.md", endian="big", length=9, magic=b"d", mask=_TYPE,
    fields=(
        Field("motion", at=1, type="u8", bits=(6, 1), lookup=_BIT),
        _BATTERY,
        Field("door", at=3, type="u8", bits=(1, 2), lookup=_OPEN),
        Field("left_open", at=3, type="u8", bits=(1, 2), lookup=_LEFT_OPEN),
        Field("light", at=3, type="u8", bits=(0, 1), lookup=_BIT),
        Field("button_count", at=8, type="u8", bits=(0, 4)),
    ),
)  # fmt: skip
BATTERY = Format(
    name="switchbot.battery", products="Outdoor Meter, Meter Pro, Meter Pro CO2",
    source=_LIBRARY + "meter.py", endian="big", length=3, magic=b"w", fields=(_BATTERY,),
)  # fmt: skip

CLIMATE = Format(
    name="switchbot.climate", products="Meter, Meter Plus, Outdoor Meter, Meter Pro",
    source=_LIBRARY + "meter.py", endian="big", length=11, magic=b"",
    fields=(_ADDRESS, *_climate(8)), unmeasured=_UNMEASURED,
    models=_models("meter", "meter_plus", "outdoor_meter", "meter_pro"),
)  # fmt: skip
CLIMATE_CO2 = Format(
    name="switchbot.climate_co2", products="Meter Pro CO2",
    source=_LIBRARY + "meter.py", endian="big", length=15, magic=b"",
    fields=(
        _ADDRESS,
        *_climate(8),
        Field("co2", at=13, type="u16", invalid=0, invalid_from=10_000),  # it measures 400 to 9999
    ),
    unmeasured=_UNMEASURED, models=_models("meter_pro_co2"),
)  # fmt: skip
HUB2 = Format(
    name="switchbot.hub2", products="Hub 2", source=_LIBRARY + "hub2.py", endian="big", length=16, magic=b"",
    fields=(
        _ADDRESS,
        Field("light_level", at=12, type="u8", bits=(0, 5), invalid=0),  # 1 to 21
        *_climate(13),
    ),
    unmeasured=_UNMEASURED, models=_models("hub2"),
)  # fmt: skip
MOTION_PASSIVE = Format(
    name="switchbot.motion.passive", products="Motion Sensor",
    source=_LIBRARY + "motion.py", endian="big", length=8, magic=b"",
    fields=(
        _ADDRESS,
        Field("motion", at=7, type="u8", bits=(6, 1), lookup=_BIT),
        Field("light", at=7, type="u8", bits=(5, 1), lookup=_BIT),
    ),
    models=_models("motion"),
)  # fmt: skip
CONTACT_PASSIVE = Format(
    name="switchbot.contact.passive", products="Contact Sensor",
    source=_LIBRARY + "contact.py", endian="big", length=13, magic=b"",
    fields=(
        _ADDRESS,
        Field("motion", at=7, type="u8", bits=(7, 1), lookup=_BIT),
        Field("light", at=7, type="u8", bits=(6, 1), lookup=_BIT),
        Field("door", at=7, type="u8", bits=(4, 2), lookup=_OPEN),
        Field("left_open", at=7, type="u8", bits=(4, 2), lookup=_LEFT_OPEN),
        Field("button_count", at=12, type="u8", bits=(0, 4)),
    ),
    models=_models("contact"),
)  # fmt: skip
LEAK = Format(
    name="switchbot.leak", products="Water Leak Detector",
    source=_LIBRARY + "leak.py", endian="big", length=9, magic=b"",
    fields=(
        _ADDRESS,
        Field("battery", at=7, type="u8", bits=(0, 7)),
        Field("battery_low", at=7, type="u8", bits=(7, 1), lookup=_BIT),
        Field("moisture_detected", at=8, type="u8", bits=(0, 1), lookup=_BIT),
        Field("tamper", at=8, type="u8", bits=(1, 1), lookup=_BIT),
    ),
    models=_models("leak"),
)  # fmt: skip

SERVICE = (METER, replace(METER, magic=b"I"), MOTION, CONTACT)  # an "I" is a Meter Plus
MANUFACTURER = (CLIMATE, CLIMATE_CO2, HUB2, MOTION_PASSIVE, CONTACT_PASSIVE, LEAK)
FORMATS = (METER, MOTION, CONTACT, BATTERY, *MANUFACTURER)

Read = Callable[[bytes, str | None], Decoded]
_BARE = 6
"""The length of manufacturer data that only hold the address, as older firmware sends them."""
_read = {table.name: table.compile() for table in FORMATS}
_SERVICE: dict[str, tuple[int, Read]] = {
    _MODELS[table.magic[0]]: (table.length, _read[table.name]) for table in SERVICE
}
_MANUFACTURER: dict[str, tuple[int, Read]] = {
    model: (table.length, _read[table.name]) for table in MANUFACTURER for model in table.models
}
_battery = _read[BATTERY.name]


def model_of(whole: bytes) -> str | None:
    """Return the model that an advertisement's service data tell, to be remembered; None where they tell none."""
    service = _service_data(whole)
    return _MODELS.get(service[0] & 0x7F) if service else None


def decode(
    data: bytes, address: str | None, keys: Mapping[str, bytes], whole: bytes = b"", model: str | None = None
) -> Decoded | None:
    """Decode SwitchBot's service data, after the UUID. None for a product not known here, or no more than its model."""
    if not data:
        raise DecodeError("length", "no device type byte", where="switchbot", payload=data)
    found = _MODELS.get(data[0] & 0x7F)
    if found is None or len(data) < BATTERY.length:
        return None
    size, read = _SERVICE.get(found, (BATTERY.length, _battery))
    if len(data) < size:
        size, read = BATTERY.length, _battery
    return read(data[:size], address)


def decode_manufacturer(
    data: bytes, address: str | None, keys: Mapping[str, bytes], whole: bytes = b"", model: str | None = None
) -> Decoded | None:
    """Decode SwitchBot's manufacturer data, after the company identifier. None for a model not known.

    None too where service data that stand beside say as much, and for an address alone.
    """
    service = _service_data(whole)
    if service:
        model = _MODELS.get(service[0] & 0x7F)
    size, read = _MANUFACTURER.get(model or "", (0, None))
    if read is None or len(data) == _BARE:
        return None
    if service and len(service) >= _SERVICE.get(model or "", (256, None))[0]:
        return None
    return read(data[:size], address)


def _service_data(whole: bytes) -> bytes:
    """Return SwitchBot's service data in an advertisement, after the UUID; nothing where there are none.

    The advertisement may be cut off anywhere: its model is asked for before it is decoded.
    """
    at = 0
    while at + 1 < len(whole) and whole[at]:
        after = at + 1 + whole[at]
        if whole[at + 1] == SERVICE_DATA_16 and whole[at + 2 : at + 4] in _UUIDS:
            return whole[at + 4 : after]
        at = after
    return b""


_UUIDS = (UUID.to_bytes(2, "little"), UUID_OLD.to_bytes(2, "little"))
