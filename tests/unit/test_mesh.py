"""Bluetooth Mesh Sensor Status: every property, both formats of ids, and what is impossible."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from processor.decode.formats import mesh
from processor.errors import DecodeError
from processor.reading import quantity

FILES = Path(__file__).parents[1] / "vectors"
VECTORS = json.loads((FILES / "mesh.json").read_text(), parse_float=Decimal)["vectors"]
OTHERS = [v for v in json.loads((FILES / "others.json").read_text())["vectors"] if "mesh" in v["format"]]
NAMES = {"property 0x0057": "current", "property 0x0059": "voltage"}


def said(text):
    return mesh.decode(bytes.fromhex(text)).values


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["case"])
def test_vector_gives_exactly_its_values_and_the_encoder_says_them_again(vector):
    values = said(vector["hex"])
    assert {name: v if v in (True, False) and type(v) is bool else Decimal(repr(v)) for name, v in values.items()} == (
        vector["values"]
    )
    assert mesh.decode(mesh.SENSOR_STATUS.encode(values)).values == values


@pytest.mark.parametrize("vector", OTHERS, ids=lambda v: v["hex"])
def test_shared_vector_gives_its_property_by_our_name(vector):
    decoded = mesh.decode(bytes.fromhex(vector["hex"]))
    assert decoded.format == "mesh.sensor_status"
    assert decoded.values == {NAMES[name]: value for name, value in vector["values"].items()}
    assert mesh.SENSOR_STATUS.encode(decoded.values) == bytes.fromhex(vector["hex"])


def test_every_property_has_a_minimum_and_a_maximum_and_its_unknown_values_a_vector():
    cases = [vector["case"] for vector in VECTORS]
    for each in mesh.PROPERTIES:
        assert quantity(each.name)
        assert cases.count(f"0x{each.id:04X} minimum") == cases.count(f"0x{each.id:04X} maximum") == 1
        assert cases.count(f"0x{each.id:04X} invalid") == len(each.unknown)
    assert len({each.id for each in mesh.PROPERTIES}) == len(mesh.PROPERTIES) == 28


def test_a_second_property_of_a_quantity_is_numbered_even_where_the_first_is_not_known():
    assert said("52 C00A30 600B28") == {"temperature": 24, "temperature_2": 20}
    assert said("52 C00A7F 600B28") == {"temperature_2": 20}
    assert mesh.decode(mesh.SENSOR_STATUS.encode({"temperature_2": 20})).values == {"temperature_2": 20}


def test_a_message_of_380_bytes_is_read_and_a_longer_one_is_none_of_a_mesh():
    """So many do 32 segments hold; without an end, one message was a cell that the table does not take."""
    longest = "52" + "C00A30" * 125 + "E20AC800"
    assert len(bytes.fromhex(longest)) == 380
    assert len(said(longest)) == 126
    with pytest.raises(DecodeError, match="381 bytes, at most 380") as caught:
        said(longest.replace("C00A30", "E20AC800", 1))
    assert caught.value.reason == "length"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("52 E2", "id is cut off"), ("52 03", "id is cut off"), ("52 0376", "id is cut off"),
        ("52 E20A", "2 bytes, but 0"), ("52 E20AC8", "2 bytes, but 1"), ("52 037600A6", "2 bytes, but 1"),
    ],
)  # fmt: skip
def test_a_property_cut_off_is_an_error_at_its_offset(message, expected):
    with pytest.raises(DecodeError, match=expected) as caught:
        said(message)
    assert (caught.value.reason, caught.value.offset) == ("truncated", 1)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("52 A20E4C95", "range"), ("52 C20E1127", "range"), ("52 4008C9", "range"), ("52 A00902", "range"),
        ("52 220B81FF", "range"), ("52 E00A01", "length"), ("52 C40E000000", "length"),
    ],
)  # fmt: skip
def test_a_property_out_of_its_range_or_of_another_length_is_an_error(message, reason):
    with pytest.raises(DecodeError) as caught:
        said(message)
    assert (caught.value.reason, caught.value.offset) == (reason, 3)


def test_another_opcode_is_none_of_its_own_and_no_opcode_an_error():
    assert mesh.decode(b"\x82\x01") is None
    assert said("52") == {}
    with pytest.raises(DecodeError, match="no opcode"):
        mesh.decode(b"")


@pytest.mark.parametrize(
    ("name", "value"),
    [("wind", 1), ("humidity", 101), ("temperature", 400), ("co2", 65534), ("pressure_2", 5), ("presence", 2)],
)
def test_what_no_property_says_is_refused(name, value):
    with pytest.raises(ValueError, match="no property for"):
        mesh.SENSOR_STATUS.encode({name: value})


def test_the_encoder_takes_the_first_property_that_can_say_the_value():
    assert mesh.SENSOR_STATUS.encode({"temperature": 25.5}) == bytes.fromhex("52 A20EF609")
    assert mesh.SENSOR_STATUS.encode({"energy": 10_000_000}) == bytes.fromhex("52 440D809698")
