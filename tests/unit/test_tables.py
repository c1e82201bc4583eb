"""Keys, cells and items."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from processor.reading import QUANTITIES, Reading
from processor.store import tables
from processor.store.tables import FORMAT, OFFSET, SLOT_SECONDS, cell_name, cell_value, slot, slot_of

DEVICE = "CB:B8:33:4C:88:4F"


def reading(**changes):
    start = Reading(DEVICE, 1_700_000_012_345, "ruuvi.5", {"temperature": 24.3, "sequence": 205}, 205, 0xA05016)
    return start._replace(**changes)


def test_no_quantity_takes_a_key_that_the_cell_needs():
    assert not {OFFSET, FORMAT} & {quantity.key for quantity in QUANTITIES.values()}


def test_slots_divide_a_rollup_range_and_start_at_their_multiple():
    assert 300 % SLOT_SECONDS == 0
    assert slot_of(1_700_000_012_345) == 1_700_000_012 // SLOT_SECONDS * SLOT_SECONDS


def test_a_counting_sensors_cell_is_named_alike_wherever_in_the_slot_it_was_heard():
    assert cell_name(reading(), 1_000) == cell_name(reading(), 9_999)
    assert cell_name(reading(counter=206), 1_000) != cell_name(reading(), 1_000)
    assert cell_name(reading(digest=1), 1_000) != cell_name(reading(), 1_000)


def test_without_a_counter_the_cell_is_named_by_its_time_to_the_resolution():
    plain = reading(counter=None)
    assert cell_name(plain, 1_000) == cell_name(plain, 1_999) != cell_name(plain, 2_000)


values = st.builds(
    dict.__or__,
    st.dictionaries(
        st.sampled_from(["temperature", "pressure", "humidity_2", "battery"]),
        st.one_of(st.integers(-(2**40), 2**40), st.integers(-(10**9), 10**9).map(lambda n: n / 1000), st.booleans()),
    ),
    st.dictionaries(st.sampled_from(["text", "button"]), st.text()),
)


@given(
    at=st.integers(0, 2**42),
    counter=st.none() | st.integers(0, 2**32 - 1),
    digest=st.integers(0, 2**24 - 1),
    values=values,
)
def test_a_reading_written_as_a_cell_reads_back_value_by_value(at, counter, digest, values):
    before = reading(at=at, counter=counter, digest=digest, values=values)
    start = slot_of(at)
    offset = at - start * 1000
    name = cell_name(before, offset)
    item = {
        "device": {"S": DEVICE},
        "slot": {"N": str(start)},
        "expires": {"N": "2000000000"},
        "gC8:25:2D:8E:9C:2C": {"N": "-70"},
        name: cell_value(before, offset),
    }
    found = slot(item)
    after = found.cells[name]
    assert after == before._replace(gateway="C8:25:2D:8E:9C:2C", rssi=-70)
    assert found.expires == 2_000_000_000


def test_the_nearest_gateway_is_named_and_one_without_rssi_is_the_furthest():
    item = {
        "device": {"S": DEVICE},
        "slot": {"N": "1700000010"},
        "gA": {"NULL": True},
        "gB": {"N": "-90"},
        "gC": {"N": "-60"},
        "c1.AAAA": cell_value(reading(counter=1, digest=0), 5),
    }
    found = slot(item)
    assert found.gateways == {"A": None, "B": -90, "C": -60}
    assert found.cells["c1.AAAA"].gateway == "C"
    assert found.cells["c1.AAAA"].rssi == -60


def test_the_specification_names_what_terraform_and_python_both_need():
    readings = tables.SPECIFICATIONS["readings"]
    assert readings["hash_key"] == {"name": "device", "type": "S"}
    assert readings["range_key"] == {"name": "slot", "type": "N"}
    assert readings["ttl"] == "expires"
