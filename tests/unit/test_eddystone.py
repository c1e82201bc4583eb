"""Eddystone UID, URL and TLM, by the vectors of both files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from processor.decode.formats import eddystone
from processor.errors import DecodeError

FILES = Path(__file__).parents[1] / "vectors"
TABLES = {table.name: table for table in eddystone.FORMATS}


def vectors(file):
    every = json.loads((FILES / file).read_text())["vectors"]
    return [vector for vector in every if vector["format"].startswith("eddystone")]


@pytest.mark.parametrize("vector", vectors("beacons.json"), ids=lambda v: f"{v['format']}-{v['case']}")
def test_vector_gives_exactly_its_values_and_the_encoder_says_them_again(vector):
    data = bytes.fromhex(vector["hex"])
    decoded = eddystone.decode(data, None, {})
    assert (decoded.format, decoded.values) == (vector["format"], vector["values"])
    assert TABLES[decoded.format].encode(decoded.values)[: len(data)] == data


@pytest.mark.parametrize("vector", vectors("others.json"), ids=lambda v: v["format"])
def test_shared_vector_gives_its_values(vector):
    decoded = eddystone.decode(bytes.fromhex(vector["hex"]), None, {})
    assert decoded.format == vector["format"].replace(" ", ".")
    assert vector["values"].items() <= decoded.values.items()


def test_only_telemetry_counts():
    """Its count of advertisements belongs to one frame; the others are the same bytes each time."""
    assert eddystone.decode(bytes.fromhex("20000BB815000000004500000258"), None, {}).counter == 69
    assert eddystone.decode(bytes.fromhex("10120067"), None, {}).counter is None
    assert eddystone.decode(bytes(20), None, {}).counter is None


def test_an_ephemeral_identifier_is_kept_as_it_comes():
    decoded = eddystone.decode(bytes.fromhex("30EE0102030405060708"), None, {})
    assert decoded[:3] == ("eddystone.eid", {"tx_power": -18, "eid": "0102030405060708"}, None)
    assert TABLES["eddystone.eid"].encode(decoded.values) == bytes.fromhex("30EE0102030405060708")


def test_encrypted_telemetry_is_kept_as_it_comes():
    decoded = eddystone.decode(bytes.fromhex("2001" + "A5" * 16), None, {})
    assert decoded[:3] == ("eddystone.etlm", {"raw": "a5" * 16}, None)


@pytest.mark.parametrize("frame", ["2002" + "00" * 16, "40", "FF00"])
def test_unknown_frames_and_versions_are_not_known(frame):
    assert eddystone.decode(bytes.fromhex(frame), None, {}) is None


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        ("", "no frame type byte"),
        ("00" * 17, "expected 20 bytes, got 17"),
        ("00" * 19, "expected 20 bytes, got 19"),
        ("20", "expected 14 bytes, got 1"),
        ("2000" + "00" * 11, "expected 14 bytes, got 13"),
        ("10EE", "expected 3 bytes or more, got 2"),
        ("30", "expected 10 bytes, got 1"),
        ("2001" + "00" * 15, "expected 18 bytes, got 17"),
    ],
)
def test_a_frame_of_a_wrong_length_is_an_error(frame, expected):
    with pytest.raises(DecodeError, match=expected):
        eddystone.decode(bytes.fromhex(frame), None, {})


@pytest.mark.parametrize(("frame", "offset"), [("10EE04", 2), ("10EE00610E", 4), ("10EE0020", 3), ("10EE00617F", 4)])
def test_a_reserved_byte_in_a_url_is_an_error_at_its_offset(frame, offset):
    with pytest.raises(DecodeError) as caught:
        eddystone.decode(bytes.fromhex(frame), None, {})
    assert (caught.value.reason, caught.value.offset) == ("range", offset)
    assert caught.value.payload == bytes.fromhex(frame)


@pytest.mark.parametrize("url", ["ftp://example.org", "https://exämple.org", "http://a b", "http://a\x7f", 5])
def test_a_url_that_cannot_be_encoded_is_refused(url):
    with pytest.raises(ValueError, match=r"eddystone\.url: url cannot be"):
        eddystone.URL.encode({"url": url})


def test_a_url_is_encoded_as_short_as_can_be():
    assert eddystone.URL.encode({"url": "https://www.example.com/a.org"}) == b"\x10\x00\x01example\x00a\x08"
