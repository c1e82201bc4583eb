"""The audit's marked readings and its count: complete where all is well, and each fault is named."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from copy import deepcopy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.audit.count import Tables, Truth, count
from processor.audit.marks import LATER_MS, PER_SLOT, SEEDS, Mark, address, marks, post, posts
from processor.audit.tap import Tap
from processor.batch import Batch
from processor.local.memory_dynamodb import MemoryDynamoDB
from processor.local.memory_streams import MemoryStreams
from processor.rules import Limits, Rules
from processor.store.reader import Reader
from processor.store.rollups import Rollups, ranges_of, rollup_of
from processor.store.states import States, state_of
from processor.store.writer import Writer

NOW = 1_700_000_400_000  # the end of a range
SEED = 0x1A2B3C
TABLES = ("readings", "rollups", "devices")


@pytest.fixture(scope="session")
def system(kinesis_event):
    """Takes posts the whole way, in memory, in two batches; returns what the tables hold and what was streamed."""

    def run(sent):
        streamed = Counter()

        def changed(noun, event, key):
            if noun == "readings":
                streamed[key["device"]["S"], int(key["slot"]["N"])] += 1

        store = MemoryDynamoDB(changed=changed)
        with closing(Writer(store, "processor-readings", threads=2)) as writer:
            for half in (sent[::2], sent[1::2]):
                records = kinesis_event(*(each.data for each in half), arrived_at=NOW)["Records"]
                batch = Batch(records, Rules(Limits(86_400)))
                batch.store(writer, now=NOW / 1000)
                assert batch.ledger()["rejected"] == batch.ledger()["ignored"] == 0
        reader = Reader(store, "processor-readings")
        for device in {device for device, _ in store.tables["readings"]}:
            slots = list(reader.stored(device, 0, 1 << 50))
            for start in {start for slot in slots for start in ranges_of(slot.start)}:
                rollup = rollup_of(device, start, slots)
                if rollup is not None:
                    Rollups(store, "processor-rollups").put(rollup)
            States(store, "processor-devices").join(state_of(device, slots))
        return Tables(*(list(store.tables[noun].values()) for noun in TABLES)), streamed

    return run


@pytest.fixture(scope="module")
def run(system):
    sent = posts(marks(300, SEED, NOW), SEED)
    return Truth(sent), *system(sent)


@given(st.integers(1, 3000), st.integers(0, SEEDS - 1), st.integers(10**12, 2 * 10**12))
def test_marks_are_as_many_as_asked_for_unlike_each_other_and_of_the_past(number, seed, now):
    found = marks(number, seed, now)
    assert len(found) == len({(mark.device, mark.counter) for mark in found}) == number
    assert all(0 <= mark.counter < 0xFFFF and mark.at < now for mark in found)
    assert {mark.device[:14] for mark in found} == {address(seed, 0)[:14]}
    assert max(Counter((mark.device, mark.slot) for mark in found).values()) <= PER_SLOT
    assert found == marks(number, seed, now)


@given(st.integers(1, 500), st.integers(0, SEEDS - 1))
def test_posts_hold_every_mark_and_some_twice(number, seed):
    sent = marks(number, seed, NOW)
    held = [mark for each in posts(sent, seed) for mark in each.marks]
    once = set(sent)
    assert once <= set(held)
    assert {mark._replace(at=mark.at - LATER_MS) for mark in held if mark not in once} <= once
    assert max(Counter((mark.device, mark.counter) for mark in held).values()) <= 2


def test_devices_are_of_a_block_that_nobody_else_has():
    """The second bit of an address's first byte says that whoever runs the network gave it."""
    assert address(SEED, 7) == "02:AD:1A:2B:3C:07"
    assert address(SEED, 7) != address(SEED + 1, 7)


@pytest.mark.parametrize("number", [1, 13, 300, 2500])
def test_all_is_well_where_all_is_well(system, number):
    sent = posts(marks(number, SEED, NOW), SEED)
    truth = Truth(sent)
    counts = count(truth, *system(sent))
    assert counts.passed, (counts.missing[:3], counts.doubled[:3], counts.changed[:3])
    assert counts.sent == counts.stored == counts.rolled_up == number
    assert counts.streamed == counts.items
    assert truth.copies == sum(len(each.marks) for each in sent) - number
    assert (truth.copies > 0) == (number > 13)


def test_a_copy_heard_in_the_next_range_counts_once(system):
    """The second gateway heard the last readings of a range when the next had begun: two cells, one reading."""
    one = Mark(address(SEED, 0), 5, NOW - 500, 20.5, 60_000)
    both = [post("plain", [one], 1), post("moko", [one._replace(at=one.at + LATER_MS)], 2)]
    truth = Truth(both)
    tables, streamed = system(both)
    counts = count(truth, tables, streamed)
    assert (counts.passed, counts.sent, counts.items, counts.rolled_up) == (True, 1, 2, 1)
    for item in tables.rollups:  # counted in either range, it is doubled
        item["r"] = {"N": "1"}
    [line] = count(truth, tables, streamed).doubled
    assert line.endswith("1 readings, not 0")


def _cell(tables):
    """A cell of the first item: the item and the cell's name."""
    item = tables.readings[0]
    return item, next(name for name in item if name[0] == "c")


def drop_reading(tables, streamed):
    item, name = _cell(tables)
    del item[name]


def add_reading(tables, streamed):
    item, name = _cell(tables)
    item["c65001.AAAA"] = item[name]


def double_reading(tables, streamed):
    item, name = _cell(tables)
    item[name.partition(".")[0] + ".AAAA"] = item[name]


def move_reading(tables, streamed):
    item, _ = _cell(tables)
    item["slot"] = {"N": str(int(item["slot"]["N"]) - 86_400)}


def change_reading(tables, streamed):
    item, name = _cell(tables)
    item[name]["M"]["p"] = {"N": "1"}


def drop_value(tables, streamed):
    item, name = _cell(tables)
    del item[name]["M"]["t"]


def drop_rollup(tables, streamed):
    del tables.rollups[0]


def short_rollup(tables, streamed):
    _lower(tables.rollups[0], -1)


def long_rollup(tables, streamed):
    _lower(tables.rollups[0], 1)


def _lower(item, by):
    item["r"]["N"] = str(int(item["r"]["N"]) + by)


def change_sum(tables, streamed):
    tables.rollups[0]["q"]["M"]["p"]["M"]["sum"]["N"] = "5"


def change_number(tables, streamed):
    tables.rollups[0]["q"]["M"]["t"]["M"]["n"]["N"] = "5"


def drop_quantity(tables, streamed):
    del tables.rollups[0]["q"]["M"]["p"]


def foreign_rollup(tables, streamed):
    tables.rollups.append(deepcopy(tables.rollups[0]) | {"start": {"N": "300"}})


def drop_state(tables, streamed):
    del tables.devices[0]


def old_state(tables, streamed):
    tables.devices[0]["last_seen"] = {"N": "5"}


def drop_change(tables, streamed):
    streamed.pop(next(iter(streamed)))


FAULTS = {
    drop_reading: ("missing", "not stored"),
    add_reading: ("doubled", "never sent"),
    double_reading: ("doubled", "stored 2 times"),
    move_reading: ("doubled", "in which it was not measured"),
    change_reading: ("changed", "1 Pa; sent as"),
    drop_value: ("changed", "None °C"),
    drop_rollup: ("missing", "roll-up of"),
    short_rollup: ("missing", "readings, not"),
    long_rollup: ("doubled", "readings, not"),
    change_sum: ("changed", "of 5 Pa together"),
    change_number: ("changed", "5 temperatures"),
    drop_quantity: ("changed", "0 pressures"),
    foreign_rollup: ("doubled", "1970-01-01T00:05:00Z"),
    drop_state: ("missing", "state of"),
    old_state: ("changed", "last seen 1970"),
    drop_change: ("missing", "not in the stream"),
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_each_fault_is_found_and_named(run, fault):
    truth, tables, streamed = deepcopy(run)
    assert count(truth, tables, streamed).passed
    fault(tables, streamed)
    counts = count(truth, tables, streamed)
    kind, words = FAULTS[fault]
    assert not counts.passed
    assert any(words in line for line in getattr(counts, kind)), (counts.missing, counts.doubled, counts.changed)


def test_a_stream_that_is_not_there_is_not_counted(run):
    truth, tables, _ = run
    counts = count(truth, tables, None)
    assert (counts.passed, counts.streamed) == (True, None)


def test_the_tap_hears_what_comes_after_it_was_made_through_splits_and_of_its_own_devices_only():
    streams = MemoryStreams(shards=2, clock=lambda: 1000.0)

    def change(device, slot, gone=False):
        item = {"device": {"S": device}, "slot": {"N": str(slot)}}
        streams.append(item if gone else None, None if gone else item)

    mine = [address(SEED, n) for n in range(8)]
    change(mine[0], 15)
    tap = Tap(streams, streams.arn, address(SEED, 0)[:14])
    tap.poll()
    assert not tap.items
    for n, device in enumerate(mine):
        change(device, 30 + 15 * n)
    change("CB:B8:33:4C:88:4F", 30)
    change(mine[0], 15, gone=True)
    for shard in list(streams._shards):
        streams.split_shard(shard)
    for device in mine:
        change(device, 300)
    tap.poll()
    tap.poll()
    assert tap.items == dict.fromkeys([(device, 30 + 15 * n) for n, device in enumerate(mine)], 1) | dict.fromkeys(
        [(device, 300) for device in mine], 1
    )
