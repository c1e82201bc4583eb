"""Encoders and decoders of the gateways undo each other, and no object in a payload surprises them."""

from __future__ import annotations

from contextlib import suppress

import orjson
from hypothesis import given
from hypothesis import strategies as st

from processor import DecodeError
from processor.decode.envelope import Envelope
from processor.decode.gateways import Advertisement, advertisements, binary, plain, ruuvi

AT = 1_653_891_795_421
ADDRESSES = st.binary(min_size=6, max_size=6).filter(any).map(lambda mac: mac.hex(":").upper())
HEARD = st.builds(
    Advertisement,
    ADDRESSES | st.none(),
    st.integers(-128, 126) | st.none(),
    st.integers(0, 65_534).map(lambda age: AT - age),
    st.binary(max_size=255),
    st.just("C8:25:2D:8E:9C:2C"),
)
KEYS = ["data", "tags", "gw_mac", "ts", "gwts", "rssi", "timestamp", "advertisements", "address", "gateway"]
TEXTS = st.text(max_size=5) | st.just("0x20")
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.binary(max_size=9) | st.tuples(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS) | st.integers() | st.text(max_size=3), inner, max_size=5)
    ),
    max_leaves=20,
)


def heard(data, at=AT):
    return advertisements(Envelope(data, at, "C8:25:2D:8E:9C:2C"))


@given(st.lists(HEARD, max_size=300))
def test_binary_frames_come_back_to_the_millisecond(entries):
    assert heard(binary.encode(entries, AT)) == entries


@given(st.lists(HEARD, max_size=10), st.booleans())
def test_plain_json_comes_back_to_the_millisecond(entries, wrapped):
    sent = plain.encode(entries, gateway="C8:25:2D:8E:9C:2C", sent_at=AT) if wrapped else plain.encode(entries)
    assert heard(orjson.loads(sent)) == entries


@given(st.lists(HEARD.filter(lambda entry: entry.address), unique_by=lambda entry: entry.address, max_size=10))
def test_ruuvi_post_comes_back_to_the_second(entries):
    found = heard(orjson.loads(ruuvi.encode_post(entries, "C8:25:2D:8E:9C:2C", AT)))
    assert [entry._replace(at=0) for entry in found] == [entry._replace(at=0) for entry in entries]
    assert all(abs(entry.at - original.at) < 1000 for entry, original in zip(found, entries, strict=True))


@given(HEARD)
def test_ruuvi_message_comes_back_to_the_second(entry):
    [found] = heard(orjson.loads(ruuvi.encode_message(entry, "C8:25:2D:8E:9C:2C", AT)))
    assert found._replace(at=0) == entry._replace(at=0)
    assert abs(found.at - entry.at) < 1000


@given(st.lists(HEARD, max_size=5), st.data())
def test_cut_frames_lose_nothing_in_silence(entries, data):
    """What was whole before the cut is there; an error says that something is missing."""
    frames = binary.encode(entries, AT)
    cut = data.draw(st.integers(0, len(frames)))
    try:
        found = heard(frames[:cut])
    except DecodeError:
        return
    if cut == len(frames):
        assert found == entries
    elif cut:
        *whole, error = found
        assert whole == entries[: len(whole)]
        assert isinstance(error, DecodeError)


@given(st.binary(max_size=100))
def test_any_frame(data):
    with suppress(DecodeError):
        heard(b"\x01" + data)


@given(ANYTHING)
def test_any_object_as_payload(payload):
    """Even what no JSON parser returns: a payload built by hand."""
    try:
        found = heard(payload)
    except DecodeError:
        return
    assert all(type(entry) is Advertisement or isinstance(entry, DecodeError) for entry in found)
