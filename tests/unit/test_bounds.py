"""A nested, huge or endlessly broken record costs no more than a bound: memory by its size, steps in a straight line.

That is so from its bytes to its readings, grouped for the table. Steps are counted as calls, not timed: what costs four
times the calls for four times the bytes, and at most so many for a byte, does not hang.
"""

from __future__ import annotations

import base64
import gc
import sys
import tracemalloc
from hashlib import md5

import pytest

from processor.batch import Batch
from processor.decode import MOST_ASKED, readings
from processor.decode.advertisement import manufacturer_data, structure
from processor.decode.aggregation import MAGIC, aggregate
from processor.decode.beside import told_by
from processor.decode.envelope import MAX_BROKEN, MAX_VALUES
from processor.decode.gateways import messagepack, plain, teltonika
from processor.decode.gateways.hci import EVENT_PACKET, EXTENDED_ADVERTISING_REPORT, LE_META
from processor.decode.gateways.heard import Advertisement
from processor.decode.record import heard
from processor.errors import DecodeError
from processor.rules import Limits, Rules

AT = 1_700_000_000_000
SMALL, LARGE = 1 << 17, 1 << 19
RECORD = 1 << 20
"""A Kinesis record's usual greatest size."""
MOST_TIMES = 52
"""So many times its own size may a record take in memory while it is read and decoded: orjson alone takes 12, and the
densest record that is all right has an advertisement in nine bytes."""
MOST_CALLS = 10
"""So many calls may a byte cost: an object of two bytes takes eight for each until the record is refused."""
DEVICE = "CB:B8:33:4C:88:4F"
RULES = Rules(Limits(86400 * 365 * 50))


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


def unknown(size, number):
    """An advertisement of the shortest manufacturer data, of companies that nobody knows."""
    return b"".join(bytes((3, 0xFF, (number + place) % 256, 0x70 + number // 256 % 16)) for place in range(size // 4))


def listed(advertisement):
    """Plain JSON of advertisements, by their number."""

    def build(size):
        found, number = [], 0
        while size > 0:
            found.append(Advertisement(DEVICE, -60, AT, advertisement(number)))
            size -= 2 * len(found[-1].data) + 90
            number += 1
        return plain.encode(found)

    return build


def framed(size):
    """Our binary frames of the longest advertisements of such structures."""
    found = bytearray()
    while len(found) < size:
        found += b"\1\xff"
        for number in range(255):
            data = unknown(252, len(found) + number)
            found += bytes.fromhex(DEVICE.replace(":", "")) + b"\xc4\xff\xff" + bytes([len(data)]) + data
    return bytes(found[:size])


def posts(size):
    """AprilBrother's posts of 998 devices without a byte, one after another."""
    return envelope(
        b'"' + base64.b64encode(filled(b"\x81\xa7devices\xdc\x03\xe6" + b"\xa0" * 998, size * 3 // 4)) + b'"'
    )


def lost(size):
    """HCI events of ten reports each whose rest the controller lost."""
    report = b"\x40\0\1" + bytes(6) + b"\1\0\1\0\xc4\0\0\0" + bytes(7)
    event = bytes((EVENT_PACKET, LE_META, 2 + 10 * len(report), EXTENDED_ADVERTISING_REPORT, 10)) + report * 10
    return binary(event)(size)


def tracked(body):
    """A Teltonika packet, with its checksum."""
    return bytes(4) + len(body).to_bytes(4, "big") + body + teltonika.crc16(body).to_bytes(4, "big")


def beacons(size):
    """Teltonika's packets of records whose every element ends within its beacon."""
    element = teltonika.BEACONS.to_bytes(2, "big") + b"\0\2\1\x21"
    record = AT.to_bytes(8, "big") + bytes(16) + teltonika.BEACONS.to_bytes(2, "big") + b"\x03\xe8" + bytes(8)
    body = bytes((teltonika.CODEC_8_EXTENDED, 1)) + record + b"\x03\xe8" + element * 1000 + b"\1"
    return binary(tracked(body))(size)


def heard_by_a_tracker(size):
    """Teltonika's packets of beacons that are all right."""
    element = b"\x11" + (b"\1" + bytes(16) + b"\xc4") * 3600
    record = AT.to_bytes(8, "big") + bytes(16) + teltonika.BEACONS.to_bytes(2, "big") + b"\0\1" + bytes(8)
    record += b"\0\1" + teltonika.BEACONS.to_bytes(2, "big") + len(element).to_bytes(2, "big") + element
    body = bytes((teltonika.CODEC_8_EXTENDED, 1)) + record + b"\1"
    return filled(tracked(body), size)


def mesh(size):
    """A mesh's message of one temperature after another."""
    return filled(b"C00A30", size, b'{"address":"%b","mesh":"52' % DEVICE.encode(), b'"}')


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
    "bad envelopes, joined": lambda size: filled(b'{"payloads":1}', size),
    "envelopes of nothing, joined": lambda size: filled(b'{"payloads":""}', size),
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
    "AprilBrother posts": posts,
    "HCI reports cut off": lost,
    "Teltonika beacons cut off": beacons,
    "a mesh message": mesh,
    "unknown AD structures": listed(lambda number: unknown(1640, number)),
    "unknown AD structures in frames": framed,
    "AD structures of Nokia's": listed(lambda _: manufacturer_data(1, bytes(6)) * 165),
    "names, and what may be theirs": listed(
        lambda number: (
            structure(9, b"sps1") + b"".join(bytes((10, 0xFF, place, number % 256)) + bytes(7) for place in range(140))
        )
    ),
    "our frames of advertisements without data": lambda size: filled(
        b"\1\xff" + (b"\xcb\xb8\x33\x4c\x88\x4f\xc4\xff\xff" + b"\0") * 255, size
    ),
    "HCI reports of AD structures cut off": lambda size: filled(
        bytes((EVENT_PACKET, LE_META, 200, 2, 18)) + (b"\0\1" + bytes(6) + b"\1\x09\xc4") * 18, size
    ),
    "AprilBrother devices without data": lambda size: filled(
        b"\x81\xa7devices\xdc\x03\xe6" + (b"\xa8" + bytes(8)) * 998, size
    ),
    "Teltonika beacons": heard_by_a_tracker,
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


def batch(data):
    """A record as a batch, decoded and grouped."""
    kinesis = {"approximateArrivalTimestamp": AT / 1000, "data": base64.b64encode(data).decode()}
    found = Batch([{"kinesis": kinesis}], RULES)
    found.decode()
    return found


def counted(events, do):
    """How many of the profiler's or the tracer's events `do` takes."""
    count = 0

    def note(frame, event, argument):
        nonlocal count
        count += event in events
        return note

    install = sys.settrace if "line" in events else sys.setprofile
    install(note)
    try:
        do()
    finally:
        install(None)
    return count


def calls(data):
    """How many calls, of Python's functions and of C's, a record takes."""
    return counted(("call", "c_call"), lambda: batch(data))


@pytest.mark.parametrize("bomb", BOMBS)
def test_memory_is_bounded_by_the_record_s_size(bomb):
    data = BOMBS[bomb](RECORD)
    assert sum(isinstance(each, DecodeError) for each in outcome(data)) <= MAX_BROKEN + 1
    gc.collect()
    tracemalloc.start()
    try:
        batch(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MOST_TIMES * len(data)


@pytest.mark.parametrize("bomb", BOMBS)
def test_steps_grow_no_faster_than_the_record(bomb):
    small, large = (calls(BOMBS[bomb](size)) for size in (SMALL, LARGE))
    assert large < LARGE // SMALL * 1.1 * small + 1000
    assert large < MOST_CALLS * LARGE


@pytest.mark.parametrize(
    ("kind", "rest"),
    [(0xFF, b"\x70"), (0xFF, b"\x77" + bytes(7)), (0x16, b"\x70")],
    ids=["unknown", "maybe Inkbird", "services"],
)
def test_an_advertisement_costs_no_more_for_each_of_its_structures_the_more_it_has(kind, rest):
    """What stands beside manufacturer data is looked at once, not once for each of them."""
    name = structure(9, b"nobody")

    def steps(count):
        data = name + b"".join(structure(kind, bytes([place]) + rest) for place in range(count))
        return counted(("line",), lambda: readings(data, DEVICE, AT))

    steps(1)  # what is learned by the first of all
    once, twice = steps(70), steps(140)
    assert twice < 2.2 * once


def test_a_uuid_that_is_cut_off_is_not_completed_by_what_comes_next():
    """A Govee's UUID would be the last byte of its list and the length of the AD structure behind it."""
    after = structure(0x0A, bytes(0x80))
    assert told_by(structure(3, b"\x51\x81") + after, None).borrower is not None
    assert told_by(structure(3, b"\x51") + after, None).borrower is None


def test_an_advertisement_asks_so_many_decoders_and_is_refused_beyond():
    """Each of them may look at all of the others; no sensor sends a tenth of that."""
    one = manufacturer_data(0x0059, bytes(3))  # SwitchBot's, of no model
    assert readings(one * MOST_ASKED, DEVICE, AT) == []
    with pytest.raises(DecodeError, match="more than 32 AD structures") as caught:
        readings(one * (MOST_ASKED + 1), DEVICE, AT)
    assert (caught.value.reason, caught.value.where) == ("many", "advertisement")
    assert readings(manufacturer_data(0x7077, bytes(3)) * (MOST_ASKED + 1), DEVICE, AT) == []


@pytest.mark.parametrize("bomb", ["AprilBrother posts", "HCI reports cut off", "Teltonika beacons cut off"])
def test_bad_entries_are_counted_over_the_whole_record(bomb):
    """Not anew for each post, event or packet, nor for each user record of an aggregated one."""
    data = BOMBS[bomb](RECORD)
    found = outcome(data)
    assert [each.reason for each in found].count("truncated") == MAX_BROKEN == len(found) - 1
    assert found[-1].reason == "many"
    piece = aggregate([BOMBS[bomb](1 << 14)] * 8)
    assert len(outcome(piece)) <= MAX_BROKEN + 1


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
