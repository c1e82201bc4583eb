"""Gateways: every shape that comes from the stream, and what was heard in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from processor import DecodeError
from processor.decode.envelope import MAX_BROKEN, Envelope, open_record
from processor.decode.gateways import Advertisement, advertisements, binary, measured_at, plain, ruuvi

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "funnel.json").read_text())
FAMILIES = json.loads((Path(__file__).parents[1] / "vectors" / "gateways.json").read_text())["families"]
TAG, GATEWAY = "CB:B8:33:4C:88:4F", "C8:25:2D:8E:9C:2C"
AT = 1_653_891_795_421
HEARD = Advertisement(TAG, -26, AT - 2000, b"\x02\x01\x06", GATEWAY)


def heard(payload, *, at=AT, imsi="295050000000001"):
    return advertisements(Envelope(payload, at, imsi))


def shown(entry):
    return (
        {"error": entry.reason}
        if isinstance(entry, DecodeError)
        else entry._asdict() | {"data": entry.data.hex().upper()}
    )


@pytest.mark.parametrize("vector", VECTORS["records"], ids=lambda vector: vector["name"])
def test_record_gives_exactly_what_was_heard(vector):
    record = bytes.fromhex(vector["record_hex"]) if "record_hex" in vector else vector["record"].encode()
    if "error" in vector:
        with pytest.raises(DecodeError) as caught:
            advertisements(open_record(record, VECTORS["arrived_at"]))
        assert caught.value.reason == vector["error"]
    else:
        found = advertisements(open_record(record, VECTORS["arrived_at"]))
        assert [shown(entry) for entry in found] == vector["advertisements"]


@pytest.mark.parametrize("family", ["Ruuvi Gateway HTTP", "Ruuvi Gateway MQTT"])
def test_documented_example_is_read(family):
    example = next(f["example"] for f in FAMILIES if f["family"] == family)
    if family.endswith("MQTT"):
        example = example | {"data": "020106"}  # the example's is shortened with dots
    [entry] = heard(example)
    assert (entry.rssi, entry.at, entry.gateway) == (-26, AT, GATEWAY)


@pytest.mark.parametrize(
    ("sent_at", "advertised_at", "expected"),
    [
        (None, None, AT),
        (5000, None, AT),
        (5000, 4000, AT - 1000),
        (5000, 5000, AT),
        (AT + 10**9, AT + 10**9 - 3, AT - 3),
        (None, AT - 10**9, AT - 10**9),
        (None, AT + 60_000, AT + 60_000),
        (None, AT + 60_001, AT),
    ],
)
def test_measurement_time_trusts_ages_first_then_past_times_then_the_envelope(sent_at, advertised_at, expected):
    assert measured_at(AT, sent_at, advertised_at) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (1653891790, 1653891790000),
        ("1653891790", 1653891790000),
        ("1653891790.25", 1653891790250),
        (1653891790.25, 1653891790250),
        (1653891790250, 1653891790250),
        ("1653891790250", 1653891790250),
        ("2022-05-30T06:23:10Z", 1653891790000),
        ("2022-05-30T06:23:10.250Z", 1653891790250),
        ("2022-05-30T15:23:10+09:00", 1653891790000),
        (-5, -5000),
        (0, 0),
    ],
)
def test_time_is_read_in_every_spelling(text, expected):
    [entry] = heard({"data": "", "timestamp": text})
    assert entry.at == expected


NO_TIMES = (
    *(True, [], {}, "", "noon", "NaN", "1e9", "1_000", "١٢", " 5", "1653891790\n", "9" * 5000),
    *("2022-05-30T06:23:10", "2022-05-30", "24:00Z", 1e300, -1e300, 10**14, -(10**14), 2**63),
)


@pytest.mark.parametrize("value", NO_TIMES, ids=lambda value: repr(value)[:30])
def test_time_that_is_none_rejects_its_advertisement_only(value):
    bad, good = heard([{"data": "", "timestamp": value}, {"data": ""}])
    assert (bad.reason, bad.where) == ("timestamp", "plain")
    assert good.at == AT


@pytest.mark.parametrize(
    ("value", "expected"), [(-60, -60), ("-60", -60), (-60.4, -60), (20, 20), (None, None), (127, None), ("127", None)]
)
def test_rssi_is_a_number_of_dbm_or_unknown(value, expected):
    [entry] = heard({"data": "", "rssi": value})
    assert entry.rssi == expected


@pytest.mark.parametrize("value", [True, "weak", -129, 128, 1e300, [], "-60 dBm"])
def test_rssi_that_is_none_is_refused(value):
    with pytest.raises(DecodeError, match="RSSI") as caught:
        heard({"data": "", "rssi": value})
    assert caught.value.reason == "rssi"


@pytest.mark.parametrize("value", ["cb:b8:33:4c:88:4f", "CB-B8-33-4C-88-4F", "cbb8334c884f"])
def test_address_comes_in_one_spelling(value):
    [entry] = heard({"data": "", "address": value, "gateway": value})
    assert (entry.address, entry.gateway) == (TAG, TAG)


def test_address_may_be_left_to_the_payload():
    assert [entry.address for entry in heard([{"data": ""}, {"data": "", "address": ""}])] == [None, None]


@pytest.mark.parametrize("value", [0, [], "CB:B8", "CB:B8:33:4C:88:4G", TAG + "-" * 60, {"a": {}}])
def test_address_that_is_none_is_refused(value):
    with pytest.raises(DecodeError) as caught:
        heard({"data": "", "address": value})
    assert caught.value.reason == "address"


def test_gateway_keeps_its_name_or_is_known_by_its_sim():
    found = heard([{"data": "", "gateway": name} for name in ("roof 7", GATEWAY.lower(), "", None)])
    assert [entry.gateway for entry in found] == ["roof 7", GATEWAY, "295050000000001", "295050000000001"]
    with pytest.raises(DecodeError) as caught:
        heard({"data": "", "gateway": "x" * 65})
    assert caught.value.reason == "gateway"


@pytest.mark.parametrize(
    ("value", "expected"), [("020106", "020106"), ("0x020106", "020106"), ("AgEGAv8=", "02010602ff"), ("", "")]
)
def test_plain_data_is_hexadecimal_or_base64(value, expected):
    [entry] = heard({"data": value})
    assert entry.data.hex() == expected


@pytest.mark.parametrize("value", [None, 5, [], "020", "AgEGAv8", "0x2", "0x0g", "ÿ"])
def test_data_that_is_neither_is_refused(value):
    with pytest.raises(DecodeError) as caught:
        heard({"data": value})
    assert caught.value.reason == "data"


def test_ruuvi_message_is_known_by_its_send_time_too():
    [entry] = heard({"gwts": 9, "ts": 7, "data": ""})
    assert (entry.at, entry.gateway) == (AT - 2000, "295050000000001")


def test_ruuvi_message_takes_the_first_address_that_is_one():
    message = {"gw_mac": GATEWAY, "id": 7, "mac": "?", "address": TAG, "topic": "ruuvi/x/CB:B8:33:4C:88:50", "data": ""}
    assert heard(message)[0].address == TAG
    assert heard(message | {"address": ""})[0].address == "CB:B8:33:4C:88:50"
    assert heard(message | {"address": "", "topic": "ruuvi/gw_status"})[0].address is None
    assert heard(message | {"address": "", "topic": ["x"]})[0].address is None


NO_SHAPES = (
    *(None, 5, "text", True, [1], [[]], [None, {"data": ""}], {}),
    *({"data": {}}, {"data": {"tags": []}}, {"advertisements": {}}, {"gw_mac": GATEWAY, "state": "online"}),
    *({"data": {"tags": {}, "timestamp": "noon"}}, {"data": {"tags": {}, "gw_mac": 5}}),
)


@pytest.mark.parametrize("payload", NO_SHAPES, ids=repr)
def test_payload_of_no_known_shape_is_refused_as_a_whole(payload):
    with pytest.raises(DecodeError):
        heard(payload)


def test_broken_entries_leave_their_errors_in_their_places():
    tags = {TAG: 5, "nowhere": {"data": ""}, "CB:B8:33:4C:88:50": {"data": ""}}
    found = heard([{"data": ""}, 5, {"data": {"tags": tags}}, {"advertisements": [7, {"data": ""}]}, []])
    kinds = ["plain", "gateway", "ruuvi.http", "ruuvi.http", "CB:B8:33:4C:88:50", "plain", "plain", "gateway"]
    assert [e.where if isinstance(e, DecodeError) else e.address or "plain" for e in found] == kinds
    assert [isinstance(e, DecodeError) for e in found] == [False, True, True, True, False, True, False, True]


def test_kept_errors_hold_on_to_no_frame():
    """A traceback would keep every payload of the batch alive until the batch is done."""
    found = heard([{"data": ""}, {"data": "zz", "timestamp": "noon"}])
    assert found[1].__traceback__ is None
    assert found[1].__context__ is None


def test_megabytes_of_nothing_are_given_up_on_early():
    found = heard([{}] * 500_000)
    assert len(found) == MAX_BROKEN + 1
    assert found[-1].reason == "many"


def test_error_shows_what_was_read():
    with pytest.raises(DecodeError, match=r"ruuvi\.http: the advertisement's data is hexadecimal text") as caught:
        raise heard({"data": {"tags": {TAG: {"data": "zz"}}}})[0]
    assert caught.value.payload == b'"zz"'


@pytest.mark.parametrize("cut", range(1, 45))
def test_cut_frame_keeps_what_came_before_the_cut(cut):
    """The rest is an error in the list, so that the record is quarantined and nothing is lost in silence."""
    frame = binary.encode([HEARD, HEARD, HEARD], AT)
    assert len(frame) == 2 + 3 * 13
    whole = max(0, cut - 2) // 13
    if whole == 3:
        assert heard(frame + b"\1"[: cut - 41])[:3] == [HEARD._replace(gateway="295050000000001")] * 3
    elif not whole:
        with pytest.raises(DecodeError, match="ends within advertisement 1"):
            heard(frame[:cut])
    else:
        *before, error = heard(frame[:cut])
        assert before == [HEARD._replace(gateway="295050000000001")] * whole
        assert (error.reason, error.offset) == ("truncated", 2 + 13 * whole)


def test_frame_of_another_version_stops_the_reading():
    one = binary.encode([HEARD], AT)
    first, error = heard(one + b"\2" + one[1:])
    assert first.address == TAG
    assert (error.reason, error.offset) == ("version", len(one))


def test_frame_looks_like_neither_json_nor_base64():
    assert binary.VERSION < 32
    assert binary.VERSION not in b"\t\n\r"


def test_frame_matches_its_specification():
    """The example in gateways/README.md, byte by byte."""
    readme = (Path(binary.__file__).parent / "README.md").read_text()
    example = next(line for line in readme.splitlines() if line.startswith("    01 01"))
    [entry] = heard(bytes.fromhex(example))
    assert (entry.address, entry.rssi, entry.at, len(entry.data)) == (TAG, -26, AT - 500, 31)
    assert binary.encode([entry], AT) == bytes.fromhex(example)


def test_frame_clips_ages_to_what_it_can_say():
    old, future = HEARD._replace(at=AT - 70_000), HEARD._replace(at=AT + 5)
    assert [entry.at for entry in heard(binary.encode([old, future], AT))] == [AT, AT]


def test_more_than_255_advertisements_take_another_frame():
    frames = binary.encode([HEARD] * 256, AT)
    assert len(heard(frames)) == 256
    assert frames[1] == 255


def test_encoders_refuse_what_their_format_cannot_say():
    with pytest.raises(ValueError, match="255 bytes"):
        binary.encode([HEARD._replace(data=bytes(256))], AT)
    with pytest.raises(ValueError, match="one advertisement of each sensor"):
        ruuvi.encode_post([HEARD, HEARD], GATEWAY, AT)
    with pytest.raises(ValueError, match="one advertisement of each sensor"):
        ruuvi.encode_post([HEARD._replace(address=None)], GATEWAY, AT)


def test_plain_encoder_wraps_only_where_there_is_something_to_tell():
    assert json.loads(plain.encode([HEARD])) == [
        {"address": TAG, "rssi": -26, "timestamp": AT - 2000, "data": "020106"}
    ]
    assert set(json.loads(plain.encode([], gateway="x"))) == {"gateway", "timestamp", "advertisements"}


def test_the_readmes_mesh_message_gives_its_reading():
    text = (Path(plain.__file__).parent / "README.md").read_text()
    [example] = [json.loads(line) for line in text.splitlines() if line.startswith('    {"address"') and "mesh" in line]
    [reading] = heard(example)
    assert (reading.device, reading.counter, reading.values) == (
        "mesh:3ecaff672f673370.0005", 3131, {"temperature": 25.5}
    )  # fmt: skip
    assert json.loads(plain.encode([reading])) == [example | {"timestamp": example["timestamp"] * 1000}]
