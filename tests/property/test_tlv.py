"""Objects that say their length, and the formats read by hand: any bytes, what is encoded, exact numbers."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.decode.fields import Decoded, Field
from processor.decode.formats import atc, mesh, mibeacon, qingping, switchbot
from processor.decode.formats.mibeacon_objects import KNOWN
from processor.decode.linear import NUMBERS
from processor.decode.tlv import Tlv
from processor.errors import DecodeError

ADDRESS, KEY = "54:48:E6:8F:80:A5", bytes(range(16))
OBJECTS = [*mibeacon.MIBEACON.objects, *qingping.QINGPING.objects]
HEADS = [
    b"\x50\x50\x5b\x05",
    b"\x58\x58\x5b\x05",
    b"\x40\x20",
    b"\x78\x40",
    b"\x60\x30",
    b"\x08\x12",
    b"\xc8\x0e",
    b"T",
    b"d",
]
HEADS += [b"s", b"\x52", b"\x52\xa2\x0e", b""]
READERS = {
    "atc": atc.decode, "mibeacon": mibeacon.decode, "qingping": qingping.decode, "switchbot": switchbot.decode,
    "mesh": lambda data, address, keys, whole, model: mesh.decode(data), "switchbot.m": switchbot.decode_manufacturer,
}  # fmt: skip


def check(decoded):
    assert decoded is None or isinstance(decoded, Decoded)
    for value in decoded.values.values() if decoded else ():
        assert type(value) in (int, float, str, bool)
        assert value not in (float("inf"), -float("inf"))
        assert value == value  # NaN is not


@pytest.mark.parametrize("name", READERS)
@given(data=st.data())
def test_any_bytes_give_values_or_a_decode_error(name, data):
    payload = data.draw(st.sampled_from(HEADS)) + data.draw(st.binary(max_size=40))
    address = data.draw(st.sampled_from([None, ADDRESS]))
    model = data.draw(st.sampled_from([None, *switchbot.MODELS]))
    try:
        decoded = READERS[name](payload, address, {ADDRESS: KEY}, b"", model)
    except DecodeError:
        return
    check(decoded)


@given(data=st.data())
def test_any_objects_of_any_product_give_values_or_a_decode_error(data):
    product = data.draw(st.sampled_from([0xFFFF, *KNOWN]))
    rows = [each for each in mibeacon.MIBEACON.objects if product in (each.products or (product,))]
    body = b""
    for each in data.draw(st.lists(st.sampled_from(rows), max_size=4)):
        value = data.draw(st.binary(min_size=each.length, max_size=each.length))
        body += each.id.to_bytes(2, "little") + bytes([each.length]) + value
    frame = b"\x40\x50" + product.to_bytes(2, "little") + b"\x01" + body
    try:
        decoded = mibeacon.decode(frame, ADDRESS, {})
    except DecodeError:  # a float that is no number
        return
    check(decoded)


@pytest.mark.parametrize("each", OBJECTS, ids=lambda each: f"{each.id:04x}-{each.length}-{min(each.products or [0])}")
@given(data=st.data())
def test_what_an_object_says_is_encoded_and_decoded_the_same(each, data):
    anything = st.binary(min_size=each.length, max_size=each.length)
    body = data.draw(st.sampled_from(sorted(each.choices)) | anything if each.choices else anything)
    try:
        values = each.read(body)
    except DecodeError:
        return
    if values:
        assert each.read(each.encode(values)) == values


@given(
    values=st.fixed_dictionaries(
        {},
        optional={
            "temperature": st.integers(-2730, 5000).map(lambda n: n / 10),
            "humidity": st.integers(0, 1000).map(lambda n: n / 10),
            "battery": st.integers(0, 100), "formaldehyde": st.integers(0, 65535).map(lambda n: n / 100),
            "button": st.sampled_from(["press", "double_press", "long_press"]), "opening": st.booleans(),
        },
    ),
    frame=st.integers(0, 255), counter=st.integers(0, 2**24 - 1),
)  # fmt: skip
def test_what_mibeacon_says_encrypted_is_what_it_says_plain(values, frame, counter):
    said = values | {"packet_id": frame}
    plain = mibeacon.decode(mibeacon.encode(said, product=0x055B, address=ADDRESS), None, {})
    data = mibeacon.encode(said, product=0x055B, address=ADDRESS, key=KEY, counter=counter)
    decoded = mibeacon.decode(data, None, {ADDRESS: KEY})
    assert decoded.values == plain.values == said
    assert decoded.counter == plain.counter == frame


@given(
    st.lists(
        st.sampled_from(mesh.PROPERTIES).flatmap(
            lambda each: st.binary(min_size=each.size, max_size=each.size).map(lambda data: (each, data))
        ),
        max_size=6,
    )
)
def test_what_a_mesh_message_says_is_encoded_and_decoded_the_same(properties):
    message = bytes([mesh.OPCODE])
    for each, data in properties:
        message += mesh._marshalled(each.id, each.size) + data
    try:
        values = mesh.decode(message).values
    except DecodeError:  # out of its range
        return
    if "pressure_2" in values and "pressure" not in values:
        return
    assert mesh.decode(mesh.SENSOR_STATUS.encode(values)).values == values


def integers():
    """Each way in which an object makes a value of an integer, once."""
    fields = (field for each in OBJECTS for field in each.fields if field.type in NUMBERS and field.lookup is None)
    return sorted(
        {(field.type, field.scale) for field in fields} | {(each.kind, each.scale) for each in mesh.PROPERTIES}
    )


@pytest.mark.parametrize(("kind", "scale"), integers())
def test_every_value_prints_as_its_exact_decimal(kind, scale):
    size, signed = int(kind[1:]) // 8, kind[0] == "i"
    read = Tlv(1, size, (Field("count", at=0, type=kind, scale=scale),)).read
    each = mesh.Property(1, "count", kind, scale)
    bits = 8 * size
    for raw in range(2**bits) if size < 3 else [0, 1, *range(0, 2**bits, 2**bits // 4099), 2**bits - 1]:
        data = raw.to_bytes(size, "little")
        number = int.from_bytes(data, "little", signed=signed)
        assert Decimal(repr(each.read(data))) == Decimal(repr(read(data)["count"])) == number * Decimal(scale)
