"""Any bytes give an envelope and advertisements, or a DecodeError; never another exception."""

from __future__ import annotations

import base64
import json
from hashlib import md5

from hypothesis import example, given
from hypothesis import strategies as st

from processor import DecodeError
from processor.decode.aggregation import MAGIC, aggregate, records
from processor.decode.envelope import Envelope, open_record, seal
from processor.decode.gateways import Advertisement, advertisements

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=15,
)
FIELDS = (
    *("payloads", "timestamp", "imsi", "data", "tags", "gw_mac", "gwts", "ts", "rssi", "address", "gateway"),
    *("advertisements", "id", "mac", "topic", "simId", "CB:B8:33:4C:88:4F"),
)
LEAVES = st.sampled_from([0, -1, 1653668027, 1e300, "", "020106", "AQE=", "-60", "2022-05-30T06:23:10Z", None, True])
LIKELY = st.recursive(
    LEAVES | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=6),
    max_leaves=25,
)


def read(data):
    """What ingest does with a record; returns the number of entries."""
    found = []
    try:
        for record in records(data):
            envelope = open_record(record, 1_653_891_796_000)
            assert type(envelope) is Envelope
            assert type(envelope.at) is int
            assert envelope.imsi is None or type(envelope.imsi) is str
            found += advertisements(envelope)
    except DecodeError:
        return None
    for entry in found:
        assert type(entry) is Advertisement or isinstance(entry, DecodeError)
        if type(entry) is Advertisement:
            assert type(entry.at) is int
            assert type(entry.data) is bytes
            assert entry.rssi is None or -128 <= entry.rssi < 127
            assert entry.address is None or len(entry.address) == 17
            assert entry.gateway is None or 0 < len(entry.gateway) <= 64
    return len(found)


@given(st.binary(max_size=200))
@example(b"")
@example(b"\x01")
@example(b'{"payloads":')
def test_any_bytes(data):
    read(data)
    read(MAGIC + data)
    read(b"\x01" + data)
    read(b"{" + data)
    read(base64.b64encode(data))
    read(json.dumps({"payloads": base64.b64encode(data).decode()}).encode())


@given(JSON | LIKELY)
def test_any_json(value):
    text = json.dumps(value)  # with NaN and Infinity, which are not JSON
    read(text.encode())
    read(json.dumps({"payloads": value}).encode())
    read(json.dumps({"payloads": text}).encode())


@given(st.text('{}[]":,\\0a \n', max_size=60))
def test_any_brackets(text):
    read(text.encode())
    read(b'{"a":1}' + text.encode() + b'{"b":2}')


@given(st.lists(LIKELY.filter(lambda v: isinstance(v, dict | list)), max_size=4), st.sampled_from(["", "\n", " \r\n"]))
def test_joined_messages_are_read_as_if_they_came_alone(messages, between):
    """Each gives what it gave alone: an entry, several or an error."""
    texts = [json.dumps(message) for message in messages if not (isinstance(message, dict) and "payloads" in message)]
    alone = [read(text.encode()) for text in texts]
    if len(texts) > 1:
        assert read(between.join(texts).encode()) == sum(1 if count is None else count for count in alone)


@given(
    JSON.filter(lambda value: isinstance(value, dict | list)) | st.binary(min_size=1),
    st.integers(10**12, 10**13 - 1),
    st.text(min_size=1, max_size=64),
)
def test_seal_then_open_is_the_identity(payload, at, imsi):
    try:
        record = seal(payload, at=at, imsi=imsi)
    except TypeError:  # nothing that orjson writes: an integer beyond 64 bits, a lone surrogate
        return
    try:
        envelope = open_record(record, 0)
    except DecodeError:
        assert isinstance(payload, bytes)  # that look like JSON
        return
    assert (envelope.at, envelope.imsi) == (at, imsi)
    if not isinstance(payload, bytes):
        assert envelope.payload == json.loads(record)["payloads"]
    elif type(envelope.payload) is bytes:
        assert envelope.payload == payload


@given(st.lists(st.binary(max_size=300), max_size=20), st.text(max_size=20))
def test_aggregate_then_records_is_the_identity(originals, key):
    assert records(aggregate(originals, partition_key=key)) == originals


@given(st.binary(max_size=60))
def test_any_message_under_a_right_checksum(message):
    read(MAGIC + message + md5(message).digest())
