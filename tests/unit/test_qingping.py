"""Qingping: captures, every object, and what is not one of its frames."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from processor.decode.formats import qingping
from processor.errors import DecodeError
from processor.reading import quantity

FILES = Path(__file__).parents[1] / "vectors"
VECTORS = json.loads((FILES / "qingping.json").read_text(), parse_float=Decimal)["vectors"]
OWN = bytes.fromhex("0810 4C94B438C1A4")
ADDRESS = "A4:C1:38:B4:94:4C"


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["case"])
def test_vector_gives_exactly_its_values_and_the_encoder_says_them_again(vector):
    data = bytes.fromhex(vector["hex"])
    decoded = qingping.decode(data, None, {})
    values = {name: Decimal(repr(v)) if type(v) in (int, float) else v for name, v in decoded.values.items()}
    assert values == vector["values"]
    assert decoded.counter == vector["values"].get("packet_id")
    assert decoded.address == data[7:1:-1].hex(":").upper()
    event = bool(data[0] & 0x40)
    again = qingping.encode(decoded.values, product=data[1], address=decoded.address, event=event)
    assert qingping.decode(again, None, {}) == decoded


def test_every_object_of_the_table_has_a_vector_and_a_registered_quantity():
    said = "".join(vector["hex"][16:] for vector in VECTORS)
    for each in qingping.QINGPING.objects:
        assert f"{each.id:02x}{each.length:02x}" in said
        assert all(quantity(name) for name in each.resolutions)


@pytest.mark.parametrize("head", ["3058", "0011", "0010", "08FF", "0200"])
def test_another_product_or_a_frame_without_an_address_is_not_known(head):
    assert qingping.decode(bytes.fromhex(head) + OWN[2:] + b"\x02\x01\x64", None, {}) is None


@pytest.mark.parametrize("size", range(8))
def test_less_than_a_head_is_an_error(size):
    with pytest.raises(DecodeError, match="8 bytes or more"):
        qingping.decode(OWN[:size], None, {})


def test_an_object_cut_off_is_an_error_at_its_offset():
    whole = OWN + bytes.fromhex("020164 0104D800BB01")
    for end in (10, 13, 14, 15, 16):
        with pytest.raises(DecodeError, match="are left") as caught:
            qingping.decode(whole[:end], None, {})
        assert (caught.value.reason, caught.value.offset) == ("truncated", 8 if end < 11 else 11)


def test_the_gateway_s_address_is_the_one_that_counts():
    assert qingping.decode(OWN, None, {}).address == ADDRESS
    assert qingping.decode(OWN, "00:00:00:00:00:01", {}).address is None


def test_an_event_cannot_say_the_illuminance_beside_its_motion():
    both = {"motion": True, "illuminance": 5}
    plain = qingping.encode(both, product=0x12, address=ADDRESS)
    assert plain[8:] == bytes.fromhex("0804 01 050000")
    event = qingping.encode(both, product=0x12, address=ADDRESS, event=True)
    assert event[8:] == bytes.fromhex("0804 01 000000 0904 05000000")
    with pytest.raises(ValueError, match="no object for wind"):
        qingping.encode({"wind": 1}, product=0x12, address=ADDRESS)


def test_the_table_can_be_listed():
    assert qingping.QINGPING.resolutions["pressure"] == "10"
    assert (qingping.QINGPING.counter, qingping.QINGPING.encrypted) == ("packet_id", False)
