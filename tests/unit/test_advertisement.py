"""AD structures, and the advertisements that `processor.decode` finds in them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

import processor
from processor.decode import readings
from processor.decode.advertisement import MAX_LENGTH, manufacturer_data, service_data, structure, structures
from processor.errors import DecodeError

ADDRESS = "CB:B8:33:4C:88:4F"
RUUVI = bytes.fromhex("1BFF99040512FC5394C37C0004FFFC040CAC364200CDCBB8334C884F")
NO_ADDRESS = RUUVI[:-6] + b"\xff" * 6
BTHOME = bytes.fromhex("0A16D2FC4002C40903BF13")
FLAGS = bytes.fromhex("020106")


def test_structures_come_in_order():
    assert structures(FLAGS + BTHOME + b"\x01\x09") == [(1, b"\x06"), (0x16, BTHOME[2:]), (9, b"")]
    assert structures(b"") == []


def test_a_length_of_zero_ends_the_advertisement_early():
    assert structures(FLAGS + b"\0" + b"\xff" * 5) == [(1, b"\x06")]
    assert readings(BTHOME + b"\0" + RUUVI, ADDRESS, 0) == readings(BTHOME, ADDRESS, 0)


@pytest.mark.parametrize(
    ("data", "offset"),
    [
        (b"\x01", 0),
        (b"\x05\xff\x01", 0),
        (FLAGS + b"\x03\x09a", 3),
        (FLAGS + RUUVI[:-1], 3),
        (RUUVI + b"\xff", 28),  # would overlap whatever came next
    ],
)
def test_a_structure_that_reaches_past_the_end_is_an_error_with_its_offset_and_hex(data, offset):
    for read in (structures, processor.decode):
        with pytest.raises(DecodeError, match=data[:4].hex()) as caught:
            read(data)
        assert (caught.value.reason, caught.value.offset, caught.value.payload) == ("truncated", offset, data)


def test_extended_advertisements_hold_long_structures():
    long = structure(0x09, b"n" * 254)
    data = long * 6 + RUUVI + BTHOME
    assert len(data) <= MAX_LENGTH
    assert [reading.format for reading in readings(data, ADDRESS, 0)] == ["ruuvi.5", "bthome.2"]


def test_an_advertisement_of_the_greatest_length_is_read_and_a_longer_one_is_an_error():
    data = structure(0x09, b"n" * 254) * 6
    data += structure(0x09, b"n" * (MAX_LENGTH - len(data) - 2))
    assert len(data) == MAX_LENGTH
    assert len(structures(data)) == 7
    assert processor.decode(data) == []
    for read in (structures, processor.decode):
        with pytest.raises(DecodeError, match="1651 bytes, at most 1650") as caught:
            read(data + b"\0")
        assert caught.value.reason == "length"


@pytest.mark.parametrize("data", ["01FF", "02FF99", "0116", "0216D2"])
def test_data_too_short_for_its_company_or_uuid_is_an_error(data):
    with pytest.raises(DecodeError, match="no whole company identifier or UUID") as caught:
        processor.decode("020106" + data)
    assert caught.value.offset == 3


def test_what_nobody_here_knows_is_passed_over():
    assert (
        processor.decode(structure(0x09, b"name") + manufacturer_data(0xFFFF, b"") + service_data(0x181A, b"1")) == []
    )


def test_builders_are_the_reader_backwards():
    assert structures(manufacturer_data(0x0499, b"ab") + service_data(0xFCD2, b"")) == [
        (0xFF, b"\x99\x04ab"),
        (0x16, b"\xd2\xfc"),
    ]
    with pytest.raises(ValueError, match="254"):
        structure(1, bytes(255))


def test_two_known_structures_are_two_readings():
    found = readings(FLAGS + RUUVI + BTHOME, ADDRESS, 5, gateway="g", rssi=-70)
    assert [(r.device, r.at, r.format, r.gateway, r.rssi) for r in found] == [
        (ADDRESS, 5, "ruuvi.5", "g", -70),
        (ADDRESS, 5, "bthome.2", "g", -70),
    ]
    assert found[0].identity.startswith("205.")
    assert "." not in found[1].identity


def test_the_gateway_s_address_goes_before_the_payload_s():
    assert processor.decode(RUUVI, address="c0-00-00-00-00-01")[0].device == "C0:00:00:00:00:01"
    assert processor.decode(RUUVI)[0].device == ADDRESS
    within = service_data(0xFCD2, bytes.fromhex("42 4F884C33B8CB 0161"))
    assert processor.decode(within)[0].device == ADDRESS
    assert processor.decode(within, address="C0:00:00:00:00:01")[0].device == "C0:00:00:00:00:01"


@pytest.mark.parametrize("data", [BTHOME, NO_ADDRESS])
def test_without_any_address_the_error_says_what_to_do(data):
    with pytest.raises(DecodeError, match="let the gateway send it") as caught:
        processor.decode(data)
    assert caught.value.reason == "address"


def test_hexadecimal_text_is_taken_as_bytes_are_and_nothing_else():
    assert processor.decode(RUUVI.hex()) == processor.decode(RUUVI)
    with pytest.raises(DecodeError, match="zz") as caught:
        processor.decode("zz")
    assert caught.value.reason == "hex"


def test_the_time_is_aware_or_in_ms():
    at = datetime(2026, 5, 4, 3, 2, 1, 500_000, UTC)
    assert processor.decode(RUUVI, received_at=at)[0].at == 1777863721500
    assert processor.decode(RUUVI, received_at=7)[0].at == 7
    with pytest.raises(ValueError, match="no time zone"):
        processor.decode(RUUVI, received_at=at.replace(tzinfo=None))


def test_equal_payloads_have_equal_identities_and_others_differ():
    again = processor.decode(FLAGS + RUUVI, address="C0:00:00:00:00:02")
    assert again[0].identity == processor.decode(RUUVI)[0].identity
    changed = RUUVI[:4] + b"\x05\x00\x00" + RUUVI[7:]
    assert processor.decode(changed)[0].identity != again[0].identity
