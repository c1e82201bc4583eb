"""iBeacon, by the vectors of both files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from processor.decode import readings
from processor.decode.advertisement import manufacturer_data
from processor.decode.formats import ibeacon
from processor.errors import DecodeError

FILES = Path(__file__).parents[1] / "vectors"


def vectors(file):
    every = json.loads((FILES / file).read_text())["vectors"]
    return [vector for vector in every if vector["format"] == "ibeacon"]


@pytest.mark.parametrize("vector", vectors("beacons.json"), ids=lambda v: v["case"])
def test_vector_gives_exactly_its_values_and_the_encoder_says_them_again(vector):
    data = bytes.fromhex(vector["hex"])
    decoded = ibeacon.decode(data, None, {})
    assert decoded == ("ibeacon", vector["values"], None, None, None)
    assert ibeacon.IBEACON.encode(vector["values"]) == data


@pytest.mark.parametrize("vector", vectors("others.json"), ids=lambda v: v["hex"])
def test_shared_vector_with_its_company_identifier_gives_its_values(vector):
    data = bytes.fromhex(vector["hex"])
    assert data[:2] == ibeacon.COMPANY.to_bytes(2, "little")
    [reading] = readings(manufacturer_data(ibeacon.COMPANY, data[2:]), "C0:00:00:00:00:01", 0)
    assert vector["values"].items() <= reading.values.items()


@pytest.mark.parametrize("data", ["", "02", "0214", "1005011C0A5D3F", "0C0E00", "0315" + "00" * 21])
def test_apple_s_other_advertisements_are_not_known(data):
    assert ibeacon.decode(bytes.fromhex(data), None, {}) is None


@pytest.mark.parametrize("length", [2, 22, 24])
def test_another_length_than_its_own_is_an_error(length):
    with pytest.raises(DecodeError, match=f"expected 23 bytes, got {length}"):
        ibeacon.decode((b"\x02\x15" + bytes(22))[:length], None, {})


@pytest.mark.parametrize(
    "wrong", [{"major": 65536}, {"minor": -1}, {"tx_power": 128}, {"uuid": "e2c56db5"}, {"uuid": 5}], ids=str
)
def test_a_value_that_does_not_fit_is_refused_by_name(wrong):
    with pytest.raises(ValueError, match=f"ibeacon: {next(iter(wrong))} cannot be"):
        ibeacon.IBEACON.encode(wrong)
