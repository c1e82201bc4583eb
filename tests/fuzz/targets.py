"""What is fuzzed, and the contract: any bytes give Readings that the table takes, or a DecodeError; nothing else.

A target takes any bytes and raises `Broken`, or whatever escaped, where the contract does not hold. Nothing here needs
atheris: tests/unit/test_fuzz_corpus.py replays the corpus with the same functions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from decimal import Decimal
from hashlib import md5
from pathlib import Path
from typing import NamedTuple

import orjson

from processor.decode import _walked, readings
from processor.decode.advertisement import MANUFACTURER_DATA, SERVICE_DATA_16, structure
from processor.decode.aggregation import MAGIC
from processor.decode.envelope import Envelope
from processor.decode.formats import mesh, model_of, sample_of
from processor.decode.gateways import ALL, FAMILIES, Advertisement, Heard, Known, advertisements
from processor.decode.record import heard, sent_at
from processor.errors import DecodeError
from processor.reading import QUANTITIES, Reading, quantity
from processor.store.tables import AttributeValue, cell_name, cell_value, slot, slot_of
from processor.times import END_MS

VECTORS = Path(__file__).parents[1] / "vectors"
AT = 1_700_000_000_000
IMSI = "295050000000001"
ADDRESS = "C4:E5:35:B0:8D:12"  # a sensor without a key

Check = Callable[[bytes], None]


class Target(NamedTuple):
    """A function of any bytes, the longest input that is tried, and the parts of the decoders that it is for."""

    check: Check
    longest: int
    parts: tuple[str, ...]


class Broken(AssertionError):
    """What came out is neither a Reading that the table takes nor a DecodeError that says why."""


def require(holds: bool, what: str, value: object) -> None:
    if not holds:
        raise Broken(f"{what}: {value!r:.200}")


# What comes out


_REASON = re.compile(r"[a-z0-9_-]{2,20}")
_LONGEST_MESSAGE = 1000
_MOST_DIGITS, _GREATEST, _LEAST = 38, 125, -130  # DynamoDB's numbers: digits, exponents
_LONGEST_KEY = 1024  # DynamoDB's, of a partition key 2,048 bytes
_LARGEST_CELL = 16_384


def check_error(error: DecodeError) -> None:
    """An error says where, why in one word, and what, in a line that a log can hold."""
    require(_REASON.fullmatch(error.reason) is not None, "a reason that is no short word", error.reason)
    require(bool(error.where) and type(error.payload) is bytes, "an error without its place", error)
    text = str(error)
    require(len(text) <= _LONGEST_MESSAGE and text.isprintable(), "an error that no log line holds", text)


def check_reading(reading: Reading) -> None:
    """A Reading has a device, known quantities, and a cell that DynamoDB takes and a reader reads again."""
    require(type(reading.device) is str and 0 < len(reading.device.encode()) <= _LONGEST_KEY, "a device", reading)
    require(bool(reading.format) and 0 <= reading.digest < 1 << 24, "a format and a digest", reading)
    require(reading.counter is None or type(reading.counter) is int, "a counter", reading)
    require(reading.gateway is None or 0 < len(reading.gateway) <= 64, "a gateway", reading)
    require(reading.rssi is None or -128 <= reading.rssi < 127, "an RSSI", reading)
    for name in reading.values:
        require(name in QUANTITIES or bool(quantity(name)), "a quantity", name)
    sample_of(reading)
    at = reading.at or 0
    if not 0 <= at < END_MS:  # it has no slot: whoever stores refuses its time
        return
    start = slot_of(at)
    offset = at - start * 1000
    name, value = cell_name(reading, offset), cell_value(reading, offset)
    require(len(orjson.dumps({name: value})) <= _LARGEST_CELL, "a cell's size", reading)
    for each in value["M"].values():
        check_attribute(each)
    item = {"device": {"S": reading.device}, "slot": {"N": str(start)}, name: value}
    (again,) = slot(item).cells.values()
    require(again.values == reading.values and again.at == at, "a cell that reads as another", (reading, again))
    require((again.counter, again.digest) == (reading.counter, reading.digest), "an identity", (reading, again))


def check_attribute(value: AttributeValue) -> None:
    """A number is one that DynamoDB takes, a text is not empty beyond reason, a flag is true or false."""
    ((kind, content),) = value.items()
    if kind == "N":
        number = Decimal(content)
        require(number.is_finite() and len(number.as_tuple().digits) <= _MOST_DIGITS, "a number", content)
        require(not number or _LEAST <= number.adjusted() <= _GREATEST, "a number's size", content)
    else:
        require(type(content) is {"S": str, "BOOL": bool}[kind], "an attribute", value)


def check_heard(found: Heard) -> None:
    """Every entry of a record is an Advertisement that can be decoded in turn, a Reading or a DecodeError."""
    for entry in found:
        if isinstance(entry, DecodeError):
            check_error(entry)
        elif isinstance(entry, Reading):
            check_reading(entry)
        else:
            check_advertisement(entry)


def check_advertisement(entry: Advertisement) -> None:
    require(type(entry) is Advertisement and type(entry.data) is bytes, "an advertisement", entry)
    require(type(entry.at) is int, "a time", entry)
    try:
        model = model_of(entry.data)
        found = readings(entry.data, entry.address, entry.at, KEYS, entry.gateway, entry.rssi, model)
    except DecodeError as error:
        check_error(error)
    else:
        check_heard([*found])


def either(function: Callable[[], Heard | list[Reading]]) -> None:
    """What a call gives, or the DecodeError that it raises, is as it should be."""
    try:
        found = function()
    except DecodeError as error:
        check_error(error)
    else:
        check_heard([*found])


def outcome(function: Callable[[], list[Reading]]) -> object:
    """What a call gives, or why it does not."""
    try:
        return function()
    except DecodeError as error:
        return error.reason, str(error)


# What goes in


def envelope(data: bytes) -> None:
    """A record of the stream, as ingest and a replay get it."""
    either(lambda: heard(data, AT))
    try:
        at = sent_at(data)
    except DecodeError as error:
        check_error(error)
    else:
        require(at is None or type(at) is int, "a time", at)


def aggregation(data: bytes) -> None:
    """A KPL message, which gets its magic bytes and its MD5 here: no fuzzer finds an MD5."""
    digest = md5(data, usedforsecurity=False).digest()
    either(lambda: heard(MAGIC + data + digest, AT))


PINNED = (
    "ruuvi", "plain", "binary", "minew", "aprilbrother", "theengs", "moko", "cassia", "ingics", "openblocks",
    "teltonika", "hci", "readings",
)  # fmt: skip
"""The family that an input's first byte pins, from 1 on; what is beyond them is told by its shape. New ones go last."""


def gateways(data: bytes) -> None:
    """A byte that says which family the SIM is of, and a gateway's message: JSON if it is, else bytes."""
    if not data:
        return
    family = data[0] - 1
    known = Known.of({f"imsi:{IMSI}": PINNED[family]}) if 0 <= family < len(PINNED) else ALL
    try:
        payload = orjson.loads(data[1:])
    except orjson.JSONDecodeError:
        payload = None
    if type(payload) is not dict and type(payload) is not list:
        payload = data[1:]
    either(lambda: advertisements(Envelope(payload, AT, IMSI), known))


NAMES = (
    None, "sps", "tps", "TP357 (1)", "TP962R", "SensorPush HT.w 1", "GVH5106_1", "GV51401", "B51781", "IM", "EP",
    "GVH5075", "Govee_H5179", "SensorPush HTP.xw 1",
)  # fmt: skip
"""What an input's second byte says is remembered of the sensor (its high four bits). New ones go last."""

WHOLE, MANUFACTURER, SERVICE, MESH = range(4)


def formats(data: bytes) -> None:
    """Two bytes that say how, and an advertisement, or the payload of an AD structure that is made here.

    The first says which: WHOLE, MANUFACTURER or SERVICE (the payload starts with its identifier), or MESH; the second
    which of ADDRESSES is the sensor's (the low bits) and which of NAMES it is remembered by.
    """
    if len(data) < 2:
        return
    kind, how, payload = data[0] % 4, data[1], data[2:]
    address = ADDRESSES[(how & 15) % len(ADDRESSES)]
    model = NAMES[(how >> 4) % len(NAMES)]
    if kind == MESH:
        either(lambda: _mesh(payload))
        return
    if kind != WHOLE:
        payload = structure(MANUFACTURER_DATA if kind == MANUFACTURER else SERVICE_DATA_16, payload[:254])
    model_of(payload)
    either(lambda: readings(payload, address, AT, KEYS, model=model))
    short = outcome(lambda: readings(payload, address, AT, KEYS, model=model))  # the way learned, if one was
    walked = outcome(lambda: _walked(payload, address, AT, KEYS, None, None, model))
    require(short == walked, "a short way that reads otherwise", (short, walked))


def _mesh(message: bytes) -> list[Reading]:
    decoded = mesh.decode(message)
    return [] if decoded is None else [Reading(ADDRESS, AT, decoded.format, decoded.values, decoded.counter, 0)]


TARGETS: dict[str, Target] = {
    "envelope": Target(envelope, 8192, ("/decode/envelope.py", "/decode/record.py", "/decode/gateways/__init__.py")),
    "aggregation": Target(aggregation, 8192, ("/decode/aggregation.py", "/decode/record.py")),
    "gateways": Target(gateways, 8192, ("/decode/gateways/",)),
    "formats": Target(
        formats,
        2048,  # beyond the longest advertisement
        (
            "/decode/formats/",
            "/decode/objects.py",
            "/decode/tlv.py",
            "/decode/short.py",
            "/decode/beside.py",
            "/decode/__init__.py",
            "<format ",
        ),
    ),
}

assert set(PINNED) == set(FAMILIES), "a new family goes last in PINNED"


# Keys of the vectors' encrypted sensors, so that what is decrypted is fuzzed too


def _keys() -> Iterable[tuple[str, str]]:
    for path in sorted(VECTORS.glob("*.json")):
        document = json.loads(path.read_text())
        for each in (document, *document.get("vectors", ())):
            address = each.get("mac", each.get("address")) if type(each) is dict else None
            if address and each.get("key"):
                yield address, each["key"]


def _address(text: str) -> str:
    return bytes.fromhex(text.replace(":", "")).hex(":").upper()


KEYS: dict[str, bytes] = {_address(address): bytes.fromhex(key) for address, key in _keys()}
ADDRESSES: tuple[str | None, ...] = (None, ADDRESS, *sorted(KEYS))
