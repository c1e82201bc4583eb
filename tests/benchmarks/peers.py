"""Other decoders of the same formats, each behind the same two steps: `given` (not timed) and `decode` (timed).

Each gets what comes closest to "one advertisement" in its own interface, made ready beforehand. They are in the
dependency group `bench`; one that is not installed is left out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any, ClassVar, Protocol

from tests.benchmarks.messages import Message

RSSI = -60


class Peer(Protocol):
    """A decoder to compare with."""

    name: str
    takes: str
    """What it is given, for the reader of the tables."""
    kinds: ClassVar[Mapping[str, Mapping[str, str]]]
    """The formats that it reads, and what it calls the quantities that are compared."""

    def given(self, message: Message) -> Any:
        """Return a message as the peer takes it."""

    def decode(self, given: Any) -> Any:
        """Decode what `given` returned: all that is timed."""

    def values(self, found: Any) -> Mapping[str, Any]:
        """Return the values in an answer of `decode`."""


_CLIMATE = {"temperature": "temperature", "humidity": "humidity"}


class RuuvitagSensor:
    """ruuvitag-sensor: `DataFormats.convert_data`, then the format's decoder."""

    name = "ruuvitag-sensor"
    takes = "the advertisement in hexadecimal, its length before it and the RSSI behind it"
    kinds: ClassVar[Mapping[str, Mapping[str, str]]] = dict.fromkeys(
        ("ruuvi.3", "ruuvi.5", "ruuvi.6", "ruuvi.e1"), _CLIMATE
    )

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
    """bleparser: `BleParser.parse_raw_data`, its filter of duplicates off."""

    name = "bleparser"
    takes = "an HCI event (LE advertising report) as bytes"
    kinds: ClassVar[Mapping[str, Mapping[str, str]]] = {
        **dict.fromkeys(("ruuvi.3", "ruuvi.5", "bthome.2", "bthome.2 encrypted"), _CLIMATE),
        "ibeacon": {"major": "major", "minor": "minor"},
    }

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
        return dict(found[0])


class BTHomeBLE:
    """bthome-ble: `BTHomeBluetoothDeviceData.update`, one object for each sensor, as Home Assistant keeps them."""

    name = "bthome-ble"
    takes = "a BluetoothServiceInfoBleak: the AD structures are already split"
    kinds: ClassVar[Mapping[str, Mapping[str, str]]] = dict.fromkeys(("bthome.2", "bthome.2 encrypted"), _CLIMATE)

    def __init__(self) -> None:
        from bthome_ble import BTHomeBluetoothDeviceData
        from habluetooth import BluetoothServiceInfoBleak

        self._new = BTHomeBluetoothDeviceData
        self._info = BluetoothServiceInfoBleak
        self._devices: dict[str, Any] = {}

    def given(self, message: Message) -> tuple[Callable[[Any], Any], Any]:
        if message.address not in self._devices:
            self._devices[message.address] = self._new(message.key)
        payload = message.data[message.data.index(b"\xd2\xfc") + 2 :]
        info = self._info(
            name=message.address,
            address=message.address,
            rssi=RSSI,
            manufacturer_data={},
            service_data={"0000fcd2-0000-1000-8000-00805f9b34fb": payload},
            service_uuids=["0000fcd2-0000-1000-8000-00805f9b34fb"],
            source="local",
            device=None,
            advertisement=None,
            connectable=False,
            time=0.0,
            tx_power=None,
            raw=message.data,
        )
        return self._devices[message.address].update, info

    def decode(self, given: tuple[Callable[[Any], Any], Any]) -> Any:
        update, info = given
        return update(info)

    def values(self, found: Any) -> Mapping[str, Any]:
        return {value.device_key.key: value.native_value for value in found.entity_values.values()}


def installed() -> list[Peer]:
    """Return the peers that are there."""
    found: list[Peer] = []
    for make in (RuuvitagSensor, Bleparser, BTHomeBLE):
        try:
            found.append(make())
        except ImportError:
            print(f"{make.name} is not installed: uv run --group bench python -m tests.benchmarks")
    return found


def described(peer: Peer) -> str:
    """Return a peer's name, version and what it is given."""
    return f"{peer.name} {version(peer.name)} was given {peer.takes}"
