"""What every target starts from: the tests' vectors, in the form of its inputs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import orjson

from processor.decode import MOST_ASKED
from processor.decode.advertisement import structure
from processor.decode.aggregation import MAGIC, aggregate
from processor.decode.envelope import Envelope, Joined, open_record, seal
from processor.errors import DecodeError
from tests.fuzz.targets import ADDRESSES, AT, IMSI, KEYS, MANUFACTURER, MESH, NAMES, PINNED, SERVICE, VECTORS, WHOLE

CARRIERS: dict[str, tuple[int, bytes]] = {
    "atc": (SERVICE, b"\x1a\x18"),
    "bthome": (SERVICE, b"\xd2\xfc"),
    "bthome_objects": (SERVICE, b"\xd2\xfc"),
    "mesh": (MESH, b""),
    "mibeacon": (SERVICE, b"\x95\xfe"),
    "qingping": (SERVICE, b"\xcd\xfd"),
    "ruuvi": (MANUFACTURER, b"\x99\x04"),
    "switchbot": (MANUFACTURER, b"\x69\x09"),
}
"""How files whose vectors do not say it carry them."""


def _documents(pattern: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted(VECTORS.glob(pattern)):
        yield path.stem, json.loads(path.read_text())


def formats() -> Iterator[bytes]:
    """Each maker's vectors, and what none of them is: more AD structures than are decoded."""
    for company in (b"\x77\x70", b"\x59\x00"):  # nobody's, and SwitchBot's
        yield bytes((WHOLE, 1)) + structure(0xFF, company) * (MOST_ASKED + 1)
    for maker, document in _documents("*.json"):
        for vector in document.get("vectors", ()):
            yield from _payload(maker, vector, vector.get("mac", vector.get("address", document.get("address"))))


def _payload(maker: str, vector: dict[str, Any], owner: str | None) -> Iterator[bytes]:
    text = vector.get("hex") or "40" + vector.get("object", "")
    try:
        payload = bytes.fromhex(text)
    except ValueError:  # with XX for what is reserved
        payload = bytes.fromhex(text.replace("X", "F"))
    address = None if owner is None else bytes.fromhex(owner.replace(":", "")).hex(":").upper()
    how = ADDRESSES.index(address) if address in KEYS else 1
    name = next((n for n, known in enumerate(NAMES) if known and vector.get("name", "-").startswith(known)), 0)
    how |= name << 4
    if maker == "beacons":
        beacon = vector["format"] == "ibeacon"
        kind, start = (MANUFACTURER, b"\x4c\x00") if beacon else (SERVICE, b"\xaa\xfe")
    elif maker == "switchbot" and vector.get("carrier") == "service":
        kind, start = SERVICE, b"\x3d\xfd"
    elif "company" in vector or vector.get("borrowed"):
        kind, start = MANUFACTURER, bytes.fromhex(vector.get("company", ""))[::-1]
    elif "uuid" in vector:
        kind, start = SERVICE, bytes.fromhex(vector["uuid"])[::-1]
    elif maker in CARRIERS:
        kind, start = CARRIERS[maker]
    else:
        kind, start = WHOLE, b""
    yield bytes((kind, how)) + start + payload
    if kind in (MANUFACTURER, SERVICE):
        whole = structure(0xFF if kind == MANUFACTURER else 0x16, start + payload)
        for key, ad_type in (("uuids", 0x03), ("uuids128", 0x07)):
            for uuid in vector.get(key, ()):
                whole += structure(ad_type, bytes.fromhex(uuid.replace("-", ""))[::-1])
        if "name" in vector:
            whole += structure(0x09, vector["name"].encode())
        yield bytes((WHOLE, how & 15)) + b"\x02\x01\x06" + whole


def _messages() -> Iterator[tuple[str, bytes]]:
    """What each gateway family sends."""
    for _, document in _documents("gateways_*.json"):
        for case in document["cases"]:
            if "json" in case:
                yield document["family"], orjson.dumps(case["json"])
            else:
                yield document["family"], bytes.fromhex(case["hex"]) if "hex" in case else case["text"].encode()


def gateways() -> Iterator[bytes]:
    """Each family's vectors, told by their shape and pinned; and what Funnel's records carry."""
    for family, message in _messages():
        yield b"\x00" + message
        yield bytes((PINNED.index(family) + 1,)) + message
    for record in _funnel():
        with suppress(DecodeError):
            payload = open_record(record, AT).payload
            for each in payload if type(payload) is Joined else [payload]:
                if not isinstance(each, DecodeError | Envelope):
                    yield b"\x00" + (each if isinstance(each, bytes) else orjson.dumps(each))


def _funnel() -> Iterator[bytes]:
    for record in json.loads((VECTORS / "funnel.json").read_text())["records"]:
        if "record" in record:
            yield record["record"].encode()
        elif "record_hex" in record:
            yield bytes.fromhex(record["record_hex"])


def _records() -> Iterator[bytes]:
    """Funnel's records, and each gateway's message in one."""
    yield from _funnel()
    for _, message in _messages():
        payload = orjson.loads(message) if message[:1] in (b"{", b"[") else message
        yield seal(payload, at=AT, imsi=IMSI)


def envelope() -> Iterator[bytes]:
    """Records as Funnel writes them, alone and aggregated."""
    records = [*_records()]
    yield from records
    yield aggregate(records[:3])


def aggregation() -> Iterator[bytes]:
    """The messages of aggregated records."""
    records = [record for record in _records() if len(record) < 600]
    for start in range(0, len(records), 3):
        yield aggregate(records[start : start + 3])[len(MAGIC) : -16]


def tokens() -> Iterator[bytes]:
    """Yield the words worth trying whole: JSON's keys and short values in the vectors, identifiers of carriers."""
    found: set[bytes] = {start for _, start in CARRIERS.values() if start} | {MAGIC, b"\x4c\x00\x02\x15"}
    for _, document in _documents("*.json"):
        _words(document.get("cases", document.get("records", ())), found)
    yield from sorted(found)


def _words(value: Any, found: set[bytes]) -> None:
    if isinstance(value, dict):
        for key, each in value.items():
            found.add(f'"{key}":'.encode())
            _words(each, found)
    elif isinstance(value, list):
        for each in value:
            _words(each, found)
    elif isinstance(value, str) and 0 < len(value) <= 20:
        found.add(value.encode())


SEEDS = {"envelope": envelope, "aggregation": aggregation, "gateways": gateways, "formats": formats}
