"""What is known of a device only ever grows newer, in whatever order it becomes known."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.errors import TransientError
from processor.local.memory_dynamodb import MemoryDynamoDB
from processor.reading import Reading
from processor.store.registry import Device, Registry
from processor.store.states import GATEWAYS, Heard, Latest, State, States, join, state_from, state_of
from processor.store.tables import Slot

DEVICE = "CB:B8:33:4C:88:4F"
TABLE = "processor-devices"


def slot(start, gateways, *readings):
    cells = {
        f"c{n}.AAAA": Reading(DEVICE, start * 1000 + offset, kind, values, n, 0)
        for n, (offset, kind, values) in enumerate(readings)
    }
    return Slot(DEVICE, start, 0, gateways, cells)


def test_the_state_is_the_latest_of_each_quantity_and_of_each_gateway():
    state = state_of(
        DEVICE,
        [
            slot(15, {"G1": -60, "G2": None}, (1, "a", {"temperature": 1.5, "sequence": 1}), (9, "b", {"battery": 90})),
            slot(30, {"G1": -70}, (0, "a", {"temperature": 1.25, "opening": True})),
        ],
    )
    assert state == State(
        DEVICE,
        15_001,
        30_000,
        "a",
        {"temperature": Latest(30_000, 1.25), "battery": Latest(15_009, 90), "opening": Latest(30_000, True)},
        {"G1": Heard(30, -70), "G2": Heard(15, None)},
    )
    assert state_of(DEVICE, [slot(15, {"G1": -60})]) is None


times = st.integers(0, 5)
values = st.sampled_from([1, 1.5, True, "x"])
states = st.builds(
    State,
    st.just(DEVICE),
    times,
    times,
    st.sampled_from("ab"),
    st.dictionaries(st.sampled_from(["temperature", "humidity"]), st.builds(Latest, times, values)),
    st.dictionaries(st.sampled_from(["G1", "G2"]), st.builds(Heard, times, st.sampled_from([None, -60, -70]))),
)


@given(st.lists(states, min_size=1, max_size=4))
def test_states_join_to_the_same_in_any_order_and_as_often_as_one_likes(found):
    joined = reduce(join, found)
    results = {_shown(reduce(join, order)) for order in permutations(found)}
    assert results == {_shown(joined)}
    assert _shown(join(joined, found[0])) == _shown(joined)


def _shown(state):
    return repr(state._replace(latest=sorted(state.latest.items()), heard_by=sorted(state.heard_by.items())))


def test_so_many_gateways_are_kept_that_heard_it_last():
    one = state_of(DEVICE, [slot(15 * n, {f"G{n:03d}": -60}, (0, "a", {"co2": 1})) for n in range(1, 60)])
    assert len(one.heard_by) == GATEWAYS
    assert min(one.heard_by) == f"G{60 - GATEWAYS:03d}"
    late = state_of(DEVICE, [slot(0, {"G999": -60}, (0, "a", {"co2": 1}))])
    assert join(one, late).heard_by == one.heard_by


@pytest.fixture
def table():
    return MemoryDynamoDB()


STATE = State(
    DEVICE,
    1,
    2_000,
    "a",
    {"temperature": Latest(2_000, 21.5), "opening": Latest(1, False), "text": Latest(2, "x")},
    {"G1": Heard(0, -60), "G2": Heard(0, None)},
)


def test_a_state_reads_back_as_it_was_written_beside_what_people_say_of_the_device(table):
    Registry(table, TABLE).put(Device(DEVICE, name="Cellar"))
    assert States(table, TABLE).join(STATE)
    assert States(table, TABLE).known([DEVICE, DEVICE, "other"]) == {DEVICE: (STATE, {"N": "1"})}
    assert Registry(table, TABLE).get(DEVICE).name == "Cellar"


def test_nothing_is_written_where_nothing_is_new(table):
    states = States(table, TABLE)
    states.join(STATE)
    assert not states.join(STATE)
    assert not states.join(STATE._replace(last_seen=1_000))
    assert states.known([DEVICE])[DEVICE][1] == {"N": "1"}


def test_what_others_wrote_meanwhile_is_joined_and_never_lost(table):
    """Known when nothing was there yet; by now somebody else has written."""
    states = States(table, TABLE)
    states.join(STATE)
    later = STATE._replace(first_seen=5, last_seen=3_000, latest={"co2": Latest(3_000, 400)}, heard_by={})
    assert states.join(later, (None, None))
    assert states.known([DEVICE])[DEVICE][0] == join(STATE, later)


def test_an_endless_race_is_a_fault_that_passes(table):
    states = States(table, TABLE)
    states.join(STATE)

    def spoil(operation, body):
        if operation == "UpdateItem":
            item = table.tables["devices"][DEVICE,]
            item["revision"] = {"N": str(int(item["revision"]["N"]) + 1)}

    table.fault = spoil
    with pytest.raises(TransientError, match="others keep writing"):
        states.join(STATE._replace(last_seen=9_000))


def test_an_item_without_readings_has_no_state(table):
    Registry(table, TABLE).put(Device(DEVICE, heard="Meter"))
    assert state_from(table.tables["devices"][DEVICE,]) is None
    assert States(table, TABLE).known([DEVICE]) == {DEVICE: (None, None)}
    assert replace(Device(DEVICE), heard="Meter") == Registry(table, TABLE).get(DEVICE)
