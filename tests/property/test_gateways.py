"""Encoders and decoders of the gateways undo each other, and no object in a payload surprises them."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction

import orjson
from hypothesis import given
from hypothesis import strategies as st

from processor import DecodeError
from processor.decode.envelope import Envelope
from processor.decode.gateways import (
    FAMILIES,
    Advertisement,
    Known,
    advertisements,
    aprilbrother,
    binary,
    cassia,
    hci,
    ingics,
    messagepack,
    minew,
    moko,
    openblocks,
    plain,
    ruuvi,
    teltonika,
    theengs,
)
from processor.decode.gateways.readings import table
from processor.decode.gateways.values import UNITS
from processor.reading import QUANTITIES, Reading

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
KEYS = [
    *("data", "tags", "gw_mac", "ts", "gwts", "rssi", "timestamp", "advertisements", "address", "gateway"),
    *("devices", "mac", "device_info", "msg_id", "value", "raw_data", "bdaddrs", "bdaddr", "action", "adData", "type"),
    *("id", "servicedata", "servicedatauuid", "manufacturerdata", "deviceId", "time", "temperature", "model_id", "rs"),
    *("bat", "lat", "rawData", "clickType", "clickTypeName", "batteryLevel", "unixtime", "UTCtime"),
    *("mesh", "network", "sequence"),
]
TEXTS = st.text(max_size=5) | st.sampled_from(
    ["0x20", "Gateway", "S1", "data.scan", "$GPRP,,,-1,", "CB:B8:33:4C:88:4F", "SINGLE", "2023-11-14T22:13:20Z"]
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.binary(max_size=9) | st.tuples(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS) | st.integers() | st.text(max_size=3), inner, max_size=5)
    ),
    max_leaves=20,
)


GATEWAY = "C8:25:2D:8E:9C:2C"
NAMED = HEARD.filter(lambda entry: entry.address)
IDENTITIES = st.tuples(st.binary(min_size=10, max_size=10), st.binary(min_size=6, max_size=6))


def heard(data, at=AT):
    return advertisements(Envelope(data, at, GATEWAY))


@given(st.lists(HEARD, max_size=300))
def test_binary_frames_come_back_to_the_millisecond(entries):
    assert heard(binary.encode(entries, AT)) == entries


@given(st.lists(HEARD, max_size=10), st.booleans())
def test_plain_json_comes_back_to_the_millisecond(entries, wrapped):
    sent = plain.encode(entries, gateway="C8:25:2D:8E:9C:2C", sent_at=AT) if wrapped else plain.encode(entries)
    assert heard(orjson.loads(sent)) == entries


NODES = ADDRESSES | st.integers(1, 0x7FFF).map(lambda element: f"mesh:3ecaff672f673370.{element:04x}")
STATUSES = st.builds(
    Reading,
    NODES,
    st.integers(0, 65_534).map(lambda age: AT - age),
    st.just("mesh.sensor_status"),
    st.fixed_dictionaries({}, optional={"co2": st.integers(0, 65_533), "temperature": st.integers(-273, 327)}),
    st.integers(0, 2**24 - 1) | st.none(),
    st.just(0),
    st.just(GATEWAY),
    st.integers(-128, 126) | st.none(),
)


@given(st.lists(HEARD | STATUSES, max_size=10), st.booleans())
def test_mesh_messages_come_back_beside_advertisements(entries, wrapped):
    sent = orjson.loads(plain.encode(entries, gateway=GATEWAY, sent_at=AT) if wrapped else plain.encode(entries))
    found = [entry._replace(digest=0) if isinstance(entry, Reading) else entry for entry in heard(sent)]
    assert found == entries


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
    assert all(type(entry) in (Advertisement, Reading) or isinstance(entry, DecodeError) for entry in found)


@given(ANYTHING, st.sampled_from(sorted(FAMILIES)))
def test_any_object_of_any_family_said_beforehand(payload, family):
    with suppress(DecodeError):
        advertisements(Envelope(payload, AT, "1"), Known.of({"imsi:*": family}))


FIRST = [b"\xbb\x01", b"\x04\x3e", b"\x3e", b"$GPRP,", bytes(4), b"\x82\xa7devices", b"\x81\xa7devices\x91\xc4"]


@given(st.sampled_from(FIRST), st.binary(max_size=200))
def test_any_bytes_after_a_familys_first_ones(first, data):
    with suppress(DecodeError):
        heard(first + data)


@given(st.sampled_from(sorted(FAMILIES)), st.binary(max_size=200))
def test_any_bytes_of_any_family_said_beforehand(family, data):
    with suppress(DecodeError):
        advertisements(Envelope(data, AT, "1"), Known.of({"imsi:*": family}))


SHORT = NAMED.map(lambda entry: entry._replace(data=entry.data[:254] or b"\0"))
ENCODERS = {
    "minew.json": lambda entries: orjson.loads(minew.encode_post(entries, GATEWAY, AT)),
    "moko": lambda entries: orjson.loads(moko.encode(entries, GATEWAY)),
    "cassia.mqtt": lambda entries: orjson.loads(cassia.encode_message(entries, GATEWAY, AT)),
    "ingics": lambda entries: ingics.encode(entries, GATEWAY),
}
CLOCKLESS = {
    "aprilbrother.json": lambda entries: orjson.loads(aprilbrother.encode_json(entries, GATEWAY)),
    "aprilbrother": lambda entries: aprilbrother.encode(entries, GATEWAY),
    "hci": hci.encode,
}


@given(st.sampled_from(sorted(ENCODERS)), st.lists(SHORT, min_size=1, max_size=20))
def test_families_with_a_clock_come_back_to_the_millisecond(name, entries):
    assert heard(ENCODERS[name](entries)) == entries


@given(st.sampled_from(sorted(CLOCKLESS)), st.lists(SHORT, min_size=1, max_size=20))
def test_families_without_a_clock_come_back_at_the_envelopes_time(name, entries):
    assert heard(CLOCKLESS[name](entries)) == [entry._replace(at=AT) for entry in entries]


@given(st.lists(SHORT, max_size=20))
def test_minews_long_binary_comes_back_sensor_by_sensor(entries):
    found = heard(minew.encode_frame(entries, GATEWAY))
    assert sorted(found, key=repr) == sorted((entry._replace(at=AT) for entry in entries), key=repr)


@given(SHORT)
def test_single_messages_come_back(entry):
    assert heard(orjson.loads(openblocks.encode(entry))) == [entry]
    assert heard(orjson.loads(cassia.encode(entry))) == [entry._replace(at=AT)]


@given(NAMED, st.binary(min_size=4, max_size=20), st.binary(min_size=4, max_size=20), st.booleans())
def test_what_openmqttgateway_takes_apart_is_put_together_again(entry, service, manufacturer, timed):
    data = bytes((len(service) + 1, 0x16)) + service + bytes((len(manufacturer) + 1, 0xFF)) + manufacturer
    [found] = heard(orjson.loads(theengs.encode(entry._replace(data=data), timed=timed)))
    assert found == entry._replace(data=data, at=entry.at // 1000 * 1000 if timed else AT)


@given(st.binary(min_size=255, max_size=1650), st.one_of(ADDRESSES, st.none()))
def test_long_and_anonymous_advertisements_come_in_parts(data, address):
    entry = Advertisement(address, -60, AT, data, GATEWAY)
    assert heard(hci.encode([entry])) == [entry]


@given(st.lists(SHORT, min_size=1, max_size=5), st.sampled_from(["minew", "hci"]), st.data())
def test_a_cut_binary_message_loses_nothing_in_silence(entries, name, data):
    message = hci.encode(entries) if name == "hci" else minew.encode_frame(entries, GATEWAY)
    whole = heard(message)
    cut = data.draw(st.integers(1, len(message) - 1))
    try:
        found = heard(message[:cut])
    except DecodeError:
        return
    assert found == whole[: len(found)] or (
        found[:-1] == whole[: len(found) - 1] and isinstance(found[-1], DecodeError)
    )
    assert len(found) == len(whole) or isinstance(found[-1], DecodeError) or name == "hci"


def beacon(identity, at, rssi):
    namespace, instance = (part.hex() for part in identity)
    values = {"namespace": namespace, "instance": instance}
    device = f"eddystone:{namespace}.{instance}"
    return Reading(device, at, "teltonika.eddystone", values, None, 0, GATEWAY, rssi)


@given(
    st.lists(st.builds(beacon, IDENTITIES, st.integers(10**12, AT), st.integers(-128, 126) | st.none()), max_size=300)
)
def test_teltonikas_beacons_come_back(entries):
    packets = teltonika.encode(entries)
    assert [entry._replace(digest=0) for entry in (heard(packets) if packets else [])] == entries


PACKED = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.binary(max_size=300),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.binary(max_size=40), inner, max_size=20),
    max_leaves=30,
)


@given(PACKED)
def test_messagepack_comes_back(value):
    packed = messagepack.pack(value)
    assert messagepack.unpack(b"\xc0" + packed + b"\xc0", 1) == (value, len(packed) + 1)


@given(st.binary(max_size=200))
def test_messagepack_of_any_bytes(data):
    with suppress(DecodeError):
        messagepack.unpack(data)


NAMES = st.sampled_from(["a", "b", "c"])
PATHS = st.lists(NAMES, min_size=1, max_size=2).map(".".join)
PLAIN = st.sampled_from([None, True, False, 0, 1, 1.0, "a"]) | st.just([1])
ENTRIES = st.lists(
    st.fixed_dictionaries(
        {
            "format": st.just("a"),
            "match": st.lists(PATHS, min_size=1, max_size=3),
            "where": st.dictionaries(PATHS, PLAIN | st.dictionaries(NAMES, PLAIN, max_size=1), max_size=2),
            "values": st.just({"t": {"quantity": "temperature"}}),
        }
    ),
    max_size=12,
)
NESTED = st.recursive(PLAIN, lambda inner: st.dictionaries(NAMES, inner, max_size=3), max_leaves=8)


@given(ENTRIES, st.dictionaries(NAMES, NESTED, max_size=3))
def test_a_source_found_by_its_rarest_key_is_the_one_that_asking_each_in_turn_finds(entries, message):
    declared = table(orjson.dumps(entries))
    in_turn = next((source for source in declared.sources if source.matches(message)), None)
    assert declared.source_of(message) is in_turn


@given(st.sampled_from(sorted(UNITS)), st.integers(-(10**6), 10**6), st.integers(0, 6))
def test_a_conversion_gives_the_float_nearest_to_the_exact_result(units, digits, places):
    """Against Fraction, whatever way the table computes."""
    unit, own = units
    names = {quantity.unit: quantity.name for quantity in QUANTITIES.values() if quantity.kind == "number"}
    entry = {"format": "a", "match": ["v"], "values": {"v": {"quantity": names[own], "unit": unit}}}
    value = float(f"{digits}e-{places}")
    [reading] = table(orjson.dumps([entry])).readings({"v": value}, AT, "1")
    factor, offset = (Fraction(*map(Fraction, (text + "/1").split("/")[:2])) for text in UNITS[units])
    exact = Fraction(repr(value)) * factor + offset
    found = Fraction(repr(reading.values[names[own]]))
    assert found == exact or abs(found - exact) <= abs(exact) / 10**14
