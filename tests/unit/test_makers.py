"""Each maker's vectors, through the whole of a decoder's path: an advertisement in, readings out, and back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import processor
from processor.decode import readings
from processor.decode.advertisement import manufacturer_data, service_data, structure
from processor.decode.formats import FORMATS, MANUFACTURERS, model_of

FILES = Path(__file__).parents[1] / "vectors"
MAKERS = (
    "airthings", "aranet", "bluemaestro", "ela", "gatt", "govee", "inkbird", "jaalee", "minew", "moko", "mopeka",
    "omron", "sensorpush", "teltonika", "thermopro",
)  # fmt: skip
VECTORS = [each for maker in MAKERS for each in json.loads((FILES / f"{maker}.json").read_text())["vectors"]]
TABLES = {table.name: table for table in FORMATS}
ADDRESS = "54:48:E6:8F:80:A5"


def identify(vector):
    return f"{vector['format']}-{vector['case']}".replace(" ", "_")


def carried(vector):
    """The AD structure that carries a vector's payload."""
    payload = bytes.fromhex(vector["hex"])
    if vector.get("borrowed"):
        return structure(0xFF, payload)
    if "company" in vector:
        return manufacturer_data(int(vector["company"], 16), payload)
    return service_data(int(vector["uuid"], 16), payload)


def advertisement(vector):
    """A vector's advertisement: flags, the UUIDs, the payload, the name."""
    data = b"\x02\x01\x06"
    for ad_type, key in ((0x03, "uuids"), (0x07, "uuids128")):
        uuids = [bytes.fromhex(uuid.replace("-", ""))[::-1] for uuid in vector.get(key, ())]
        data += structure(ad_type, b"".join(uuids)) if uuids else b""
    data += carried(vector)
    return data + structure(0x09, vector["name"].encode()) if "name" in vector else data


GOOD = [vector for vector in VECTORS if "error" not in vector]


@pytest.mark.parametrize("vector", GOOD, ids=identify)
def test_vector_gives_exactly_its_values(vector):
    (reading,) = readings(advertisement(vector), ADDRESS, 1)
    assert (reading.format, dict(reading.values)) == (vector["format"], vector["values"])
    assert [type(value) for value in reading.values.values()] == [
        type(vector["values"][name]) for name in reading.values
    ]
    assert reading.counter == vector.get("counter")


@pytest.mark.parametrize("vector", [each for each in VECTORS if "error" in each], ids=identify)
def test_an_impossible_payload_is_an_error_of_its_format(vector):
    with pytest.raises(processor.DecodeError) as caught:
        readings(advertisement(vector), ADDRESS, 1)
    assert (caught.value.reason, caught.value.where) == (vector["error"], vector["format"])


@pytest.mark.parametrize("vector", [each for each in GOOD if "address" in each], ids=identify)
def test_the_payload_s_own_address_is_taken_where_the_gateway_gives_none(vector):
    (reading,) = readings(advertisement(vector), None, 1)
    assert reading.device == vector["address"]


@pytest.mark.parametrize("vector", [each for each in GOOD if each.get("encoded", True)], ids=identify)
def test_the_encoder_says_the_vector_again(vector):
    """But where it says things that no value holds."""
    table = TABLES[vector["format"]]
    assert table.encode(vector["values"], address=vector.get("address")).hex() == vector["hex"]


@pytest.mark.parametrize("vector", [each for each in GOOD if "name" in each], ids=identify)
def test_the_remembered_local_name_does_where_the_gateway_leaves_it_out(vector):
    nameless = {key: value for key, value in vector.items() if key != "name"}
    (reading,) = readings(advertisement(nameless), ADDRESS, 1, model=vector["name"])
    assert dict(reading.values) == vector["values"]


@pytest.mark.parametrize(
    "vector", [each for each in GOOD if ("name" in each or "uuids128" in each) and each.get("borrowed")], ids=identify
)
def test_what_borrows_the_company_identifier_is_nobody_s_without_its_name_or_uuid(vector):
    data = bytearray(carried(vector))
    data[2:4] = b"\x13\x37"  # a company identifier that is nobody's
    assert readings(bytes(data), ADDRESS, 1) == []


@pytest.mark.parametrize("vector", [each for each in GOOD if "name" in each], ids=identify)
def test_the_local_name_is_what_to_remember(vector):
    assert model_of(advertisement(vector)) == vector["name"]


@pytest.mark.parametrize("name", ["IM", "IM-BL01", "EP", "EP-BL01", "Env", "EnvSensor-BL01"])
def test_a_2jcie_bl_s_names_are_remembered_from_a_scan_response_that_says_nothing_else(name):
    """OMRON, 2JCIE-BL01 Communication Interface Manual, 1.3.2: the shortened device name, and the whole."""
    assert model_of(structure(0x09, name.encode())) == name


def test_names_that_start_like_a_2jcie_bl_s_are_remembered_beside_omron_s_company_identifier_alone():
    for name in ("IMAGE-PRO", "EPSON-ABCD", "IM-BL02", "Envoy"):
        said = structure(0x09, name.encode())
        assert model_of(said) is None
        assert model_of(said + manufacturer_data(0x0499, bytes(20))) is None
        assert model_of(said + manufacturer_data(0x02D5, bytes(20))) == name


def test_a_2jcie_bl_that_records_is_no_bu_though_its_name_came_apart():
    bu = manufacturer_data(0x02D5, bytes([1]) + bytes.fromhex("07c40abc0f1100b8430f00100e0000900100"))
    assert readings(bu, ADDRESS, 1) != []
    assert readings(bu, ADDRESS, 1, model=model_of(structure(0x09, b"EnvSensor-BL01"))) == []


def test_nothing_is_remembered_of_other_names():
    assert model_of(structure(0x09, b"Kitchen")) is None
    assert model_of(b"\x02\x01\x06") is None


@pytest.mark.parametrize("vector", [each for each in GOOD if each["format"].startswith("aranet")], ids=identify)
def test_how_old_an_aranet_s_measurement_is_does_not_make_it_another(vector):
    """It grows with every advertisement; the count, or a value, does make another."""
    (first,) = readings(advertisement(vector), ADDRESS, 1)
    payload = bytearray.fromhex(vector["hex"])
    payload[-3] ^= 1
    (second,) = readings(manufacturer_data(0x0702, bytes(payload)), ADDRESS, 1)
    assert second.values["measurement_age"] != first.values["measurement_age"]
    assert second.identity == first.identity
    payload[-1] ^= 1
    (third,) = readings(manufacturer_data(0x0702, bytes(payload)), ADDRESS, 1)
    assert third.identity != first.identity


def test_an_aranet_without_integrations_says_nothing():
    assert readings(manufacturer_data(0x0702, bytes.fromhex("01010404" + "00" * 20)), ADDRESS, 1) == []
    assert readings(manufacturer_data(0x0702, bytes.fromhex("0100020100000000" + "00" * 14)), ADDRESS, 1) == []


@pytest.mark.parametrize(
    ("company", "payload"),
    [
        (0x0757, "213055b80a"),  # ELA's humidity, and no temperature after it
        (0x0001, "010103cb0164"),  # Nokia's, with nothing of Govee beside it
        (0x0059, "087043b6c3e0f509fae3"),  # Nordic's, without Mopeka's service UUID
        (0x02D5, "bf640a7f170f01020077270d14000000000000c4"),  # a BL whose name is not known
        (0x089A, "02b708b4120ccb0bffc767"),  # another protocol version
        (0x8801, "0188"), (0xEC88, "00"), (0x0757, "99"), (0x0133, "99"), (0x0639, "ca"), (0x0702, "21"),
        (0x0334, "00"), (0x02D5, ""), (0x0757, ""), (0x0133, ""),
    ],
)  # fmt: skip
def test_what_is_not_known_for_certain_gives_nothing(company, payload):
    assert readings(manufacturer_data(company, bytes.fromhex(payload)), ADDRESS, 1) == []


@pytest.mark.parametrize("name", ["Env", "EnvSensor-BL01"])
@pytest.mark.parametrize("vector", [each for each in GOOD if each["format"].startswith("omron.bu")], ids=identify)
def test_a_2jcie_bl_named_env_is_not_read_as_a_2jcie_bu(vector, name):
    """Its payload, whose bytes are not known, starts with a page number; 19 bytes are what fits beside that name."""
    assert readings(advertisement(vector | {"name": name}), ADDRESS, 1) == []
    assert readings(advertisement(vector | {"name": "Rbt"}), ADDRESS, 1) != []


def test_a_switchbot_of_nordic_s_identifier_is_no_mopeka():
    """Both use 0x0059: what is not ten bytes beside 0xFEE5 is SwitchBot's to decode."""
    assert MANUFACTURERS[0x0059](bytes(10), ADDRESS, {}, b"\x03\x03\xe5\xfe") is None


@pytest.mark.parametrize("name", ["TP357 (1)", "TP9000NOTHING", "sps", "SensorPush HT.w", "Sense"])
def test_a_name_that_is_shared_claims_only_what_has_its_shape(name):
    assert readings(structure(0xFF, b"\x13\x37" + bytes(14)) + structure(0x09, name.encode()), ADDRESS, 1) == []


@pytest.mark.parametrize(
    ("name", "payload"), [("spsx", "9c08f41000ba4e6408"), ("Sense", "047103e047"), ("GVH5075_1", "9c08f41000ba4e6408")]
)
def test_a_name_that_starts_alike_is_not_enough(name, payload):
    assert readings(structure(0xFF, bytes.fromhex(payload)) + structure(0x09, name.encode()), ADDRESS, 1) == []


def test_an_ibeacon_is_jaalee_s_only_with_its_uuid_and_one_byte_more():
    """With Jaalee's UUID and nothing after its power it is any beacon; a byte more on another UUID is an error."""
    payload = bytes.fromhex("0215ebefd08370a247c89837e7b5634df525632e5535cc64")
    assert readings(manufacturer_data(0x004C, payload), ADDRESS, 1)[0].format == "jaalee.beacon"
    assert readings(manufacturer_data(0x004C, payload[:-1]), ADDRESS, 1)[0].format == "ibeacon"
    assert MANUFACTURERS[0x004C](payload[:-1], ADDRESS, {}).format == "ibeacon"  # not by the short way
    with pytest.raises(processor.DecodeError, match=r"^ibeacon: expected 23 bytes, got 24"):
        readings(manufacturer_data(0x004C, bytes([2, 0x15, 0]) + payload[3:]), ADDRESS, 1)


def test_rounding_keeps_every_raw_value_of_a_jaalee_apart():
    """A step of 175 °C or 100 % by 65,535 is no decimal; in thousandths all differ, and give their bytes back."""
    table, seen = TABLES["jaalee.service"], set()
    for raw in range(0x10000):
        payload = bytes(7) + raw.to_bytes(2, "big") * 2
        (reading,) = readings(service_data(0xF525, payload), ADDRESS, 1)
        seen.add((reading.values["temperature"], reading.values["humidity"]))
        assert raw % 97 or table.encode(reading.values, address="00:00:00:00:00:00") == payload
    assert (
        len(seen) == len({temperature for temperature, _ in seen}) == len({humidity for _, humidity in seen}) == 65536
    )


@pytest.mark.parametrize("maker", MAKERS)
def test_every_format_of_a_maker_has_a_vector(maker):
    """Formats that differ in the type byte alone share the vectors of one."""
    named = {vector["format"] for vector in VECTORS}
    mine = {table.name for table in FORMATS if table.name.startswith(f"{maker}.")}
    assert mine
    assert mine <= named


def others(*formats):
    every = json.loads((FILES / "others.json").read_text())["vectors"]
    return [vector for vector in every if vector["format"] in formats]


NAMES = {
    "pressure_hPa": ("pressure", 100), "sound_level_dB": ("sound_level", 1), "etvoc_ppb": ("etvoc", 1),
    "eco2_ppm": ("eco2", 1),
}  # fmt: skip
"""Others' names: ours, and what to multiply theirs by."""
MADE_OF = {"omron": (manufacturer_data, 0x02D5), "minew": (service_data, 0xFFE1), "govee": (manufacturer_data, 0xEC88)}


@pytest.mark.parametrize(
    "vector",
    others("omron 2jcie-bu sensor", "omron 2jcie-bu calculation", "minew temperature and humidity", "govee h5075"),
    ids=lambda vector: vector["format"],
)
def test_shared_vector_gives_its_values(vector):
    build, identifier = MADE_OF[vector["format"].split()[0]]
    (reading,) = processor.decode(build(identifier, bytes.fromhex(vector["hex"])), ADDRESS)
    for theirs, value in vector["values"].items():
        name, factor = NAMES.get(theirs, (theirs, 1))
        assert reading.values[name] == pytest.approx(value * factor, abs=1e-9)
