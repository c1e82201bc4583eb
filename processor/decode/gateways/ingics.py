"""Ingics gateways (iGS01 to iGS03): lines of text, or the same lines in JSON.

Source: Ingics iGS03M user guide, "Payload format"; ingics/ingics-message-parser-py, igsparser/message_parser.py.

    $GPRP,<sensor>,<gateway>,<rssi>,<AD structures>[,<seconds since 1970>]

GPRP and RSPR are Bluetooth 4 reports and scan responses, LRAD, LRSR, 1MAD and 1MSR those of Bluetooth 5; GPSR is the
gateway's own position.
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
from processor.errors import DecodeError

INGICS = "ingics"
POSITION = "$GPSR"
_MAX_LINE = 4096  # an extended advertisement has at most 1,650 bytes


def lines(data: bytes, at: int, imsi: str | None) -> Heard:
    """Return the advertisements of lines of text that arrived at `at`, in ms since 1970."""
    found = [line for line in data.replace(b"\0", b"\n").splitlines() if line.strip()]
    return collect(found, lambda line: _line(line.decode("latin-1"), at, imsi))


def posted(post: Mapping[str, Any], at: int, imsi: str | None) -> Heard:
    """Return the advertisements of `{"data": ["$GPRP,…", …]}`. Raises DecodeError where `data` is no list."""
    found = post.get("data")
    if type(found) is not list:
        raise refusal("shape", "`data` is a list of lines", INGICS, post)
    return collect(found, lambda line: _line(line, at, imsi))


def _line(line: Any, at: int, imsi: str | None) -> Heard:
    if type(line) is not str or len(line) > _MAX_LINE:
        raise refusal("shape", "a line is text of at most 4,096 characters", INGICS, line)
    fields = line.strip().split(",")
    if fields[0] == POSITION:
        return []
    if not line.startswith("$") or not 5 <= len(fields) <= 6:
        what = "a line is $TYPE,SENSOR,GATEWAY,RSSI,DATA[,TIME]"
        raise DecodeError("shape", what, where=INGICS, payload=line.encode())
    _, address, gateway, rssi, data, *rest = fields
    return [
        Advertisement(
            address_in(address, INGICS),
            rssi_in(rssi, INGICS),
            kept_at(at, None, time_in(rest[0], INGICS) if rest else None),
            data_in(data, INGICS),
            gateway_in(gateway, imsi, INGICS),
        )
    ]


def encode(heard: Iterable[Advertisement], gateway: str) -> bytes:
    """Return the lines of a gateway that knows the time. An unknown RSSI goes as 127, an unknown address as nothing."""
    return b"".join(_encoded(each, gateway) + b"\r\n" for each in heard)


def encode_post(heard: Iterable[Advertisement], gateway: str) -> bytes:
    """Return the lines of a gateway that knows the time, in JSON."""
    return orjson.dumps({"data": [_encoded(each, gateway).decode() for each in heard]})


def _encoded(heard: Advertisement, gateway: str) -> bytes:
    address, rssi, at, data, _ = heard
    time = f"{at // 1000}.{at % 1000:03d}"
    fields = ("$GPRP", digits_of(address) or "", digits_of(gateway), 127 if rssi is None else rssi, data.hex().upper())
    return ",".join(map(str, (*fields, time))).encode()
