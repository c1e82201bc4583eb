"""Verify finds exactly what was damaged, whatever that is, and after `--fix` the tables say what the readings do."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

from hypothesis import given
from hypothesis import strategies as st

from processor.local.memory_dynamodb import MemoryDynamoDB
from processor.reading import Reading
from processor.rollup import Aggregator
from processor.settings import Settings
from processor.store.differences import STATE
from processor.store.reader import Reader
from processor.store.rollups import Rollups, ranges_of, rollup_from, rollup_of
from processor.store.states import States, state_from, state_of
from processor.store.tables import cell_name, cell_value, slot_of
from processor.verify.plan import Plan
from processor.verify.verifier import Verifier

BASE = 1_700_000_100
DEVICES = ("CB:B8:33:4C:88:4F", "C0:00:00:00:00:01", "C0:00:00:00:00:02")
MOMENTS = st.tuples(st.sampled_from(DEVICES), st.integers(-90_000, 90_000), st.integers(0, 3))
SETTINGS = Settings(writer_threads=2)
POOL = ThreadPoolExecutor(1)


def measure(tables, device, offset, counter):
    reading = Reading(device, (BASE + offset) * 1000 + 7, "ruuvi.5", {"temperature": counter / 10}, counter, counter)
    start = slot_of(reading.at)
    item = tables["readings"].setdefault((device, str(start)), {"device": {"S": device}, "slot": {"N": str(start)}})
    within = reading.at - start * 1000
    item.setdefault(cell_name(reading, within), cell_value(reading, within))
    item.setdefault("gG1", {"N": "-60"})


def recomputed(store):
    """What the tables should say, by place, from all that is stored."""
    found = {}
    reader = Reader(store, "processor-readings")
    for device in {device for device, _ in store.tables["readings"]}:
        slots = list(reader.stored(device, 0, 1 << 50))
        for start in {start for slot in slots for start in ranges_of(slot.start)}:
            rollup = rollup_of(device, start, slots)
            if rollup is not None:
                found[device, start] = rollup
        found[device, STATE] = state_of(device, slots)
    return found


def said(store):
    """What the tables do say, by place."""
    found = {(each.device, each.start): each for each in map(rollup_from, store.tables["rollups"].values())}
    return found | {(device, STATE): state_from(item) for (device,), item in store.tables["devices"].items()}


@given(st.lists(MOMENTS, min_size=1, max_size=30), st.data())
def test_what_was_damaged_is_found_and_nothing_else_and_a_fix_makes_it_right(moments, data):
    store = MemoryDynamoDB()
    for moment in moments:
        measure(store.tables, *moment)
    right = recomputed(store)
    rollups, states = Rollups(store, "processor-rollups"), States(store, "processor-devices")
    for (_, start), each in right.items():
        states.join(each) if start == STATE else rollups.put(each)
    damaged = data.draw(st.sets(st.sampled_from(sorted(right))))
    before = deepcopy(store.tables["readings"])
    for device, start in damaged:
        if start == STATE:
            del store.tables["devices"][device,]
        elif data.draw(st.booleans()):
            del store.tables["rollups"][device, str(start)]
        else:
            item = store.tables["rollups"][device, str(start)]
            item |= {"n": {"N": "0"}} if data.draw(st.booleans()) else {"r": {"N": "999"}}
    verifier = Verifier(store, SETTINGS, clock=lambda: BASE + 200_000, sleep=lambda seconds: None)
    report = verifier.verify(Plan(shown=1000))
    assert {each.place for each in report.first} == damaged
    assert report.left.total() == len(damaged)
    assert report.ranges == len([start for _, start in right if start != STATE])
    fixed = verifier.verify(Plan(fix=True))
    assert (fixed.passed, fixed.fixed.total()) == (True, len(damaged))
    assert said(store) == right
    assert store.tables["readings"] == before


@given(st.lists(st.one_of(MOMENTS, st.integers(0, 29), st.none()), min_size=1, max_size=40))
def test_what_the_roll_up_function_leaves_is_never_called_wrong_however_items_expire_meanwhile(steps):
    """All is older than the retention. A moment is measured, a number expires one item, None handles what came."""
    store, came = MemoryDynamoDB(), []
    aggregator = Aggregator(
        Reader(store, "processor-readings"),
        Rollups(store, "processor-rollups"),
        States(store, "processor-devices"),
        None,
        POOL,
        retention=86_400,
        clock=lambda: BASE + 200_000,
    )
    for step in (*steps, None):
        items = store.tables["readings"]
        if isinstance(step, tuple):
            device, offset, counter = step
            measure(store.tables, device, offset % 400, counter)
            came.append((device, slot_of((BASE + offset % 400) * 1000 + 7)))
        elif step is not None and items:
            del items[sorted(items)[step % len(items)]]
        elif step is None:
            changes = [
                {"Keys": {"device": {"S": device}, "slot": {"N": str(start)}}, "SequenceNumber": str(number)}
                for number, (device, start) in enumerate(came)
            ]
            aggregator.roll_up([{"eventName": "MODIFY", "dynamodb": each} for each in changes], 1e9)
            came.clear()
    settings = Settings(writer_threads=2, retention_days=1)
    verifier = Verifier(store, settings, clock=lambda: BASE + 200_000, sleep=lambda seconds: None)
    assert verifier.verify(Plan()).first == []
