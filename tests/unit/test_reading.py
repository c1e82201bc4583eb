"""The registry of quantities, identities and addresses."""

from __future__ import annotations

import re

import pytest

from processor.decode.formats import FORMATS
from processor.errors import DecodeError
from processor.reading import (
    KEYS,
    NAMES,
    QUANTITIES,
    Reading,
    address,
    address_of,
    device_id,
    identity,
    key_of,
    name_of,
    quantity,
)
from processor.store import tables

EVERY = list(QUANTITIES.values())


@pytest.mark.parametrize("each", EVERY, ids=lambda q: q.name)
def test_short_keys_are_at_most_four_lower_case_letters(each):
    """No digit and no underscore: `t_2` is always the second of `t`."""
    assert re.fullmatch("[a-z]{1,4}", each.key)


def test_names_and_short_keys_are_unique():
    assert len(KEYS) == len(NAMES) == len(EVERY)
    assert len({each.name for each in EVERY}) == len(EVERY)


def test_no_short_key_is_one_of_a_cell_s_own():
    assert not {tables.OFFSET, tables.FORMAT} & set(NAMES)


@pytest.mark.parametrize("each", EVERY, ids=lambda q: q.name)
def test_no_name_reads_as_an_instance_of_another(each):
    """`pm2_5` is no fifth `pm2`."""
    assert re.fullmatch("[a-z][a-z0-9_]*", each.name)
    base, _, number = each.name.rpartition("_")
    assert not (number.isdigit() and base in QUANTITIES)


@pytest.mark.parametrize("each", EVERY, ids=lambda q: q.name)
def test_instances_have_a_key_each_and_back(each):
    assert quantity(each.name) == each
    for number in (2, 17):
        second = quantity(f"{each.name}_{number}")
        assert second == each._replace(name=f"{each.name}_{number}", key=f"{each.key}_{number}")
        assert key_of(second.name) == second.key
        assert name_of(second.key) == second.name
    assert name_of(key_of(each.name)) == each.name


@pytest.mark.parametrize("name", ["wind", "temperature_", "temperature_x", "_2", "2", "", "pm2"])
def test_another_name_is_no_quantity(name):
    with pytest.raises(KeyError, match="no quantity is called"):
        quantity(name)


@pytest.mark.parametrize("table", FORMATS, ids=lambda table: table.name)
def test_every_quantity_of_every_format_is_registered_and_its_counter_is_one(table):
    for name in table.resolutions:
        quantity(name)  # raises where it is none
    if table.counter is not None:
        assert QUANTITIES[table.counter].kind == "counter"


def test_every_format_has_a_name_of_its_own_and_a_source():
    assert len({table.name for table in FORMATS}) == len(FORMATS)
    assert all(table.source for table in FORMATS)


def test_an_identity_is_the_counter_and_four_letters_of_the_digest():
    assert identity(205, 0x9877A1) == "205.mHeh"
    assert identity(None, 0) == "AAAA"
    assert Reading("a", None, "f", {}, 0, 0xFFFFFF).identity == "0.____"


@pytest.mark.parametrize("text", ["CB:B8:33:4C:88:4F", "cb:b8:33:4c:88:4f", "CB-B8-33-4C-88-4F", "cbb8334c884f"])
def test_an_address_has_one_spelling(text):
    assert address(text) == "CB:B8:33:4C:88:4F"


@pytest.mark.parametrize("text", ["", "CB:B8:33:4C:88", "CB:B8:33:4C:88:4G", "CB:B8:33:4C:88:4F:00", "gateway"])
def test_what_is_no_address_is_an_error(text):
    with pytest.raises(DecodeError, match="12 hexadecimal digits"):
        address(text)


def test_an_address_has_six_bytes():
    assert address_of(bytes(6)) == "00:00:00:00:00:00"
    with pytest.raises(ValueError, match="6 bytes, not 5"):
        address_of(bytes(5))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cb-b8-33-4c-88-4f", "CB:B8:33:4C:88:4F"), ("imsi:295050000000001", "imsi:295050000000001"),
        ("acme.th:A17", "acme.th:A17"), ("ibeacon:e2c56db5.1.2", "ibeacon:e2c56db5.1.2"),
    ],
)  # fmt: skip
def test_a_device_is_named_by_its_address_or_as_its_gateway_names_it(text, said):
    assert device_id(text) == said


@pytest.mark.parametrize("text", ["", "imsi:", "nobody", "cb:b8:33:4c:88:4z", "IMSI:1", "acme:a\nb", ":x"])
def test_anything_else_names_no_device(text):
    """A mistyped address is not taken for a name."""
    with pytest.raises(DecodeError, match="12 hexadecimal digits"):
        device_id(text)
