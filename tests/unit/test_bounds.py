"""A nested, huge or endlessly broken record costs no more than a bound: memory by its size, steps in a straight line.

Steps are counted as calls, not timed: what costs four times the calls for four times the bytes does not hang.
"""

from __future__ import annotations

import base64
import gc
import sys
import tracemalloc
from hashlib import md5

import pytest

from processor.decode.aggregation import MAGIC
from processor.decode.envelope import MAX_BROKEN, MAX_VALUES
from processor.decode.gateways import messagepack
from processor.decode.record import heard
from processor.errors import DecodeError

AT = 1_700_000_000_000
SMALL, LARGE = 1 << 17, 1 << 19
RECORD = 1 << 20
"""A Kinesis record's usual greatest size."""
MOST_TIMES = 48
"""So many times its own size may a record take in memory while it is read: orjson alone takes 12."""


def filled(unit, size, start=b"", end=b""):
    return start + unit * ((size - len(start) - len(end)) // len(unit)) + end


def envelope(payload):
    return b'{"payloads":' + payload + b',"timestamp":1700000000000,"imsi":"295050000000001"}'


def binary(unit, start=b""):
    """A binary payload, in the envelope's Base64."""
    return lambda size: envelope(b'"' + base64.b64encode(filled(unit, size * 3 // 4, start)) + b'"')


def aggregated(unit):
    """A KPL message with its magic and its MD5."""

    def build(size):
        message = filled(unit, size)
        return MAGIC + message + md5(message).digest()

    return build


def numbered(start, each, end):
    return lambda size: start + b",".join(each % n for n in range(size // len(each % 1000000))) + end


BOMBS = {
    "lists that never close": lambda size: filled(b"[", size),
    "objects that never close": lambda size: filled(b'{"a":', size),
    "lists a thousand deep": lambda size: filled(b"[" * 1000 + b"]" * 1000, size),
    "a payload of lists": lambda size: envelope(filled(b"[", size)),
    "lists 250 deep, side by side": lambda size: envelope(filled(b"[" * 250 + b"]" * 250 + b",", size, b"[", b"0]")),
    "brackets that do not match": lambda size: filled(b"{]", size),
    "empty objects, joined": lambda size: filled(b"{}", size),
    "empty objects, listed": lambda size: filled(b"{},", size, b"[", b"{}]"),
    "empty objects as advertisements": lambda size: filled(b"{},", size, b'{"advertisements":[', b"{}]}"),
    "nulls": lambda size: filled(b"null,", size, b"[", b"0]"),
    "broken objects, joined": lambda size: filled(b"{x}", size),
    "a string of quotes": lambda size: filled(b'"', size, b"{"),
    "a string of backslashes": lambda size: filled(b'"\\', size, b"{"),
    "keys": numbered(b'{"data":"00",', b'"%07d" :1', b"}"),
    "one key again and again": lambda size: filled(b'"a" :1,', size, b"{", b'"a":1}'),
    "a number of digits": lambda size: filled(b"9", size, b'{"data":', b"}"),
    "a text of digits": lambda size: filled(
        b"9", size, b'{"address":"CB:B8:33:4C:88:4F","data":"","timestamp":"', b'"}'
    ),
    "one long advertisement": lambda size: filled(b"00", size, b'{"address":"CB:B8:33:4C:88:4F","data":"', b'"}'),
    "white space": lambda size: filled(b" ", size),
    "tags that are none": numbered(b'{"data":{"gw_mac":"CB:B8:33:4C:88:4F","tags":{', b'"%07d":{}', b"}}}"),
    "bad entries of a gateway": lambda size: filled(b'{"type":1},', size, b'[{"type":"Gateway"},', b"{}]"),
    "readings": lambda size: filled(b'{"lat":1,"lon":1,"bat":1,"rs":1,"temp":1,"humi":1,"type":1},', size, b"[", b"0]"),
    "MessagePack: a list of nulls": binary(b"\xc0", b"\x81\xa7devices\xdd\x00\x01\x86\x9f"),
    "MessagePack: four billion values": binary(b"\xdf\xff\xff\xff\xff"),
    "MessagePack: deep maps": binary(b"\x81\x00"),
    "MessagePack: deep lists": binary(b"\x91", b"\x81\xa7devices"),
    "HCI events without a report": binary(b"\x04\x3e\x00"),
    "Teltonika packets": binary(b"\0\0\0\0\0\0\0\x01\x8e\0\0\0\0"),
    "Ingics lines": binary(b"$\n"),
    "binary frames": binary(b"\x01\x00"),
    "KPL: empty user records": aggregated(b"\x1a\x04\x08\x00\x1a\x00"),
    "KPL: broken user records": aggregated(b"\x1a\x05\x08\x00\x1a\x01{"),
    "KPL: partition keys": aggregated(b"\x0a\x00"),
    "KPL: long numbers": aggregated(b"\x08" + b"\xff" * 9),
}


def outcome(data):
    """What a record gives: entries, or the one DecodeError that refuses it."""
    try:
        return heard(data, AT)
    except DecodeError as error:
        return [error]


def calls(data):
    """How many calls, of Python's functions and of C's, a record takes."""
    counted = 0

    def count(frame, event, argument):
        nonlocal counted
        counted += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        outcome(data)
    finally:
        sys.setprofile(None)
    return counted


@pytest.mark.parametrize("bomb", BOMBS)
def test_memory_is_bounded_by_the_record_s_size(bomb):
    data = BOMBS[bomb](RECORD)
    gc.collect()
    tracemalloc.start()
    try:
        found = outcome(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MOST_TIMES * len(data)
    assert sum(isinstance(each, DecodeError) for each in found) <= MAX_BROKEN + 1


@pytest.mark.parametrize("bomb", BOMBS)
def test_steps_grow_no_faster_than_the_record(bomb):
    small, large = (calls(BOMBS[bomb](size)) for size in (SMALL, LARGE))
    assert large < LARGE // SMALL * 1.1 * small + 1000


def test_a_record_of_more_values_than_any_gateway_sends_is_refused_before_it_is_parsed():
    """Also where it is the payload, Base64 or text; what is below the bound is read."""
    bomb = filled(b"{},", MAX_VALUES * 2, b"[", b"{}]")
    wrapped = base64.b64encode(bomb)
    for record in (bomb, envelope(bomb), envelope(b'"%b"' % wrapped), b'"%b"' % wrapped):
        (error,) = outcome(record)
        assert (error.reason, error.where) == ("many", "envelope")
    entries = outcome(b"[" + b",".join([b'{"address":"CB:B8:33:4C:88:4F","data":"%b"}' % (b"00" * 31)] * 8000) + b"]")
    assert len(entries) == 8000
    assert not any(isinstance(entry, DecodeError) for entry in entries)


def test_a_message_of_many_values_is_refused_where_it_says_so():
    """A count is believed only as far as bytes are there, and no further than the bound."""
    with pytest.raises(DecodeError, match="more than 100000 values"):
        messagepack.unpack(b"\xdd\x00\x01\x86\xa1" + b"\xc0" * 100_001)
    with pytest.raises(DecodeError, match="ends before it is complete"):
        messagepack.unpack(b"\xdd\xff\xff\xff\xff" + b"\xc0" * 100_001)


def test_broken_user_records_beyond_the_bound_are_refused_as_one():
    good = b'{"address":"CB:B8:33:4C:88:4F","data":"02010600"}'
    piece = b"\x08\x00\x1a" + bytes([len(good)]) + good
    message = b"\x1a" + bytes([len(piece)]) + piece + b"\x1a\x05\x08\x00\x1a\x01{" * (MAX_BROKEN + 5)
    found = outcome(MAGIC + message + md5(message).digest())
    assert len(found) == MAX_BROKEN + 2
    assert not isinstance(found[0], DecodeError)
    assert [each.reason for each in (found[1], found[-1])] == ["truncated", "many"]


def test_an_aggregated_record_is_opened_once():
    """One inside another is a payload like any other: nothing multiplies."""
    inner = aggregated(b"\x1a\x04\x08\x00\x1a\x00")(100)
    piece = b"\x08\x00\x1a" + bytes([len(inner)]) + inner
    message = b"\x1a" + bytes([len(piece) & 0x7F | 0x80, len(piece) >> 7]) + piece
    found = outcome(MAGIC + message + md5(message).digest())
    assert [type(each) for each in found] == [DecodeError]
