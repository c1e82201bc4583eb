"""Roll-ups: a pure, exact function of the stored cells; the table takes later states only."""

from __future__ import annotations

from decimal import Decimal

import pytest

from processor.errors import StoreError, TransientError
from processor.local.memory_dynamodb import MemoryDynamoDB
from processor.reading import Reading
from processor.store.rollups import (
    Rollup,
    Rollups,
    Summary,
    folded,
    item_of,
    ranges_of,
    rollup_from,
    rollup_of,
)
from processor.store.tables import Slot, cell_name, slot_of

DEVICE = "CB:B8:33:4C:88:4F"
START = 1_700_000_100


def reading(offset_ms, counter=None, kind="ruuvi.5", digest=7, **values):
    return Reading(DEVICE, START * 1000 + offset_ms, kind, values, counter, digest)


def slots(*readings):
    found = {}
    for each in readings:
        start = slot_of(each.at)
        slot = found.setdefault(start, Slot(DEVICE, start, 0, {}, {}))
        slot.cells[cell_name(each, each.at - start * 1000)] = each
    return list(found.values())


def summary(count, total, least, most, last):
    return Summary(count, *map(Decimal, (total, least, most, last)))


def test_sums_are_exact_decimals():
    """0.1 + 0.2 + 0.7 is 1.0, as it is not in floating point."""
    found = rollup_of(DEVICE, START, slots(*(reading(n, n, temperature=v) for n, v in enumerate((0.1, 0.2, 0.7)))))
    assert found == Rollup(DEVICE, START, 3, 3, {"temperature": summary(3, "1.0", "0.1", "0.7", "0.7")})


def test_numbers_and_flags_are_rolled_up_and_nothing_else():
    found = rollup_of(
        DEVICE,
        START,
        slots(
            reading(0, 1, opening=True, major=7, sequence=3, text="x", button="press", movement_counter=9),
            reading(1, 2, opening=False),
        ),
    )
    assert found.quantities == {
        "movement_counter": summary(1, "9", "9", "9", "9"),
        "opening": summary(2, "1", "0", "1", "0"),
    }


def test_a_range_holds_what_was_measured_from_its_start_up_to_its_end():
    found = rollup_of(
        DEVICE,
        START,
        slots(reading(-1, 1, co2=1), reading(0, 2, co2=2), reading(299_999, 3, co2=3), reading(300_000, 4, co2=4)),
    )
    assert (found.cells, found.readings) == (4, 2)
    assert found.quantities["co2"] == summary(2, "5", "2", "3", "3")


def test_a_copy_belongs_to_the_range_of_the_first():
    """Through a gateway whose clock is behind, the reading was measured just before the range began."""
    copies = slots(reading(-10_000, 1, co2=1), reading(10_000, 1, co2=1))
    assert rollup_of(DEVICE, START - 300, copies).readings == 1
    assert rollup_of(DEVICE, START, copies) == Rollup(DEVICE, START, 2, 0, {})


def test_the_lesser_format_is_left_out_though_the_better_one_lies_in_the_next_range():
    sample = slots(reading(299_000, 5, "ruuvi.6", 1, co2=400), reading(301_000, 0x105, "ruuvi.e1", 2, co2=401))
    assert rollup_of(DEVICE, START, sample).readings == 0
    assert rollup_of(DEVICE, START + 300, sample).quantities["co2"] == summary(1, "401", "401", "401", "401")


def test_of_readings_of_one_time_the_last_is_always_the_same():
    tied = [reading(5, 1, digest=1, co2=1), reading(5, 1, digest=2, co2=2)]
    assert (
        rollup_of(DEVICE, START, slots(*tied)).quantities["co2"].last
        == rollup_of(DEVICE, START, slots(*reversed(tied))).quantities["co2"].last
    )


def test_a_range_that_never_had_a_reading_has_no_roll_up():
    assert rollup_of(DEVICE, START, slots(reading(-1, 1, co2=1))) is None
    assert rollup_of(DEVICE, START, []) is None


def test_a_slot_touches_its_range_and_the_neighbours_within_the_skew():
    assert ranges_of(START + 135) == [START]
    assert ranges_of(START) == [START - 300, START]
    assert ranges_of(START + 45) == [START - 300, START]
    assert ranges_of(START + 60) == [START]
    assert ranges_of(START + 225) == [START]
    assert ranges_of(START + 240) == [START, START + 300]


def test_an_item_reads_back_as_the_roll_up_that_it_was_written_from():
    rollup = Rollup(DEVICE, START, 3, 2, {"temperature_2": summary(2, "-0.30", "-40.5", "40.2", "40.2")})
    assert rollup_from(item_of(rollup)) == rollup


def test_hours_and_days_are_folded_in_order():
    one = Rollup(DEVICE, 3600, 2, 2, {"co2": summary(2, "30", "10", "20", "20")})
    two = Rollup(
        DEVICE, 6900, 1, 1, {"co2": summary(1, "5", "5", "5", "5"), "humidity": summary(1, "1", "1", "1", "1")}
    )
    three = Rollup(DEVICE, 7200, 1, 1, {})
    assert list(folded([one, two, three], 3600)) == [
        Rollup(
            DEVICE, 3600, 3, 3, {"co2": summary(3, "35", "5", "20", "5"), "humidity": summary(1, "1", "1", "1", "1")}
        ),
        three,
    ]
    (day,) = folded([one, two, three], 86_400)
    assert (day.start, day.readings, str(day.quantities["co2"].mean)[:7]) == (0, 4, "11.6666")
    assert list(folded([], 3600)) == []


@pytest.fixture
def table():
    return Rollups(MemoryDynamoDB(), "processor-rollups")


def state(cells):
    return Rollup(DEVICE, START, cells, cells, {"co2": summary(cells, cells, 1, 1, 1)})


def test_a_state_of_fewer_cells_never_replaces_one_of_more(table):
    assert table.put(state(3))
    assert not table.put(state(2))
    assert table.put(state(3))
    assert list(table.read(DEVICE, START, START + 1)) == [state(3)]
    assert table.put(state(10))
    assert list(table.all()) == [state(10)]


def test_a_rebuild_replaces_whatever_is_there(table):
    table.put(state(3))
    table.rebuild(state(2))
    assert list(table.all()) == [state(2)]


def test_over_a_rebuilt_one_nobody_writes_by_the_number_of_cells(table):
    """Who read before the deletion has more of them."""
    table.put(state(3))
    assert not table.rebuild(state(1), marked=True)
    table.rebuild(state(2))
    assert not table.put(state(3))
    assert not table.put(state(1), worn=True)
    assert table.rebuild(state(1), marked=True)
    assert list(table.all()) == [state(1)]
    assert table.put(state(3), worn=True)
    assert not table.put(state(4))


def test_what_is_put_right_to_fewer_cells_is_marked_too(table):
    table.put(state(3))
    assert table.replace(state(4), 3)
    assert table.put(state(4))
    assert table.replace(state(2), 4)
    assert not table.put(state(4))


def test_a_roll_up_is_replaced_only_where_it_is_the_known_one(table):
    assert table.replace(state(2), None)
    assert not table.replace(state(4), None)
    assert not table.replace(state(1), 3)
    assert table.replace(state(1), 2)
    assert list(table.all()) == [state(1)]


def test_other_refusals_are_not_taken_for_a_later_state():
    def fail(operation, body):
        raise TransientError("ThrottlingException", "slowly")

    with pytest.raises(StoreError, match="slowly"):
        Rollups(MemoryDynamoDB(fault=fail), "processor-rollups").put(state(1))


def test_ranges_are_read_across_pages_between_two_times(table):
    for n in range(9):
        table.put(state(1)._replace(start=START + 300 * n))
    found = table.read(DEVICE, START + 300, START + 2400)
    assert [each.start for each in found] == [START + 300 * n for n in range(1, 8)]
