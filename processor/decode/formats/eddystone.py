"""Eddystone UID, URL, EID and TLM, plain and encrypted: service data of UUID 0xFEAA.

Source: github.com/google/eddystone, protocol-specification.md and the pages eddystone-uid, eddystone-url,
eddystone-eid, eddystone-tlm/tlm-plain.md and tlm-encrypted.md. `tx_power` is as received 0 m away; an iBeacon's is at
1 m, some 41 dB less.

Only TLM has a counter that identifies a measurement: ADV_CNT counts every frame the beacon sends, so one value
belongs to one TLM frame, however many gateways hear it; a reboot restarts it, which the reading's digest survives. UID
and URL frames are the same bytes each time and are told apart by time. An ephemeral identifier and encrypted telemetry
mean something only to who holds the beacon's identity key: they are kept as they come.
"""

from __future__ import annotations

from collections.abc import Mapping

from processor.decode.fields import Codec, Decoded, Field, Format
from processor.errors import DecodeError
from processor.reading import Value

UUID = 0xFEAA

_SCHEMES = ("http://www.", "https://www.", "http://", "https://")
_TOP_LEVELS = (".com", ".org", ".edu", ".net", ".info", ".biz", ".gov")
_EXPANSIONS = (*(name + "/" for name in _TOP_LEVELS), *_TOP_LEVELS)
_CHARACTERS = (*_EXPANSIONS, *[None] * 19, *map(chr, range(0x21, 0x7F)), *[None] * 129)
"""What each byte of an encoded URL stands for; None is reserved."""


def _url(data: bytes) -> str:
    """Return the URL of a frame: byte 2 is its scheme, the rest its encoded characters."""
    if data[2] >= len(_SCHEMES):
        raise DecodeError("range", f"no URL scheme {data[2]}", where="eddystone.url", offset=2, payload=data)
    text = _SCHEMES[data[2]]
    for at, byte in enumerate(data[3:], 3):
        part = _CHARACTERS[byte]
        if part is None:
            raise DecodeError("range", f"0x{byte:02X} in a URL", where="eddystone.url", offset=at, payload=data)
        text += part
    return text


def _url_bytes(value: Value) -> bytes:
    """Return the shortest encoding: the longest scheme and, each time, the longest expansion that fits."""
    rest = str(value)
    for code, scheme in enumerate(_SCHEMES):  # the longer ones come first
        if rest.startswith(scheme):
            data, rest = bytes([code]), rest.removeprefix(scheme)
            break
    else:
        raise ValueError(f"a URL starts with one of {', '.join(_SCHEMES)}")
    while rest:
        part = next((text for text in _EXPANSIONS if rest.startswith(text)), rest[0])
        if part not in _CHARACTERS:
            raise ValueError(f"a URL has no {part!r}: only printable ASCII")
        data, rest = data + bytes([_CHARACTERS.index(part)]), rest.removeprefix(part)
    return data


UID = Format(
    products="any Eddystone beacon",
    name="eddystone.uid", source="github.com/google/eddystone, eddystone-uid", endian="big", length=20, magic=b"\x00",
    fields=(
        Field("tx_power", at=1, type="i8"),
        Field("namespace", at=2, type="bytes", size=10),
        Field("instance", at=12, type="bytes", size=6),
    ),
)  # fmt: skip

URL = Format(
    products="any Eddystone beacon",
    name="eddystone.url", source="github.com/google/eddystone, eddystone-url", endian="big", length=3, magic=b"\x10",
    fields=(
        Field("tx_power", at=1, type="i8"),
        Field("url", at=2, type="rest", codec=Codec(_url, _url_bytes)),
    ),
)  # fmt: skip

TLM = Format(
    products="any Eddystone beacon",
    name="eddystone.tlm", source="github.com/google/eddystone, eddystone-tlm/tlm-plain", endian="big", length=14,
    magic=b"\x20\x00",
    fields=(
        Field("battery_voltage", at=2, type="u16", scale="0.001", invalid=0),
        Field("temperature", at=4, type="i16", scale="0.00390625", invalid=0x8000),  # 8.8 fixed point: 1/256
        Field("advertisement_count", at=6, type="u32"),
        Field("uptime_s", at=10, type="u32", scale="0.1"),
    ),
    counter="advertisement_count",
)  # fmt: skip

EID = Format(
    products="any Eddystone beacon",
    name="eddystone.eid", source="github.com/google/eddystone, eddystone-eid", endian="big", length=10, magic=b"\x30",
    fields=(
        Field("tx_power", at=1, type="i8"),
        Field("eid", at=2, type="bytes", size=8),
    ),
)  # fmt: skip

ETLM = Format(
    products="any Eddystone beacon",
    name="eddystone.etlm", source="github.com/google/eddystone, eddystone-tlm/tlm-encrypted", endian="big", length=18,
    magic=b"\x20\x01",
    fields=(Field("raw", at=2, type="bytes", size=16),),  # encrypted telemetry, salt, message integrity check
)  # fmt: skip

FORMATS = (UID, URL, TLM, EID, ETLM)
_uid, _url_frame, _tlm, _eid, _etlm = (table.compile() for table in FORMATS)
_VERSIONS = {b"": _tlm, b"\x00": _tlm, b"\x01": _etlm}
"""Telemetry by its version byte; without one it is too short to be any."""


def decode(
    data: bytes, address: str | None, keys: Mapping[str, bytes], whole: bytes = b"", model: str | None = None
) -> Decoded | None:
    """Decode Eddystone's service data, after the UUID. None for a frame or a version of telemetry not known here."""
    if not data:
        raise DecodeError("length", "no frame type byte", where="eddystone", payload=data)
    frame = data[0]
    if frame == 0x20:
        read = _VERSIONS.get(data[1:2])
        return None if read is None else read(data, address)
    if frame == 0x00:
        # Older beacons leave the two reserved bytes out.
        return _uid(data if len(data) != 18 else data + b"\0\0", address)
    if frame == 0x30:
        return _eid(data, address)
    return _url_frame(data, address) if frame == 0x10 else None
