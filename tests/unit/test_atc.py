"""ATC1441 and pvvx: every vector, the address that tells them from others' 0x181A, encryption."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from processor.decode import readings
from processor.decode.advertisement import service_data
from processor.decode.formats import atc
from processor.errors import DecodeError, KeyMissing

FILES = Path(__file__).parents[1] / "vectors"
FILE = json.loads((FILES / "atc.json").read_text(), parse_float=Decimal)
VECTORS, ADDRESS, KEY = FILE["vectors"], FILE["address"], bytes.fromhex(FILE["key"])
OTHERS = [v for v in json.loads((FILES / "others.json").read_text())["vectors"] if v["format"] in ("atc1441", "pvvx")]
TABLES = {table.name: table for table in atc.FORMATS}
PLAIN = [vector for vector in VECTORS if not TABLES[vector["format"]].encrypted]
SEALED = [vector for vector in VECTORS if TABLES[vector["format"]].encrypted]


def name(vector):
    return f"{vector['format']}-{vector.get('case', '')}"


@pytest.mark.parametrize("vector", VECTORS, ids=name)
def test_vector_gives_exactly_its_values_and_the_encoder_says_them_again(vector):
    data = bytes.fromhex(vector["hex"])
    decoded = atc.decode(data, ADDRESS, {ADDRESS: KEY})
    assert decoded.format == vector["format"]
    assert {name: Decimal(repr(v)) if type(v) in (int, float) else v for name, v in decoded.values.items()} == (
        vector["values"]
    )
    assert decoded.counter == vector["values"]["packet_id"]
    again = atc.encode(TABLES[decoded.format], decoded.values, address=ADDRESS, key=KEY)
    assert atc.decode(again, ADDRESS, {ADDRESS: KEY}).values == decoded.values
    if "digital_input" not in decoded.values:  # with no bits that say nothing
        assert again == data


@pytest.mark.parametrize("vector", OTHERS, ids=name)
def test_shared_vector_gives_its_values_its_counter_as_the_packet_id(vector):
    expected = dict(vector["values"])
    decoded = atc.decode(bytes.fromhex(vector["hex"]), None, {})
    assert decoded.counter == expected.pop("counter")
    assert expected.items() <= decoded.values.items()
    assert decoded.address == ADDRESS


@pytest.mark.parametrize("vector", PLAIN, ids=name)
def test_a_plain_payload_with_another_s_address_is_not_theirs(vector):
    assert atc.decode(bytes.fromhex(vector["hex"]), "A4:C1:38:02:83:F5", {}) is None
    assert atc.decode(bytes.fromhex(vector["hex"]), None, {}).address == ADDRESS


@pytest.mark.parametrize("vector", VECTORS, ids=name)
def test_a_payload_cut_anywhere_is_no_plain_one(vector):
    data = bytes.fromhex(vector["hex"])
    for end in range(len(data)):
        if end in (8, 11):  # by its length an encrypted one
            with pytest.raises(DecodeError, match="integrity"):
                atc.decode(data[:end], ADDRESS, {ADDRESS: KEY})
        elif (vector["format"], end) not in (("pvvx", 14), ("pvvx", 13), ("pvvx.short", 13)):
            assert atc.decode(data[:end], ADDRESS, {ADDRESS: KEY}) is None


def test_an_altered_bit_anywhere_or_another_address_is_a_key_that_does_not_fit():
    data = bytes.fromhex(SEALED[0]["hex"])
    for at in range(len(data)):
        altered = bytearray(data)
        altered[at] ^= 1
        with pytest.raises(DecodeError, match="integrity") as caught:
            atc.decode(bytes(altered), ADDRESS, {ADDRESS: KEY})
        assert caught.value.reason == "key"
    with pytest.raises(DecodeError, match="integrity"):
        atc.decode(data, "A4:C1:38:02:83:F5", {"A4:C1:38:02:83:F5": KEY})


@pytest.mark.parametrize("vector", SEALED, ids=name)
def test_an_encrypted_payload_takes_a_key_and_an_address(vector):
    data = bytes.fromhex(vector["hex"])
    with pytest.raises(KeyMissing, match=ADDRESS):
        atc.decode(data, ADDRESS, {})
    with pytest.raises(DecodeError, match="let the gateway send it"):
        atc.decode(data, None, {ADDRESS: KEY})
    with pytest.raises(ValueError, match="takes the device's key"):
        atc.encode(TABLES[vector["format"]], {}, address=ADDRESS)


def test_the_next_measurement_has_another_identity_and_a_repetition_the_same():
    def identity(counter):
        data = atc.encode(atc.PVVX_ENCRYPTED, {"temperature": 20, "packet_id": counter}, address=ADDRESS, key=KEY)
        [reading] = readings(service_data(atc.UUID, data), ADDRESS, 0, {ADDRESS: KEY})
        return reading.identity

    assert identity(1) == identity(1) != identity(2)
