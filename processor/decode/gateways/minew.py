"""Minew gateways: the JSON-LONG post and the long binary post.

Source: reelyactive/barnowl-minew (lib/jsonlongpacketdecoder.js, lib/binarypacketdecoder.js and its test's captured
frame). Signed RSSI is what that test expects; the byte before it tells the kind of address, which is not needed here.

A JSON-LONG post is a list: first the gateway itself, `{"type": "Gateway", "mac", "timestamp", …}`, then what it heard.
What it decoded itself (`"type": "S1"`) has no `rawData`: readings.json says what such an entry means.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from struct import Struct
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
    iso_of,
    kept_at,
    mac_of,
    refusal,
    rssi_in,
    time_in,
    with_error,
)
from processor.decode.gateways.readings import Table
from processor.errors import DecodeError

JSON = "minew.json"
BINARY = "minew.binary"
HEADER = b"\xbb\x01"
TAIL = 0xDD

_FRAME = Struct(">2sI6sH")  # header, length of the whole frame, the gateway's address, number of sensors
_SENSOR = Struct(">6sH")  # address, number of advertisements


def posted(post: list[Any], at: int, imsi: str | None, table: Table) -> Heard:
    """Return what a JSON-LONG post says was heard; `at` is when it arrived, in ms since 1970.

    Raises DecodeError where the post does not start with its gateway, or that makes no sense.
    """
    head = post[0] if post else None
    if type(head) is not dict or head.get("type") != "Gateway":
        raise refusal("shape", "a JSON-LONG post is a list that starts with an object of type Gateway", JSON, post[:1])
    reported_at = time_in(head.get("timestamp"), JSON)
    gateway = gateway_in(head.get("mac"), imsi, JSON)

    def read(item: Any) -> Heard:
        if type(item) is not dict:
            raise refusal("shape", "an entry is an object with mac, rssi, timestamp and rawData", JSON, item)
        get = item.get
        when = kept_at(at, reported_at, time_in(get("timestamp"), JSON))
        if "rawData" not in item:
            return _decoded(item, when, gateway, table)
        return [
            Advertisement(address_in(get("mac"), JSON), rssi_in(get("rssi"), JSON), when, data_in(get("rawData"), JSON),
                          gateway)
        ]  # fmt: skip

    return collect(post[1:], read)


def _decoded(item: Mapping[str, Any], when: int, gateway: str | None, table: Table) -> Heard:
    source = table.source_of(item)
    if source is None:
        what = "no `rawData`, and readings.json knows no such entry: let the gateway send raw data"
        raise refusal("shape", what, JSON, item)
    return [source.reading(item, when, None, gateway)]


def frames(data: bytes, at: int, imsi: str | None) -> Heard:  # noqa: ARG001 - every family's reader is given it
    """Return the advertisements of one or several long binary posts, which arrived at `at`, in ms since 1970.

    They carry no times. A post cut off by TCP gives the advertisements before the cut and a DecodeError for the rest.
    Raises DecodeError where not even one advertisement comes before the fault. A post names its
    gateway, so the SIM's IMSI is not needed.
    """
    found: Heard = []
    place, end = 0, len(data)
    while place < end:
        start = place
        if data[place : place + 2] != HEADER[: end - place]:
            message = f"a post starts with {HEADER.hex()}"
            return with_error(found, DecodeError("header", message, where=BINARY, offset=place, payload=data))
        place += _FRAME.size
        if place > end:
            return with_error(found, _cut("header", start, data))
        _, length, mac, sensors = _FRAME.unpack_from(data, start)
        gateway = mac.hex(":").upper()
        for _ in range(sensors):
            if place + 8 > end:
                return with_error(found, _cut("sensor", place, data))
            mac, count = _SENSOR.unpack_from(data, place)
            address = mac.hex(":").upper()
            place += 8
            for _ in range(count):
                first = place + 1
                after = first + data[place] if place < end else end
                place = after + 2
                if place > end:
                    return with_error(found, _cut("advertisement", after, data))
                if after > first:  # a gateway also reports a scan response that it asked for and that was empty
                    found.append(Advertisement(address, _rssi(data[after + 1]), at, data[first:after], gateway))
        if place >= end:
            return with_error(found, _cut("tail", place, data))
        if data[place] != TAIL or place + 1 - start != length:
            message = f"byte {TAIL:#x} ends a post, whose length is {place + 1 - start}, not {length}"
            return with_error(found, DecodeError("length", message, where=BINARY, offset=place, payload=data))
        place += 1
    return found


def _rssi(byte: int) -> int | None:
    return None if byte == 127 else byte - 256 if byte > 127 else byte


def _cut(what: str, offset: int, data: bytes) -> DecodeError:
    message = f"the post ends before its {what}: TCP may have split it"
    return DecodeError("truncated", message, where=BINARY, offset=min(offset, len(data)), payload=data)


def encode_post(heard: Iterable[Advertisement], gateway: str, sent_at: int) -> bytes:
    """Return the JSON-LONG post of a gateway whose clock says `sent_at` (ms since 1970)."""
    post: list[dict[str, Any]] = [{"timestamp": iso_of(sent_at), "type": "Gateway", "mac": digits_of(gateway),
                                   "gatewayFree": 98, "gatewayLoad": 0.05}]  # fmt: skip
    post += [
        {"timestamp": iso_of(at), "type": "Unknown", "mac": digits_of(address), "bleName": "", "rssi": rssi,
         "rawData": data.hex().upper()}
        for address, rssi, at, data, _ in heard
    ]  # fmt: skip
    return orjson.dumps(post)


def encode_frame(heard: Iterable[Advertisement], gateway: str) -> bytes:
    """Return the long binary post of a gateway. Raises ValueError for empty data or more than 255 bytes of it."""
    sensors: dict[bytes, list[bytes]] = {}
    for address, rssi, _, data, _ in heard:
        if not 0 < len(data) < 256:
            raise ValueError(f"a post holds 1 to 255 bytes of advertisement data, not {len(data)}")
        entry = bytes((len(data),)) + data + bytes((0, (127 if rssi is None else rssi) & 0xFF))
        sensors.setdefault(mac_of(address), []).append(entry)
    body = b"".join(_SENSOR.pack(mac, len(entries)) + b"".join(entries) for mac, entries in sensors.items())
    return _FRAME.pack(HEADER, _FRAME.size + len(body) + 1, mac_of(gateway), len(sensors)) + body + bytes((TAIL,))
