"""Bluetooth's own characteristics as service data, several in one advertisement."""

from __future__ import annotations

import pytest

from processor.decode import readings
from processor.decode.formats import gatt
from processor.store.tables import cell_name

RHT = bytes.fromhex("02010605166e2aa30404166f2a2308095055434b5f5448")
"""A Blue Puck RHT's, captured: github.com/custom-components/ble_monitor, test_teltonika_parser.py."""
SENDER = "F0:2B:02:6A:82:96"


def test_the_characteristics_of_one_advertisement_are_readings_of_one_device_at_one_time():
    temperature, humidity = readings(RHT, SENDER, 7_000, gateway="G", rssi=-67)
    assert (temperature.values, humidity.values) == ({"temperature": 11.87}, {"humidity": 35})
    assert (temperature.device, temperature.at) == (humidity.device, humidity.at) == (SENDER, 7_000)
    assert temperature.counter is humidity.counter is None


def test_they_are_stored_beside_each_other_whatever_bytes_they_share():
    """The UUID is of a reading's identity: else of two that say 5 percent one would be lost."""
    battery, humidity = readings(bytes.fromhex("0416192a05" + "04166f2a05"), SENDER, 7_000)
    assert (battery.values, humidity.values) == ({"battery": 5}, {"humidity": 5})
    assert cell_name(battery, 0) != cell_name(humidity, 0)


def test_heard_by_two_gateways_it_is_the_same_reading_and_said_again_another_time_it_is_not():
    (first, _), (second, _) = (readings(RHT, SENDER, 7_000, gateway=gateway) for gateway in "AB")
    assert cell_name(first, 0) == cell_name(second, 0)
    assert cell_name(first, 0) != cell_name(first, 5_000)


@pytest.mark.parametrize(
    ("table", "values", "why"),
    [
        (gatt.BATTERY, {"battery": 101}, "battery is 0 to 100, not 101"),
        (gatt.TEMPERATURE, {"temperature": -273.16}, "temperature is -273.15 to 327.67"),
        (gatt.HUMIDITY, {"humidity": 100.01}, "humidity is 0.0 to 100.0"),
        (gatt.VOLTAGE, {"voltage": 1023}, "voltage is 0.0 to 1022.0"),
        (gatt.CO2, {"co2": 65_534}, "its code means not available"),
        (gatt.ILLUMINANCE, {"illuminance": 167_772.15}, "its code means not available"),
    ],
)  # fmt: skip
def test_what_the_specification_prohibits_is_not_encoded(table, values, why):
    with pytest.raises(ValueError, match=why):
        table.encode(values)
