"""SwitchBot against PySwitchbot, over random payloads of every model both read.

What differs, and who is right:
- Tenths above 9, which the specification does not have: PySwitchbot adds them up, ours calls the payload impossible.
- A motion sensor's reserved light intensities (0 and 3): PySwitchbot says dark and light, ours nothing.
- Where service data hold everything too, PySwitchbot takes the manufacturer data's; ours reads each once.
- Hub 2: PySwitchbot also makes lux of the light level, by a line chart. Ours is the level.
- A Hub 2's light of 0, whose levels are 1 to 21, and a CO2 of 0 ppm: PySwitchbot gives them, ours nothing.
"""

from __future__ import annotations

import random

import pytest

from processor.decode.formats import switchbot

MAC = bytes.fromhex("B0E9FE543215")
SIZES = {  # service data, manufacturer data
    "switchbot.meter": (6, 11), "switchbot.meter_plus": (6, 11), "switchbot.outdoor_meter": (3, 12),
    "switchbot.meter_pro": (3, 13), "switchbot.meter_pro_co2": (3, 16), "switchbot.hub2": (2, 17),
    "switchbot.motion": (6, 10), "switchbot.contact": (9, 13), "switchbot.leak": (3, 18),
}  # fmt: skip
NAMES = {
    "temperature": "temperature", "humidity": "humidity", "battery": "battery", "co2": "co2",
    "lightLevel": "light_level",
    "motion_detected": "motion", "is_light": "light", "contact_open": "door", "contact_timeout": "left_open",
    "button_count": "button_count", "leak": "moisture_detected", "tampered": "tamper", "low_battery": "battery_low",
}  # fmt: skip


def theirs(service, manufacturer, model):
    parser = pytest.importorskip("switchbot.adv_parser")
    found = parser.SUPPORTED_TYPES[chr(switchbot.MODELS[model][0])]["func"](service, manufacturer)
    return {NAMES[name]: value for name, value in found.items() if name in NAMES and value is not None}


def tidy(data, at):
    """Make the tenths of a temperature at `at` what the specification has."""
    return data[:at] + bytes([data[at] & 0xF0 | (data[at] & 15) % 10]) + data[at + 1 :]


@pytest.mark.parametrize("model", switchbot.MODELS)
def test_every_model_says_what_pyswitchbot_says(model):
    pytest.importorskip("switchbot")
    rng = random.Random(model)
    service_size, size = SIZES[model]
    places = {"switchbot.hub2": 13}
    for _ in range(2000):
        service = bytes([rng.choice(switchbot.MODELS[model])]) + rng.randbytes(service_size - 1)
        manufacturer = MAC + rng.randbytes(size - 6)
        if model.startswith("switchbot.meter") or model in ("switchbot.outdoor_meter", "switchbot.hub2"):
            manufacturer = tidy(manufacturer, places.get(model, 8))
            if service_size == 6:
                service = tidy(service, 3)
        mine = switchbot.decode_manufacturer(manufacturer, None, {}, b"", model).values
        expected = theirs(None, manufacturer, model)
        for name in ("light_level", "co2"):
            if expected.get(name) == 0:
                del expected[name]
        assert mine == pytest.approx(expected), (service, manufacturer)
        if service_size < 3:
            assert switchbot.decode(service, None, {}) is None
            continue
        mine = switchbot.decode(service, None, {}).values
        if service_size == 3:
            assert mine == {"battery": service[2] & 0x7F}
            continue
        expected = theirs(service, None, model)
        if model == "switchbot.motion" and service[5] & 3 in (0, 3):
            del expected["light"]
        assert mine == pytest.approx(expected), service
