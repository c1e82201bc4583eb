"""OpenMQTTGateway and Theengs Gateway: one JSON message for each service data of an advertisement.

Source: 1technophile/OpenMQTTGateway, main/ZgatewayBT.cpp (`procBLETask`), main/User_config.h (`UTCtime`, `unixtime`);
theengs/gateway, TheengsGateway/ble_gateway.py. The gateway takes the advertisement apart; here it is put together
again from what is left: `manufacturerdata` (with its company identifier), `servicedata` with `servicedatauuid`, `name`.
The gateway's own decoder may replace them by values: readings.json says what those mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import orjson

from processor.decode.advertisement import MANUFACTURER_DATA, SERVICE_DATA_16, structures
from processor.decode.gateways.heard import (
    Advertisement,
    Heard,
    address_if,
    address_in,
    data_in,
    iso_of,
    kept_at,
    refusal,
    rssi_in,
    time_in,
)

THEENGS = "theengs"
LOCAL_NAME = 0x09
SERVICE_DATA_32, SERVICE_DATA_128 = 0x20, 0x21
_BASE = "-0000-1000-8000-00805f9b34fb"
_MOST = 252  # bytes beside a UUID of 16 bits in one AD structure


def message(message: Mapping[str, Any], at: int, imsi: str | None) -> Heard:
    """Return the advertisement of a message that arrived at `at`, in ms since 1970; the SIM stands for the gateway.

    A message without data, as those that only say who is near, gives an advertisement without data.
    Raises DecodeError where it has no `id`, or makes no sense.
    """
    get = message.get
    if "id" not in message:
        raise refusal("shape", "a message has `id`, the sensor's address", THEENGS, message)
    data = b""
    if "servicedata" in message:
        if "servicedatauuid" not in message:
            raise refusal("data", "`servicedata` without `servicedatauuid`: publish the UUID too", THEENGS, message)
        data = _structure(*_uuid_in(get("servicedatauuid")), get("servicedata"))
    if "manufacturerdata" in message:
        data += _structure(MANUFACTURER_DATA, b"", get("manufacturerdata"))
    if data and type(get("name")) is str:
        name = message["name"].encode()[:_MOST]
        data += bytes((len(name) + 1, LOCAL_NAME)) + name
    seen = get("unixtime")
    return [
        Advertisement(
            # An iBeacon's `id` can be set to be its UUID: then the address is in `mac`.
            address_if(get("mac")) or address_in(get("id"), THEENGS),
            rssi_in(get("rssi"), THEENGS),
            kept_at(at, None, time_in(get("UTCtime") if seen is None else seen, THEENGS)),
            data,
            imsi,
        )
    ]


def _structure(ad_type: int, head: bytes, value: Any) -> bytes:
    data = head + data_in(value, THEENGS)
    if len(data) > 254:
        raise refusal("data", "an AD structure holds at most 254 bytes", THEENGS, value)
    return bytes((len(data) + 1, ad_type)) + data


def _uuid_in(value: Any) -> tuple[int, bytes]:
    if type(value) is str and len(value) <= 40:
        found = _uuid(value)
        if found is not None:
            return found
    raise refusal("uuid", "a service's UUID has 4, 8 or 32 hexadecimal digits", THEENGS, value)


@lru_cache(256)  # a fleet has a handful
def _uuid(text: str) -> tuple[int, bytes] | None:
    """Return the AD type and the bytes of `0xfcd2`, `fcd2` or a long UUID; None for what is none."""
    digits = text.lower().removeprefix("0x").removesuffix(_BASE)
    try:
        uuid = bytes.fromhex(digits.replace("-", ""))[::-1]
    except ValueError:
        return None
    if len(uuid) == 4 and not any(uuid[2:]):
        uuid = uuid[:2]
    types = {2: SERVICE_DATA_16, 4: SERVICE_DATA_32, 16: SERVICE_DATA_128}
    return (types[len(uuid)], uuid) if len(uuid) in types else None


def encode(heard: Advertisement, *, timed: bool = False) -> bytes:
    """Return the message of an advertisement with at most one service data and one manufacturer data.

    Other AD structures are dropped, as the gateway does. timed: with the time, which then is in whole seconds.
    Raises ValueError for more than the message can say, DecodeError for no AD structures.
    """
    message: dict[str, Any] = {"id": heard.address, "mac_type": 1, "adv_type": 0}
    for ad_type, data in structures(heard.data):
        found = {"manufacturerdata": data.hex()}
        if ad_type == SERVICE_DATA_16:
            found = {"servicedatauuid": f"0x{data[1::-1].hex()}", "servicedata": data[2:].hex()}
        elif ad_type != MANUFACTURER_DATA:
            continue
        if found.keys() & message.keys():
            raise ValueError("a message holds one service data and one manufacturer data")
        message |= found
    if heard.rssi is not None:
        message["rssi"] = heard.rssi
    if timed:
        message["UTCtime"] = iso_of(heard.at)[:19] + "Z"
    return orjson.dumps(message)
