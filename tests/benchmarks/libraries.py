"""Other decoders of the same formats, each a `Peer`.

Each is used as on a stream of advertisements: what it keeps from one to the next (a parser, an object for each sensor)
is made beforehand, and it gets what comes closest to "one advertisement" in its own interface, made ready beforehand.
They are in the dependency group `bench`; one that is not installed is left out. Those that take AD structures which are
already split are in split.py.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from tests.benchmarks.messages import Message
from tests.benchmarks.peers import HECTOPASCAL, HUNDREDTHS, RSSI, Names, Peer, Split
from tests.benchmarks.split import HOME_ASSISTANT, Aranet4, HomeAssistant, PySwitchbot


class RuuvitagSensor:
    """ruuvitag-sensor: `DataFormats.convert_data`, then the format's decoder."""

    name = "ruuvitag-sensor"
    takes = "the advertisement in hexadecimal, its length before it and the RSSI behind it (its adapters' form)"
    kinds = ("ruuvi.3", "ruuvi.5", "ruuvi.6", "ruuvi.e1")
    names: ClassVar[Names] = {"temperature": "temperature", "humidity": "humidity", **HECTOPASCAL}
    splits = False
    within = HUNDREDTHS

    def __init__(self) -> None:
        from ruuvitag_sensor.data_formats import DataFormats
        from ruuvitag_sensor.decoder import get_decoder

        logging.getLogger("ruuvitag_sensor").setLevel(logging.ERROR)  # it warns of format 3, message by message
        self._convert = DataFormats.convert_data
        self._decoder = get_decoder

    def given(self, message: Message) -> str:
        return (bytes([len(message.data)]) + message.data + bytes([RSSI & 0xFF])).hex().upper()

    def decode(self, given: str) -> Any:
        kind, payload = self._convert(given)
        return self._decoder(kind).decode_data(payload)

    def values(self, found: Any) -> Mapping[str, Any]:
        return dict(found)


class Bleparser:
    """bleparser: one `BleParser`, its `parse_raw_data` for each event; its filter of duplicates off."""

    name = "bleparser"
    takes = "an HCI event (LE advertising report) as bytes"
    kinds = (
        "atc1441", "atc1441.encrypted", "bluemaestro.thd", "bluemaestro.thpd", "bthome.2", "bthome.2 encrypted",
        "govee.h5051", "govee.h5074", "govee.h5075", "govee.h5101", "govee.h5178", "govee.h5179", "govee.h5181",
        "govee.h5182", "ibeacon", "inkbird.ibs", "mibeacon", "mibeacon encrypted", "pvvx", "pvvx.encrypted", "qingping",
        "ruuvi.3", "ruuvi.5", "switchbot.meter", "thermopro.tp35x",
    )  # fmt: skip
    names: ClassVar[Names] = {
        "temperature": "temperature", "humidity": "humidity", "major": "major", "minor": "minor",
        "dew_point": "dewpoint", **HECTOPASCAL,
        **{f"acceleration_{axis}": (f"acceleration {axis}", 0.001) for axis in "xyz"},
    }  # fmt: skip
    splits = False
    within = HUNDREDTHS

    def __init__(self) -> None:
        from bleparser import BleParser

        self._keys: dict[bytes, bytes] = {}
        self._parser = BleParser(filter_duplicates=False, aeskeys=self._keys)

    def given(self, message: Message) -> bytes:
        mac = bytes.fromhex(message.address.replace(":", ""))
        if message.key is not None:
            self._keys[mac] = message.key
        # Core Specification, Vol 4, Part E, 7.7.65.2: subevent 2, one report, ADV_IND, a random address.
        report = b"\x02\x01\x00\x01" + mac[::-1] + bytes([len(message.data)]) + message.data + bytes([RSSI & 0xFF])
        return b"\x04\x3e" + bytes([len(report)]) + report

    def decode(self, given: bytes) -> Any:
        return self._parser.parse_raw_data(given)

    def values(self, found: Any) -> Mapping[str, Any]:
        values = dict(found[0])
        # Of a meat thermometer, the first probe's.
        return {"temperature": values.get("temperature probe 1"), **values}


class Theengs:
    """TheengsDecoder, which is C++: `decodeBLE`."""

    name = "TheengsDecoder"
    takes = "the JSON text that its gateway makes of an advertisement, and answers with JSON text"
    kinds = (
        "aranet.4", "atc1441", "bluemaestro.t", "bluemaestro.thd", "bluemaestro.thd.22", "bluemaestro.thpd",
        "govee.h5101", "govee.h5106", "govee.h5108", "govee.h5140", "ibeacon", "inkbird.ibs", "moko.climate",
        "moko.device", "pvvx", "qingping", "ruuvi.3", "ruuvi.5", "sensorpush.htp", "sensorpush.htw",
        "switchbot.contact", "switchbot.meter", "switchbot.motion", "thermopro.tp35x",
    )  # fmt: skip
    names: ClassVar[Names] = {
        "temperature": "tempc", "humidity": "hum", "battery_voltage": "volt", "co2": "co2",
        "motion": "motion", "tx_power": "txpower",
    }  # fmt: skip
    splits = False
    within = 0.1
    """It leaves what the digits of a packed number hold below its step."""

    def __init__(self) -> None:
        from TheengsDecoder import decodeBLE

        self._decode = decodeBLE

    def given(self, message: Message) -> str:
        split = Split.of(message)
        found: dict[str, Any] = {"id": message.address, "rssi": RSSI}
        if split.name:
            found["name"] = split.name
        for company, data in split.manufacturer.items():
            found["manufacturerdata"] = (company.to_bytes(2, "little") + data).hex()
        for uuid, data in split.services.items():
            found |= {"servicedata": data.hex(), "servicedatauuid": f"0x{uuid[4:8]}"}
        return json.dumps(found)

    def decode(self, given: str) -> Any:
        return self._decode(given)

    def values(self, found: Any) -> Mapping[str, Any]:
        return dict(json.loads(found))


class Beacontools:
    """beacontools: `parse_packet`."""

    name = "beacontools"
    takes = "the advertisement as bytes"
    kinds = ("eddystone.tlm", "eddystone.uid", "eddystone.url", "ibeacon")
    names: ClassVar[Names] = {
        "tx_power": "_tx_power", "major": "_major", "minor": "_minor", "url": "_url", "namespace": "_namespace",
        "battery_voltage": ("_voltage", 0.001), "advertisement_count": "_advertising_count",
    }  # fmt: skip
    """Not a TLM frame's temperature, of which it drops the fraction."""
    splits = False
    within = 0.0

    def __init__(self) -> None:
        from beacontools import parse_packet

        self._parse = parse_packet

    def given(self, message: Message) -> bytes:
        return message.data

    def decode(self, given: bytes) -> Any:
        return self._parse(given)

    def values(self, found: Any) -> Mapping[str, Any]:
        return vars(found)


def installed() -> list[Peer]:
    """Return the peers that are there."""
    makes: list[tuple[str, Callable[[], Peer]]] = [
        (make.name, make) for make in (RuuvitagSensor, Bleparser, PySwitchbot, Aranet4, Theengs, Beacontools)
    ]
    makes += [(each[0], lambda each=each: HomeAssistant(*each)) for each in HOME_ASSISTANT]  # type: ignore[misc]
    found = []
    for name, make in makes:
        try:
            found.append(make())
        except ImportError:
            print(f"{name} is not installed: uv run --group bench python -m tests.benchmarks")
    return found
