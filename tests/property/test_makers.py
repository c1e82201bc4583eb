"""The makers read by hand: any bytes beside any name give values or a DecodeError; what is encoded decodes the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.decode import readings
from processor.decode.advertisement import manufacturer_data, service_data, structure
from processor.decode.custom import Custom
from processor.decode.fields import Decoded
from processor.decode.formats import (
    BY_NAME,
    BY_UUID,
    FORMATS,
    MANUFACTURERS,
    SERVICES,
    govee,
    inkbird,
    sensorpush,
    teltonika,
)
from processor.errors import DecodeError

ADDRESS = "54:48:E6:8F:80:A5"
MAKERS = {
    decoder.__module__ + "." + decoder.__name__: decoder for decoder in (*MANUFACTURERS.values(), *SERVICES.values())
}
MAKERS |= {decoder.__module__ + "." + decoder.__name__: decoder for decoder in (*BY_NAME.values(), *BY_UUID.values())}
NAMES = ("sps", "tps", "TP357 (1)", "TP962R", "SensorPush HT.w 1", "GVH5106_1", "GV51401", "B51781", "IM", "EP", "\xe9")
UUIDS = (b"\x88\xec", b"\xe5\xfe", *govee.MEAT)
BESIDE = st.sampled_from(
    [b"", *(structure(0x09, name.encode()) for name in NAMES), *(structure(0x03, uuid) for uuid in UUIDS)]
    + [structure(0x07, uuid) for uuid in (sensorpush.UUID, sensorpush.UUID_HT1)]
)
LENGTHS = sorted({table.length for table in FORMATS if hasattr(table, "length")} | {4, 5, 6, 7, 8, 9, 13})
STARTS = sorted({table.magic[:2] for table in FORMATS if hasattr(table, "magic")})


def attempt(what):
    """What a call gives, or the DecodeError that it raises."""
    try:
        return what()
    except DecodeError as error:
        return error


@st.composite
def payloads(draw):
    size = draw(st.sampled_from(LENGTHS) | st.integers(0, 40))
    return (draw(st.sampled_from(STARTS)) + draw(st.binary(min_size=size, max_size=size)))[:size]


@pytest.mark.parametrize("maker", MAKERS)
@given(data=payloads(), whole=BESIDE, model=st.none() | st.sampled_from(NAMES))
def test_any_bytes_give_values_or_a_decode_error(maker, data, whole, model):
    decoded = attempt(lambda: MAKERS[maker](data, ADDRESS, {}, whole, model))
    if isinstance(decoded, DecodeError):
        assert decoded.reason
        assert decoded.where
        return
    assert decoded is None or isinstance(decoded, Decoded)
    for value in decoded.values.values() if decoded else ():
        assert type(value) in (int, float, str, bool)
        assert value == value  # NaN is not


@given(payloads(), BESIDE, st.none() | st.sampled_from(NAMES), st.integers(0, 60))
def test_any_manufacturer_data_beside_any_name_cut_anywhere(payload, beside, model, cut):
    data = (structure(0xFF, payload) + beside)[:cut]
    found = attempt(lambda: readings(data, ADDRESS, 1, model=model))
    assert isinstance(found, DecodeError) or all(reading.device == ADDRESS for reading in found)


def steps(low, high, divisor):
    return st.integers(low, high).map(lambda raw: raw / divisor)


TENTHS, PERCENT = steps(-400, 1000, 10), steps(0, 999, 10)
BATTERY = st.integers(0, 100)
CLIMATE = {"temperature": TENTHS, "humidity": PERCENT, "battery": BATTERY}
HUMIDITY = steps(0, 40000, 400)
VALUES = {
    "govee.h5075": CLIMATE,
    "govee.h5101": CLIMATE,
    "govee.h5108": CLIMATE | {"humidity": steps(1, 999, 10)},
    "govee.h5178": CLIMATE,
    "govee.h5140": {"temperature": TENTHS, "humidity": PERCENT, "co2": st.integers(0, 65535)},
    "govee.h5106": {"temperature": TENTHS, "humidity": PERCENT, "pm2_5": st.integers(0, 999)},
    "sensorpush.htw": {"temperature": steps(-16000, 50000, 400), "humidity": HUMIDITY},
    "sensorpush.htp": {
        "temperature": steps(-16000, 56000, 400), "humidity": HUMIDITY, "pressure": st.integers(30000, 125000)
    },
    "teltonika.eye": {
        "battery_low": st.booleans(), "temperature": steps(-32768, 32767, 100), "humidity": st.integers(0, 255),
        "battery_voltage": steps(200, 455, 100),
    },
}  # fmt: skip
CUSTOM = {table.name: table for table in FORMATS if isinstance(table, Custom)}


@pytest.mark.parametrize("name", VALUES)
@given(data=st.data())
def test_what_is_encoded_decodes_the_same(name, data):
    values = data.draw(st.fixed_dictionaries(VALUES[name]))
    assert CUSTOM[name].decode(CUSTOM[name].encode(values)).values == values


@given(st.integers(0, 4095), st.integers(0, 16383))
def test_an_ht1_says_again_what_it_said(humidity, temperature):
    said = sensorpush.HT1.decode((1 << 26 | temperature << 12 | humidity).to_bytes(4, "little")).values
    assert sensorpush.HT1.decode(sensorpush.HT1.encode(said)).values == said


@given(st.integers(0, 255), st.binary(min_size=10, max_size=10))
def test_a_teltonika_says_again_what_it_said_with_any_flags(flags, rest):
    data = bytes((1, flags)) + rest
    for size in range(2, 12):
        try:
            said = teltonika.EYE.decode(data[:size]).values
        except DecodeError:
            continue
        assert teltonika.EYE.decode(teltonika.EYE.encode(said)).values == said
        return
    raise AssertionError("no length fits the flags")


@given(st.binary(min_size=5, max_size=5), st.binary(min_size=2, max_size=2))
def test_an_inkbird_s_crc_is_checked(checked, crc):
    """And its encoder's fits."""
    data = checked + crc + b"\x64\x08"
    found = attempt(lambda: inkbird.decode(data, ADDRESS, {}, model="sps"))
    assert (isinstance(found, DecodeError) and found.reason == "crc") == (crc != inkbird.crc(checked))
    values = inkbird.IBS.compile()(data, None).values
    again = inkbird.encode(values)
    assert again[5:7] == inkbird.crc(again[:5])
    assert inkbird.IBS.compile()(again, None).values == values


@given(st.binary(max_size=30))
def test_a_company_that_is_nobody_s_gives_nothing(payload):
    assert readings(manufacturer_data(0x1337, payload), ADDRESS, 1) == []
    assert readings(service_data(0x1337, payload), ADDRESS, 1) == []
