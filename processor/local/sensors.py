"""Simulated sensors: an address, a model of one maker, values that drift, and what they advertise."""

from __future__ import annotations

import random
from collections.abc import Callable

from processor.decode.advertisement import MANUFACTURER_DATA, manufacturer_data, service_data, structure
from processor.decode.formats import (
    aranet,
    atc,
    bthome,
    eddystone,
    ela,
    govee,
    ibeacon,
    inkbird,
    mibeacon,
    minew,
    omron,
    qingping,
    ruuvi,
    switchbot,
    thermopro,
)
from processor.reading import Value, address_of

FLAGS = structure(0x01, b"\x06")
LOCAL_NAME = 0x09
INDOORS = {"aranet"}
"""Models that cannot say what is below 0 °C."""

Maker = Callable[["Sensor"], list[bytes]]
"""Makes the advertisements of one measurement: nearly always one."""


class Sensor:
    """A simulated sensor: an address, a model, values that drift."""

    def __init__(self, number: int, seed: int, model: str) -> None:
        self.random = random.Random(f"{seed}.sensor.{number}")  # noqa: S311 - a simulation
        self.model = model
        self.address = address_of(b"\xc0" + number.to_bytes(2, "big") + self.random.randbytes(3))
        self.key = self.random.randbytes(16)
        self.coldest = 0.0 if model in INDOORS else -40.0
        self.temperature = self.random.uniform(15 if model in INDOORS else -10, 30)
        self.humidity = self.random.uniform(30, 70)
        self.pressure = self.random.uniform(98_000, 103_000)
        self.battery = self.random.uniform(2.6, 3.1)
        self.count = self.random.randrange(60_000)

    def drift(self) -> None:
        """Take the next measurement."""
        self.count += 1
        self.temperature = min(60.0, max(self.coldest, self.temperature + self.random.gauss(0, 0.05)))
        self.humidity = min(100.0, max(0.0, self.humidity + self.random.gauss(0, 0.2)))
        self.pressure = min(110_000.0, max(90_000.0, self.pressure + self.random.gauss(0, 5)))
        self.battery = max(1.7, self.battery - 1e-6)

    def advertisements(self) -> list[bytes]:
        """Return what the sensor sends for the measurement it took last."""
        return MODELS[self.model](self)

    @property
    def response(self) -> bytes:
        """What the sensor answers a gateway that asks for more, its scan response; empty for most models."""
        return RESPONSES.get(self.model, b"")

    @property
    def mark(self) -> Value:
        """The value of this measurement that the fleet remembers."""
        return self.count % 65536 if self.model == "ibeacon" else self.temperature

    @property
    def encrypts(self) -> bool:
        """Tell whether the sensor needs its key to be read."""
        return self.model.endswith(".encrypted")

    @property
    def climate(self) -> dict[str, Value]:
        """The values that every hygrometer has, as precise as the least precise of them says them."""
        return {"temperature": round(self.temperature, 2), "humidity": round(self.humidity)}

    @property
    def air(self) -> dict[str, Value]:
        """The values that every environmental sensor has."""
        return {
            "temperature": round(self.temperature, 3),
            "humidity": round(self.humidity, 3),
            "pressure": round(self.pressure),
        }


def _ruuvi(data: bytes) -> bytes:
    return FLAGS + manufacturer_data(ruuvi.COMPANY, data)


def _rawv2(sensor: Sensor) -> list[bytes]:
    values: dict[str, Value] = sensor.air | {
        "acceleration_x": 0.004,
        "acceleration_y": -0.004,
        "acceleration_z": 1.0,
        "battery_voltage": round(sensor.battery, 3),
        "tx_power": 4,
        "movement_counter": sensor.count // 100 % 255,
        "sequence": sensor.count % 65535,
    }
    return [_ruuvi(ruuvi.RAWV2.encode(values, address=sensor.address))]


def _rawv1(sensor: Sensor) -> list[bytes]:
    values: dict[str, Value] = sensor.air | {"acceleration_z": 1.0, "battery_voltage": round(sensor.battery, 3)}
    return [_ruuvi(ruuvi.RAWV1.encode(values))]


def _ruuvi_air(sensor: Sensor) -> list[bytes]:
    """Send format E1, and every other time format 6 beside it, as a Ruuvi Air does for receivers of Bluetooth 4."""
    values: dict[str, Value] = sensor.air | {
        "pm1_0": 3.1,
        "pm2_5": 4.2,
        "pm4_0": 4.9,
        "pm10": 5.3,
        "co2": 600 + sensor.count % 400,
        "voc_index": 100,
        "nox_index": 2,
        "illuminance": 120.5,
        "sequence": sensor.count,
    }
    sent = [_ruuvi(ruuvi.E1.encode(values, address=sensor.address))]
    if sensor.count % 2:
        sent.append(_ruuvi(ruuvi.DF6.encode(values | {"sequence": sensor.count % 256})))
    return sent


def _bthome_values(sensor: Sensor) -> dict[str, Value]:
    return {
        "packet_id": sensor.count % 256,
        "battery": 90,
        "temperature": round(sensor.temperature, 2),
        "humidity": round(sensor.humidity, 2),
    }


def _bthome(sensor: Sensor) -> list[bytes]:
    return [FLAGS + service_data(bthome.UUID, bthome.encode(_bthome_values(sensor)))]


def _bthome_encrypted(sensor: Sensor) -> list[bytes]:
    data = bthome.encode(_bthome_values(sensor), key=sensor.key, address=sensor.address, counter=sensor.count)
    return [FLAGS + service_data(bthome.UUID, data)]


def _ibeacon(sensor: Sensor) -> list[bytes]:
    values: dict[str, Value] = {
        "uuid": "e2c56db5-dffb-48d2-b060-d0f5a71096e0",
        "major": 1,
        "minor": sensor.count % 65536,
        "tx_power": -59,
    }
    return [FLAGS + manufacturer_data(ibeacon.COMPANY, ibeacon.IBEACON.encode(values))]


def _eddystone(sensor: Sensor) -> list[bytes]:
    values: dict[str, Value] = {
        "battery_voltage": round(sensor.battery, 3),
        "temperature": round(sensor.temperature * 256) / 256,
        "advertisement_count": sensor.count,
        "uptime_s": sensor.count * 10,
    }
    return [FLAGS + service_data(eddystone.UUID, eddystone.TLM.encode(values))]


def _pvvx(sensor: Sensor) -> list[bytes]:
    values: dict[str, Value] = {
        "temperature": round(sensor.temperature, 2),
        "humidity": round(sensor.humidity, 2),
        "battery_voltage": round(sensor.battery, 3),
        "battery": 88,
        "packet_id": sensor.count % 256,
    }
    return [FLAGS + service_data(atc.UUID, atc.PVVX.encode(values, address=sensor.address))]


def _mibeacon_encrypted(sensor: Sensor) -> list[bytes]:
    values: dict[str, Value] = {"temperature": round(sensor.temperature, 1), "packet_id": sensor.count % 256}
    data = mibeacon.encode(
        values, product=0x055B, address=sensor.address, key=sensor.key, counter=sensor.count % (1 << 24)
    )
    return [FLAGS + service_data(mibeacon.UUID, data)]


def _qingping(sensor: Sensor) -> list[bytes]:
    values: dict[str, Value] = {"temperature": round(sensor.temperature, 1), "humidity": round(sensor.humidity, 1)}
    return [FLAGS + service_data(qingping.UUID, qingping.encode(values, product=0x12, address=sensor.address))]


def _govee(sensor: Sensor) -> list[bytes]:
    values: dict[str, Value] = {
        "temperature": round(sensor.temperature, 2),
        "humidity": round(sensor.humidity, 2),
        "battery": 90,
    }
    return [FLAGS + manufacturer_data(govee.COMPANY, govee.H5074.encode(values))]


def _omron(sensor: Sensor) -> list[bytes]:
    values: dict[str, Value] = {
        "sequence": sensor.count % 256,
        "temperature": round(sensor.temperature, 2),
        "humidity": round(sensor.humidity, 2),
        "illuminance": 120,
        "pressure": round(sensor.pressure),
        "sound_level": 41.5,
    }
    return [FLAGS + manufacturer_data(omron.COMPANY, omron.SENSOR.encode(values))]


def _minew(sensor: Sensor) -> list[bytes]:
    values: dict[str, Value] = {
        "battery": 99,
        "temperature": round(sensor.temperature * 256) / 256,
        "humidity": round(sensor.humidity * 256) / 256,
    }
    return [FLAGS + service_data(minew.UUID, minew.CLIMATE.encode(values, address=sensor.address))]


def _inkbird(sensor: Sensor) -> list[bytes]:
    data = inkbird.encode(sensor.climate | {"external_probe": False, "battery": 90})
    return [FLAGS + structure(MANUFACTURER_DATA, data) + structure(LOCAL_NAME, b"sps")]


def _thermopro(sensor: Sensor) -> list[bytes]:
    data = thermopro.CLIMATE.encode(sensor.climate | {"battery": 100})
    return [FLAGS + structure(MANUFACTURER_DATA, data) + structure(LOCAL_NAME, b"TP357 (2142)")]


def _aranet(sensor: Sensor) -> list[bytes]:
    values: dict[str, Value] = sensor.climate | {
        "co2": 600 + sensor.count % 400,
        "pressure": round(sensor.pressure),
        "battery": 90,
        "measurement_interval": 300,
        "measurement_age": 1,
        "measurement_count": sensor.count % 256,
    }
    return [FLAGS + manufacturer_data(aranet.COMPANY, aranet.ARANET4.encode(values))]


def _ela(sensor: Sensor) -> list[bytes]:
    return [FLAGS + manufacturer_data(ela.COMPANY, ela.RHT.encode(sensor.climate))]


def _switchbot(sensor: Sensor) -> list[bytes]:
    """Send manufacturer data with the values; which model's they are, the scan response alone says."""
    values: dict[str, Value] = {"temperature": round(sensor.temperature, 1), "humidity": round(sensor.humidity)}
    return [FLAGS + manufacturer_data(switchbot.COMPANY, switchbot.CLIMATE.encode(values, address=sensor.address))]


def _neighbour(sensor: Sensor) -> list[bytes]:
    """Send something that nobody here knows: a gateway hears the neighbours too."""
    return [FLAGS + manufacturer_data(0xFFFF, sensor.random.randbytes(8))]


def _locked(sensor: Sensor) -> list[bytes]:
    """Send what a neighbour's sensor encrypts, whose key nobody here has."""
    return _mibeacon_encrypted(sensor)


def _broken_sensor(sensor: Sensor) -> list[bytes]:
    """Send Ruuvi's format 5 with every value "not available"."""
    return [_ruuvi(ruuvi.RAWV2.encode({"sequence": sensor.count % 65535}, address=sensor.address))]


MODELS: dict[str, Maker] = {
    "ruuvi.5": _rawv2,
    "ruuvi.3": _rawv1,
    "ruuvi.e1": _ruuvi_air,
    "bthome": _bthome,
    "bthome.encrypted": _bthome_encrypted,
    "ibeacon": _ibeacon,
    "eddystone.tlm": _eddystone,
    "pvvx": _pvvx,
    "mibeacon.encrypted": _mibeacon_encrypted,
    "qingping": _qingping,
    "govee": _govee,
    "omron": _omron,
    "minew": _minew,
    "switchbot": _switchbot,
    "inkbird": _inkbird,
    "thermopro": _thermopro,
    "aranet": _aranet,
    "ela": _ela,
    "neighbour": _neighbour,
    "neighbour.locked": _locked,
    "broken": _broken_sensor,
}

RESPONSES = {"switchbot": service_data(switchbot.UUID, bytes([ord("w"), 0, 90]))}
"""Scan responses, each with a reading of its own: here the battery's."""

MIX = (
    *("ruuvi.5", "bthome", "mibeacon.encrypted", "ruuvi.e1", "pvvx", "bthome.encrypted", "ruuvi.3", "govee"),
    *("eddystone.tlm", "ruuvi.5", "switchbot", "omron", "ibeacon", "qingping", "ruuvi.5", "neighbour"),
    *("minew", "bthome", "ruuvi.5", "broken", "inkbird", "thermopro", "aranet", "ela", "neighbour.locked"),
)
"""The models, one sensor after the other, round and round."""

IGNORED = {"neighbour", "neighbour.locked", "broken"}
COUNTING = (
    set(MODELS) - IGNORED
    - {"ruuvi.3", "ibeacon", "govee", "minew", "qingping", "switchbot", "inkbird", "thermopro", "ela"}
)  # fmt: skip
"""The models that count their measurements, so that every copy of one is known for a copy."""
