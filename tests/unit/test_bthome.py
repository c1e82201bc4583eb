"""BTHome v2: every object of the specification, plain and encrypted."""

from __future__ import annotations

import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from processor.decode import encryption, readings
from processor.decode.advertisement import service_data
from processor.decode.formats import bthome
from processor.errors import DecodeError, KeyMissing
from processor.reading import QUANTITIES, address, quantity

FILES = Path(__file__).parents[1] / "vectors"
VECTORS = json.loads((FILES / "bthome.json").read_text(), parse_float=Decimal)["vectors"]
OBJECTS = json.loads((FILES / "bthome_objects.json").read_text())["vectors"]

ADDRESS, KEY = "54:48:E6:8F:80:A5", bytes.fromhex("231d39c1d7cc1ab1aee224cd096db932")
LONG = bytes.fromhex("40 0009 02C409 04138A01 0A138A14 3A01 3B0103 05 3C0103 5303616263 5401FF F100010204")


def values(hexadecimal):
    return bthome.decode(bytes.fromhex(hexadecimal), None, {}).values


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["case"])
def test_vector_gives_exactly_its_values(vector):
    data = bytes.fromhex(vector.get("hex") or "40" + vector["object"])
    sender = address(vector["mac"]) if "mac" in vector else None
    keys = {sender: bytes.fromhex(vector["key"])} if "key" in vector else {}
    expected = dict(vector["values"])
    if "pressure_hPa" in expected:
        expected["pressure"] = 100 * expected.pop("pressure_hPa")
    decoded = bthome.decode(data, sender, keys)
    assert {name: Decimal(repr(value)) for name, value in decoded.values.items()} == expected
    if "plain" in vector:
        assert decoded.plain == bytes.fromhex(vector["plain"])


@pytest.mark.parametrize("vector", OBJECTS, ids=lambda v: v["object"])
def test_object_gives_exactly_its_value_and_the_encoder_says_it_again(vector):
    found = values("40" + vector["object"])
    assert found == vector["values"]
    for name, value in vector["values"].items():
        assert isinstance(value, bool) == isinstance(found[name], bool)
    assert bthome.decode(bthome.encode(found), None, {}).values == found


def test_every_object_of_the_table_has_a_vector():
    assert {int(vector["object"][:2], 16) for vector in OBJECTS} == {each.id for each in bthome.BTHOME.objects}
    assert len(bthome.BTHOME.objects) == 95


def test_every_object_is_of_a_registered_quantity_and_of_its_kind():
    kinds = {"flag": "flag", "event": "event", "steps": "event", "command": "event"}
    kinds |= dict.fromkeys(("text", "raw", "version"), "text")
    for each in bthome.BTHOME.objects:
        found = QUANTITIES[each.name].kind
        expected = "counter" if each.name == "packet_id" else kinds.get(each.type)
        assert found == expected or (expected is None and found in ("number", "identifier")), each


def test_a_quantity_that_comes_again_is_numbered_whatever_its_object_id():
    found = values("40 02C409 02CA09 0301F0 451101 5700")
    assert found == {
        "temperature": 25.0, "temperature_2": 25.06, "humidity": 614.41, "temperature_3": 27.3, "temperature_4": 0,
    }  # fmt: skip
    assert [quantity(name).key for name in found] == ["t", "t_2", "h", "t_3", "t_4"]


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ("40 3A00 3A01", {"button_2": "press"}),
        ("40 3A02 3A00 3A04", {"button": "double_press", "button_3": "long_press"}),
        ("40 3A00 3A00", {}),
        ("40 3C0005 3C0203", {"dimmer_2": "rotate_right 3"}),
    ],
)
def test_an_event_that_did_not_happen_gives_no_value_but_counts_its_position(payload, expected):
    assert values(payload) == expected
    assert bthome.decode(bthome.encode(expected), None, {}).values == expected


def test_an_unknown_object_id_ends_the_reading_and_keeps_what_came_before():
    assert values("40 02C409 99 03BF13") == {"temperature": 25.0}
    assert values("40 E0") == {}


def test_a_command_takes_steps_or_the_maker_s_own_arguments():
    assert values("40 3B0203 0102") == {"command": "step_up 0x0102"}
    assert values("40 3BE103 05") == {"command": "step_up 5"}  # the length's three high bits are reserved


def test_no_objects_give_no_values():
    assert values("40") == {}


def test_the_trigger_bit_changes_nothing():
    assert values("44 02C409") == values("40 02C409")


@pytest.mark.parametrize("information", [0x00, 0x20, 0x60, 0xE1])
def test_another_version_is_not_known(information):
    assert bthome.decode(bytes([information]) + LONG[1:], None, {}) is None


def test_an_empty_payload_is_an_error():
    with pytest.raises(DecodeError, match="no device information byte"):
        bthome.decode(b"", None, {})


def test_a_payload_cut_anywhere_says_which_object_is_cut_off():
    starts = [1, 3, 6, 10, 14, 16, 20, 23, 28, 31, len(LONG)]
    assert list(values(LONG.hex())) == [
        "packet_id", "temperature", "pressure", "energy", "button", "command", "dimmer", "text", "raw",
        "firmware_version",
    ]  # fmt: skip
    for end in range(1, len(LONG)):
        if end in starts:
            assert len(bthome.decode(LONG[:end], None, {}).values) == starts.index(end)
            continue
        with pytest.raises(DecodeError, match="is cut off") as caught:
            bthome.decode(LONG[:end], None, {})
        assert caught.value.reason == "truncated"
        assert caught.value.offset == max(start for start in starts if start < end)


def test_text_that_is_not_utf_8_is_an_error():
    with pytest.raises(DecodeError) as caught:
        values("40 0161 5302C328")
    assert (caught.value.reason, caught.value.offset) == ("utf-8", 3)


def test_an_address_in_the_payload_is_read_and_passed_over():
    decoded = bthome.decode(bytes.fromhex("42 A5808FE64854 0161"), None, {})
    assert (decoded.address, decoded.values) == (ADDRESS, {"battery": 97})
    with pytest.raises(DecodeError, match="the address is cut off"):
        values("42 A5808FE648")


def test_the_packet_id_identifies_the_measurement_and_is_a_value_too():
    assert bthome.decode(bytes.fromhex("40 0009 0161"), None, {}).counter == 9
    assert bthome.decode(bytes.fromhex("40 0161"), None, {}).counter is None
    assert values("40 0009") == {"packet_id": 9}


class TestEncrypted:
    PAYLOAD = bytes.fromhex("41e445f3c9962b332211006c7c4519")

    def test_the_specification_s_example_comes_out_of_the_encoder_byte_for_byte(self):
        said = {"temperature": 25.06, "humidity": 50.55}
        assert bthome.encode(said, address=ADDRESS, key=KEY, counter=0x00112233) == self.PAYLOAD

    def test_without_a_packet_id_the_encryption_counter_identifies_the_measurement(self):
        assert bthome.decode(self.PAYLOAD, ADDRESS, {ADDRESS: KEY}).counter == 0x00112233

    def test_a_measurement_encrypted_anew_keeps_its_identity_where_it_has_a_packet_id(self):
        def sent(said, counter):
            data = bthome.encode(said, address=ADDRESS, key=KEY, counter=counter)
            [reading] = readings(service_data(bthome.UUID, data), ADDRESS, 0, {ADDRESS: KEY})
            return reading.identity

        press = {"packet_id": 7, "button": "press"}
        assert sent(press, 1) == sent(press, 2)
        assert sent(press, 1) != sent(press | {"packet_id": 8}, 1)
        assert sent({"button": "press"}, 1) != sent({"button": "press"}, 2)

    def test_no_key_for_the_address_is_its_own_error(self):
        with pytest.raises(KeyMissing, match=ADDRESS):
            bthome.decode(self.PAYLOAD, ADDRESS, {"00:00:00:00:00:00": KEY})

    def test_no_address_is_an_error_that_says_what_to_do(self):
        with pytest.raises(DecodeError, match="let the gateway send it") as caught:
            bthome.decode(self.PAYLOAD, None, {ADDRESS: KEY})
        assert caught.value.reason == "address"

    def test_an_altered_bit_anywhere_is_a_key_that_does_not_fit(self):
        for at in range(1, len(self.PAYLOAD)):
            altered = bytearray(self.PAYLOAD)
            altered[at] ^= 0x10
            with pytest.raises(DecodeError) as caught:
                bthome.decode(bytes(altered), ADDRESS, {ADDRESS: KEY})
            assert caught.value.reason == "key"

    def test_a_wrong_key_or_a_wrong_address_does_not_fit(self):
        for sender, key in ((ADDRESS, KEY[::-1]), ("54:48:E6:8F:80:A6", KEY)):
            with pytest.raises(DecodeError, match="integrity") as caught:
                bthome.decode(self.PAYLOAD, sender, {sender: key})
            assert caught.value.reason == "key"

    def test_a_key_of_a_wrong_length_is_named(self):
        with pytest.raises(DecodeError, match="16 bytes, not 15"):
            bthome.decode(self.PAYLOAD, ADDRESS, {ADDRESS: KEY[:15]})

    @pytest.mark.parametrize("length", range(1, 9))
    def test_less_than_a_counter_and_a_mic_is_truncated(self, length):
        with pytest.raises(DecodeError) as caught:
            bthome.decode(self.PAYLOAD[:length], ADDRESS, {ADDRESS: KEY})
        assert caught.value.reason == "truncated"

    def test_the_address_in_the_payload_is_the_one_that_counts(self):
        plain = bthome.BTHOME.write({"battery": 97})
        nonce = bytes.fromhex("5448E68F80A5D2FC4301000000")
        sealed = encryption.encrypt(KEY, nonce, plain)
        data = bytes.fromhex("43A5808FE64854") + sealed[:-4] + nonce[-4:] + sealed[-4:]
        decoded = bthome.decode(data, "C0:00:00:00:00:01", {ADDRESS: KEY})
        assert (decoded.values, decoded.address) == ({"battery": 97}, ADDRESS)

    def test_errors_inside_what_was_encrypted_are_found(self):
        sealed = encryption.encrypt(KEY, bytes.fromhex("5448E68F80A5D2FC4101000000"), bytes.fromhex("0161 02C4"))
        with pytest.raises(DecodeError, match="0x02") as caught:
            bthome.decode(b"\x41" + sealed[:-4] + b"\1\0\0\0" + sealed[-4:], ADDRESS, {ADDRESS: KEY})
        assert caught.value.offset == 2

    def test_without_cryptography_the_error_says_what_to_install(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
        encryption._cipher.cache_clear()
        with pytest.raises(DecodeError, match=r"install processor\[crypto\]"):
            bthome.decode(self.PAYLOAD, ADDRESS, {ADDRESS: KEY})

    def test_cryptography_is_imported_only_when_an_encrypted_payload_arrives(self):
        program = (
            "import sys, processor\n"
            "from processor.decode.formats import bthome\n"
            "bthome.decode(bytes.fromhex('4002C40903BF13'), None, {})\n"
            "assert not any(name.startswith('cryptography') for name in sys.modules)\n"
            f"bthome.decode({self.PAYLOAD!r}, {ADDRESS!r}, {{{ADDRESS!r}: {KEY!r}}})\n"
            "assert 'cryptography' in sys.modules\n"
        )
        subprocess.run([sys.executable, "-c", program], check=True)


class TestEncoder:
    def test_ids_ascend_and_instances_keep_their_order(self):
        said = {"temperature": 400, "humidity": 50.55, "battery": 97}
        assert bthome.encode(said) == bytes.fromhex("40 0161 03BF13 45A00F")
        said = {"temperature": 25.06, "temperature_2": 400, "temperature_3": 27.3}
        assert bthome.encode(said) == bytes.fromhex("40 02CA09 45A00F 451101")
        assert bthome.encode({"temperature": 27.3, "temperature_2": 25.06}) == bytes.fromhex("40 02AA0A 02CA09")

    @pytest.mark.parametrize(
        ("name", "value", "object_hex"),
        [
            ("temperature", 25.063, "02CA09"),
            ("count", -1, "59FF"),
            ("count", 70000, "3E70110100"),
            ("distance", 7.8, "40781E"),
            ("distance", 78, "410C03"),
            ("speed", -1, "62C0BDF0FF"),
            ("firmware_version", "6.1.0", "F2000106"),
            ("button", "0xfd", "3AFD"),
        ],
    )
    def test_it_takes_the_lowest_id_that_says_the_value_best(self, name, value, object_hex):
        assert bthome.encode({name: value}) == bytes.fromhex("40" + object_hex)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("humidity", -1), ("humidity", "dry"), ("humidity", float("nan")), ("window", 2), ("window", "open"),
            ("temperature_2", 20), ("temperature_1", 20), ("temperature_x", 20), ("wind", 1),
            ("text", 5), ("text", "x" * 256), ("raw", "xyz"), ("firmware_version", "1.2"), ("button", "push"),
            ("button_128", "press"), ("dimmer", "rotate_left 256"), ("command", "none"),
            ("command", "on 0x" + "00" * 32),
        ],
    )  # fmt: skip
    def test_what_no_object_can_say_is_refused_by_name(self, name, value):
        with pytest.raises(ValueError, match=name.partition("_")[0]):
            bthome.encode({name: value})

    def test_an_instance_has_one_spelling(self):
        with pytest.raises(ValueError, match="no object for 'temperature_02'"):
            bthome.encode({"temperature": 20, "temperature_02": 21})

    def test_encryption_takes_an_address(self):
        with pytest.raises(ValueError, match="takes the device's address"):
            bthome.encode({"battery": 97}, key=KEY)

    def test_the_trigger_bit_can_be_set(self):
        assert bthome.encode({"battery": 97}, triggered=True) == bytes.fromhex("440161")


def test_the_table_can_be_listed():
    assert bthome.BTHOME.encrypted
    assert bthome.BTHOME.counter == "packet_id"
    assert bthome.BTHOME.resolutions["temperature"] == "0.01"
    assert bthome.BTHOME.resolutions["volume"] == "0.001"
    assert bthome.BTHOME.resolutions["button"] is None
