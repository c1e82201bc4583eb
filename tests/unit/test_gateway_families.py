"""Gateway families: each one's vectors, and encoders whose messages are told by their shape."""

from __future__ import annotations

import json
from pathlib import Path

import orjson
import pytest

from processor.decode import gateways
from processor.decode.envelope import Envelope, Joined, seal
from processor.decode.gateways import (
    ALL,
    FAMILIES,
    Advertisement,
    Known,
    advertisements,
    aprilbrother,
    cassia,
    hci,
    ingics,
    messagepack,
    minew,
    moko,
    openblocks,
    teltonika,
    theengs,
)
from processor.decode.gateways.heard import kept_at
from processor.decode.record import heard as record_heard
from processor.errors import DecodeError, SettingsError
from processor.reading import Reading

VECTORS = [json.loads(path.read_text()) for path in sorted((Path(__file__).parents[1] / "vectors").glob("gateways_*"))]
CASES = [(vectors, case) for vectors in VECTORS for case in vectors["cases"]]
AT = 1_700_000_000_000
HOUR = 3_600_000
IMSI = "295050000000001"
TAG, GATEWAY = "CB:B8:33:4C:88:4F", "AC:23:3F:C0:01:EA"
DATA = bytes.fromhex("0201061BFF99040512FC5394C37C0004FFFC040CAC364200CDCBB8334C884F")
HEARD = Advertisement(TAG, -60, AT - HOUR, DATA, GATEWAY)
BEACON = Reading("", AT - HOUR, "", {"namespace": "00" * 10, "instance": "11" * 6}, None, 0, None, -60)


def payload(case):
    if "json" in case:
        return case["json"]
    return bytes.fromhex(case["hex"]) if "hex" in case else case["text"].encode()


def shown(entry):
    if isinstance(entry, DecodeError):
        return {"error": entry.reason}
    found = entry._asdict()
    if isinstance(entry, Reading):
        del found["digest"]
        return found
    return found | {"data": entry.data.hex().upper()}


@pytest.mark.parametrize(("vectors", "case"), CASES, ids=lambda each: each.get("family") or each["name"])
def test_message_gives_exactly_what_was_heard(vectors, case):
    envelope = Envelope(payload(case), vectors["at"], vectors["imsi"])
    if "error" in case:
        with pytest.raises(DecodeError) as caught:
            advertisements(envelope)
        assert caught.value.reason == case["error"]
    else:
        assert [shown(entry) for entry in advertisements(envelope)] == case["heard"]


@pytest.mark.parametrize(("vectors", "case"), CASES, ids=lambda each: each.get("family") or each["name"])
def test_family_said_beforehand_reads_the_same(vectors, case):
    known = Known.of({f"imsi:{vectors['imsi']}": vectors["family"]})
    envelope = Envelope(payload(case), vectors["at"], vectors["imsi"])
    if "error" in case:
        with pytest.raises(DecodeError):
            raise advertisements(envelope, known)[0]
    else:
        assert [shown(entry) for entry in advertisements(envelope, known)] == case["heard"]


MESSAGES = {
    "minew.json": minew.encode_post([HEARD], GATEWAY, AT),
    "minew.binary": minew.encode_frame([HEARD], GATEWAY),
    "aprilbrother": aprilbrother.encode([HEARD], GATEWAY),
    "aprilbrother.json": aprilbrother.encode_json([HEARD], GATEWAY),
    "theengs": theengs.encode(HEARD, timed=True),
    "moko": moko.encode([HEARD], GATEWAY),
    "cassia": cassia.encode(HEARD),
    "cassia.mqtt": cassia.encode_message([HEARD], GATEWAY, AT),
    "ingics": ingics.encode([HEARD], GATEWAY),
    "ingics.json": ingics.encode_post([HEARD], GATEWAY),
    "openblocks": openblocks.encode(HEARD),
    "hci": hci.encode([HEARD]),
    "teltonika": teltonika.encode([BEACON]),
    "teltonika.udp": teltonika.encode([BEACON], "352093081452251"),
}
CLOCKLESS = {"minew.binary", "aprilbrother", "aprilbrother.json", "cassia", "hci"}
NAMELESS = {"theengs", "cassia", "openblocks", "hci", "teltonika"}


@pytest.mark.parametrize("name", MESSAGES)
def test_a_backlog_an_hour_late_keeps_its_times_and_no_clock_means_the_envelopes(name):
    """Through the whole way: sealed as Funnel does, opened, told by its shape."""
    message = MESSAGES[name]
    content = orjson.Fragment(message) if message[:1] in b"[{" else message
    [entry] = record_heard(seal(content, at=AT, imsi=IMSI), AT + 5)
    assert entry.at == (AT if name in CLOCKLESS else AT - HOUR)
    assert entry.rssi == -60
    assert entry.gateway == (IMSI if name in NAMELESS else "352093081452251" if name == "teltonika.udp" else GATEWAY)


@pytest.mark.parametrize("name", MESSAGES)
def test_payload_alone_is_told_by_its_shape_too(name):
    """Without an envelope, as "payloads only" sends it."""
    found = record_heard(MESSAGES[name], AT)
    assert [isinstance(entry, DecodeError) for entry in found] == [False]


@pytest.mark.parametrize("name", ["minew.binary", "aprilbrother", "ingics", "hci", "teltonika"])
def test_messages_that_tcp_joined_are_told_apart(name):
    assert len(record_heard(seal(MESSAGES[name] * 3, at=AT, imsi=IMSI), AT)) == 3


def test_json_messages_that_tcp_joined_may_be_of_several_families():
    found = record_heard(MESSAGES["moko"] + MESSAGES["minew.json"] + MESSAGES["cassia"], AT)
    assert [entry.address for entry in found] == [TAG] * 3
    nested = advertisements(Envelope(Joined([[orjson.loads(MESSAGES["minew.json"])]]), AT))
    assert isinstance(nested[0], DecodeError)


@pytest.mark.parametrize(
    ("reported_at", "advertised_at", "expected"),
    [
        (None, None, AT),
        (None, AT - HOUR, AT - HOUR),
        (AT + HOUR, AT - HOUR, AT - HOUR),
        (None, AT + 61_000, AT),
        (None, 40_000, AT),
        (60_000, 40_000, AT - 20_000),
        (40_000, 60_000, AT),
        (AT, 40_000, AT),
        (None, -5, AT),
    ],
)
def test_late_times_are_kept_and_clocks_that_were_never_set_give_ages(reported_at, advertised_at, expected):
    assert kept_at(AT, reported_at, advertised_at) == expected


def envelope_of(message, imsi=IMSI, operator="OP123"):
    return Envelope(orjson.loads(message), AT, imsi, {"operatorId": operator})


@pytest.mark.parametrize(
    ("families", "expected"),
    [
        ({}, None),
        ({"imsi:29505*": "cassia"}, "cassia"),
        ({"imsi:29505*": "cassia", "imsi:2950500*": "moko"}, "moko"),
        ({"imsi:29505*": "cassia", f"imsi:{IMSI}": "moko"}, "moko"),
        ({"operator:OP123": "moko"}, "moko"),
        ({"operator:OP123": "moko", "imsi:*": "cassia"}, "cassia"),
        ({"operator:OP12": "moko", "imsi:440*": "cassia"}, None),
    ],
)
def test_the_most_particular_pattern_says_the_family(families, expected):
    assert Known.of(families).family(envelope_of(b"{}")) == expected


def test_a_sim_or_an_account_that_is_not_told_has_no_family():
    assert Known.of({"imsi:*": "moko", "operator:OP1": "moko"}).family(Envelope({}, AT)) is None


def test_a_family_said_beforehand_refuses_what_another_one_sends():
    known = Known.of({"imsi:29505*": "moko"})
    for message in (MESSAGES["cassia"], MESSAGES["minew.json"]):
        with pytest.raises(DecodeError):
            raise advertisements(envelope_of(message), known)[0]
    with pytest.raises(DecodeError, match="moko sends JSON"):
        advertisements(Envelope(MESSAGES["hci"], AT, IMSI), known)
    with pytest.raises(DecodeError, match="said to be of it"):
        advertisements(envelope_of(MESSAGES["cassia"]), Known.of({"imsi:*": "hci"}))
    assert len(advertisements(envelope_of(MESSAGES["moko"]), known)) == 1


@pytest.mark.parametrize("family", ["theengs", "openblocks"])
def test_a_family_said_beforehand_that_decodes_too_refuses_anothers_values(family):
    """The table knows a GPS multiunit, and a decoded sensor of the other of the two."""
    multiunit = {"bat": 3, "rs": 4, "temp": 16.0, "type": 0}
    sensors = {
        "theengs": {"deviceId": "b0b448b93907", "time": "2016-03-14T09:32:15Z", "temperature": 25.5},
        "openblocks": {"id": "A4:C1:38:02:83:F4", "model_id": "X", "tempc": 21.5},
    }
    for message in (multiunit, sensors[family]):
        assert isinstance(advertisements(Envelope(message, AT, IMSI))[0], Reading)
        with pytest.raises(DecodeError) as caught:
            advertisements(Envelope(message, AT, IMSI), Known.of({"imsi:*": family}))
        assert caught.value.reason == "shape"


def test_a_family_that_there_is_not_is_named():
    with pytest.raises(SettingsError, match=r"GATEWAY_FAMILIES: imsi:\* is one of ruuvi, .*, not 'nokia'"):
        Known.of({"imsi:*": "nokia"})


def test_every_family_is_in_the_readme():
    readme = (Path(gateways.__file__).parent / "README.md").read_text()
    for name in FAMILIES:
        assert f"({name}.py)" in readme, name


def test_own_frame_is_never_taken_for_a_datagram():
    """Both start with 0, 1 or so: only an IMEI in its place tells a datagram."""
    datagram = MESSAGES["teltonika.udp"]
    assert teltonika.is_datagram(datagram)
    for place in (1, 4, 7, 8, 23):
        assert not teltonika.is_datagram(datagram[:place] + b"\xcb" + datagram[place + 1 :])
    frame = b"\x01\x10" + bytes(270)
    assert all(isinstance(entry, Advertisement) for entry in advertisements(Envelope(frame[: 2 + 16 * 10], AT)))


def test_encoders_refuse_what_their_format_cannot_say():
    with pytest.raises(ValueError, match="1 to 255 bytes"):
        minew.encode_frame([HEARD._replace(data=b"")], GATEWAY)
    with pytest.raises(ValueError, match="one service data and one manufacturer data"):
        theengs.encode(HEARD._replace(data=DATA + DATA[3:]))
    with pytest.raises(ValueError, match="15 digits"):
        teltonika.encode([BEACON], "35")


def test_crc_matches_the_catalogues_check_value():
    """CRC-16/ARC of 123456789 is BB3D in the CRC catalogue."""
    assert teltonika.crc16(b"123456789") == 0xBB3D


@pytest.mark.parametrize(
    ("packed", "value"),
    [
        ("c0", None), ("c2", False), ("c3", True), ("7f", 127), ("e0", -32), ("cc80", 128), ("cd0100", 256),
        ("ce00010000", 65536), ("cf0000000100000000", 1 << 32), ("d080", -128), ("d18000", -32768),
        ("d280000000", -(1 << 31)), ("d38000000000000000", -(1 << 63)), ("ca3f800000", 1.0),
        ("cb3ff8000000000000", 1.5), ("a161", b"a"), ("d90161", b"a"), ("da000161", b"a"), ("db0000000161", b"a"),
        ("c40161", b"a"), ("c5000161", b"a"), ("c60000000161", b"a"), ("9201c0", [1, None]), ("dc000101", [1]),
        ("dd0000000101", [1]), ("81a16101", {b"a": 1}), ("de0001a16101", {b"a": 1}), ("df00000001a16101", {b"a": 1}),
    ],
)  # fmt: skip
def test_messagepack_reads_every_size_of_its_specification(packed, value):
    data = bytes.fromhex(packed)
    found, end = messagepack.unpack(data)
    assert (found, type(found), end) == (value, type(value), len(data))
    for cut in range(len(data)):
        with pytest.raises(DecodeError) as caught:
            messagepack.unpack(data[:cut])
        assert caught.value.reason == "truncated"


def test_messagepack_is_bounded():
    for data, reason in (
        (b"\x91" * 9 + b"\xc0", "nesting"),
        (b"\xdd" + (100_001).to_bytes(4, "big") + b"\xc0" * 100_001, "many"),
        (b"\x81\xc0\xc0", "keys"),
        (b"\xc1", "type"),
    ):
        with pytest.raises(DecodeError) as caught:
            messagepack.unpack(data)
        assert caught.value.reason == reason


def test_nothing_is_said_beforehand_unless_a_setting_does():
    assert Known() == ALL
    assert ALL.family(envelope_of(b"{}")) is None
