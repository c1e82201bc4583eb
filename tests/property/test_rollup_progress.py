"""A batch of the table's stream that no single invocation can do is done in the end, however slow the tables are.

Every call to DynamoDB takes its time under a virtual clock, one after the other.
"""

from __future__ import annotations

import json
from collections import Counter
from types import SimpleNamespace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from processor.local.inline import Inline
from processor.local.mapping import EventSourceMapping, MappingSettings
from processor.local.memory_dynamodb import MemoryDynamoDB
from processor.local.memory_streams import MemoryStreams
from processor.reading import Reading
from processor.rollup import MARGIN_SECONDS, Aggregator
from processor.runs import runs_of
from processor.store.reader import Reader
from processor.store.retries import Retries
from processor.store.rollups import Rollups, ranges_of, rollup_of
from processor.store.states import States, state_from, state_of
from processor.store.tables import SLOT_SECONDS, cell_name, cell_value, slot

BASE = 1_700_000_100
CALL = 0.03


class Quiet:
    """Telemetry that keeps the lines."""

    def __init__(self):
        self.lines = []

    def cold_start(self):
        return False

    def metrics(self, values, properties):
        pass

    def log(self, message, extra, *, warning=False):
        self.lines.append(extra)


class World:
    """Tables in memory, where every call takes CALL seconds, and invocations of `calls` calls.

    monotonic: the handler's own idea of the time, of the true one.
    """

    def __init__(self, calls, changed=None, monotonic=lambda now: now):
        self.now = 0.0
        self.calls = calls
        self.made = Counter()
        self.refused = 0
        self.tables = MemoryDynamoDB(changed=changed, page=10_000)
        self.told = Quiet()
        self._retries = Retries(monotonic=self.clock)
        self.handler = Aggregator(
            Reader(self, "processor-readings"),
            Rollups(self, "processor-rollups"),
            States(self, "processor-devices"),
            self.told,
            Inline(),
            retention=10**9,
            monotonic=lambda: monotonic(self.now),
        )

    def clock(self):
        return self.now

    def call(self, operation, body, *, deadline=None):
        self.refused += deadline is not None and self.now >= deadline
        return self._retries.run(lambda: self._call(operation, body), deadline)

    def _call(self, operation, body):
        self.now += CALL
        self.made[operation, body.get("TableName", "")] += 1
        for wanted in body.get("RequestItems", {}).values():
            self.made["keys"] += len(wanted["Keys"])
        return self.tables.call(operation, body)

    def measure(self, device, start):
        reading = Reading(device, start * 1000, "ruuvi.5", {"temperature": 20.5}, 1, 7)
        self.tables.call(
            "UpdateItem",
            {
                "TableName": "processor-readings",
                "Key": {"device": {"S": device}, "slot": {"N": str(start)}},
                "UpdateExpression": "SET #0=:0",
                "ExpressionAttributeNames": {"#0": cell_name(reading, 0)},
                "ExpressionAttributeValues": {":0": cell_value(reading, 0)},
            },
        )

    def handle(self, records):
        """Return what is left of the records after one invocation."""
        [*failed] = self.invoke({"Records": records})["batchItemFailures"]
        if not failed:
            return []
        numbers = [record["dynamodb"]["SequenceNumber"] for record in records]
        return records[numbers.index(failed[0]["itemIdentifier"]) :]

    def invoke(self, event):
        begun, seconds = self.now, MARGIN_SECONDS + (self.calls - 0.5) * CALL
        context = SimpleNamespace(
            aws_request_id="r",
            memory_limit_in_mb=256,
            get_remaining_time_in_millis=lambda: (begun + seconds - self.now) * 1000,
        )
        return self.handler.handle(event, context)

    def check(self):
        """All roll-ups and states are what the readings come to."""
        slots = {}
        for item in self.tables.tables["readings"].values():
            found = slot(item)
            slots.setdefault(found.device, []).append(found)
        for each in slots.values():
            each.sort(key=lambda found: found.start)
        expected = {
            (device, start): rollup
            for device, each in slots.items()
            for start in {start for found in each for start in ranges_of(found.start)}
            if (rollup := rollup_of(device, start, each)) is not None
        }
        assert {(each.device, each.start): each for each in Rollups(self.tables, "processor-rollups").all()} == expected
        states = {item["device"]["S"]: state_from(item) for item in self.tables.tables["devices"].values()}
        assert states == {device: state_of(device, each) for device, each in slots.items()}


def records_of(places):
    return [
        {
            "eventName": "INSERT",
            "dynamodb": {
                "Keys": {"device": {"S": device}, "slot": {"N": str(start)}},
                "SequenceNumber": str(number).zfill(21),
                "ApproximateCreationDateTime": 1.0,
            },
        }
        for number, (device, start) in enumerate(places, 1)
    ]


def needed(records):
    """Calls that the first record takes at most: its runs are read and their ranges written, its state is joined."""
    runs = runs_of(records)
    return sum(len(run.starts) + 1 for run in runs if run.lowest == runs[0].lowest) + 2


places = st.lists(
    st.tuples(
        st.sampled_from("ABCDEFGHIJKLMNOP"),
        st.integers(0, 60).map(lambda n: BASE + n * 5 * SLOT_SECONDS) | st.integers(0, 4).map(lambda n: BASE + n * 90),
    ),
    min_size=1,
    max_size=60,
    unique=True,
)


SEAM = [("A", BASE + 12 * 300 - SLOT_SECONDS), *(("A", BASE + n * 300 + 120) for n in range(24))]
"""Two hours of one device, of which the first record touches both."""


@settings(max_examples=200, deadline=None)
@example(places=SEAM, calls=28)
@given(places=places, calls=st.integers(1, 100))
def test_every_partial_answer_moves_the_checkpoint_unless_nothing_at_all_could_be_done(places, calls):
    world = World(calls)
    for place in places:
        world.measure(*place)
    left = records_of(places)
    while left:
        fits = needed(left) <= calls
        rest = world.handle(left)
        assert len(rest) < len(left) or not fits
        if len(rest) == len(left):
            return
        left = rest
    world.check()


@settings(max_examples=50, deadline=None)
@given(devices=st.integers(1, 200), calls=st.integers(4, 200))
def test_what_is_begun_is_done_in_time(devices, calls):
    """Where one device costs what the next does, nothing is begun that the time left does not suffice for."""
    world = World(calls)
    places = [(f"D{n:03}", BASE + 120) for n in range(devices)]
    for place in places:
        world.measure(*place)
    left = records_of(places)
    while left:
        left, before = world.handle(left), left
        assert len(left) < len(before)
    assert world.refused == 0
    world.check()


@pytest.mark.parametrize("devices", [16, 1000])
def test_slices_cost_no_more_reads_and_writes_than_a_batch_done_at_once(devices):
    """A thousand records over five minutes: each device is read once, each range and each state written once."""
    places = [(f"D{n % devices:04}", BASE + n // devices * SLOT_SECONDS) for n in range(1000)]
    world = World(calls=10**6)
    for place in places:
        world.measure(*place)
    records = records_of(places)
    ranges = len({(device, start - start % 300) for device, start in places})
    assert world.handle(records) == []
    assert world.made["Query", "processor-readings"] == len(runs_of(records))
    assert world.made["UpdateItem", "processor-rollups"] == ranges
    assert world.made["UpdateItem", "processor-devices"] == world.made["keys"] == devices
    world.check()


def test_the_states_that_there_was_no_time_to_join_fail_their_own_devices_only():
    """Four devices in one slice, for the handler's clock stands still: there is time for two states of the four."""
    rolled_up = 4 + 4 * 2
    world = World(calls=rolled_up + 1 + 2, monotonic=lambda now: now if now > (rolled_up - 0.5) * CALL else 0.0)
    places = [(device, BASE + 120) for device in "EDCBA"]
    for place in places:
        world.measure(*place)
    records = records_of(places)
    assert [record["dynamodb"]["Keys"]["device"]["S"] for record in world.handle(records)] == ["B", "A"]


def test_a_batch_that_takes_several_invocations_is_done_in_the_end():
    """600 devices of one batch, at 30 ms a call, one after the other, in invocations of 12 s."""
    now = [1_700_000_000.0]
    streams = MemoryStreams(clock=lambda: now[0])
    world = World(calls=400, changed=lambda noun, event, key: noun == "readings" and streams.change(event, key))
    answers = []

    def function(event):
        records = json.loads(event)["Records"]
        answers.append((len(records), world.invoke({"Records": records})["batchItemFailures"]))
        return {"batchItemFailures": answers[-1][1]}

    usual = MappingSettings(batch_size=1000, batching_window_seconds=10, report_batch_item_failures=True)
    mapping = EventSourceMapping(streams, streams.arn, function, usual, clock=lambda: now[0])
    mapping.step()
    for n in range(600):
        world.measure(f"D{n * 7 % 600:04}", BASE)
    for _ in range(120):
        now[0] += 1
        mapping.step()
    assert mapping.idle
    assert (mapping.stats.discarded, mapping.stats.errors) == (0, 0)
    assert answers[0][0] == 600
    assert answers[-1][1] == []
    assert len(answers) == 5  # of 1,800 calls, 400 fit into each
    world.check()
