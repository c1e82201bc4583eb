"""Moko gateways (MKGW): their scan notifications.

Source: reelyactive/barnowl-mokosmart, lib/mqttprotocoldecoder.js: message 3070, and 3004 of an older protocol. The
newer one's `raw_data`, and its status message 3004, are as uhuboy/mkgw3_python_gateway sends them in the place of
an MKGW3. Advertisement and scan response of one entry become one advertisement: some models need both.
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
    digits_of,
    gateway_in,
    kept_at,
    refusal,
    rssi_in,
    time_in,
)

MOKO = "moko"
STATUS, SCANNED, NOTIFICATION = 3003, 3004, 3070
DATA_KEYS = ("adv_data", "rsp_data", "raw_data", "raw data", "raw")
"""Where the data of an entry may be; what is there is joined in this order."""


def message(message: Mapping[str, Any], at: int, imsi: str | None) -> Heard:
    """Return the advertisements of a message that arrived at `at`, in ms since 1970; none of a status message.

    Raises DecodeError for a message of another number, or whose gateway makes no sense.
    """
    number, info, entries = message.get("msg_id"), message.get("device_info"), message.get("data")
    if type(info) is not dict or number not in (STATUS, SCANNED, NOTIFICATION):
        what = "a scan notification has `msg_id` 3070 (or 3004), `device_info` and `data`"
        raise refusal("shape", what, MOKO, message)
    gateway = gateway_in(info.get("mac"), imsi, MOKO)
    if type(entries) is not list:
        if number == NOTIFICATION:
            raise refusal("shape", "`data` of a scan notification is a list of objects", MOKO, message)
        return []
    return collect(entries, lambda entry: [_advertisement(entry, at, gateway)])


def _advertisement(entry: Any, at: int, gateway: str | None) -> Advertisement:
    if type(entry) is dict and type(entry.get("value")) is dict:
        entry = entry["value"]  # the older protocol's {"type": 0, "value": {…}}
    if type(entry) is not dict:
        raise refusal("shape", "an entry is an object with mac, rssi, timestamp and adv_data or raw_data", MOKO, entry)
    get = entry.get
    data = [data_in(entry[key], MOKO) for key in DATA_KEYS if key in entry]
    if not data:
        raise refusal("data", "no adv_data or raw_data: let the gateway send raw data", MOKO, entry)
    return Advertisement(
        address_in(get("mac"), MOKO),
        rssi_in(get("rssi"), MOKO),
        kept_at(at, None, time_in(get("timestamp"), MOKO)),
        data[0] if len(data) == 1 else b"".join(data),
        gateway,
    )


def encode(heard: Iterable[Advertisement], gateway: str) -> bytes:
    """Return the scan notification of a gateway; times are in ms since 1970."""
    entries = [
        {"mac": digits_of(address), "timestamp": at, "rssi": rssi, "adv_data": data.hex(), "rsp_data": ""}
        for address, rssi, at, data, _ in heard
    ]
    return orjson.dumps({"msg_id": NOTIFICATION, "device_info": {"mac": digits_of(gateway)}, "data": entries})
