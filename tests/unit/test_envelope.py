"""SORACOM Funnel's envelope: what it says, and what cannot be one."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from processor import DecodeError
from processor.decode.envelope import MAX_BROKEN, Joined, open_record, seal

FAMILIES = json.loads((Path(__file__).parents[1] / "vectors" / "gateways.json").read_text())["families"]
AT, ARRIVED = 1_653_891_795_421, 1_653_892_000_000


def opened(record):
    return open_record(record if isinstance(record, bytes) else json.dumps(record).encode(), ARRIVED)


def refused(record):
    with pytest.raises(DecodeError) as caught:
        opened(record)
    return caught.value


def test_documented_envelope_says_everything():
    envelope = opened(next(f["example"] for f in FAMILIES if f["family"] == "SORACOM Funnel envelope"))
    assert (envelope.payload, envelope.at, envelope.imsi) == ({"any": "thing"}, AT, "295050000000001")
    assert (envelope.source_protocol, envelope.imei, envelope.sim_id) == ("http", "867600000000001", None)
    assert (envelope.operator_id, envelope.credentials_id) == ("OPxxxxxxxxxx", "AWS-IAM-role-credentials")


def test_ids_are_read_in_their_other_spelling():
    envelope = opened({"payloads": [], "operatorid": "OP1", "credentialId": "key", "simId": "8942"})
    assert (envelope.operator_id, envelope.credentials_id, envelope.sim_id) == ("OP1", "key", "8942")


def test_ids_of_absurd_types_are_none():
    envelope = opened(
        {"payloads": [], "imsi": {"a": []}, "imei": True, "simId": "x" * 65, "operatorId": "", "sourceProtocol": 1.5}
    )
    fields = (envelope.imsi, envelope.imei, envelope.sim_id, envelope.operator_id, envelope.source_protocol)
    assert fields == (None,) * 5
    assert opened({"payloads": [], "imsi": 295050000000001}).imsi == "295050000000001"


def test_payload_only_record_has_no_envelope():
    envelope = opened({"any": "thing"})
    assert (envelope.payload, envelope.at, envelope.imsi, envelope.fields) == ({"any": "thing"}, ARRIVED, None, {})
    assert envelope.source_protocol is None


@pytest.mark.parametrize("payload", [{"a": [1]}, [1, {"b": "ü"}], [], {}, b"\x01\x00", b"\x00\xff", "plain, words"])
def test_sealed_payload_is_what_is_opened(payload):
    envelope = open_record(seal(payload, at=AT, imsi="295050000000001", source_protocol="tcp"), ARRIVED)
    expected = payload.encode() if isinstance(payload, str) else payload
    assert (envelope.payload, envelope.at, envelope.imsi) == (expected, AT, "295050000000001")
    assert envelope.source_protocol == "tcp"


@pytest.mark.parametrize("document", [{"a": "é"}, [1, 2]])
@pytest.mark.parametrize("around", ["{}", " \n{}", "{}\0", "\ufeff{}"])
def test_json_within_text_and_base64_is_parsed(document, around):
    text = around.format(json.dumps(document, ensure_ascii=False))
    encoded = base64.b64encode(text.encode()).decode()
    records = [{"payloads": text}, {"payloads": encoded}, text.encode(), encoded.encode(), encoded]
    assert [opened(record).payload for record in records] == [document] * 5


@pytest.mark.parametrize("text", ["AQE", "AQE=\n", "AQE-_w==", "AQ==E", "=", "héllo", "null", '"x', "1.5"])
def test_text_that_is_not_base64_stays_text(text):
    if text == "null":  # four letters of the Base64 alphabet: bytes that no gateway sends
        assert opened({"payloads": text}).payload == base64.b64decode(text)
    else:
        assert opened({"payloads": text}).payload == text.encode()


@pytest.mark.parametrize("value", [AT, str(AT), float(AT), AT // 1000 * 1000, AT // 1000, AT / 1000], ids=repr)
def test_envelope_time_is_read_in_milliseconds_or_seconds(value):
    assert abs(opened({"payloads": [], "timestamp": value}).at - AT) < 1000


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        "yesterday",
        "",
        [],
        {},
        -AT,
        0,
        1,
        1e300,
        -1e300,
        10**13,
        10**18,
        2**64 - 1,
        "9" * 5000,
        "١٦٥٣٨٩١٧٩٥",
    ],
)
def test_absurd_envelope_time_is_replaced_by_the_arrival(value):
    assert opened({"payloads": [], "timestamp": value}).at == ARRIVED
    assert opened({"payloads": []}).at == ARRIVED


@pytest.mark.parametrize("value", [None, 5, 1.5, True])
def test_payload_that_is_no_content_is_refused(value):
    assert refused({"payloads": value}).reason == "payload"


@pytest.mark.parametrize("record", [b"", b" \r\n\t\0", b"\xef\xbb\xbf", b'{"payloads":""}', b'{"payloads":" "}', b'""'])
def test_nothing_at_all_is_refused(record):
    assert refused(record).reason == "empty"


@pytest.mark.parametrize(
    ("record", "reason", "offset"),
    [
        (b'{"a":1,}', "json", 6),
        (b'{"a":NaN}', "json", 5),
        (b'{"a":Infinity}', "json", 5),
        (b'{"a":1e999}', "json", 5),
        ('{"é":1,}'.encode(), "json", 7),
        (b'{"a":1}}', None, None),
        (b"{'a':1}", "json", 1),
        (b'{"a":"\xff"}', "utf-8", 6),
        (b'{"a":"\\ud800"}', "json", None),
        (b'{"a":"x', "truncated", 0),
        (b'{"a":[1,2', "truncated", 0),
        (b"[" * 2000 + b"]" * 2000, "json", None),
        (b"[" * 300 + b"]" * 300, "nesting", None),
        (b'{"a":' * 10**5, "truncated", 0),
    ],
    ids=lambda value: str(value)[:20],
)
def test_broken_json_is_refused_with_its_place(record, reason, offset):
    if reason is None:  # a whole document, then something that is not
        whole, error = opened(record).payload
        assert (whole, error.reason, error.offset) == ({"a": 1}, "json", 7)
        return
    error = refused(record)
    assert (error.reason, error.where) == (reason, "envelope")
    if offset is not None:
        assert error.offset == offset
        assert error.payload == record


@pytest.mark.parametrize(
    "record",
    [
        b'{"a":1,"a":1}',
        b'{"payloads":{"tags":{"A":{"x":1},"A":{"x":2}}}}',
        b'{"payloads":"{\\"a\\":1,\\"a\\":2}"}',
        b'[{"b":{"a":"x","c":3,"\\u0061":":"}}]',
        b'{"a":"\\u003a","a":2}',
        b'{"a":"\\u003A","b":"\\u003a","a":[]}',
        b'{"a":' * 250 + b'{"b":1,"b":2}' + b"}" * 250,
        b'{"a":' + b"9" * 300 + b',"a":1}',
    ],
    ids=lambda record: str(record)[:40],
)
def test_key_twice_in_one_object_is_refused(record):
    """Every parser would keep one of the values and lose the other, which may be an advertisement."""
    error = refused(record)
    assert error.reason == "keys"
    assert "comes twice" in str(error)


@pytest.mark.parametrize(
    "record",
    [
        b'{"a":{"a":":"},"b":"a:a:"}',
        b'[{"a":1},{"a":2}]',
        b'{"a":"\\u003a", "b":1.50, "c":"\\/"}',
        b'{ "a" : "\\u00e9:" }',
    ],
)
def test_colons_and_escapes_are_no_second_key(record):
    assert opened(record).payload == json.loads(record)


def test_joined_messages_are_all_there_and_a_broken_one_keeps_its_place():
    payload = opened(b'{"a":"}{"}{bad}\n[1]\0 {"b":"\\"]"}{"c":').payload
    assert type(payload) is Joined
    first, bad, second, third, cut = payload
    assert (first, second, third) == ({"a": "}{"}, [1], {"b": '"]'})
    assert (bad.reason, bad.offset, cut.reason, cut.offset) == ("json", 11, "truncated", 32)


def test_kept_errors_hold_on_to_nothing():
    """A traceback or a context would keep frames, and the payloads in them, until the batch is done."""
    payload = opened(b'{"a":1}\n {x}' + b"[" * 300 + b"]" * 300).payload
    assert [error.reason for error in payload[1:]] == ["json", "nesting"]
    assert [(error.__traceback__, error.__context__) for error in payload[1:]] == [(None, None)] * 2
    assert payload[1].offset == 10


def test_joined_envelopes_are_each_opened():
    one, two, bad = opened(b'{"payloads":[1],"imsi":"1"} {"payloads":[2],"imsi":"2"}{"payloads":null}').payload
    assert [(one.payload, one.imsi), (two.payload, two.imsi)] == [([1], "1"), ([2], "2")]
    assert bad.reason == "payload"


def test_megabytes_of_brackets_are_given_up_on_early():
    payload = opened(b"{}" + b"{x}" * 100_000).payload
    assert len(payload) == 1 + MAX_BROKEN + 1
    assert payload[-1].reason == "many"
    assert refused(b"{x}" * 100_000).reason == "json"
