"""Every format: any bytes give values or a DecodeError; what is encoded decodes the same; every number is exact."""

from __future__ import annotations

from decimal import Decimal
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.decode import readings
from processor.decode.advertisement import structure
from processor.decode.fields import Decoded, Field, Format
from processor.decode.formats import FIXED as FIXED_WHOLE
from processor.decode.formats import FORMATS, WHOLE, bthome, eddystone, ibeacon, ruuvi
from processor.decode.linear import NUMBERS
from processor.decode.objects import Object, ObjectFormat
from processor.errors import DecodeError

ADDRESS, KEY = "54:48:E6:8F:80:A5", bytes(range(16))
MODULES = (bthome, eddystone, ibeacon, ruuvi)
FIXED = [table for table in FORMATS if isinstance(table, Format)]


def starts(module):
    """The first bytes that lead into each of a module's formats."""
    return [b"\x40", b"\x41", b"\x42", b"\x43"] if module is bthome else [table.magic for table in module.FORMATS]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
@given(data=st.data())
def test_any_bytes_give_values_or_a_decode_error(module, data):
    start = data.draw(st.sampled_from([b"", *starts(module)]))
    lengths = [table.length for table in module.FORMATS if isinstance(table, Format)]
    size = data.draw(st.sampled_from([*lengths, None]))
    rest = data.draw(st.binary(max_size=60) if size is None else st.binary(min_size=size, max_size=size))
    payload = (start + rest)[:size]
    address = data.draw(st.sampled_from([None, ADDRESS]))
    try:
        decoded = module.decode(payload, address, {ADDRESS: KEY})
    except DecodeError:
        return
    assert decoded is None or isinstance(decoded, Decoded)
    for value in decoded.values.values() if decoded else ():
        assert type(value) in (int, float, str, bool)
        assert value not in (float("inf"), -float("inf"))
        assert value == value  # NaN is not


SHORT_WAYS = {
    f"{number:04X}-{table.name}": (ad_type, number, table)
    for ad_type, number, tables in FIXED_WHOLE
    for table in tables
}


@pytest.mark.parametrize("way", SHORT_WAYS)
@given(data=st.data())
def test_the_short_way_says_what_the_decoder_says(way, data):
    """Whatever a payload of the format's length holds, and whatever stands beside it; errors included."""
    ad_type, number, table = SHORT_WAYS[way]
    payload = bytearray(data.draw(st.binary(min_size=table.length, max_size=table.length)))
    magic = len(table.magic) if data.draw(st.booleans()) else 1  # only the first byte is looked up
    payload[:magic] = table.magic[:magic]
    for field in table.fields:
        if field.invalid is not None and field.bits is None and data.draw(st.booleans()):
            payload[field.at : field.at + field.width] = field.invalid.to_bytes(field.width + 1)[1:]
    before = data.draw(
        st.sampled_from([b"", b"\x02\x01\x06", structure(0x09, b"tps"), structure(0x16, b"\xd2\xfc\x40")])
    )
    advertisement = before + structure(ad_type, number.to_bytes(2, "little") + payload)
    found = []
    for ways in (WHOLE, {}):
        with mock.patch("processor.decode._whole", ways.get), mock.patch("processor.decode._alone", {}):
            try:
                found.append(readings(advertisement, ADDRESS, 7, gateway="G", rssi=-60))
            except DecodeError as error:
                found.append((str(error), error.reason, error.offset))
    assert found[0] == found[1]
    if isinstance(found[0], list):
        types = [[type(value) for value in reading.values.values()] for each in found for reading in each]
        assert types[: len(found[0])] == types[len(found[0]) :]


@pytest.mark.parametrize("table", FIXED, ids=lambda table: table.name)
@given(data=st.data())
def test_what_a_fixed_format_says_is_encoded_and_decoded_the_same(table, data):
    decode = table.compile()
    extra = data.draw(st.binary(max_size=18)) if table is eddystone.URL else b""
    payload = bytearray(data.draw(st.binary(min_size=table.length, max_size=table.length)) + extra)
    payload[: len(table.magic)] = table.magic
    for field in table.fields:
        absent = 0xFF if field.lookup is not None else field.invalid
        if absent is not None and field.bits is None and data.draw(st.booleans()):
            payload[field.at : field.at + field.width] = absent.to_bytes(field.width + 1)[1:]
    try:
        decoded = decode(bytes(payload), None)
    except DecodeError:
        return
    again = table.encode(decoded.values, address=decoded.address)
    assert decode(again, None) == decoded
    if table in (ruuvi.RAWV2, ibeacon.IBEACON, eddystone.TLM):  # no reserved bytes, one code for each value
        assert again == payload


@st.composite
def objects(draw):
    """The objects of a BTHome payload, ids ascending, anything in them that can be said."""
    text = st.text(max_size=8).map(str.encode)
    lengthy = {"text": text, "raw": st.binary(max_size=8), "command": st.binary(min_size=1, max_size=6)}
    pieces = []
    for each in draw(st.lists(st.sampled_from(bthome.BTHOME.objects), max_size=8)):
        if each.type in lengthy:
            body = draw(lengthy[each.type])
            body = bytes([len(body) - (each.type == "command")]) + body
        else:
            size = int(each.type[1:]) // 8 if each.type in NUMBERS else {"steps": 2}.get(each.type, each.size or 1)
            body = draw(st.binary(min_size=size, max_size=size))
        pieces.append(bytes([each.id]) + body)
    return b"".join(sorted(pieces, key=lambda piece: piece[0]))


@given(objects())
def test_what_bthome_says_is_encoded_and_decoded_the_same(payload):
    decoded = bthome.decode(b"\x40" + payload, None, {})
    assert bthome.decode(bthome.encode(decoded.values), None, {}) == decoded


@given(objects(), st.integers(0, 2**32 - 1))
def test_what_bthome_says_encrypted_is_what_it_says_plain(payload, counter):
    plain = bthome.decode(b"\x40" + payload, None, {})
    data = bthome.encode(plain.values, address=ADDRESS, key=KEY, counter=counter)
    decoded = bthome.decode(data, ADDRESS, {ADDRESS: KEY})
    assert decoded.values == plain.values
    assert decoded.counter == plain.values.get("packet_id", counter)


def raws(kind, bits=None):
    """Every raw value of an integer of up to two bytes; of a longer one its ends and a sample in even steps."""
    width = bits or int(kind[1:])
    low, high = (-(1 << width - 1), 1 << width - 1) if kind[0] == "i" else (0, 1 << width)
    if width <= 16:
        return range(low, high)
    return [low, low + 1, *range(low, high, (high - low) // 4099), high - 2, high - 1]


def scaled():
    """Each way in which some field of a fixed format makes a value of an integer, once."""
    return sorted(
        {
            (field.type, field.scale, field.offset, field.bits and field.bits[1])
            for table in FIXED
            for field in table.fields
            if field.type in NUMBERS and field.lookup is None
        },
        key=str,
    )


@pytest.mark.parametrize(("kind", "scale", "offset", "bits"), scaled())
def test_every_value_of_a_field_prints_as_its_exact_decimal(kind, scale, offset, bits):
    field = Field("count", at=0, type=kind, scale=scale, offset=offset, bits=bits and (0, bits))
    size = field.width
    decode = Format(name="x", source="", endian="big", length=size, magic=b"", fields=(field,)).compile()
    step, zero, signed = Decimal(scale), Decimal(offset), kind[0] == "i"
    for raw in raws(kind, bits):
        value = decode(raw.to_bytes(size, "big", signed=signed), None).values["count"]
        assert Decimal(repr(value)) == raw * step + zero


@pytest.mark.parametrize(
    ("kind", "scale"), sorted({(o.type, o.scale) for o in bthome.BTHOME.objects if o.type in NUMBERS})
)
def test_every_value_of_an_object_prints_as_its_exact_decimal(kind, scale):
    read = ObjectFormat(name="x", source="", objects=(Object(1, "count", kind, scale),)).compile()
    step, size, signed = Decimal(scale), int(kind[1:]) // 8, kind[0] == "i"
    for raw in raws(kind):
        value = read(b"\x01" + raw.to_bytes(size, "little", signed=signed), 0)["count"]
        assert Decimal(repr(value)) == raw * step
