"""Plain JSON, for home-made gateways: a list of `{address, rssi, timestamp, data}`, or an object around it.

`mesh` instead of `data` is a Bluetooth Mesh message. The shapes are in README.md beside this file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from processor.decode.gateways import mesh
from processor.decode.gateways.heard import (
    Advertisement,
    Heard,
    address_in,
    collect,
    data_or_base64_in,
    gateway_in,
    measured_at,
    refusal,
    rssi_in,
    time_in,
)
from processor.reading import Reading

PLAIN = "plain"


def advertisements(post: Mapping[str, Any], at: int, imsi: str | None) -> Heard:
    """Return the advertisements of `{gateway, timestamp, advertisements: […]}`, whose timestamp is its send time.

    Raises DecodeError where `advertisements` is not a list, or the gateway or the send time makes no sense.
    """
    heard = post["advertisements"]
    if type(heard) is not list:
        raise refusal("shape", "`advertisements` is a list of objects", PLAIN, post)
    sent_at = time_in(post.get("timestamp"), PLAIN)
    gateway = gateway_in(post.get("gateway"), imsi, PLAIN)
    return collect(heard, lambda item: [advertisement(item, at, gateway, sent_at)])


def advertisement(item: Any, at: int, gateway: str | None, sent_at: int | None = None) -> Advertisement | Reading:
    """Return one advertisement; `at` is when it arrived, `sent_at` when its gateway sent it, in ms since 1970.

    Only `data` is required. An own `gateway` counts more than the one given. A mesh message is a Reading.
    Raises DecodeError.
    """
    if type(item) is not dict:
        raise refusal("shape", "an advertisement is an object {address, rssi, timestamp, data}", PLAIN, item)
    get = item.get
    if "mesh" in item:
        seen = measured_at(at, sent_at, time_in(get("timestamp"), PLAIN))
        return mesh.status(item, seen, gateway_in(get("gateway"), gateway, PLAIN))
    return Advertisement(
        address_in(get("address"), PLAIN),
        rssi_in(get("rssi"), PLAIN),
        measured_at(at, sent_at, time_in(get("timestamp"), PLAIN)),
        data_or_base64_in(get("data"), PLAIN),
        gateway_in(get("gateway"), gateway, PLAIN),
    )


def encode(
    heard: Iterable[Advertisement | Reading], *, gateway: str | None = None, sent_at: int | None = None
) -> bytes:
    """Return the list of advertisements as JSON; within an object where there is a gateway or a send time to tell.

    Times are in ms since 1970. A Reading is a mesh sensor's. Raises ValueError where its message cannot say a value.
    """
    advertisements = [mesh.entry(each) if isinstance(each, Reading) else _entry(*each) for each in heard]
    if gateway is None and sent_at is None:
        return orjson.dumps(advertisements)
    return orjson.dumps({"gateway": gateway, "timestamp": sent_at, "advertisements": advertisements})


def _entry(address: str | None, rssi: int | None, at: int, data: bytes, _: str | None) -> dict[str, Any]:
    return {"address": address, "rssi": rssi, "timestamp": at, "data": data.hex()}
