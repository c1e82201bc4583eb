"""Ruuvi Gateway: its HTTP posts and its MQTT messages.

Source: docs.ruuvi.com, "Gateway data formats", "HTTP" and "MQTT: Time-stamped data from Bluetooth-sensors", and the
same "without timestamps". There the numbers are text; later firmware (ruuvi/ruuvi.gateway_esp.c, main/http_json.c and
main/mqtt_json.c) sends numbers: both are read. Other keys are ignored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from processor.decode.gateways.heard import (
    Advertisement,
    Heard,
    address_if,
    address_in,
    collect,
    data_in,
    gateway_in,
    measured_at,
    refusal,
    rssi_in,
    time_in,
)

HTTP = "ruuvi.http"
MQTT = "ruuvi.mqtt"


def posted(data: Mapping[str, Any], at: int, imsi: str | None) -> Heard:
    """Return the advertisements of an HTTP post, whose `data` this is; `at` is when it arrived, in ms since 1970.

    A gateway set to send no timestamps (it counts instead) leaves only the arrival. Raises DecodeError where the post
    has no `tags`, or its gateway or send time makes no sense.
    """
    tags = data.get("tags")
    if type(tags) is not dict:
        raise refusal("shape", "a Ruuvi Gateway's post has an object `tags`, keyed by sensor address", HTTP, data)
    sent_at = time_in(data.get("timestamp"), HTTP)
    gateway = gateway_in(data.get("gw_mac"), imsi, HTTP)

    def read(entry: tuple[str, Any]) -> Heard:
        address, tag = entry
        if type(tag) is not dict:
            raise refusal("shape", "an entry of `tags` is an object with rssi, timestamp and data", HTTP, entry)
        return [
            Advertisement(
                address_in(address, HTTP),
                rssi_in(tag.get("rssi"), HTTP),
                measured_at(at, sent_at, time_in(tag.get("timestamp"), HTTP)),
                _data(tag, HTTP),
                gateway,
            )
        ]

    return collect(tags.items(), read)


def message(message: Mapping[str, Any], at: int, imsi: str | None) -> Advertisement:
    """Return the advertisement of an MQTT message that arrived at `at`, in ms since 1970.

    MQTT names the sensor in the topic (`ruuvi/GATEWAY/SENSOR`), which Funnel never sees: its address is taken from
    `id`, `mac`, `address` or a `topic` that whoever relays the message put in; else the payload must know it.
    """
    get = message.get
    address = address_if(get("id")) or address_if(get("mac")) or address_if(get("address"))
    if address is None and type(get("topic")) is str:
        address = address_if(message["topic"].rpartition("/")[2])
    return Advertisement(
        address,
        rssi_in(get("rssi"), MQTT),
        measured_at(at, time_in(get("gwts"), MQTT), time_in(get("ts"), MQTT)),
        _data(message, MQTT),
        gateway_in(get("gw_mac"), imsi, MQTT),
    )


def _data(heard: Mapping[str, Any], where: str) -> bytes:
    if "data" not in heard:
        what = "no `data`: let the gateway send raw data, not decoded values only"
        raise refusal("data", what, where, heard)
    return data_in(heard["data"], where)


def encode_post(heard: Iterable[Advertisement], gateway: str, sent_at: int) -> bytes:
    """Return the HTTP post of a gateway whose clock says `sent_at` (ms since 1970); it counts in whole seconds.

    A post holds one advertisement of each sensor. Raises ValueError for a second one, or one without an address.
    """
    tags: dict[str, Any] = {}
    for address, rssi, at, data, _ in heard:
        if address is None or address in tags:
            raise ValueError(f"a post holds one advertisement of each sensor, by address; this is another of {address}")
        tags[address] = {"rssi": rssi, "timestamp": at // 1000, "data": data.hex().upper()}
    post = {
        "coordinates": "",
        "timestamp": sent_at // 1000,
        "nonce": sent_at & 0xFFFFFFFF,
        "gw_mac": gateway,
        "tags": tags,
    }
    return orjson.dumps({"data": post})


def encode_message(heard: Advertisement, gateway: str, sent_at: int) -> bytes:
    """Return the MQTT message of a gateway whose clock says `sent_at` (ms since 1970); it counts in whole seconds."""
    message: dict[str, Any] = {
        "gw_mac": gateway,
        "rssi": heard.rssi,
        "aoa": [],
        "gwts": str(sent_at // 1000),
        "ts": str(heard.at // 1000),
        "data": heard.data.hex().upper(),
        "coords": "",
    }
    return orjson.dumps(message if heard.address is None else message | {"id": heard.address})
