"""MiBeacon: captures, every object, frames of every shape, encryption."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from processor.decode import readings
from processor.decode.advertisement import service_data
from processor.decode.encryption import encrypt
from processor.decode.formats import mibeacon
from processor.decode.formats.mibeacon_objects import KNOWN, OBJECTS
from processor.errors import DecodeError, KeyMissing
from processor.reading import QUANTITIES, address, quantity

FILES = Path(__file__).parents[1] / "vectors"
FILE = json.loads((FILES / "mibeacon.json").read_text(), parse_float=Decimal)
[OTHER] = [v for v in json.loads((FILES / "others.json").read_text())["vectors"] if v["format"].startswith("mibeacon")]
ADDRESS, KEY = "A4:C1:38:02:83:F4", bytes.fromhex("e9ea895fac7cca6d30532432a516f3a8")
SEALED = bytes.fromhex(OTHER["hex"])
FRAME = bytes.fromhex("5050 5B05 07 F4830238C1A4")


def exact(values):
    return {name: Decimal(repr(v)) if type(v) in (int, float) else v for name, v in values.items()}


def said(text, head=FRAME):
    """What the objects of a frame of an LYWSD03MMC say."""
    values = dict(mibeacon.decode(head + bytes.fromhex(text), ADDRESS, {}).values)
    assert values.pop("packet_id") == 7
    return values


@pytest.mark.parametrize("vector", FILE["vectors"], ids=lambda v: v["case"])
def test_capture_gives_exactly_its_values(vector):
    data, sender = bytes.fromhex(vector["hex"]), vector["address"]
    keys = {sender: bytes.fromhex(vector["key"])} if "key" in vector else {}
    decoded = mibeacon.decode(data, sender, keys)
    assert exact(decoded.values) == vector["values"]
    assert decoded.counter == vector["values"]["packet_id"]
    product = data[2] | data[3] << 8
    again = mibeacon.encode(decoded.values, product=product, address=sender, key=keys.get(sender), counter=5)
    assert mibeacon.decode(again, None, keys)[:2] == decoded[:2]


def test_shared_vector_gives_its_values_and_its_plain_text():
    sender = address(OTHER["mac"])
    decoded = mibeacon.decode(SEALED, sender, {sender: bytes.fromhex(OTHER["key"])})
    assert OTHER["values"].items() <= decoded.values.items()
    assert decoded.plain == bytes.fromhex(OTHER["plain"])


@pytest.mark.parametrize("vector", FILE["objects"], ids=lambda v: f"{v['object']}-{v['product']}")
def test_object_says_exactly_its_values_and_the_encoder_says_them_again(vector):
    product = int(vector["product"], 16)
    head = FRAME[:2] + product.to_bytes(2, "little") + FRAME[4:]
    found = said(vector["object"], head)
    assert exact(found) == vector["values"]
    again = mibeacon.encode(found | {"packet_id": 7}, product=product, address=ADDRESS)
    assert said(again[11:].hex(), head) == found


def test_every_object_of_the_table_has_a_vector():
    known = {(int(v["object"][2:4] + v["object"][:2], 16), int(v["object"][4:6], 16)) for v in FILE["objects"]}
    assert {(each.id, each.length) for each in OBJECTS} <= known


def test_every_object_is_of_a_registered_quantity_and_of_its_kind():
    for each in OBJECTS:
        for name, value in each.read(bytes(each.length)).items():
            expected = "flag" if isinstance(value, bool) else "event" if isinstance(value, str) else "number"
            assert quantity(name).kind == expected or (name, quantity(name).kind) == ("timestamp", "identifier")
        for values in each.choices.values():
            for name, value in values.items():
                assert quantity(name).kind == ("flag" if isinstance(value, bool) else "event")


def test_a_product_s_own_objects_say_nothing_from_another():
    assert said("0148 04 CDCCCC41", FRAME[:2] + b"\xff\xff" + FRAME[4:]) == {}
    assert said("0148 04 CDCCCC41") == {"temperature": 25.6}
    assert 0xFFFF not in KNOWN
    assert 0x055B in KNOWN


def test_a_float_is_the_shortest_decimal_it_stands_for_and_no_number_is_an_error():
    assert said("0148 04 00000000") == {"temperature": 0}
    assert said("0148 04 A4700DC1") == {"temperature": -8.84}
    assert said("0148 04 DB0F4940") == {"temperature": 3.1415927}
    assert said("0148 04 FFFF7F7F") == {"temperature": 3.4028235e38}
    for not_finite in ("0000C07F", "0000807F", "000080FF"):
        with pytest.raises(DecodeError, match="no measurement") as caught:
            said("0148 04" + not_finite)
        assert caught.value.reason == "range"


def test_several_objects_are_read_in_order_and_what_comes_again_is_numbered():
    assert said("0410 02 1A01 9999 03 000000 0410 02 2A01 0A10 01 64") == {
        "temperature": 28.2, "temperature_2": 29.8, "battery": 100,
    }  # fmt: skip


def test_an_object_of_another_length_is_another_object():
    assert said("0410 03 1A0100 0410 01 1A 0610 02 5A01") == {"humidity": 34.6}


def test_objects_cut_off_are_an_error_at_their_offset():
    whole = FRAME + bytes.fromhex("0A10 01 64 0D10 04 1A01 5A01")
    for end in (14, 18, 19, 20, 21):
        with pytest.raises(DecodeError, match="are left") as caught:
            mibeacon.decode(whole[:end], ADDRESS, {})
        assert (caught.value.reason, caught.value.offset) == ("truncated", 11 if end < 15 else 15)


def test_what_is_too_short_to_be_an_object_is_passed_over():
    """The captured MMC-W505 ends with such a byte."""
    for more in ("", "07", "0D10"):
        assert said("0A10 01 64" + more) == {"battery": 100}
        assert said(more) == {}


@pytest.mark.parametrize("size", range(5))
def test_less_than_a_head_is_an_error(size):
    with pytest.raises(DecodeError, match="5 bytes or more"):
        mibeacon.decode(FRAME[:size], None, {})


@pytest.mark.parametrize(
    "control", ["4010", "C050", "1050", "4820", "4830", "0050", "4060"], ids=lambda control: control
)
def test_other_versions_mesh_frames_without_objects_and_old_encryption_are_left_out(control):
    assert mibeacon.decode(bytes.fromhex(control) + bytes(20), ADDRESS, {ADDRESS: KEY}) is None


def test_the_address_and_the_capability_are_passed_over():
    plain = "0410 02 1A01"
    assert said(plain) == said("5B05 07" + plain, b"\x40\x50") == {"temperature": 28.2}
    assert said("5B05 07 08" + plain, b"\x60\x50") == {"temperature": 28.2}
    assert said("5B05 07 28 1100" + plain, b"\x60\x50") == {"temperature": 28.2}
    assert mibeacon.decode(FRAME + bytes.fromhex(plain), None, {}).address == ADDRESS
    no_capability, half_of_it = b"\x70\x50" + FRAME[2:], b"\x60\x50\x5b\x05\x07\x28\x11"
    for cut, offset in ((FRAME[:10], 5), (no_capability, 11), (half_of_it, 8)):
        with pytest.raises(DecodeError, match="is cut off") as caught:
            mibeacon.decode(cut, None, {})
        assert (caught.value.reason, caught.value.offset) == ("truncated", offset)


class TestEncrypted:
    def test_without_a_key_or_an_address_it_cannot_be_read(self):
        with pytest.raises(KeyMissing, match=ADDRESS):
            mibeacon.decode(SEALED, ADDRESS, {})
        without = b"\x48" + SEALED[1:5] + SEALED[11:]
        with pytest.raises(DecodeError, match="let the gateway send it"):
            mibeacon.decode(without, None, {ADDRESS: KEY})
        assert mibeacon.decode(without, ADDRESS, {ADDRESS: KEY}).values["humidity"] == 46.7

    def test_an_altered_bit_of_what_counts_is_a_key_that_does_not_fit(self):
        for at in (2, 3, 4, *range(11, len(SEALED))):
            altered = bytearray(SEALED)
            altered[at] ^= 0x40
            with pytest.raises(DecodeError, match="integrity") as caught:
                mibeacon.decode(bytes(altered), ADDRESS, {ADDRESS: KEY})
            assert caught.value.reason == "key"

    @pytest.mark.parametrize("length", range(11, 18))
    def test_less_than_a_counter_and_a_mic_is_truncated(self, length):
        with pytest.raises(DecodeError) as caught:
            mibeacon.decode(SEALED[:length], ADDRESS, {ADDRESS: KEY})
        assert (caught.value.reason, caught.value.offset) == ("truncated", 11)

    def test_a_repetition_encrypted_anew_keeps_its_identity(self):
        def identity(frame, counter, value=20):
            data = mibeacon.encode(
                {"temperature": value, "packet_id": frame}, product=0x055B, address=ADDRESS, key=KEY, counter=counter
            )
            [reading] = readings(service_data(mibeacon.UUID, data), ADDRESS, 0, {ADDRESS: KEY})
            return reading.identity

        assert identity(1, 1) == identity(1, 2)
        assert len({identity(1, 1), identity(2, 1), identity(1, 1, 21)}) == 3

    def test_version_4_is_read_as_version_5_is(self):
        data = mibeacon.encode({"humidity": 46.7}, product=0x055B, address=ADDRESS, key=KEY, version=4)
        assert data[1] == 0x40
        assert mibeacon.decode(data, None, {ADDRESS: KEY}).values["humidity"] == 46.7

    def test_errors_inside_what_was_encrypted_are_found(self):
        nonce = bytes.fromhex("F4830238C1A4") + SEALED[2:5] + b"\1\2\3"
        sealed = encrypt(KEY, nonce, bytes.fromhex("0610 02 D3"), b"\x11")
        with pytest.raises(DecodeError, match="5 bytes, but 4 are left") as caught:
            mibeacon.decode(SEALED[:11] + sealed[:-4] + b"\1\2\3" + sealed[-4:], ADDRESS, {ADDRESS: KEY})
        assert (caught.value.reason, caught.value.offset) == ("truncated", 0)


class TestEncoder:
    def test_it_takes_one_object_for_what_belongs_together(self):
        data = mibeacon.encode({"humidity": 34.6, "temperature": 28.2}, product=0x055B)
        assert data == bytes.fromhex("4050 5B05 00 0D10 04 1A01 5A01")

    @pytest.mark.parametrize(
        ("values", "product"),
        [
            ({"wind": 1}, 0x055B), ({"temperature": 4000}, 0xFFFF), ({"button": "push"}, 0x055B),
            ({"motion": 5}, 0x03DD), ({"occupancy": True}, 0xFFFF),
        ],
    )  # fmt: skip
    def test_what_no_object_says_is_refused(self, values, product):
        with pytest.raises(ValueError, match="no object for"):
            mibeacon.encode(values, product=product)

    def test_a_motion_that_ended_is_not_said_to_begin(self):
        assert said(mibeacon.encode({"motion": False, "packet_id": 7}, product=0x03DD, address=ADDRESS)[11:].hex()) == {
            "motion": False
        }

    def test_encryption_takes_an_address_and_a_version_that_has_it(self):
        for more in ({}, {"address": ADDRESS, "version": 3}):
            with pytest.raises(ValueError, match="encryption takes"):
                mibeacon.encode({"battery": 5}, product=0x055B, key=KEY, **more)


def test_the_table_can_be_listed():
    table = mibeacon.MIBEACON
    assert (table.encrypted, table.counter) == (True, "packet_id")
    assert (table.resolutions["temperature"], table.resolutions["humidity"]) == ("0.01", "0.1")
    assert table.resolutions["button"] is None
    assert {name for name in table.resolutions if "_" not in name} <= set(QUANTITIES)
