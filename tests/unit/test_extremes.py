"""Every table's maximum, minimum, "not available" and truncated payloads, made by hand: not by the encoder.

They follow from the rows of the tables, so that none is forgotten. That the rows are what the sources say is for the
vectors to show. A format in which no raw value means "not available" has no such payload; the tables with a check of
their own (gatt.py's ranges) and those read by hand have vectors for all of it.
"""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from processor.decode.custom import Custom
from processor.decode.field import ADDRESSES, HEX, SPLIT
from processor.decode.fields import Format
from processor.decode.formats import FORMATS
from processor.errors import DecodeError

TABLES = [table for table in FORMATS if isinstance(table, Format) and table.check is None]
VECTORS = Path(__file__).parents[1] / "vectors"


def raws(field, blank):
    """A row's lowest and highest raw value that say something. blank: whether its blank one may not."""
    if field.type in SPLIT:
        return (-12_799, 12_799) if field.type == "sign.int.cents" else (-1279, 1279)
    bits = int(field.type[1:]) if field.bits is None else field.bits[1]
    bits += field.low_bit is not None
    signed = field.type.startswith("i")
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    said = [raw for raw, value in enumerate(field.lookup) if value is not None] if field.lookup else None
    if said:
        return said[0], said[-1]
    if field.invalid_from is not None:
        high = field.invalid_from - 1
    invalid = field.invalid
    if invalid is not None and signed and invalid >> bits - 1:
        invalid -= 1 << bits
    nothing = {invalid, field.blank if blank else None}
    while low in nothing:
        low += 1
    while high in nothing:
        high -= 1
    return low, high


def stored(field, raw, data, endian):
    """Put a raw value where its row says."""
    if field.type == "sign.int.cents":
        whole, cents = divmod(abs(raw), 100)
        data[field.at], data[field.at + 1] = whole | (0x80 if raw < 0 else 0), cents
        return
    if field.type == "tenths.sign.int":
        whole, tenths = divmod(abs(raw), 10)
        data[field.at], data[field.at + 1] = tenths, whole | (0 if raw < 0 else 0x80)
        return
    if field.low_bit is not None:
        byte, bit = field.low_bit
        data[byte] |= (raw & 1) << bit
        raw >>= 1
    size = int(field.type[1:]) // 8
    shift = 0 if field.bits is None else field.bits[0]
    places = range(size) if endian == "little" else range(size - 1, -1, -1)
    for n, place in enumerate(places):
        data[field.at + place] |= raw << shift >> 8 * n & 0xFF


def said(field, raw):
    """The value of a raw one; exact, but for a lookup's."""
    if field.lookup is not None:
        return field.lookup[raw]
    scale = Decimal("0.01") if field.type == "sign.int.cents" else Decimal(field.scale)
    return raw * scale + Decimal(field.offset)


def payload(table, end):
    """All rows at their lowest (0) or highest (1) at once: the bytes, the values, the raw values by quantity."""
    data = bytearray(table.magic.ljust(table.length, b"\0"))
    grouped = {name for group in table.unmeasured for name in group}
    values, chosen = {}, {}
    for field in table.fields:
        if field.type == "bytes" and field.codec is HEX:
            data[field.at : field.at + field.size] = bytes([0xFF * end]) * field.size
            values[field.name] = ("00", "ff")[end] * field.size
        elif field.type not in ("bytes", "rest", *ADDRESSES):
            chosen[field.name] = raw = raws(field, field.name in grouped)[end]
            stored(field, raw, data, table.endian)
            values[field.name] = said(field, raw)
    return bytes(data), values, chosen


def exact(values, names):
    return {name: Decimal(repr(v)) if type(v) in (int, float) else v for name, v in values.items() if name in names}


def plain(values):
    return {name: Decimal(repr(v)) if type(v) is float else v for name, v in values.items()}


@pytest.mark.parametrize("end", [0, 1], ids=["minimum", "maximum"])
@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_every_row_at_its_end_gives_its_value(table, end):
    data, values, chosen = payload(table, end)
    decoded = table.compile()(data, None)
    assert exact(decoded.values, values) == plain(values)
    own = {field.name for field in table.fields if field.type not in ADDRESSES}
    assert set(decoded.values) == own
    assert decoded.counter == chosen.get(table.counter)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_payload_a_byte_short_or_long_is_an_error(table):
    data, _, _ = payload(table, 1)
    variable = any(field.type == "rest" for field in table.fields)
    for wrong in (data[:-1], b"", *([] if variable else [data + b"\0"])):
        with pytest.raises(DecodeError, match=f"expected {table.length} bytes") as caught:
            table.compile()(wrong, None)
        assert caught.value.reason == "length"


INVALID = [
    (table, field, code)
    for table in TABLES
    for field in table.fields
    for code in dict.fromkeys((field.invalid, field.invalid_from))
    if code is not None
]


@pytest.mark.parametrize(
    ("table", "field", "code"), INVALID, ids=[f"{table.name}-{field.name}-{code:X}" for table, field, code in INVALID]
)
def test_what_means_not_available_gives_no_value_and_leaves_the_others(table, field, code):
    """But where nothing is there without it."""
    data, values, _ = payload(table, 0)
    clear = bytearray(data)
    width = (int(field.type[1:]) if field.bits is None else field.bits[1]) + (field.low_bit is not None)
    for raw, at_zero in ((raws(field, blank=False)[0], True), (code, False)):
        cleared = bytearray(table.length)
        stored(field, raw if at_zero else code & ((1 << width) - 1), cleared, table.endian)
        clear = bytearray(a ^ b if at_zero else a | b for a, b in zip(clear, cleared, strict=True))
    found = table.compile()(bytes(clear), None)
    expected = {} if field.name == table.essential else {name: v for name, v in values.items() if name != field.name}
    assert exact(found.values, values) == plain(expected)
    assert field.name not in found.values
    assert found.counter is None or field.name not in (table.counter, table.essential)


NAMES = {"ruuvi.3": "df3", "ruuvi.5": "df5", "ruuvi.6": "df6", "ruuvi.e1": "e1"}
"""Formats whose vectors call them otherwise."""
MESH = "mesh.sensor_status"
"""Its messages say any number of properties: test_mesh.py has their ends."""
EVERY = [each for path in VECTORS.glob("*.json") for each in json.loads(path.read_text()).get("vectors", ())]
BY_HAND = [table for table in FORMATS if isinstance(table, Custom) and table.name != MESH]
CHECKED = [table for table in FORMATS if isinstance(table, Format) and table.check is not None]


def vectors(table):
    return [each for each in EVERY if each.get("format") == NAMES.get(table.name, table.name) and "case" in each]


@pytest.mark.parametrize("table", [*BY_HAND, *CHECKED], ids=lambda table: table.name)
def test_what_does_not_follow_from_rows_has_a_vector_for_each_end(table):
    found = " ".join(vector["case"] for vector in vectors(table))
    assert [word for word in ("valid", "maximum", "minimum") if word not in found] == []


@pytest.mark.parametrize("table", BY_HAND, ids=lambda table: table.name)
def test_what_is_read_by_hand_and_cut_off_is_an_error(table):
    for vector in vectors(table):
        if "error" not in vector:
            with pytest.raises(DecodeError) as caught:
                table.decode(bytes.fromhex(vector["hex"])[:-1])
            assert caught.value.reason == "length"


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_every_table_has_a_vector_from_its_source(table):
    assert any("valid" in vector["case"] or "captured" in vector["case"] for vector in vectors(table))
