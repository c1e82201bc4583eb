"""Answers from roll-ups are those that adding up every reading gives, whatever was rolled up, whatever is asked."""

from __future__ import annotations

import random
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processor.ask.choice import Member
from processor.ask.query import NEAR, RESOLUTIONS, SETTLED_MS, Question, Source, calibrated
from processor.local.memory_dynamodb import MemoryDynamoDB
from processor.reading import Reading
from processor.store.flow import flow
from processor.store.reader import Reader, once
from processor.store.registry import Calibration, Device
from processor.store.rollups import RANGE_MS, RANGE_SECONDS, Rollups, folded, item_of, rollup_of, window
from processor.store.tables import Slot, cell_name, cell_value, slot, slot_of

DEVICE = "CB:B8:33:4C:88:4F"
BASE = 1_700_002_800  # the start of an hour, the last of a day
SPAN = 7200
MEMBER = Member(Device(DEVICE))


def many(seed, count, span):
    """Many events, half of them about the borders of ranges: (ms, counter, temperature)."""
    chance = random.Random(seed)
    for _ in range(count):
        border = chance.randrange(0, span, 300_000) + chance.randrange(-70_000, 70_000)
        at = chance.choice((border, chance.randrange(span)))
        yield max(0, min(span - 1, at)), chance.randrange(4), chance.randrange(-400, 400)


events = st.one_of(
    st.lists(
        st.tuples(st.integers(0, SPAN * 1000 - 1), st.integers(0, 6), st.integers(-400, 400)), min_size=1, max_size=30
    ),
    st.builds(lambda seed: list(many(seed, 150, SPAN * 1000)), st.integers(0, 10**6)),
)
ranges = st.sets(st.integers(0, SPAN // RANGE_SECONDS - 1))


def uniform(low, high):
    """Numbers anywhere between the two: hypothesis' own prefer small ones, which here is to ask for nothing."""
    return st.integers(0, 2**32).map(lambda seed: random.Random(seed).randrange(low, high))


bounds = st.tuples(uniform(-400_000, SPAN * 1000 + 400_000), uniform(-400_000, SPAN * 1000 + 400_000))


def slots_of(readings):
    """What the table holds of these readings: the first of each cell."""
    found = {}
    for reading in readings:
        start = slot_of(reading.at)
        offset = reading.at - start * 1000
        item = found.setdefault(start, {"device": {"S": DEVICE}, "slot": {"N": str(start)}})
        item.setdefault(cell_name(reading, offset), cell_value(reading, offset))
    return dict(sorted(found.items()))


def readings_of(found):
    return [
        Reading(DEVICE, BASE * 1000 + at, "ruuvi.5", {"temperature": t / 10, "door": t > 0}, counter or None, counter)
        for at, counter, t in found
    ]


def tables(items, rollups):
    memory = MemoryDynamoDB()
    memory.tables["readings"] = {(DEVICE, str(start)): item for start, item in items.items()}
    memory.tables["rollups"] = {(DEVICE, str(each.start)): item_of(each) for each in rollups}
    return memory


def recomputed(slots, start, end, seconds):
    """The answer by adding up: every range's roll-up from all slots, of what lies within the bounds, folded."""
    first, last = start // RANGE_MS * RANGE_SECONDS, -(-end // RANGE_MS) * RANGE_SECONDS
    every = [rollup_of(DEVICE, at, slots, within=(start, end)) for at in range(first, last, RANGE_SECONDS)]
    return [each for each in folded(filter(None, every), seconds) if each.readings]


@settings(max_examples=200)
@given(
    events, ranges, st.booleans(), bounds, st.sampled_from(["5m", "hour", "day"]), uniform(-SPAN, 2000),
    st.sampled_from([0, 10, NEAR]),
)  # fmt: skip
def test_an_answer_by_rollups_is_the_recomputation_from_readings(
    found, missing, lagging, between, resolution, late, near
):
    """Any ranges may be missing, and the newest, or the last before a gap at the end, may lag behind the readings."""
    start, end = (BASE * 1000 + each for each in sorted(between))
    now = BASE + SPAN + late
    items = slots_of(readings_of(found))
    slots = [slot(item) for item in items.values()]
    settled = (min(end, now * 1000 - SETTLED_MS)) // RANGE_MS * RANGE_SECONDS
    rolled = {}
    for number in range(-2, SPAN // RANGE_SECONDS + 2):
        at = BASE + number * RANGE_SECONDS
        if number not in missing and (rollup := rollup_of(DEVICE, at, slots)) is not None:
            rolled[at] = rollup
    asked = [at for at in rolled if -(-start // RANGE_MS) * RANGE_SECONDS <= at < settled]
    last_may_lag = max(asked) if asked and settled - RANGE_SECONDS not in rolled else None
    for at in rolled if lagging else ():
        fewer = rollup_of(DEVICE, at, slots[::2])
        if fewer is not None and (at >= settled or at == last_may_lag):
            rolled[at] = fewer
    memory = tables(items, rolled.values())
    source = Source(
        Reader(memory, "processor-readings"), Rollups(memory, "processor-rollups"), threads=2, clock=lambda: now
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("processor.ask.query.NEAR", near)
        answer = list(source.summaries(Question([MEMBER], start, end, resolution)))
    expected = recomputed(slots, start, end, RESOLUTIONS[resolution])
    assert [(each.start, each.readings, each.quantities) for each in answer] == [
        (each.start, each.readings, each.quantities) for each in expected
    ]


@given(events, bounds)
def test_readings_read_in_pieces_are_those_read_at_once(found, between):
    start, end = (BASE * 1000 + each for each in sorted(between))
    memory = tables(slots_of(readings_of(found)), ())
    reader = Reader(memory, "processor-readings")
    source = Source(reader, Rollups(memory, "processor-rollups"), threads=3)
    answer = source.readings(Question([MEMBER], start, end))
    assert list(answer) == (reader.readings(DEVICE, start, end) if start < end else [])


@given(st.integers(0, 10**6), st.integers(0, 300), st.integers(10_000, 1_200_000))
def test_flow_gives_what_once_gives(seed, count, span):
    """Counted or not, and of formats that supersede each other."""
    slots = {}
    chance = random.Random(seed)
    for at, counter, digest in many(seed, count, span):
        name, digest = chance.choice(["ruuvi.5", "ruuvi.6", "ruuvi.e1"]), digest % 2
        reading = Reading(DEVICE, at, name, {"temperature": 1.5}, counter or None, digest)
        start = slot_of(at)
        cells = slots.setdefault(start, Slot(DEVICE, start, 0, {}, {})).cells
        cells.setdefault(cell_name(reading, at - start * 1000) + name, reading)
    every = [slots[start] for start in sorted(slots)]
    assert list(flow(every)) == list(once(reading for each in every for reading in each.cells.values()))


@given(events, st.integers(-30, 30), st.integers(-500, 500))
def test_a_calibrated_rollup_sums_up_the_calibrated_readings(found, scale, offset):
    """Exactly, and with the least and the most in their places where the scale is negative; flags stay."""
    correction = Calibration(Decimal(scale) / 10, Decimal(offset) / 100)
    device = Device(DEVICE, calibration={"temperature": correction, "door": correction})
    slots = [slot(item) for item in slots_of(readings_of(found)).values()]
    for number in range(SPAN // RANGE_SECONDS):
        start = BASE + number * RANGE_SECONDS
        rollup = rollup_of(DEVICE, start, slots)
        if rollup is None or not rollup.readings:
            continue
        begin, end = window(start)
        cells = [cell for each in slots if begin - 15_000 < each.start * 1000 < end for cell in each.cells.values()]
        inside = [reading for reading in once(cells) if start <= reading.at // 1000 < start + RANGE_SECONDS]
        values = [Decimal(repr(r.values["temperature"])) * correction.scale + correction.offset for r in inside]
        summary = calibrated(rollup, device).quantities["temperature"]
        assert (summary.count, summary.sum, summary.min, summary.max, summary.last) == (
            len(values), sum(values), min(values), max(values), values[-1],
        )  # fmt: skip
        assert calibrated(rollup, device).quantities["door"] == rollup.quantities["door"]
