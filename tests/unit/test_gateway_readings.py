"""Readings that come decoded: what the declared table takes, refuses and means, and their way into the table."""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from processor.batch import Batch
from processor.decode.envelope import Envelope, seal
from processor.decode.gateways import Advertisement, Known, advertisements, plain, readings
from processor.decode.gateways.readings import SHIPPED, Source, shipped, table
from processor.decode.gateways.values import UNITS
from processor.errors import DecodeError, SettingsError
from processor.local.expected import Expected
from processor.reading import QUANTITIES, Reading
from processor.rules import Limits, Rules, known_gateways
from processor.settings import Settings

AT = 1_700_000_000_000
IMSI = "295050000000001"
GPS = {"lat": 35.0, "lon": 139.0, "bat": 3, "rs": 4, "temp": 16.0, "humi": 32.4, "type": 0}
MINE = {
    "format": "acme.th",
    "match": ["sensor", "t"],
    "device": "sensor.id",
    "time": "at",
    "rssi": "link.rssi",
    "counter": "n",
    "values": {
        "t": {"quantity": "temperature", "unit": "°F", "absent": [-999, "n/a"]},
        "p": {"quantity": "pressure", "unit": "hPa", "range": [300, 1100]},
        "v": {"quantity": "battery_voltage", "scale": "0.05", "offset": "1.5"},
        "open": {"quantity": "door"},
        "label": {"quantity": "text"},
        "state": {"quantity": "battery_low", "map": {"ok": False, "low": True, "unknown": None}},
    },
}
MESSAGE = {"sensor": {"id": "7"}, "t": 71.6, "at": 1_699_999_990, "link": {"rssi": -70}, "n": 5}


def changed(**changes):
    return {**MINE, **changes}


def known(*entries):
    return Known.of({}, orjson.dumps(entries))


def read(message, entry=MINE, imsi=IMSI):
    [found] = advertisements(Envelope(message, AT, imsi), known(entry))
    return found


def values(message, **meanings):
    return read({"k": 1, **message}, {"format": "x", "match": ["k"], "values": meanings}).values


def test_a_source_of_ones_own_gives_readings_without_code():
    assert read(MESSAGE)._replace(digest=0) == Reading(
        "acme.th:7", 1_699_999_990_000, "acme.th", {"temperature": 22}, 5, 0, IMSI, -70
    )


def test_ones_own_table_goes_before_the_one_that_ships():
    mine = changed(match=["lat"], device=None, values={"temp": {"quantity": "temperature_2"}})
    assert read(GPS, mine).values == {"temperature_2": 16}
    assert read(GPS).format == "soracom.gps_multiunit"


@pytest.mark.parametrize(
    "message",
    [
        {"serial": "A1", "data": {"temp": 20.5}},
        {"serial": "A1", "data": [20.5], "temp": 20.5},
        {"serial": "A1", "data": ["20.5"], "temp": 20.5},
        {"serial": "A1", "data": "20.5", "temp": 20.5},
        {"serial": "A1", "deviceId": "lobby", "data": "20.5", "temp": 20.5},
        *(
            {"serial": "A1", key: "report", "temp": 20.5}
            for key in ("action", "devices", "gw_mac", "gwts", "device_info", "bdaddrs", "advertisements")
        ),
        {"serial": "A1", "servicedata": "report", "temp": 20.5},
        {"serial": "A1", "manufacturerdata": "report", "temp": 20.5},
    ],
)
def test_ones_own_table_goes_before_every_familys_shape(message):
    key = "data.temp" if "temp" not in message else "temp"
    mine = {"format": "a", "match": ["serial", key], "device": "serial", "values": {key: {"quantity": "temperature"}}}
    for payload in (message, [message]):
        found = read(payload, mine)
        assert (type(found), found.values) == (Reading, {"temperature": 20.5})
    others = {key: value for key, value in message.items() if key != "serial"}
    assert not any(isinstance(entry, Reading) for entry in advertisements(Envelope([others], AT, IMSI), known(mine)))


def test_ones_own_table_goes_before_raw_data_of_a_family_said_beforehand_that_decodes():
    mine = {"format": "a", "match": ["litres"], "device": "id", "values": {"litres": {"quantity": "volume"}}}
    message = {"id": "A4:C1:38:02:83:F4", "manufacturerdata": "9904", "litres": 2}
    pinned = known(mine)._replace(families=(("imsi:*", "theengs"),))
    [found] = advertisements(Envelope(message, AT, IMSI), pinned)
    assert found.values == {"volume": 2}
    del message["litres"]
    assert [type(entry) for entry in advertisements(Envelope(message, AT, IMSI), pinned)] == [Advertisement]


@pytest.mark.parametrize(
    ("device", "namespace", "expected"),
    [
        ("7", None, "acme.th:7"),
        ("cbb8334c884f", None, "CB:B8:33:4C:88:4F"),
        ("cbb8334c884f", "address", "CB:B8:33:4C:88:4F"),
        ("867600000000001", "imei", "imei:867600000000001"),
        (867600000000001, "imei", "imei:867600000000001"),
        (None, None, f"imsi:{IMSI}"),
        ("", "imei", f"imsi:{IMSI}"),
    ],
)
def test_device_is_the_messages_own_id_or_the_sim(device, namespace, expected):
    assert read(MESSAGE | {"sensor": {"id": device}}, changed(namespace=namespace)).device == expected


@pytest.mark.parametrize(
    ("device", "namespace"),
    [("x" * 65, None), ("a\nb", None), (5, None), (5.5, "imei"), (True, "imei"), ({}, None), ("lobby", "address")],
)
def test_a_device_that_is_none_is_refused(device, namespace):
    with pytest.raises(DecodeError) as caught:
        read(MESSAGE | {"sensor": {"id": device}}, changed(namespace=namespace))
    assert caught.value.reason == "address"


def test_a_message_of_nobody_is_refused():
    with pytest.raises(DecodeError, match="which device"):
        read(MESSAGE | {"sensor": {}}, imsi=None)


@pytest.mark.parametrize(
    ("meaning", "value", "expected"),
    [
        ({"quantity": "temperature"}, 24.3, 24.3),
        ({"quantity": "temperature"}, 24.0, 24),
        ({"quantity": "temperature"}, -0.0, 0),
        ({"quantity": "temperature"}, "19.2", 19.2),
        ({"quantity": "temperature", "unit": "°F"}, 71.6, 22),
        ({"quantity": "temperature", "unit": "°F"}, 72, 22.2222222222222),
        ({"quantity": "temperature", "unit": "°F"}, -459.67, -273.15),
        ({"quantity": "temperature", "unit": "K"}, 293.15, 20),
        ({"quantity": "pressure", "unit": "hPa"}, 1008.22, 100822),
        ({"quantity": "acceleration_x", "unit": "mG"}, -64.0, -0.064),
        ({"quantity": "acceleration_x", "unit": "m/s²"}, 9.80665, 1),
        ({"quantity": "battery_voltage", "unit": "mV"}, 3007, 3.007),
        ({"quantity": "temperature", "scale": "0.1"}, 243, 24.3),
        ({"quantity": "temperature", "scale": "0.1", "unit": "°F"}, 716, 22),
        ({"quantity": "battery_voltage", "scale": "0.05", "offset": "1.5"}, 30, 3),
        ({"quantity": "speed", "unit": "km/h"}, 36, 10),
        ({"quantity": "door"}, True, True),
        ({"quantity": "door"}, 0, False),
        ({"quantity": "text"}, "hello", "hello"),
        ({"quantity": "button"}, "press", "press"),
        ({"quantity": "button", "map": {"1": "press"}}, 1.0, "press"),
        ({"quantity": "door", "map": {"true": False, "false": True}}, True, False),
        ({"quantity": "battery", "map": {"high": 100, "low": 5}}, "low", 5),
    ],
)
def test_value_is_converted_exactly(meaning, value, expected):
    found = values({"v": value}, v=meaning)[meaning["quantity"]]
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("meaning", "value"),
    [
        ({"quantity": "temperature"}, None),
        ({"quantity": "temperature", "absent": [-999]}, -999.0),
        ({"quantity": "temperature", "absent": ["n/a"]}, "n/a"),
        ({"quantity": "temperature", "range": [-40, 85]}, 85.01),
        ({"quantity": "battery_low", "map": {"unknown": None}}, "unknown"),
    ],
)
def test_value_that_means_none_is_left_out(meaning, value):
    assert values({"v": value}, v=meaning) == {}
    assert values({}, v=meaning) == {}


@pytest.mark.parametrize(
    ("quantity", "value"),
    [
        *(("temperature", value) for value in (float("nan"), float("inf"), -float("inf"), True, [], {}, "warm", "")),
        *(("temperature", value) for value in (10**15, -(10**15), 1e300, 1e-300, "1e5", "١", 2**80)),
        *(("door", value) for value in (2, "true", float("nan"), [])),
        *(("text", value) for value in ("", "x" * 65, 5, True)),
    ],
)
def test_value_that_makes_no_sense_is_refused(quantity, value):
    """Even what no JSON parser returns: a payload built by hand."""
    with pytest.raises(DecodeError) as caught:
        values({"v": value}, v={"quantity": quantity})
    assert (caught.value.reason, caught.value.where) == ("value", "x")


def test_a_value_that_absent_does_not_name_is_not_absent():
    """1 is not true, and 0 is not false."""
    assert values({"v": 1}, v={"quantity": "temperature", "absent": [True]}) == {"temperature": 1}


@pytest.mark.parametrize("count", [-1, 2**63, 1.5, "5", True])
def test_a_count_that_is_none_is_refused(count):
    with pytest.raises(DecodeError, match="a counter is a whole number"):
        read(MESSAGE | {"n": count})


def test_identity_is_what_was_measured_and_not_how_it_came():
    first = read(MESSAGE)
    assert read(MESSAGE | {"link": {"rssi": -90}, "at": 1_699_999_991, "other": 1}).identity == first.identity
    assert read(dict(reversed(MESSAGE.items()))).identity == first.identity
    both = MESSAGE | {"p": 1000}
    assert read(both, changed(values=dict(reversed(MINE["values"].items())))).identity == read(both).identity
    assert read(MESSAGE | {"t": 71.7}).identity != first.identity
    assert read(MESSAGE | {"n": 6}).identity != first.identity


@pytest.mark.parametrize(
    ("where", "message", "fits"),
    [
        ({"kind": 1}, {"kind": 1}, True),
        ({"kind": 1}, {"kind": True}, False),
        ({"kind": "th"}, {"kind": "TH"}, False),
        ({"kind": "th"}, {}, False),
        ({"sensor.id": "7"}, {}, True),
    ],
)
def test_a_source_is_told_by_its_keys_and_values(where, message, fits):
    entry = changed(where=where)
    if fits:
        assert read(MESSAGE | message, entry).format == "acme.th"
    else:
        with pytest.raises(DecodeError, match="no gateway known here"):
            read(MESSAGE | message, entry)


def entry(name, match, where=None):
    return {"format": name, "match": match, "where": where or {}, "values": {"t": {"quantity": "temperature"}}}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([entry(f"a{n}", ["serial", f"t{n}"]) for n in range(200)], {"serial": "A1", "t77": 20}),
        ([entry(f"a{n}", ["serial", f"data.t{n}"]) for n in range(200)], {"serial": "A1", "data": {"t77": 20}}),
        ([entry(f"a{n}", ["serial", "t"], {"ty": f"k{n}"}) for n in range(200)], {"serial": 1, "t": 2, "ty": "k77"}),
        ([entry(f"a{n}", ["serial", "t"], {"type": n}) for n in range(200)], {"serial": "A1", "t": 20, "type": 77}),
    ],
)
def test_telling_a_source_costs_the_same_however_many_are_declared(entries, message, monkeypatch):
    asked = []
    matches = Source.matches
    monkeypatch.setattr(Source, "matches", lambda self, message: asked.append(self) or matches(self, message))
    for sources in (entries[70:80], entries):
        source = table(orjson.dumps(sources)).source_of(message)
        assert source.format == "a77"
    assert len(asked) == 2, [source.format for source in asked]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"t": 1}, "first"),
        ({"a": 1}, "second"),
        ({"a": 1, "t": 1, "kind": "x"}, "first"),
        ({"kind": "x", "a": 1}, "second"),
        ({"kind": "x", "b": 1}, "third"),
        ({"kind": True, "b": 1}, "fourth"),
        ({"kind": 1.0, "b": 1}, "fifth"),
        ({"kind": None, "b": 1}, "sixth"),
        ({"kind": [1], "b": 1}, "seventh"),
        ({"kind": {}, "b": 1}, None),
        ({"kind": {"deep": {"er": "x"}}, "c": 1}, "eighth"),
        ({"kind.deep.er": "x", "c": 1}, None),
    ],
)
def test_the_first_entry_of_the_file_that_fits_counts_whichever_key_it_was_found_by(message, expected):
    entries = [
        entry("first", ["t"]),
        entry("second", ["a"]),
        *(
            entry(name, ["b"], {"kind": kind})
            for name, kind in (("third", "x"), ("fourth", True), ("fifth", 1), ("sixth", None), ("seventh", [1]))
        ),
        entry("eighth", ["c"], {"kind.deep.er": "x"}),
        entry("ninth", ["a", "t"]),
    ]
    source = table(orjson.dumps(entries)).source_of(message)
    assert (source and source.format) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "Acme"}, "maker.model"),
        ({"format": None}, "entry"),
        ({"match": []}, "not empty"),
        ({"match": "t"}, "list of keys"),
        ({"values": {}}, "not empty"),
        ({"values": {"t": {}}}, "quantity"),
        ({"values": {"t": {"quantity": "warmth"}}}, "no quantity is called 'warmth'"),
        ({"values": {"t": {"quantity": "temperature", "unit": "°R"}}}, "it can come in K, °F, not °R"),
        ({"values": {"t": {"quantity": "humidity", "unit": "g"}}}, "it can come in nothing else, not g"),
        ({"values": {"t": {"quantity": "temperature", "scale": "0"}}}, "not zero"),
        ({"values": {"t": {"quantity": "temperature", "scale": "a lot"}}}, "a lot"),
        ({"values": {"t": {"quantity": "temperature", "scale": "1/0"}}}, "entry acme.th"),
        ({"values": {"t": {"quantity": "temperature", "range": [5, 1]}}}, "least, greatest"),
        ({"values": {"t": {"quantity": "temperature", "range": ["a", "b"]}}}, "least, greatest"),
        ({"values": {"t": {"quantity": "temperature", "absent": -999}}}, "list"),
        ({"values": {"t": {"quantity": "temperature", "sacle": "2"}}}, "sacle"),
        ({"values": {"t": {"quantity": "door", "map": {"open": 1}}}}, "flag"),
        ({"values": {"t": {"quantity": "door", "map": {}}}}, "object"),
        ({"values": {"t": {"quantity": "door"}, "u": {"quantity": "door"}}}, "temperature_2"),
        ({"namespace": "An id"}, "namespace"),
        ({"device": 5}, "entry acme.th"),
        ({"key": 5}, "key"),
    ],
)
def test_an_entry_that_makes_no_sense_is_named_when_the_table_is_read(change, message):
    with pytest.raises(SettingsError, match=message):
        known(changed(**change))


@pytest.mark.parametrize("document", [b"{", b"{}", b"[5]", b"5"])
def test_a_file_that_is_no_table_is_refused(document):
    with pytest.raises(SettingsError, match="table of readings"):
        table(document)


def test_every_unit_converts_to_one_of_the_registry():
    assert {own for _, own in UNITS} <= {quantity.unit for quantity in QUANTITIES.values()}


def test_every_source_that_ships_says_where_its_facts_are_from():
    assert len(SHIPPED.sources) == len(orjson.loads(shipped()))
    assert all(entry["source"] for entry in orjson.loads(shipped()))


def record(payload, number=1):
    data = seal(payload, at=AT, imsi=IMSI)
    arrived = AT / 1000
    kinesis = {"data": base64.b64encode(data), "approximateArrivalTimestamp": arrived, "sequenceNumber": str(number)}
    stream = {
        "Data": data,
        "ShardId": "0",
        "SequenceNumber": str(number),
        "ApproximateArrivalTimestamp": datetime.fromtimestamp(arrived, UTC),
    }
    return {"kinesis": kinesis}, stream


MIXED = [
    [GPS, GPS, GPS | {"temp": "warm"}, GPS | {"type": -1}],
    {"clickType": 1, "clickTypeName": "SINGLE", "batteryLevel": 1},
    [{"type": "Gateway", "mac": "AC233FC001EA"}, {"type": "S1", "mac": "AC233FA03208", "temperature": None}],
    [
        {"type": "Gateway"},
        {"type": "S1", "mac": "AC233FA03208", "temperature": 20, "timestamp": "1999-01-01T00:00:00Z"},
    ],
    [
        {"type": "Gateway"},
        {"type": "S1", "mac": "AC233FA03208", "temperature": 20, "timestamp": "2003-01-01T00:00:00Z"},
    ],
]


def test_decoded_readings_are_stored_counted_and_checked():
    """The handler and the independent check of a run come to the same."""
    events, stream = zip(*(record(payload, number) for number, payload in enumerate(MIXED)), strict=True)
    batch = Batch(list(events), Rules(Limits(400 * 86400), samples=5))
    batch.decode()
    assert batch.received == 8
    assert (batch.rejected, dict(batch.ignored)) == (2, {"no_value": 1})
    assert batch.samples == ["AC:23:3F:A0:32:08 minew.s1"]
    cells = {(group.device, group.slot, name) for group in batch.groups.values() for name in group.cells}
    assert {device for device, _, _ in cells} == {f"imsi:{IMSI}", "AC:23:3F:A0:32:08"}
    expected = Expected.of(stream, Limits(400 * 86400))
    assert (expected.advertisements, set(expected.cells), expected.copies) == (8, cells, 1)
    assert (expected.rejected.total(), dict(expected.ignored)) == (2, {"no_value": 1})


def test_mesh_messages_are_stored_beside_advertisements_and_checked():
    """Two proxies hear one message, two seconds apart: its sequence number tells that it is one."""
    node = Reading("mesh:3ecaff672f673370.0005", AT, "mesh.sensor_status", {"temperature": 25.5}, 7, 0, None, -60)
    late = node._replace(at=AT - 2000, rssi=-90)
    other = orjson.Fragment(b'{"address":"CBB8334C884F","mesh":"820401"}')
    payloads = [orjson.Fragment(plain.encode([node])), orjson.Fragment(plain.encode([late])), other]
    events, stream = zip(*(record(payload, number) for number, payload in enumerate(payloads)), strict=True)
    batch = Batch(list(events), Rules(Limits(400 * 86400)))
    batch.decode()
    [group] = batch.groups.values()
    assert (group.device, [each.values for each in group.cells.values()]) == (node.device, [{"temperature": 25.5}])
    assert (batch.received, batch.rejected, dict(batch.ignored)) == (3, 0, {"unknown_format": 1})
    expected = Expected.of(stream, Limits(400 * 86400))
    assert ([device for device, _, _ in expected.cells], expected.copies) == ([node.device], 1)
    assert dict(expected.ignored) == {"unknown_format": 1}


def test_settings_say_what_is_known_of_the_gateways(tmp_path):
    path = tmp_path / "mine.json"
    path.write_bytes(orjson.dumps([MINE]))
    found = known_gateways(Settings(gateway_families={"imsi:29505*": "readings"}, gateway_readings=str(path)))
    [event], [stream] = zip(record(MESSAGE), strict=True)
    batch = Batch([event], Rules(Limits(400 * 86400), known=found))
    batch.decode()
    assert [group.device for group in batch.groups.values()] == ["acme.th:7"]
    assert len(Expected.of([stream], Limits(400 * 86400), known=found).cells) == 1
    with pytest.raises(SettingsError, match=r"GATEWAY_READINGS: .*nothing"):
        known_gateways(Settings(gateway_readings=str(tmp_path / "nothing.json")))
    assert known_gateways(Settings()) == Known()


def test_raw_data_count_more_than_what_the_gateway_decoded():
    heard = advertisements(
        Envelope({"id": "A4:C1:38:02:83:F4", "model_id": "x", "tempc": 19, "manufacturerdata": "9904"}, AT)
    )
    assert [type(entry) for entry in heard] == [Advertisement]


def test_a_list_is_no_message_of_a_source():
    with pytest.raises(DecodeError):
        raise advertisements(Envelope([[MESSAGE]], AT, IMSI), known(MINE)._replace(families=(("imsi:*", "readings"),)))[
            0
        ]


def test_the_readmes_entries_work():
    text = (Path(readings.__file__).parent / "README.md").read_text()
    examples = [
        orjson.loads(block) for block in re.findall(r"^    ([\[{]{1,2}\"format\".*(?:\n     .*)+)", text, re.MULTILINE)
    ]
    [[acme], tracker] = examples
    message = {"serial": "7", "temp_f": 71.6, "kind": "th", "air": {"pressure": 1013.25}, "batt": 30, "state": "low"}
    assert read(message, acme).values == {
        "temperature": 22, "pressure": 101325, "battery_voltage": 3, "battery_low": True
    }  # fmt: skip
    documented = {"type": 4, "bat": 3, "sns_valid_no": 3, "adv_add": "0123456789AB", "sns1": 19.81640625, "sns2": 57.75}
    found = read(documented, tracker)
    assert (found.device, found.values) == ("01:23:45:67:89:AB", {"temperature": 19.81640625, "humidity": 57.75})
