"""Reading back: pages followed, copies counted once, expired items left out."""

from __future__ import annotations

import random
import threading
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.errors import TransientError
from processor.local.memory_dynamodb import MemoryDynamoDB
from processor.reading import Reading
from processor.store.reader import Reader, once
from processor.store.rollups import RANGE_MS, RANGE_SECONDS, rollup_of
from processor.store.tables import RESOLUTION_MS, SKEW_MS, SLOT_MS, cell_name, cell_value, slot_of

DEVICE = "CB:B8:33:4C:88:4F"
START = 1_700_000_010_000 // SLOT_MS * SLOT_MS


def reading(at, counter=None, digest=0, device=DEVICE, temperature=20.5):
    return Reading(device, at, "ruuvi.5", {"temperature": temperature}, counter, digest)


def reading_at(n):
    return reading(START + n * SLOT_MS, counter=n)


@pytest.fixture
def store(table):
    """Puts readings into the table as they are, without the writer."""

    def put(*readings, expires=2_000_000_000):
        for each in readings:
            start = slot_of(each.at)
            key = {"device": {"S": each.device}, "slot": {"N": str(start)}}
            item = table.items.setdefault((each.device, start), {**key, "expires": {"N": str(expires)}})
            offset = each.at - start * 1000
            item.setdefault(cell_name(each, offset), cell_value(each, offset))

    return put


@pytest.fixture
def reader(table):
    return Reader(table, "processor-readings", threads=3, clock=lambda: 1_700_000_000)


def test_a_range_gives_its_readings_in_order_across_pages(store, reader):
    every = [reading(START + n * 7_000, counter=n) for n in range(40)]
    store(*reversed(every))
    assert reader.readings(DEVICE, START, START + 10**9) == every
    assert reader.readings(DEVICE, every[5].at, every[9].at) == every[5:9]


def test_copies_in_two_slots_count_once_and_belong_to_the_first(store, reader):
    first, copy = reading(START + SLOT_MS - 500, counter=7), reading(START + SLOT_MS + 1_500, counter=7)
    store(first, copy)
    assert reader.readings(DEVICE, START, START + 2 * SLOT_MS) == [first]
    assert reader.readings(DEVICE, START + SLOT_MS, START + 2 * SLOT_MS) == []


def test_an_equal_counter_a_minute_later_is_another_reading(store, reader):
    store(reading(START, counter=7), reading(START + 60_000, counter=7))
    assert len(reader.readings(DEVICE, START, START + 10**6)) == 2


def test_without_a_counter_equal_payloads_count_once_within_the_resolution():
    assert [r.at for r in once([reading(0), reading(900), reading(1_000), reading(2_500)])] == [0, 1_000, 2_500]


def test_the_latest_are_the_last_whatever_their_copies(store, reader):
    every = [reading(START + n * 20_000, counter=n) for n in range(30)]
    store(*every, every[29]._replace(at=every[29].at + 30_000), every[28]._replace(at=every[28].at + 15_000))
    assert reader.latest(DEVICE) == every[29:]
    assert reader.latest(DEVICE, 5) == every[25:]
    assert reader.latest(DEVICE, 100) == every
    assert reader.latest("AA:AA:AA:AA:AA:AA") == []


def test_a_superseded_format_is_left_out_where_the_better_one_is_near():
    e1, six = (reading(50_000, counter=9)._replace(format=name) for name in ("ruuvi.e1", "ruuvi.6"))
    far, other = six._replace(at=50_000 + 60_001), reading(50_500, counter=10)
    missed = six._replace(at=49_000, counter=8)  # its E1 was not heard
    assert list(once([six, missed, e1, far, other])) == [missed, e1, other, far]
    assert list(once([six, e1._replace(counter=0x0209)])) == [e1._replace(counter=0x0209)]
    assert list(once([six])) == [six]


def test_a_scan_that_fails_raises_and_one_that_is_left_ends(store, reader, table):
    store(*(reading_at(n) for n in range(40)))
    assert len(list(reader.scan())) == 40
    next(reader.scan())

    def fail(operation, body):
        raise TransientError("InternalServerError", "broken")

    table.fail = fail
    with pytest.raises(TransientError):
        list(reader.scan())


def test_who_leaves_a_scan_does_not_wait_for_the_reads_under_way():
    """They may wait for read units: Ctrl-C took as long as those, and closing the client ends them at once."""
    held, ended = threading.Event(), []

    class Slow:
        def call(self, operation, body, *, deadline=None):
            if body["Segment"]:
                held.wait(10)
                ended.append(body["Segment"])
            return {"Items": [{"device": {"S": DEVICE}, "slot": {"N": "0"}}]}

    found = Reader(Slow(), "processor-readings", threads=3).scan()
    next(found)
    found.close()
    assert ended == []
    held.set()


def test_the_latest_of_many_are_found_with_few_looks(store, reader, monkeypatch):
    looks = []
    monkeypatch.setattr("processor.store.reader.once", lambda readings: looks.append(1) or once(readings))
    store(*(reading(START + n * SLOT_MS, counter=n) for n in range(400)))
    assert len(reader.latest(DEVICE, 300)) == 300
    assert len(looks) <= 4


def test_expired_items_are_not_read(store, reader):
    store(reading(START), expires=1_699_999_999)
    assert reader.readings(DEVICE, START, START + 10**6) == []
    assert reader.devices() == []


def test_devices_are_listed_with_their_first_and_last_slot(store, reader):
    store(*(reading(START + n * SLOT_MS, counter=n) for n in range(10)), reading(START, device="AA:00:00:00:00:01"))
    assert [tuple(seen) for seen in reader.devices()] == [
        ("AA:00:00:00:00:01", START // 1000, START // 1000, 1),
        (DEVICE, START // 1000, START // 1000 + 9 * SLOT_MS // 1000, 10),
    ]


events = st.builds(
    lambda seed, count: [
        (chance.randrange(400_000), chance.randrange(2), 0, chance.choice(["ruuvi.5", "ruuvi.6", "ruuvi.e1"]))
        for chance in [random.Random(seed)]
        for _ in range(count)
    ],
    st.integers(0, 10**6),
    st.integers(0, 60),
)


@given(events, st.integers(0, 400_000))
def test_neighbouring_ranges_count_every_reading_exactly_once(events, cut):
    """Wherever time is cut, though copies of copies go on for minutes: what is a copy depends on a minute alone."""
    table = MemoryDynamoDB()
    for at, counter, digest, name in events:
        each = reading(START + at, counter=counter, digest=digest)._replace(format=name)
        start = slot_of(each.at)
        item = table.tables["readings"].setdefault(
            (DEVICE, str(start)), {"device": {"S": DEVICE}, "slot": {"N": str(start)}}
        )
        item.setdefault(cell_name(each, each.at - start * 1000), cell_value(each, each.at - start * 1000))
    reader = Reader(table, "processor-readings")
    every = reader.readings(DEVICE, START, START + 400_001)
    cut += START
    assert reader.readings(DEVICE, START, cut) + reader.readings(DEVICE, cut, START + 400_001) == every
    slots = list(reader.stored(DEVICE, START - SKEW_MS, START + 10**6))
    first, last = START // RANGE_MS * RANGE_SECONDS, START // 1000 + 500
    rolled = [rollup_of(DEVICE, at, slots) for at in range(first, last, RANGE_SECONDS)]
    assert sum(each.readings for each in rolled if each is not None) == len(every)
    for count in (1, 3, 100):
        assert reader.latest(DEVICE, count) == every[-count:]


@given(st.lists(st.integers(0, 1500), min_size=1, max_size=80), st.data())
def test_of_equal_payloads_without_a_counter_one_counts_a_second_and_where_reading_began_adds_or_takes_one(gaps, data):
    """A steady value sent every 0.9 s goes on counting; in which of the seconds, the beginning of the read decides."""
    times = [sum(gaps[: n + 1]) for n in range(len(gaps))]
    counted = [each.at for each in once(map(reading, times))]
    assert all(later - each >= RESOLUTION_MS for each, later in pairwise(counted))
    assert all(min(at - each for each in counted if each <= at) < RESOLUTION_MS for at in times)
    begun, first, last = (data.draw(st.sampled_from(times)) for _ in range(3))
    other = [each.at for each in once(reading(at) for at in times if at >= begun)]
    stretch = range(max(begun, first), last)
    assert abs(sum(at in stretch for at in counted) - sum(at in stretch for at in other)) <= 1
    still = next((later for each, later in pairwise(times) if begun <= each <= later - RESOLUTION_MS), None)
    if still is not None:  # from a pause on it is all the same
        assert [at for at in counted if at >= still] == [at for at in other if at >= still]


def test_a_copy_of_a_copy_is_one():
    """A sensor that repeats one measurement for minutes measured once, wherever a query begins."""
    repeated = [reading(START + n * 20_000, counter=7) for n in range(12)]
    assert list(once(repeated)) == repeated[:1]
