"""KPL aggregation: what is aggregated, what only looks so, and what is broken."""

from __future__ import annotations

from hashlib import md5

import pytest

from processor import DecodeError
from processor.decode import aggregation
from processor.decode.aggregation import MAGIC, aggregate, records


def sealed(message):
    return MAGIC + message + md5(message).digest()


def test_plain_record_is_handed_back_itself():
    data = b'{"payloads":{}}'
    [same] = records(data)
    assert same is data


def test_documented_layout_is_read():
    """Made by hand from aggregation-format.md: two keys, a hash key, and records with a tag and unknown fields."""
    message = (
        b"\x0a\x02k1\x0a\x02k2"  # partition_key_table
        b"\x12\x011"  # explicit_hash_key_table
        b"\x1a\x07\x08\x00\x10\x00\x1a\x01A"  # partition key 0, hash key 0, data "A"
        b"\x1a\x0d\x08\x01\x1a\x02BC\x22\x05\x0a\x01t\x12\x00"  # partition key 1, data "BC", a tag
        b"\x20\x96\x01\x29" + bytes(8) + b"\x35" + bytes(4) + b"\x1a\x04\x08\x00\x1a\x00"  # unknown fields; empty data
    )
    assert records(sealed(message)) == [b"A", b"BC", b""]


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 300_000])
def test_aggregated_records_come_back(size):
    originals = [bytes(size), b"x", MAGIC + bytes(40)]
    assert records(aggregate(originals, partition_key="295050000000001")) == originals


@pytest.mark.parametrize(
    "data",
    [
        b"",
        MAGIC[:3],
        MAGIC,
        MAGIC + bytes(16),
        MAGIC + bytes(17),
        sealed(b""),
        aggregate([b"x"])[:-1],
        aggregate([b"x"]) + b"\0",
    ],
)
def test_magic_without_its_checksum_is_a_plain_record(data):
    """So does AWS's own KCL: the four bytes may be anybody's."""
    assert records(data) == [data]


@pytest.mark.parametrize(
    ("message", "offset"),
    [
        (b"\x1a\x05\x08\x00", 0),  # longer than what is left
        (b"\x0a\x01k\x1a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 3),
        (b"\x0a", 1),  # no length
        (b"\x1a" + b"\xff" * 12, 1),  # a varint without an end
        (b"\x1a\x02\x08\x00", None),  # a record without data
        (b"\x1a\x04\x08\x00\x18\x05", None),  # data as a number
        (b"\x29\x00", 0),  # eight bytes, one left
        (b"\x1b", 0),  # a group
        (b"\x02\x01k", 0),  # field number zero
    ],
)
def test_broken_message_under_a_right_checksum_is_refused(message, offset):
    with pytest.raises(DecodeError, match="kpl") as caught:
        records(sealed(message))
    assert caught.value.reason == "kpl"
    assert caught.value.offset == offset


def test_checksum_is_allowed_where_fips_forbids_md5(monkeypatch):
    asked = []
    monkeypatch.setattr(aggregation, "md5", lambda data, **kinds: asked.append(kinds) or md5(data))
    records(aggregate([b"x"]))
    assert asked == [{"usedforsecurity": False}] * 2
