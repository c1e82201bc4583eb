"""April Brother (AB BLE Gateway V4 and its relatives): MessagePack, or JSON where the gateway is set to it.

Source: wiki.aprbrother.com, "User guide for AB BLE Gateway V4", data format: `{v, mid, time, ip, mac, devices}`, a
device being the advertising type, the sensor's address (most significant byte first), RSSI, AD structures in one piece.
The JSON form, a device being `[type, address, rssi, data]`, is as ajardolino3/hubitat-ble-gateway reads it.
`time` counts from the gateway's start and a device has none: what is measured is as old as the envelope.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from processor.decode.gateways import messagepack
from processor.decode.gateways.heard import (
    RSSI_UNKNOWN,
    Advertisement,
    Gathered,
    Heard,
    address_in,
    collect,
    data_in,
    digits_of,
    gateway_in,
    mac_of,
    refusal,
    rssi_in,
    with_error,
)
from processor.errors import DecodeError

JSON = "aprilbrother.json"
PACKED = "aprilbrother.messagepack"
NOT_CONNECTABLE = 3  # an advertising type


def posted(post: Mapping[str, Any], at: int, imsi: str | None) -> Heard:
    """Return the advertisements of a post in JSON that arrived at `at`, in ms since 1970.

    Raises DecodeError where `devices` is no list, or the gateway makes no sense.
    """
    devices = post.get("devices")
    if type(devices) is not list:
        raise refusal("shape", "a post has `devices`, a list of [type, address, rssi, data]", JSON, post)
    gateway = gateway_in(post.get("mac"), imsi, JSON)
    return collect(devices, lambda device: [_listed(device, at, gateway)])


def _listed(device: Any, at: int, gateway: str | None) -> Advertisement:
    if type(device) is not list or len(device) < 4:
        raise refusal("shape", "a device is a list [type, address, rssi, data]", JSON, device)
    _, address, rssi, data, *_ = device
    return Advertisement(address_in(address, JSON), rssi_in(rssi, JSON), at, data_in(data, JSON), gateway)


def packed(data: bytes, at: int, imsi: str | None) -> Heard:
    """Return the advertisements of one or several posts in MessagePack that arrived at `at`, in ms since 1970.

    Raises DecodeError where the first is broken, or is no post.
    """
    found = Gathered()
    place = 0
    while place < len(data):
        try:
            post, after = messagepack.unpack(data, place)
            found.take(_posted(post, at, imsi, data, place))
        except DecodeError as error:
            return with_error(found, error)
        place = after
    return found


def _posted(post: Any, at: int, imsi: str | None, data: bytes, place: int) -> Heard:
    devices = post.get(b"devices") if type(post) is dict else None
    if type(devices) is not list:
        raise DecodeError("shape", "a post is a map with a list `devices`", where=PACKED, offset=place, payload=data)
    mac = post.get(b"mac")
    gateway = gateway_in(mac.decode("latin-1") if type(mac) is bytes else mac, imsi, PACKED)
    return collect(devices, lambda device: [_device(device, at, gateway)])


def _device(device: Any, at: int, gateway: str | None) -> Advertisement:
    if type(device) is not bytes or len(device) < 8:
        what = "a device has its type, its address and an RSSI: 8 bytes at least"
        raise DecodeError("truncated", what, where=PACKED, payload=device if type(device) is bytes else b"")
    rssi = device[7]
    return Advertisement(
        device[1:7].hex(":").upper(),
        None if rssi == RSSI_UNKNOWN else rssi - 256 if rssi > RSSI_UNKNOWN else rssi,
        at,
        device[8:],
        gateway,
    )


def _head(gateway: str, uptime: int) -> dict[str, Any]:
    return {"v": "1.5.15", "mid": uptime, "time": uptime, "ip": "192.0.2.1", "mac": digits_of(gateway)}


def encode(heard: Iterable[Advertisement], gateway: str, uptime: int = 1) -> bytes:
    """Return the post, in MessagePack, of a gateway that has run for `uptime` seconds."""
    devices = [
        bytes((NOT_CONNECTABLE,)) + mac_of(address) + bytes(((RSSI_UNKNOWN if rssi is None else rssi) & 0xFF,)) + data
        for address, rssi, _, data, _ in heard
    ]
    return messagepack.pack(_head(gateway, uptime) | {"devices": devices})


def encode_json(heard: Iterable[Advertisement], gateway: str, uptime: int = 1) -> bytes:
    """Return the post, in JSON, of a gateway that has run for `uptime` seconds."""
    devices = [
        [NOT_CONNECTABLE, digits_of(address), RSSI_UNKNOWN if rssi is None else rssi, data.hex().upper()]
        for address, rssi, _, data, _ in heard
    ]
    return orjson.dumps(_head(gateway, uptime) | {"devices": devices})
