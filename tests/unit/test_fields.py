"""Format tables: what each kind of row decodes and encodes, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from processor.decode.fields import Codec, Field, Format
from processor.decode.formats import FORMATS, ruuvi
from processor.decode.linear import Linear
from processor.errors import DecodeError

OWN = "CB:B8:33:4C:88:4F"
QUANTITIES = ("battery", "temperature", "humidity")


def table(*fields, length=8, endian="big", counter=None):
    return Format(
        name="x", source="", endian=endian, length=length, magic=b"\x01", fields=fields, counter=counter
    )  # fmt: skip


def decode(fmt, text, address=None):
    return fmt.compile()(bytes.fromhex(text), address)


@pytest.mark.parametrize(
    ("kind", "big", "value"),
    [
        ("u8", "FF", 255), ("i8", "FF", -1), ("u16", "0102", 258), ("i16", "8000", -32768), ("u24", "010203", 66051),
        ("i24", "FFFFFE", -2), ("i24", "7FFFFF", 8388607), ("u32", "FFFFFFFF", 2**32 - 1),
        ("i32", "80000000", -(2**31)),
    ],
)  # fmt: skip
def test_integers_of_every_width_and_both_byte_orders(kind, big, value):
    raw = bytes.fromhex(big)
    for endian, stored in (("big", raw), ("little", raw[::-1])):
        fmt = table(Field("count", at=2, type=kind), length=3 + len(raw), endian=endian)
        data = b"\x01\0" + stored + b"\0"
        assert fmt.compile()(data, None).values == {"count": value}
        assert fmt.encode({"count": value}) == data


@pytest.mark.parametrize(
    ("scale", "offset", "raw", "value"),
    [
        ("1", "0", 7, 7), ("0.005", "0", 4860, 24.3), ("1", "50000", 50044, 100044), ("0.001", "1.6", 1377, 2.977),
        ("2", "-40", 22, 4), ("0.00390625", "0", 1, 0.00390625), ("0.35", "0", -1, -0.35), ("0.01", "0.005", 1, 0.015),
    ],
)  # fmt: skip
def test_a_scale_and_an_offset_are_exact(scale, offset, raw, value):
    linear = Linear.of(scale, offset)
    assert eval(linear.source("raw"), {"raw": raw}) == linear.value(raw)
    assert Decimal(repr(linear.value(raw))) == raw * Decimal(scale) + Decimal(offset)
    assert linear.raw(linear.value(raw)) == raw
    if offset == "0":
        assert linear.value(raw) == value


@pytest.mark.parametrize("value", ["warm", float("nan"), float("inf"), True])
def test_what_is_no_number_has_no_raw_value(value):
    with pytest.raises(ValueError, match=r"."):
        Linear.of("0.1").raw(value)


class TestSentinels:
    FMT = table(
        Field("temperature", at=1, type="i16", scale="0.1", invalid=0x8000),
        Field("humidity", at=3, type="u8", invalid=0xFF),
        Field("illuminance", at=4, type="u8", lookup=(0.0, 1.5, *[None] * 254)),
        Field("sequence", at=5, type="u8", invalid=0xFF),
        length=6, counter="sequence",
    )  # fmt: skip

    def test_nothing_missing(self):
        assert decode(self.FMT, "01 00FB 32 01 07") == (
            "x", {"temperature": 25.1, "humidity": 50, "illuminance": 1.5, "sequence": 7}, 7, None, None,
        )  # fmt: skip

    @pytest.mark.parametrize(
        ("data", "missing"),
        [("01 8000 32 01 07", "temperature"), ("01 00FB FF 01 07", "humidity"), ("01 00FB 32 02 07", "illuminance")],
    )
    def test_each_sentinel_gives_no_value_and_leaves_the_others(self, data, missing):
        found = decode(self.FMT, data)
        assert found.values.keys() == {"temperature", "humidity", "illuminance", "sequence"} - {missing}
        assert found.counter == 7

    def test_a_counter_that_is_not_available_identifies_nothing(self):
        found = decode(self.FMT, "01 00FB 32 01 FF")
        assert found.counter is None
        assert "sequence" not in found.values

    def test_only_sentinels_give_no_values(self):
        assert decode(self.FMT, "01 8000 FF FF FF").values == {}

    def test_what_is_missing_is_encoded_as_not_available(self):
        assert self.FMT.encode({"illuminance": 1.4}) == bytes.fromhex("01 8000 FF 01 FF")
        assert self.FMT.encode({"humidity": 50}) == bytes.fromhex("01 8000 32 02 FF")

    @pytest.mark.parametrize("value", [-3276.8, -3276.84])
    def test_a_value_whose_code_means_not_available_is_refused(self, value):
        with pytest.raises(ValueError, match=r"x: temperature cannot be .*: its code means not available"):
            self.FMT.encode({"temperature": value})


def test_bits_share_an_integer():
    fmt = table(
        Field("battery_voltage", at=1, type="u16", bits=(5, 11), scale="0.001", offset="1.6", invalid=2047),
        Field("tx_power", at=1, type="u16", bits=(0, 5), scale="2", offset="-40", invalid=31), length=3,
    )  # fmt: skip
    assert decode(fmt, "01 AC36").values == {"battery_voltage": 2.977, "tx_power": 4}
    assert decode(fmt, "01 FFF6").values == {"tx_power": 4}
    assert decode(fmt, "01 AC3F").values == {"battery_voltage": 2.977}
    assert fmt.encode({"battery_voltage": 2.977, "tx_power": 4}) == bytes.fromhex("01AC36")
    for wrong in ({"tx_power": 24}, {"tx_power": -42}, {"battery_voltage": 1.599}):
        with pytest.raises(ValueError, match="does not fit u16"):
            fmt.encode(wrong)


def test_a_lowest_bit_kept_elsewhere_is_shared_with_the_fields_of_its_byte():
    fmt = table(
        Field("voc_index", at=1, type="u8", low_bit=(3, 6), invalid=0x1FF),
        Field("nox_index", at=2, type="u8", low_bit=(3, 7), invalid=0x1FF), length=4,
    )  # fmt: skip
    assert decode(fmt, "01 05 01 40").values == {"voc_index": 11, "nox_index": 2}
    assert decode(fmt, "01 FF 01 40").values == {"nox_index": 2}
    assert fmt.encode({"voc_index": 11, "nox_index": 2}) == bytes.fromhex("01050140")
    with pytest.raises(ValueError, match="nox_index cannot be 512"):
        fmt.encode({"nox_index": 512})


@pytest.mark.parametrize(
    ("stored", "value"), [("1A1E", 26.3), ("9A1E", -26.3), ("7F63", 127.99), ("8000", 0), ("0000", 0)]
)
def test_whole_units_and_hundredths_with_a_sign_bit(stored, value):
    fmt = table(Field("temperature", at=1, type="sign.int.cents", scale="0.01"), length=3)
    assert decode(fmt, "01" + stored).values == {"temperature": value}
    assert fmt.encode({"temperature": value}) == bytes.fromhex("01" + (stored if value else "0000"))


def test_a_hundred_hundredths_are_an_error_and_more_than_the_bits_hold_is_refused():
    fmt = table(Field("temperature", at=1, type="sign.int.cents", scale="0.01"), length=3)
    with pytest.raises(DecodeError, match="temperature has 100 hundredths") as caught:
        decode(fmt, "01 1A64")
    assert (caught.value.reason, caught.value.offset) == ("range", 2)
    for value in (128, -128):
        with pytest.raises(ValueError, match="does not fit"):
            fmt.encode({"temperature": value})


class TestAddress:
    FMT = table(Field("address", at=1, type="mac"), Field("count", at=7, type="u8"))

    def test_the_payload_s_own_is_read_where_the_gateway_gave_none(self):
        assert decode(self.FMT, "01 CBB8334C884F 07").address == OWN
        assert decode(self.FMT, "01 CBB8334C884F 07", OWN).address is None

    def test_six_ff_are_none(self):
        assert decode(self.FMT, "01 FFFFFFFFFFFF 07").address is None

    def test_it_is_encoded_and_no_quantity(self):
        assert self.FMT.encode({"count": 7}, address=OWN) == bytes.fromhex("01CBB8334C884F07")
        assert self.FMT.encode({"count": 7}) == bytes.fromhex("01FFFFFFFFFFFF07")
        assert self.FMT.resolutions == {"count": "1"}


def test_bytes_are_read_as_hexadecimal_or_by_their_codec():
    fmt = table(
        Field("instance", at=1, type="bytes", size=2),
        Field("namespace", at=3, type="bytes", size=1, codec=Codec(lambda piece: f"n{piece[0]}", lambda v: b"\x05")),
        length=4,
    )
    assert decode(fmt, "01 ABCD 05").values == {"instance": "abcd", "namespace": "n5"}
    assert fmt.encode({"instance": "abcd", "namespace": "n5"}) == bytes.fromhex("01ABCD05")
    assert fmt.encode({}) == bytes.fromhex("01000000")
    for wrong in ("ab", "abcdef", "xy"):
        with pytest.raises(ValueError, match="instance cannot be"):
            fmt.encode({"instance": wrong})


def test_a_rest_goes_to_the_end_and_its_codec_sees_the_whole_payload():
    seen = []
    codec = Codec(lambda data: seen.append(data) or data[2:].decode(), lambda value: value.encode())
    fmt = table(Field("count", at=1, type="u8"), Field("text", at=2, type="rest", codec=codec), length=2)
    assert decode(fmt, "01 07 6162").values == {"count": 7, "text": "ab"}
    assert decode(fmt, "01 07").values == {"count": 7, "text": ""}
    assert seen[0] == b"\x01\x07ab"
    assert fmt.encode({"count": 7, "text": "abc"}) == b"\x01\x07abc"
    with pytest.raises(DecodeError, match="expected 2 bytes or more, got 1"):
        decode(fmt, "01")


@pytest.mark.parametrize("length", [0, 23, 25])
def test_a_wrong_length_is_an_error_that_says_both(length):
    with pytest.raises(DecodeError, match=rf"ruuvi\.5: expected 24 bytes, got {length}") as caught:
        ruuvi.RAWV2.compile()(bytes(length), None)
    assert caught.value.reason == "length"


def test_what_a_format_has_no_field_for_is_left_out():
    assert ruuvi.DF6.encode({"co2": 400, "pm1_0": 3}) == ruuvi.DF6.encode({"co2": 400})


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"humidity": 163.84}, "ruuvi.5: humidity cannot be 163.84: it does not fit u16"),
        ({"temperature": "warm"}, "ruuvi.5: temperature cannot be 'warm': Invalid literal"),
        ({"pressure": 49999}, "does not fit u16"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_name(values, expected):
    with pytest.raises(ValueError, match=expected):
        ruuvi.RAWV2.encode(values)


def test_a_table_can_be_listed():
    assert ruuvi.DF6.resolutions["temperature"] == "0.005"
    assert ruuvi.DF6.resolutions["illuminance"] is None  # logarithmic
    assert not ruuvi.DF6.encrypted


class TestNotAvailable:
    def test_two_kinds_of_raw_values_can_mean_it(self):
        """A zero that no sensor measures, and all that are beyond its range."""
        fmt = table(Field("co2", at=1, type="u16", invalid=0, invalid_from=10_000), length=3)
        said = {raw: decode(fmt, f"01{raw:04X}").values for raw in (0, 1, 9_999, 10_000, 65_535)}
        assert said == {0: {}, 1: {"co2": 1}, 9_999: {"co2": 9_999}, 10_000: {}, 65_535: {}}
        assert fmt.encode({}) == b"\1\0\0"
        for raw in (0, 10_000, 65_535):
            with pytest.raises(ValueError, match="its code means not available"):
                fmt.encode({"co2": raw})

    def test_a_quantity_of_two_groups_is_missing_where_all_of_either_are_blank(self):
        fields = [Field(name, at=at, type="u8") for at, name in enumerate(QUANTITIES, 1)]
        fmt = replace(table(*fields, length=4), unmeasured=(QUANTITIES, QUANTITIES[1:]))
        assert decode(fmt, "01000000").values == {}
        assert decode(fmt, "01320000").values == {"battery": 50}
        assert decode(fmt, "01000005").values == {"battery": 0, "temperature": 0, "humidity": 5}


@pytest.mark.parametrize("fmt", [each for each in FORMATS if isinstance(each, Format)], ids=lambda fmt: fmt.name)
def test_what_a_format_names_is_among_its_fields(fmt):
    """A table that calls what it does not have essential would say so of nothing, in silence."""
    named = {fmt.counter, fmt.essential, fmt.passing, *(name for group in fmt.unmeasured for name in group)} - {None}
    sent_before = {"packet_id"} if fmt.encrypted else set()  # the encrypted ones' counter stands before what is
    assert named - sent_before <= {field.name for field in fmt.fields}
