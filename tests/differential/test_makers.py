"""Our readers against the libraries that Home Assistant uses, over payloads drawn at random with one seed.

Where they differ it is written here, with who is right and why. They round to hundredths, and so does the comparison.
Each library is needed only for its own tests, which are skipped where it is not installed.
"""

from __future__ import annotations

import random
import struct

import pytest

from processor.decode import readings
from processor.decode.advertisement import manufacturer_data, service_data, structure
from processor.decode.formats import MANUFACTURERS
from processor.decode.formats import inkbird as ours_inkbird
from processor.errors import DecodeError

ADDRESS = "54:48:E6:8F:80:A5"
PAYLOADS = 1000


def ours(data, name="", uuids=(), *, company=None):
    """Our values of manufacturer data, or the DecodeError."""
    advertisement = manufacturer_data(company, data) if company is not None else structure(0xFF, data)
    for uuid in uuids:
        advertisement += structure(0x03 if len(uuid) == 2 else 0x07, uuid)
    advertisement += structure(0x09, name.encode()) if name else b""
    try:
        found = readings(advertisement, ADDRESS, 1)
    except DecodeError as error:
        return error
    return dict(found[0].values) if found else {}


def theirs(parser, data, name="", uuids=(), *, company=None):
    """A library's values of the same, by key."""
    info = pytest.importorskip("habluetooth")
    if company is None:
        company, data = int.from_bytes(data[:2], "little"), data[2:]
    update = parser.update(
        info.BluetoothServiceInfoBleak(
            name=name, address=ADDRESS, rssi=-60, manufacturer_data={company: data}, service_data={},
            service_uuids=list(uuids), source="", device=None, advertisement=None, connectable=True, time=0, tx_power=0,
        )
    )  # fmt: skip
    found = {key.key: each.native_value for key, each in update.entity_values.items()}
    return found | {key.key: each.native_value for key, each in update.binary_entity_values.items()}


def payloads(size, start=b""):
    """Random payloads of one size, `start` before them: small numbers as often as large ones."""
    source = random.Random(20201120)
    for index in range(PAYLOADS):
        data = bytearray(start + source.randbytes(size))
        if index % 2:
            data[len(start)] &= 0x81
        yield bytes(data)


def same(mine, other, names):
    """Whether the quantities that `names` maps to their keys agree; missing, None and "error" are one."""
    for name, key in names.items():
        a, b = mine.get(name), other.get(key)
        b = None if b == "error" else b
        assert (a is None) == (b is None), (name, mine, other)
        assert a is None or a == pytest.approx(b, abs=0.0051), (name, mine, other)


CLIMATE = {"temperature": "temperature", "humidity": "humidity", "battery": "battery"}


@pytest.mark.parametrize(
    ("company", "name", "size", "start"),
    [
        (0xEC88, "GVH5075_0001", 5, b"\0"), (0xEC88, "Govee_H5074_0001", 6, b"\0"), (0xEC88, "H5051", 8, b"\0"),
        (1, "GVH5102_0001", 4, b"\1\1"), (0x8801, "Govee_H5179_0001", 5, b"\xec\0\1\1"), (1, "B51780001", 6, b"\1\1\0"),
        (1, "GVH5106_0001", 4, b"\1\1"), (1, "GV51400001", 6, b"\1\1"),
    ],
)  # fmt: skip
def test_govee(company, name, size, start):
    """Where theirs says "error" or passes on a temperature outside -40 to 100 °C, ours has none or is a DecodeError."""
    library = pytest.importorskip("govee_ble")
    names = CLIMATE | (
        {"pm2_5": "pm25", "co2": "carbon_dioxide"} if name[4:6] in ("06", "40") or "5106" in name else {}
    )
    compared = 0
    for data in payloads(size, start):
        mine = ours(data, name, company=company)
        other = theirs(library.GoveeBluetoothDeviceData(), data, name, company=company)
        if isinstance(mine, DecodeError):
            temperature = other.get("temperature")
            assert temperature == "error" or not -40 <= temperature <= 100  # an H5106's is not looked at there
            continue
        same(mine, other, names)
        compared += 1
    assert compared > PAYLOADS // 20


def test_govee_meat_thermometers():
    """Theirs makes 0 °C of every temperature below zero; ours keeps those but FFFF, a probe that is not plugged in."""
    library = pytest.importorskip("govee_ble")
    for data in payloads(16):
        for uuid in ("8151", "8351"):
            mine = ours(data, uuids=[bytes.fromhex(uuid)[::-1]])
            long = f"0000{uuid}-0000-1000-8000-00805f9b34fb"
            other = theirs(library.GoveeBluetoothDeviceData(), data, uuids=[long])
            for name, key in (
                ("temperature", "temperature_probe_1"),
                ("alarm_temperature", "temperature_alarm_probe_1"),
            ):
                assert other[key] == pytest.approx(max(mine.get(name, 0), 0), abs=0.0051)


@pytest.mark.parametrize("name", ["sps", "tps"])
def test_inkbird(name):
    """Theirs does not look at the CRC: these payloads have one that fits. It drops a packet beyond 100 %; ours errs."""
    library = pytest.importorskip("inkbird_ble")
    compared = 0
    for data in payloads(5):
        battery = data[4] % 128
        humidity = struct.pack("<H", int.from_bytes(data[2:4], "little") % 11000)
        data = data[:2] + humidity + bytes([data[4] % 2])
        data += ours_inkbird.crc(data) + bytes([battery, 8])
        mine = ours(data, name)
        other = theirs(library.INKBIRDBluetoothDeviceData(), data, name)
        if isinstance(mine, DecodeError):
            assert "temperature" not in other
            continue
        same(mine, other, CLIMATE)
        compared += 1
    assert compared > PAYLOADS // 2


def test_thermopro_hygrometers():
    """Theirs says 255 % where the humidity alone is FF; no air has that, and ours has none."""
    library = pytest.importorskip("thermopro_ble")
    for data in payloads(5, b"\xc2"):
        other = theirs(library.ThermoProBluetoothDeviceData(), data, "TP357 (2142)")
        if other.get("humidity") == 255:
            del other["humidity"]
        same(ours(data, "TP357 (2142)"), other, CLIMATE)


def test_thermopro_probes():
    library = pytest.importorskip("thermopro_ble")
    for data in payloads(6, b"\0"):
        mine = ours(data, "TP960R (0000)")
        other = theirs(library.ThermoProBluetoothDeviceData(), data, "TP960R (0000)")
        same(mine, other, {
            "temperature": "internal_temperature_probe_1", "ambient_temperature": "ambient_temperature_probe_1"
        })  # fmt: skip


@pytest.mark.parametrize(
    ("start", "size", "name"), [(b"\4", 4, "SensorPush HT.w 1"), (b"\0", 6, "SensorPush HTP.xw 1")]
)
def test_sensorpush(start, size, name):
    """A number beyond the highest that the values make is a DecodeError here; theirs drops what is too much."""
    library = pytest.importorskip("sensorpush_ble")
    compared = 0
    for data in payloads(size, start):
        mine = ours(data, name)
        other = theirs(library.SensorPushBluetoothDeviceData(), data, name)
        if isinstance(mine, DecodeError):
            assert mine.reason == "range"
            continue
        same(mine, other, {"temperature": "temperature", "humidity": "humidity"})
        assert mine.get("pressure", 0) == pytest.approx(other.get("pressure", 0) * 100, abs=0.51)
        compared += 1
    assert compared > PAYLOADS // 20


def test_sensorpush_ht1():
    """An HT1 whose first two bytes are an identifier that another decoder owns is that one's; here 0x8801, Govee's."""
    library = pytest.importorskip("sensorpush_ble")
    uuid = bytes.fromhex("ef09000011d642ba93b89dd7ec090aa9")[::-1]
    long = "ef090000-11d6-42ba-93b8-9dd7ec090aa9"
    for data in payloads(3):
        data += bytes([1 << 2 | data[0] & 3])
        if int.from_bytes(data[:2], "little") in MANUFACTURERS:
            continue
        mine = ours(data, "s", [uuid])
        other = theirs(library.SensorPushBluetoothDeviceData(), data, "s", [long])
        same(mine, other, {"temperature": "temperature", "humidity": "humidity"})


@pytest.mark.parametrize(("start", "size"), [(b"\x17", 13), (b"\x16", 13), (b"\x1b", 13), (b"\x0d", 9)])
def test_bluemaestro(start, size):
    library = pytest.importorskip("bluemaestro_ble")
    for data in payloads(size, start):
        mine = ours(data, company=0x0133)
        other = theirs(library.BlueMaestroBluetoothDeviceData(), data, company=0x0133)
        same(mine, other, CLIMATE | {"dew_point": "dew_point"})
        assert mine.get("pressure", 0) == pytest.approx(other.get("pressure", 0) * 100, abs=0.51)


def test_mopeka():
    """The battery's highest bit is reserved: theirs, 1.0, adds it to the voltage, its next version and ours do not."""
    library = pytest.importorskip("mopeka_iot_ble")
    long = "0000fee5-0000-1000-8000-00805f9b34fb"
    for data in payloads(9, b"\x08"):
        mine = ours(data, uuids=[b"\xe5\xfe"], company=0x0059)
        other = theirs(library.MopekaIOTBluetoothDeviceData(), data, uuids=[long], company=0x0059)
        assert mine["battery_voltage"] == pytest.approx(other["battery_voltage"] % 4, abs=0.0051)
        names = ("temperature", "button_pressed")
        same(mine, other, dict(zip(names, names, strict=True)) | {"reading_quality": "reading_quality_raw"})
        assert ("tank_level_raw" in mine) == (other["tank_level"] is not None)


@pytest.mark.parametrize(
    ("start", "size", "kind"), [(b"\x21", 21, "4"), (b"\1\x21", 22, "2"), (b"\2\x21", 22, "r"), (b"\3\x21", 22, "rn")]
)
def test_aranet(start, size, kind):
    """Theirs says -1 for what is not available, and rounds temperatures to tenths.

    It takes an Aranet4's or Aranet2's temperature from 1638.4 °C on for one; here it is not available.
    """
    library = pytest.importorskip("aranet4")
    client = pytest.importorskip("aranet4.client")
    assert library
    names = {
        "co2": "co2", "pressure": "pressure", "humidity": "humidity", "battery": "battery",
        "measurement_interval": "interval", "measurement_age": "ago", "radon": "radon_concentration",
    } if kind != "r" else {
        "radiation_dose": "radiation_total", "duration": "radiation_duration", "battery": "battery",
    }  # fmt: skip
    for data in payloads(size, start):
        data = bytearray(data)
        data[16 if kind == "4" else 18] &= 3  # the colour of the light: theirs refuses any other
        device = type("Device", (), {"name": None, "address": ADDRESS})()
        advertised = type("Data", (), {"manufacturer_data": {0x0702: bytes(data)}, "rssi": -60})()
        advertisement = client.Aranet4Advertisement(device, advertised)
        mine = ours(bytes(data), company=0x0702)
        if advertisement.readings is None:
            continue
        reading = advertisement.readings
        for name, key in names.items():
            value = getattr(reading, key)
            factor = 100 if name == "pressure" else 1
            expected = None if value == -1 else value * factor
            assert mine.get(name) == (None if expected is None else pytest.approx(expected, abs=0.0051)), (
                name,
                data.hex(),
            )
        if "temperature" in mine:
            assert mine["temperature"] == pytest.approx(reading.temperature, abs=0.051)


def test_jaalee():
    """The bytes are the same, the formula is not: theirs was estimated from a few samples, ours is the maker's.

    ble_monitor, from which bleparser comes, took over the maker's in version 12.8 (issue 1285); bleparser 3.7 has not.
    """
    library = pytest.importorskip("bleparser")
    mac = bytes.fromhex(ADDRESS.replace(":", ""))
    for data in payloads(5):
        advertisement = service_data(0xF525, data[:1] + mac[::-1] + data[1:])
        (reading,) = readings(advertisement, ADDRESS, 1)
        packet = b"\x04\x3e" + bytes([len(advertisement) + 12]) + b"\x02\x01\x03\x01" + mac[::-1]
        packet += bytes([len(advertisement)]) + advertisement + b"\xc4"
        other, _ = library.BleParser(discovery=True).parse_raw_data(packet)
        temperature = round((reading.values["temperature"] + 45) * 65535 / 175)
        humidity = round(reading.values["humidity"] * 65535 / 100)
        assert other["battery"] == reading.values["battery"]
        assert other["temperature"] == pytest.approx(0.0026821682 * temperature - 46.873, abs=0.0051)
        assert other["humidity"] == pytest.approx(0.0019213762 * humidity - 6.332, abs=0.0051)


def test_ela_s_characteristics():
    """A Blue PUCK RHT's temperature and humidity; theirs also takes what is below absolute zero for one."""
    library = pytest.importorskip("bleparser")
    mac = bytes.fromhex(ADDRESS.replace(":", ""))
    for data in payloads(3):
        advertisement = b"\x02\x01\x06" + service_data(0x2A6E, data[:2]) + service_data(0x2A6F, data[2:])
        advertisement += structure(0x09, b"P RHT 900459")
        packet = b"\x04\x3e" + bytes([len(advertisement) + 12]) + b"\x02\x01\x03\x01" + mac[::-1]
        packet += bytes([len(advertisement)]) + advertisement + b"\xc4"
        other, _ = library.BleParser(discovery=True).parse_raw_data(packet)
        if other["temperature"] < -273.15:
            continue
        temperature, humidity = readings(advertisement, ADDRESS, 1)
        assert temperature.values == {"temperature": pytest.approx(other["temperature"], abs=1e-9)}
        assert humidity.values == {"humidity": other["humidity"]}
