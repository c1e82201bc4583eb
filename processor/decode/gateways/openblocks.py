"""Plat'Home OpenBlocks: what its PD Handler BLE sends of a beacon.

Source: docs.plathome.co.jp, OpenBlocks FW4, data formats, "BLE beacons and sensors": `time` (ISO 8601 with its zone),
`deviceId` (the address without colons), `rssi`, `data` (hexadecimal); other keys are set by the user. What it decodes
itself, from sensors that it connects to, has no `data`: readings.json says what those keys mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from processor.decode.gateways.heard import (
    Advertisement,
    Heard,
    address_in,
    data_in,
    digits_of,
    iso_of,
    kept_at,
    refusal,
    rssi_in,
    time_in,
)

OPENBLOCKS = "openblocks"


def message(message: Mapping[str, Any], at: int, imsi: str | None) -> Heard:
    """Return the advertisement of a message that arrived at `at`, in ms since 1970; the SIM stands for the gateway.

    Raises DecodeError where there is none, or it makes no sense.
    """
    get = message.get
    if "deviceId" not in message or "data" not in message:
        raise refusal("shape", "a beacon's message has deviceId, time, rssi and data", OPENBLOCKS, message)
    return [
        Advertisement(
            address_in(get("deviceId"), OPENBLOCKS),
            rssi_in(get("rssi"), OPENBLOCKS),
            kept_at(at, None, time_in(get("time"), OPENBLOCKS)),
            data_in(get("data"), OPENBLOCKS),
            imsi,
        )
    ]


def encode(heard: Advertisement) -> bytes:
    """Return the message of an advertisement."""
    device = digits_of(heard.address)
    message = {
        "time": iso_of(heard.at),
        "deviceId": device and device.lower(),
        "rssi": heard.rssi,
        "data": heard.data.hex(),
    }
    return orjson.dumps(message)
