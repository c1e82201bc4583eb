"""Cassia gateways: scan events, as the REST API streams them and as MQTT wraps them.

Source: reelyactive/barnowl-cassia, lib/cassiadecoder.js (the event); CassiaNetworks/CassiaSDKGuide wiki, "MQTT API -
Convention" (`action`, `timestamp`, `gateway`, `data`; the other actions carry no advertisements). An event has either
`adData` or `scanData`, the scan response; `chipId` only tells a gateway's two radios apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from processor.decode.gateways.heard import (
    Advertisement,
    Heard,
    address_in,
    collect,
    data_in,
    gateway_in,
    kept_at,
    refusal,
    rssi_in,
    time_in,
)

CASSIA = "cassia"
SCAN = "data.scan"
SILENT = frozenset(("gateway_status", "heartbeat", "api_reply", "data.notification", "data.connection_state"))
"""Messages that carry no advertisements."""


def message(message: Mapping[str, Any], at: int, imsi: str | None) -> Heard:
    """Return the advertisements of an event, or of an MQTT message, that arrived at `at`, in ms since 1970.

    Raises DecodeError for anything else, or where the gateway makes no sense.
    """
    if "bdaddrs" in message:
        return [_advertisement(message, at, None, imsi)]
    action, events = message.get("action"), message.get("data")
    if type(action) is not str or (action != SCAN and action not in SILENT):
        raise refusal("shape", "a scan event has `bdaddrs`, an MQTT message `action`: data.scan", CASSIA, message)
    if action != SCAN:
        return []
    gateway = gateway_in(message.get("gateway"), imsi, CASSIA)
    reported_at = time_in(message.get("timestamp"), CASSIA)
    if type(events) is dict:
        events = [events]
    if type(events) is not list:
        raise refusal("shape", "`data` is a scan event or a list of them", CASSIA, message)
    return collect(events, lambda event: [_advertisement(event, at, reported_at, gateway)])


def _advertisement(event: Any, at: int, reported_at: int | None, gateway: str | None) -> Advertisement:
    addresses = event.get("bdaddrs") if type(event) is dict else None
    if type(addresses) is not list or not addresses or type(addresses[0]) is not dict:
        what = "a scan event has bdaddrs: [{bdaddr, bdaddrType}], rssi, and adData or scanData"
        raise refusal("shape", what, CASSIA, event)
    data = b"".join(data_in(event[key], CASSIA) for key in ("adData", "scanData") if key in event)
    advertised_at = time_in(event.get("timestamp"), CASSIA)
    return Advertisement(
        address_in(addresses[0].get("bdaddr"), CASSIA),
        rssi_in(event.get("rssi"), CASSIA),
        kept_at(at, None, reported_at if advertised_at is None else advertised_at),
        data,
        gateway,
    )


def encode(heard: Advertisement) -> bytes:
    """Return the event that the REST API streams: without time or gateway."""
    return orjson.dumps(_event(heard))


def encode_message(heard: Iterable[Advertisement], gateway: str, sent_at: int) -> bytes:
    """Return the MQTT message of a gateway whose clock says `sent_at` (ms since 1970)."""
    events = [_event(each) | {"timestamp": each.at} for each in heard]
    return orjson.dumps({"id": "1", "action": SCAN, "timestamp": sent_at, "gateway": gateway, "data": events})


def _event(heard: Advertisement) -> dict[str, Any]:
    return {
        "bdaddrs": [{"bdaddr": heard.address, "bdaddrType": "random"}],
        "chipId": 0,
        "evtType": 0,
        "rssi": heard.rssi,
        "adData": heard.data.hex().upper(),
        "name": "(unknown)",
    }
