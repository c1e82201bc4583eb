"""Decoders that take AD structures already split, as Bluetooth stacks hand them over: Home Assistant's, and on bleak.

Each is measured twice: as it is called, its input made beforehand; and with the making of it from the advertisement's
bytes by bluetooth-data-tools, Home Assistant's own and maintained splitter, which is Cython.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, ClassVar

from tests.benchmarks.messages import Message
from tests.benchmarks.peers import HECTOPASCAL, HUNDREDTHS, RSSI, Names

_CLIMATE = {"temperature": "temperature", "humidity": "humidity", "battery": "battery"}


class HomeAssistant:
    """One of the libraries of Home Assistant: an object for each sensor, whose `update` gets its advertisements."""

    takes = "a BluetoothServiceInfoBleak: the AD structures are already split"
    names: ClassVar[Names] = {
        **_CLIMATE, **HECTOPASCAL, "dew_point": "dew_point", "co2": "carbon_dioxide", "pm2_5": "pm25",
        "temperature_2": "temperature_probe_2", "temperature_3": "temperature_probe_3",
        "temperature_4": "temperature_probe_4", "ambient_temperature": "ambient_temperature_probe_1",
    }  # fmt: skip
    splits = True
    within = HUNDREDTHS

    def __init__(self, name: str, maker: str, *kinds: str) -> None:
        from bluetooth_data_tools import parse_advertisement_data_bytes
        from habluetooth import BluetoothServiceInfoBleak

        module = import_module(name.replace("-", "_"))
        self.name, self.kinds = name, kinds
        self._new = getattr(module, f"{maker}BluetoothDeviceData")
        self._info, self._split = BluetoothServiceInfoBleak, parse_advertisement_data_bytes
        self._devices: dict[tuple[str, bytes | None], Any] = {}

    def given(self, message: Message) -> tuple[Callable[[Any], Any], Any]:
        sensor = message.address, message.key
        if sensor not in self._devices:
            self._devices[sensor] = self._new() if message.key is None else self._new(bindkey=message.key)
        name, uuids, services, manufacturer, tx_power = self._split(message.data)
        info = self._info(
            name=name or message.address,
            address=message.address,
            rssi=RSSI,
            manufacturer_data=manufacturer,
            service_data=services,
            service_uuids=uuids,
            source="local",
            device=None,
            advertisement=None,
            connectable=False,
            time=0.0,
            tx_power=tx_power,
            raw=message.data,
        )
        return self._devices[sensor].update, info

    def decode(self, given: tuple[Callable[[Any], Any], Any]) -> Any:
        update, info = given
        return update(info)

    def values(self, found: Any) -> Mapping[str, Any]:
        values = {value.device_key.key: value.native_value for value in found.entity_values.values()}
        probe = values.get("temperature_probe_1", values.get("internal_temperature_probe_1"))
        return {"temperature": probe, **values}


HOME_ASSISTANT = (
    ("bluemaestro-ble", "BlueMaestro", "bluemaestro.t", "bluemaestro.thd", "bluemaestro.thd.22", "bluemaestro.thpd"),
    ("bthome-ble", "BTHome", "bthome.2", "bthome.2 encrypted"),
    (
        "govee-ble", "Govee", "govee.h5051", "govee.h5074", "govee.h5075", "govee.h5101", "govee.h5106", "govee.h5108",
        "govee.h5140", "govee.h5178", "govee.h5179", "govee.h5181", "govee.h5182", "govee.h5184.1", "govee.h5184.2",
    ),
    ("inkbird-ble", "INKBIRD", "inkbird.ibs"),
    ("mopeka-iot-ble", "MopekaIOT", "mopeka.pro"),
    ("qingping-ble", "Qingping", "qingping"),
    ("sensorpush-ble", "SensorPush", "sensorpush.ht1", "sensorpush.htw", "sensorpush.htp"),
    ("thermopro-ble", "ThermoPro", "thermopro.tp35x", "thermopro.tp96x"),
    ("xiaomi-ble", "Xiaomi", "mibeacon", "mibeacon encrypted"),
)  # fmt: skip


class PySwitchbot:
    """PySwitchbot: `parse_advertisement_data`, which is told the model where the advertisement does not say it."""

    name = "PySwitchbot"
    takes = "bleak's AdvertisementData: the AD structures are already split"
    kinds = (
        "switchbot.meter", "switchbot.motion", "switchbot.contact", "switchbot.climate", "switchbot.climate_co2",
        "switchbot.hub2", "switchbot.motion.passive", "switchbot.contact.passive", "switchbot.leak",
    )  # fmt: skip
    names: ClassVar[Names] = {
        **_CLIMATE, "co2": "co2", "motion": "motion_detected", "door": "contact_open", "moisture_detected": "leak",
        "light": "is_light",
    }  # fmt: skip
    splits = True
    within = HUNDREDTHS

    def __init__(self) -> None:
        from bleak.backends.device import BLEDevice
        from bleak.backends.scanner import AdvertisementData
        from bluetooth_data_tools import parse_advertisement_data_bytes
        from switchbot import SwitchbotModel
        from switchbot.adv_parser import parse_advertisement_data

        self._device, self._advertisement, self._parse = BLEDevice, AdvertisementData, parse_advertisement_data
        self._split = parse_advertisement_data_bytes
        self._devices: dict[str, Any] = {}
        self._models = {
            "switchbot.outdoor_meter": SwitchbotModel.IO_METER,
            "switchbot.meter_pro_co2": SwitchbotModel.METER_PRO_C,
            "switchbot.hub2": SwitchbotModel.HUB2,
            "switchbot.motion": SwitchbotModel.MOTION_SENSOR,
            "switchbot.contact": SwitchbotModel.CONTACT_SENSOR,
            "switchbot.leak": SwitchbotModel.LEAK,
        }

    def given(self, message: Message) -> tuple[Any, Any, Any]:
        _, uuids, services, manufacturer, _ = self._split(message.data)
        advertisement = self._advertisement(None, manufacturer, services, uuids, None, RSSI, platform_data=())
        device = self._devices.get(message.address)
        if device is None:
            device = self._devices[message.address] = self._device(message.address, None, {})
        return device, advertisement, self._models.get(message.model or "")

    def decode(self, given: tuple[Any, Any, Any]) -> Any:
        return self._parse(*given)

    def values(self, found: Any) -> Mapping[str, Any]:
        return dict(found.data["data"])


class Aranet4:
    """aranet4: `Aranet4Advertisement`, which its scanner makes of each advertisement."""

    name = "aranet4"
    takes = "bleak's AdvertisementData: the AD structures are already split"
    kinds = ("aranet.4", "aranet.2", "aranet.radiation", "aranet.radon")
    names: ClassVar[Names] = {
        **_CLIMATE, **HECTOPASCAL, "co2": "co2", "radon": "radon_concentration", "radiation_dose": "radiation_total"
    }  # fmt: skip
    splits = True
    within = 0.051

    def __init__(self) -> None:
        from aranet4.client import Aranet4Advertisement
        from bleak.backends.device import BLEDevice
        from bleak.backends.scanner import AdvertisementData
        from bluetooth_data_tools import parse_advertisement_data_bytes

        self._device, self._advertisement, self._read = BLEDevice, AdvertisementData, Aranet4Advertisement
        self._split = parse_advertisement_data_bytes
        self._devices: dict[str, Any] = {}

    def given(self, message: Message) -> tuple[Any, Any]:
        _, uuids, services, manufacturer, _ = self._split(message.data)
        advertisement = self._advertisement(None, manufacturer, services, uuids, None, RSSI, platform_data=())
        device = self._devices.get(message.address)
        if device is None:
            device = self._devices[message.address] = self._device(message.address, None, {})
        return device, advertisement

    def decode(self, given: tuple[Any, Any]) -> Any:
        return self._read(*given)

    def values(self, found: Any) -> Mapping[str, Any]:
        values = dict(vars(found.readings))
        # A radiation meter's readings hold these too, unset.
        return {name: value for name, value in values.items() if value != -1}
