"""SwitchBot: every model's service and manufacturer data, and where the model comes from."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from processor.decode import readings
from processor.decode.advertisement import manufacturer_data, service_data
from processor.decode.formats import switchbot
from processor.errors import DecodeError

FILES = Path(__file__).parents[1] / "vectors"
VECTORS = json.loads((FILES / "switchbot.json").read_text(), parse_float=Decimal)["vectors"]
OTHERS = [v for v in json.loads((FILES / "others.json").read_text())["vectors"] if v["format"].startswith("switchbot")]
TABLES = {table.name: table for table in switchbot.FORMATS}
SENDER = "C7:6B:04:06:15:5E"
OUTDOOR = bytes.fromhex("c76b0406155eff0203981f00")


def decode(vector):
    read = switchbot.decode if vector["carrier"] == "service" else switchbot.decode_manufacturer
    return read(bytes.fromhex(vector["hex"]), None, {}, b"", vector.get("model"))


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: f"{v['format']}-{v['case']}-{v['hex']}")
def test_vector_gives_exactly_its_values_and_the_encoder_says_them_again(vector):
    decoded = decode(vector)
    values = {name: Decimal(repr(v)) if type(v) in (int, float) else v for name, v in decoded.values.items()}
    assert (decoded.format, values) == (vector["format"], vector["values"])
    own = vector["hex"][:12] if vector["carrier"] == "manufacturer" else None
    assert (decoded.address or "").replace(":", "").lower() == (own or "")
    again = TABLES[decoded.format].encode(decoded.values, address=decoded.address)
    assert decode(vector | {"hex": again.hex()}).values == decoded.values


def test_every_format_has_a_valid_a_maximum_and_a_minimum_vector():
    for table in switchbot.FORMATS:
        cases = " ".join(v["case"] for v in VECTORS if v["format"] == table.name)
        if "passive" not in table.name:
            assert "maximum" in cases
            assert "minimum" in cases
        assert "captured" in cases


@pytest.mark.parametrize("vector", OTHERS, ids=lambda v: v["hex"])
def test_shared_vector_gives_its_values(vector):
    decoded = switchbot.decode(bytes.fromhex(vector["hex"]), None, {})
    assert decoded.values == vector["values"]


@pytest.mark.parametrize("vector", [v for v in VECTORS if "model" in v], ids=lambda v: f"{v['format']}-{v['case']}")
def test_manufacturer_data_cut_off_are_an_error_and_an_address_alone_is_not(vector):
    data = bytes.fromhex(vector["hex"])
    for end in range(TABLES[vector["format"]].length):
        if end == 6:
            assert switchbot.decode_manufacturer(data[:end], None, {}, b"", vector["model"]) is None
            continue
        with pytest.raises(DecodeError, match="expected"):
            switchbot.decode_manufacturer(data[:end], None, {}, b"", vector["model"])


def test_service_data_that_are_too_short_still_tell_the_battery():
    with pytest.raises(DecodeError, match="no device type byte"):
        switchbot.decode(b"", None, {})
    assert switchbot.decode(b"T", None, {}) is None
    assert switchbot.decode(b"v\0", None, {}) is None
    for end in (3, 4, 5):
        assert switchbot.decode(bytes.fromhex("54006400990e")[:end], None, {}).values == {"battery": 100}
    assert switchbot.decode(bytes.fromhex("54006400990e0000"), None, {}).values["temperature"] == 25


@pytest.mark.parametrize("tenths", range(10, 16))
def test_more_tenths_than_nine_are_impossible(tenths):
    with pytest.raises(DecodeError, match=f"{tenths} tenths") as caught:
        switchbot.decode(bytes([0x54, 0, 100, 0xF0 | tenths, 0x99, 14]), None, {})
    assert (caught.value.reason, caught.value.offset) == ("range", 3)


@pytest.mark.parametrize("value", [128, -128, 127.96])
def test_a_temperature_beyond_127_9_cannot_be_encoded(value):
    with pytest.raises(ValueError, match="temperature cannot be"):
        switchbot.METER.encode({"temperature": value, "humidity": 5})


def test_no_temperature_and_no_humidity_are_encoded_as_all_zero():
    assert switchbot.METER.encode({"battery": 5}) == b"T\0\5\0\0\0"
    assert switchbot.METER.encode({"temperature": 0, "humidity": 0}) == b"T\0\0\0\x80\0"


def test_another_product_says_nothing():
    assert switchbot.decode(b"c\xc0X\x00\x11\x04", None, {}) is None
    curtain = service_data(switchbot.UUID, b"c\xc0X\x00\x11\x04")
    assert switchbot.decode_manufacturer(OUTDOOR, None, {}, curtain, "switchbot.outdoor_meter") is None


class TestModel:
    def test_an_advertisement_that_is_cut_off_anywhere_tells_it_or_nothing(self):
        whole = b"\x02\x01\x06" + service_data(switchbot.UUID, b"w\0\x64")
        told = [switchbot.model_of(whole[:end]) for end in range(len(whole) + 1)]
        assert told == [None] * 8 + ["switchbot.outdoor_meter"] * (len(whole) - 7)

    def test_it_comes_from_the_service_data_beside_or_is_remembered(self):
        alone, beside = manufacturer_data(switchbot.COMPANY, OUTDOOR), service_data(switchbot.UUID, b"w\0\x64")
        assert readings(alone, SENDER, 0) == []
        assert switchbot.model_of(alone) is None
        assert switchbot.model_of(b"\x02\x01\x06" + beside) == "switchbot.outdoor_meter"
        [remembered] = readings(alone, SENDER, 0, model="switchbot.outdoor_meter")
        climate, battery = readings(b"\x02\x01\x06" + alone + beside, SENDER, 0)
        assert climate == remembered
        assert (climate.values, battery.values) == ({"temperature": 24.3, "humidity": 31}, {"battery": 100})
        assert readings(alone, SENDER, 0, model="WoSensorTHO") == []

    @pytest.mark.parametrize("uuid", [switchbot.UUID, switchbot.UUID_OLD])
    @pytest.mark.parametrize("model", switchbot.MODELS)
    def test_every_model_is_told_by_both_of_its_bytes_and_both_uuids(self, model, uuid):
        for byte in switchbot.MODELS[model]:
            for first in (byte, byte | 0x80):
                assert switchbot.model_of(service_data(uuid, bytes([first, 0, 100]))) == model
        assert switchbot.model_of(service_data(uuid, b"")) is None

    @pytest.mark.parametrize("company", [switchbot.COMPANY, switchbot.COMPANY_NORDIC])
    def test_what_service_data_say_as_well_is_read_once(self, company):
        whole = manufacturer_data(company, bytes.fromhex("d7c17d5deb43de03069835"))
        both = readings(whole + service_data(switchbot.UUID, bytes.fromhex("5400e4069835")), SENDER, 0)
        assert [reading.format for reading in both] == ["switchbot.meter"]
        short = readings(whole + service_data(switchbot.UUID, bytes.fromhex("5400e4")), SENDER, 0)
        assert [reading.format for reading in short] == ["switchbot.climate", "switchbot.battery"]
