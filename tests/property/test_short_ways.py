"""The short ways: what opens them (a model, a name, a UUID, an advertisement of the kind heard before), and that they
say what the makers' decoders say."""

from __future__ import annotations

from contextlib import nullcontext
from importlib import import_module
from itertools import count
from unittest import mock

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from processor.decode import short
from processor.decode.advertisement import manufacturer_data, service_data, structure
from processor.decode.fields import Format
from processor.decode.formats import FIXED, MODELLED, atc, bthome, govee, inkbird, mibeacon, qingping, switchbot
from processor.errors import DecodeError
from tests.benchmarks.messages import kinds, messages

decode = import_module("processor.decode")  # `processor` has a function of this name
ADDRESS = "A4:C1:38:02:83:F4"
MAC = bytes.fromhex(ADDRESS.replace(":", ""))
FLAGS = b"\x02\x01\x06"
LOCAL_NAMES = ("sps", "tps", "spsx", "TP357 (2B3C)", "TP393", "TP972", "GVH5101_1", "GVH5106_1", "GVH5178_1", "")
UUIDS = (b"\x88\xec", b"\x51\x81", b"\x51\x82", b"\x51\x84")
MODELS = (None, *LOCAL_NAMES, *switchbot.MODELS)


def both(data: bytes, model: str | None) -> tuple[list[object], list[object]]:
    """Return what is read of an advertisement by the short ways and without them; errors in their place."""
    beside = decode._told_by.__wrapped__
    slow = mock.patch.multiple(
        decode,
        _whole={}.get,
        _modelled={}.get,
        _told_by=lambda *asked: beside(*asked)._replace(nokia={}, borrowed={}, alone=False),
        _alone={},
        _told={},
    )
    found: list[list[object]] = []
    for way in (nullcontext(), slow):
        with way:
            try:
                read = decode.readings(data, ADDRESS, 7, gateway="G", rssi=-60, model=model)
                found.append([(*each, [(type(v), k) for k, v in each.values.items()]) for each in read])
            except DecodeError as error:
                found.append([str(error), error.reason, error.offset])
    event(f"read: {bool(found[0])}")
    return found[0], found[1]


def runs(size: int) -> st.SearchStrategy[bytes]:
    """Return payloads of a size, sometimes all zeros or ones from some byte on: sentinels."""
    whole = st.binary(min_size=size, max_size=size)
    cut = st.tuples(whole, st.integers(0, size), st.sampled_from([b"\0", b"\xff"]))
    return whole | cut.map(lambda drawn: drawn[0][: drawn[1]] + drawn[2] * (size - drawn[1]))


@given(model=st.sampled_from(MODELS), data=st.data())
def test_switchbot_s_by_the_remembered_model(model, data):
    """Whatever the manufacturer data hold, and whether its service data stand beside."""
    company = data.draw(st.sampled_from([switchbot.COMPANY, switchbot.COMPANY_NORDIC]))
    size = data.draw(st.integers(6, 22))
    beside = data.draw(st.sampled_from([b"", service_data(switchbot.UUID, b"T\0\x64\x05\x99\x2f")]))
    found, expected = both(FLAGS + manufacturer_data(company, data.draw(runs(size))) + beside, model)
    assert found == expected


@pytest.mark.parametrize("table", atc.PLAIN, ids=lambda table: table.name)
@given(data=st.data())
def test_atc_s_only_from_the_sender_itself(table, data):
    payload = data.draw(st.sampled_from([MAC, MAC[::-1], bytes(6)])) + data.draw(runs(table.length - 6))
    found, expected = both(FLAGS + service_data(atc.UUID, payload), None)
    assert found == expected


@pytest.mark.parametrize("name", [None, *LOCAL_NAMES])
@given(model=st.sampled_from(MODELS), data=st.data())
def test_what_a_name_or_a_uuid_beside_tells(name, model, data):
    """Inkbird's CRC right or not; Nokia's company identifier or any; the name before or after, or none."""
    if data.draw(st.booleans()):
        payload = govee.COMPANY_NOKIA.to_bytes(2, "little") + data.draw(runs(data.draw(st.sampled_from([6, 8, 9]))))
    else:
        payload = data.draw(runs(data.draw(st.sampled_from([6, 7, 9, 16, 19]))))
    if len(payload) == inkbird.LENGTH and data.draw(st.booleans()):
        payload = payload[:5] + inkbird.crc(payload[:5]) + payload[7:]
    beside = b"" if name is None else structure(0x09, name.encode())
    beside += b"".join(structure(0x03, uuid) for uuid in data.draw(st.lists(st.sampled_from(UUIDS), max_size=2)))
    parts = data.draw(st.permutations([structure(0xFF, payload), beside]))
    found, expected = both(FLAGS + b"".join(parts), model)
    assert found == expected


def test_every_switchbot_that_only_its_model_tells_has_a_short_way():
    assert {model for model, _ in MODELLED} == set(switchbot.MODELS)


ALONE = {
    **{f"{number:04X}-{table.name}": (ad_type, number, table, None) for ad_type, number, tables in FIXED
       for table in tables},
    **{f"{model}-{table.name}": (0xFF, switchbot.COMPANY, table, model) for table in switchbot.MANUFACTURER
       for model in sorted(table.models)},
}  # fmt: skip


@pytest.mark.parametrize("kind", ALONE)
@given(data=st.data())
def test_an_advertisement_that_starts_like_one_before(kind, data):
    """The bytes after the first are any, of the same length or not, and something stands beside or nothing."""
    ad_type, number, table, model = ALONE[kind]
    magic = table.magic or bytes([data.draw(st.sampled_from([0, 0xA4]))])
    known = {} if data.draw(st.booleans()) else None
    with mock.patch.object(decode, "_alone", decode._alone if known is None else known):
        for _ in range(3):
            rest = data.draw(runs(table.length - len(magic)))
            payload = magic + rest if data.draw(st.booleans()) else magic[:1] + data.draw(runs(table.length - 1))
            beside = data.draw(st.sampled_from([b"", b"", b"", structure(0x09, b"tps"), b"\0", b"\1"]))
            cut = data.draw(st.sampled_from([None, None, None, -1]))
            advertisement = FLAGS + structure(ad_type, number.to_bytes(2, "little") + payload)[:cut] + beside
            found, expected = both(advertisement, model)
            assert found == expected


def rows(data: st.DataObject, format_name: str) -> bytes:
    """Return service data, its identifier first: what stands before the objects, and a row of them."""
    if format_name == "bthome":
        objects = [bytes([each.id]) for each in data.draw(st.lists(st.sampled_from(bthome.BTHOME.objects), max_size=3))]
        head = data.draw(st.sampled_from([b"\x40", b"\x44", b"\x42" + MAC[::-1], b"\x41"]))
        return b"\xd2\xfc" + head + b"".join(each + data.draw(runs(data.draw(st.integers(0, 4)))) for each in objects)
    table = mibeacon.MIBEACON if format_name == "mibeacon" else qingping.QINGPING
    some = [each for each in table.objects if each.products is None or 0x055B in each.products or 0x40 in each.products]
    row = b""
    for _ in range(data.draw(st.integers(0, 3))):
        each = data.draw(st.sampled_from(some))
        size = each.length if data.draw(st.integers(0, 9)) else data.draw(st.integers(0, 5))
        row += each.id.to_bytes(table.id_size, "little") + bytes([size]) + data.draw(runs(size))
    if format_name == "qingping":
        return b"\xcd\xfd" + data.draw(st.sampled_from([b"\x08\x0c", b"\x48\x12"])) + MAC[::-1] + row
    capability = data.draw(st.sampled_from([b"", b"\x08", b"\x20\x01\x02"]))
    control = 0x50 | (0x20 if capability else 0)
    return b"\x95\xfe" + bytes([control]) + b"\x50\x5b\x05\x01" + MAC[::-1] + capability + row


@pytest.mark.parametrize("format_name", ["bthome", "mibeacon", "qingping"])
@given(data=st.data())
def test_a_row_of_objects_like_one_before(format_name, data):
    """First a row, then others of the same types, then some in which any byte is another one, then its start alone."""
    with mock.patch.object(decode, "_alone", {}), mock.patch.object(short, "_left", count()):
        first = rows(data, format_name)
        for _ in range(4):
            payload = bytearray(first)
            for place in data.draw(st.sets(st.integers(3, len(first) - 1), max_size=3)) if len(first) > 3 else ():
                payload[place] = data.draw(st.integers(0, 255))
            beside = data.draw(
                st.sampled_from([b"", b"", structure(0x09, b"tps"), structure(0x16, first), b"\0", b"\1"])
            )
            found, expected = both(FLAGS + structure(0x16, bytes(payload)) + beside, None)
            assert found == expected
            found, expected = both(FLAGS + structure(0x16, first), None)
            assert found == expected


SHORT = """
    aranet.2 aranet.4 aranet.radiation aranet.radon atc1441 bluemaestro.t bluemaestro.thd bluemaestro.thd.22
    bluemaestro.thpd bthome.2 govee.h5051 govee.h5074 govee.h5075 govee.h5101 govee.h5178 govee.h5179 govee.h5181
    govee.h5182 ibeacon inkbird.ibs mibeacon pvvx pvvx.short qingping ruuvi.3 ruuvi.5 ruuvi.6 ruuvi.e1 switchbot.climate
    switchbot.climate_co2 switchbot.contact switchbot.contact.passive switchbot.hub2 switchbot.leak switchbot.meter
    switchbot.motion switchbot.motion.passive thermopro.tp35x
""".split()  # noqa: SIM905 - a table


@pytest.mark.parametrize("kind", SHORT)
def test_what_is_like_one_before_is_not_walked(kind):
    """Else the short ways could be lost, and nobody would see it but in the benchmark."""
    first, second = messages(kind, 2, sensors=1)
    with mock.patch.multiple(decode, _alone={}, _told={}), mock.patch.object(short, "_left", count()):
        [_] = decode.readings(first.data, first.address, 7, model=first.model)
        with mock.patch.object(decode, "_walked", side_effect=AssertionError):
            [reading] = decode.readings(second.data, second.address, 7, model=second.model)
    assert reading.values == second.values


@pytest.mark.parametrize("kind", kinds())
@settings(max_examples=15)
@given(data=st.data())
def test_any_advertisement_like_known_ones(kind, data):
    """Of every format: after one of a sensor's, others of which bytes are changed, cut off, put in between or added."""
    first, *others = messages(kind, 4, sensors=1)
    with mock.patch.multiple(decode, _alone={}, _told={}), mock.patch.object(short, "_left", count()):
        both(first.data, first.model)
        for other in others:
            advertisement = bytearray(other.data)
            for _ in range(data.draw(st.integers(0, 3))):
                place = data.draw(st.integers(0, len(advertisement) - 1))
                advertisement[place] = data.draw(st.integers(0, 255))
            place = data.draw(st.integers(0, len(advertisement)))
            advertisement[place:place] = data.draw(
                st.sampled_from([b"", b"", b"", b"\0", b"\x02\x0a\x08", b"\x02\xff"])
            )
            end = data.draw(st.sampled_from([None, None, None, -1, -2]))
            model = data.draw(st.sampled_from([first.model, first.model, None, "sps"]))
            found, expected = both(bytes(advertisement[:end]), model)
            assert found == expected


@given(data=st.data())
def test_apple_s_like_one_before(data):
    """They are the neighbours' phones nearly always, and iBeacons and Jaalee's else."""
    model = data.draw(st.sampled_from([None, "sps"]))
    with mock.patch.object(decode, "_alone", {}):
        for _ in range(3):
            head = data.draw(st.sampled_from([b"\x10", b"\x12", b"\x02", b"\x02\x15", b""]))
            payload = head + data.draw(runs(data.draw(st.sampled_from([4, 6, 7, 21, 22, 24]))))
            beside = data.draw(st.sampled_from([b"", b"", structure(0x09, b"sps"), b"\1"]))
            found, expected = both(FLAGS + manufacturer_data(0x004C, payload) + beside, model)
            assert found == expected


UNKNOWN = {
    "company": manufacturer_data(0x0075, bytes(24)),
    "company, a UUID before and a name after": (
        structure(0x03, b"\x0f\x18") + manufacturer_data(0x0075, b"\1") + structure(0x09, b"Galaxy")
    ),
    "device of Apple's": manufacturer_data(0x004C, bytes.fromhex("10055b1c0f6a42")),
    "service, its UUID before": structure(0x03, b"\x9f\xfe") + service_data(0xFE9F, bytes(20)),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_unknown_is_not_walked_twice(name):
    with mock.patch.multiple(decode, _told={}, _alone={}):
        assert decode.readings(FLAGS + UNKNOWN[name], ADDRESS, 7) == []
        with mock.patch.object(decode, "_walked", side_effect=AssertionError):
            assert decode.readings(FLAGS + UNKNOWN[name], ADDRESS, 7) == []


BATTERY = service_data(bthome.UUID, b"\x40\x01\x32")
INKBIRD = structure(0xFF, b"\xc1\x00\xc8\x13\x00" + inkbird.crc(b"\xc1\x00\xc8\x13\x00") + b"\x53\x00")


@pytest.mark.parametrize(
    ("alone", "formats"),
    [(INKBIRD + structure(0x09, b"sps"), ["inkbird.ibs"]), (UNKNOWN["device of Apple's"], []), (BATTERY, ["bthome.2"])],
    ids=["inkbird", "apple", "bthome"],
)
def test_what_stands_beside_is_read_however_often_it_stood_alone(alone, formats):
    with mock.patch.multiple(decode, _alone={}, _told={}):
        for _ in "ab":
            assert [each.format for each in decode.readings(FLAGS + alone, ADDRESS, 7)] == formats
        for _ in "ab":
            found = [each.format for each in decode.readings(FLAGS + alone + BATTERY, ADDRESS, 7)]
            assert found == [*formats, "bthome.2"]


@pytest.mark.parametrize(
    "payload",
    [
        service_data(bthome.UUID, b"\x40\x01\x32\x01\x33"),
        service_data(qingping.UUID, b"\x08\x0c" + MAC[::-1] + b"\x02\x01\x32\x02\x01\x33"),
    ],
    ids=["bthome", "qingping"],
)
def test_a_quantity_that_comes_twice_is_numbered_each_time(payload):
    with mock.patch.object(decode, "_alone", {}):
        for _ in "abc":
            [reading] = decode.readings(FLAGS + payload, ADDRESS, 7)
            assert reading.values == {"battery": 50, "battery_2": 51}


def test_govee_s_highest_temperature_is_a_hundred_degrees():
    """By the short way and the decoder behind it: a tenth more is an altered packet."""
    highest, beyond = (
        FLAGS + manufacturer_data(govee.COMPANY, b"\0" + (tenths * 1000 + 999).to_bytes(3) + b"\x32\0")
        for tenths in (1000, 1001)
    )
    for _ in "ab":
        [reading] = decode.readings(highest, ADDRESS, 7)
        assert reading.values == {"temperature": 100.0, "humidity": 99.9, "battery": 50}
        with pytest.raises(DecodeError, match=r"100\.1 °C"):
            decode.readings(beyond, ADDRESS, 7)


def test_no_more_is_remembered_than_that():
    """Strangers send as many beginnings as they like."""
    ways: dict[object, object] = {}
    for number in range(decode._MOST + 2):
        decode._learn(ways, number.to_bytes(8), None, decode.decode)
    assert len(ways) == 2


def test_no_more_rows_are_compiled_than_that():
    compiled = mock.Mock(return_value=short._no_way)
    with (
        mock.patch.object(decode, "_alone", {}),
        mock.patch.object(short, "_left", iter(range(1))),
        mock.patch.object(Format, "compile_alone", compiled),
    ):
        for battery in (0x01, 0x2E) * 2:  # two rows of one object, which start alike
            data = FLAGS + service_data(bthome.UUID, bytes([0x40, battery, 50]))
            [reading] = decode.readings(data, ADDRESS, 7)
            assert list(reading.values.values()) == [50]
    assert compiled.call_count == 1
