"""The short ways that a model, a local name, a UUID or the sender's address opens, against the makers' decoders."""

from __future__ import annotations

from contextlib import nullcontext
from importlib import import_module
from unittest import mock

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from processor.decode.advertisement import manufacturer_data, service_data, structure
from processor.decode.formats import MODELLED, atc, govee, inkbird, switchbot
from processor.errors import DecodeError

decode = import_module("processor.decode")  # `processor` has a function of this name
ADDRESS = "A4:C1:38:02:83:F4"
MAC = bytes.fromhex(ADDRESS.replace(":", ""))
FLAGS = b"\x02\x01\x06"
LOCAL_NAMES = ("sps", "tps", "spsx", "TP357 (2B3C)", "TP393", "TP972", "GVH5101_1", "GVH5106_1", "GVH5178_1", "")
UUIDS = (b"\x88\xec", b"\x51\x81", b"\x51\x82", b"\x51\x84")
MODELS = (None, *LOCAL_NAMES, *switchbot.MODELS)


def both(data: bytes, model: str | None) -> tuple[list[object], list[object]]:
    """Return what is read of an advertisement by the short ways and without them; errors in their place."""
    beside = decode._beside.__wrapped__
    slow = mock.patch.multiple(
        decode, _whole={}.get, _modelled={}.get, _beside=lambda *asked: (*beside(*asked)[:2], None)
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
