"""Every roll-up and every device's state equal a recomputation, however their events were delivered.

Hypothesis chooses what is measured, which events each invocation gets (again, late, in any order), and which of the
invocations under way makes its next call to DynamoDB; calls are throttled and invocations killed in between. At the end
only what was never handled is delivered once more.
"""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from processor.errors import TransientError
from processor.local.inline import Inline
from processor.local.memory_dynamodb import MemoryDynamoDB
from processor.reading import Reading
from processor.rollup import Aggregator
from processor.store.reader import Reader
from processor.store.rollups import Rollups, ranges_of, rollup_from, rollup_of, window
from processor.store.states import States, join, state_from, state_of
from processor.store.tables import cell_name, cell_value, slot, slot_of

BASE = 1_700_000_100_000
DEVICES = ("CB:B8:33:4C:88:4F", "CB:B8:33:4C:88:4F", "C0:00:00:00:00:01")
OFFSETS = (-61_000, -59_500, -1, 0, 300, 14_999, 59_999, 61_000, 301_000)
CONTEXT = SimpleNamespace(aws_request_id="r", memory_limit_in_mb=256, get_remaining_time_in_millis=lambda: 600_000)


class Quiet:
    """Telemetry that says nothing."""

    def cold_start(self):
        return False

    def metrics(self, values, properties):
        pass

    def log(self, message, extra, *, warning=False):
        pass


class Killed(BaseException):
    """The invocation's process is gone."""


class Invocation:
    """One invocation of the handler, that makes one call to DynamoDB each time it is told to."""

    def __init__(self, tables, records, rollups):
        self.records = records
        self.response = None
        self.over = False
        self._tables = tables
        self._order = None
        self._here = threading.Semaphore(0)
        self._go = threading.Semaphore(0)
        self._aggregator = Aggregator(
            Reader(self, "processor-readings"),
            rollups(self, "processor-rollups"),
            States(self, "processor-devices"),
            Quiet(),
            Inline(),
            retention=10**9,
        )
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self._here.acquire()

    def _run(self):
        try:
            self.response = self._aggregator.handle({"Records": self.records}, CONTEXT)
        except Killed:
            pass
        finally:
            self.over = True
            self._here.release()

    def call(self, operation, body, *, deadline=None):
        self._here.release()
        self._go.acquire()
        if self._order is not None:
            raise self._order
        return self._tables.call(operation, body)

    def step(self, order=None):
        """Let it make its next call, or have that fail."""
        self._order = order
        self._go.release()
        self._here.acquire()
        if self.over:
            self._thread.join()

    def kill(self):
        while not self.over:
            self.step(Killed())

    def finish(self):
        while not self.over:
            self.step()

    @property
    def handled(self):
        """The sequence numbers that Lambda takes for handled after this answer."""
        numbers = [_number(record) for record in self.records]
        if self.response is None:
            return set()
        failures = [int(each["itemIdentifier"]) for each in self.response["batchItemFailures"]]
        return {number for number in numbers if not failures or number < min(failures)}


def _number(record):
    return int(record["dynamodb"]["SequenceNumber"])


class Unguarded(Rollups):
    """Roll-ups written whatever is there."""

    def _set(self, rollup, condition, operands=None, *, mark=False, deadline=None):
        return super()._set(rollup, None, deadline=deadline)


class Deliveries(RuleBasedStateMachine):
    rollups = Rollups

    def __init__(self):
        super().__init__()
        self.log = []
        self.handled = set()
        self.running = []
        self.tables = MemoryDynamoDB(changed=self._changed)

    def _changed(self, noun, event, key):
        if noun == "readings":
            number = str(len(self.log) + 1).zfill(21)
            change = {"Keys": key, "SequenceNumber": number, "ApproximateCreationDateTime": 1.0}
            self.log.append({"eventName": event, "dynamodb": change})

    @rule(
        device=st.sampled_from(DEVICES),
        offset=st.sampled_from(OFFSETS),
        kind=st.sampled_from(["ruuvi.5", "ruuvi.6", "ruuvi.e1"]),
        counter=st.sampled_from([None, 1]),
        value=st.sampled_from([-1.5, 24.3]),
        gateway=st.sampled_from(["G1", "G2"]),
    )
    def measure(self, device, offset, kind, counter, value, gateway):
        reading = Reading(device, BASE + offset, kind, {"temperature": value}, counter, hash((counter, value)) & 0xFFFF)
        start = slot_of(reading.at)
        within = reading.at - start * 1000
        names = {"#0": cell_name(reading, within), "#1": f"g{gateway}"}
        self.tables.call(
            "UpdateItem",
            {
                "TableName": "processor-readings",
                "Key": {"device": {"S": device}, "slot": {"N": str(start)}},
                "UpdateExpression": "SET #0=if_not_exists(#0,:0),#1=if_not_exists(#1,:1)",
                "ExpressionAttributeNames": names,
                "ExpressionAttributeValues": {":0": cell_value(reading, within), ":1": {"N": "-60"}},
            },
        )

    @precondition(lambda self: self.log and len(self.running) < 4)
    @rule(data=st.data())
    def invoke(self, data):
        places = st.integers(0, len(self.log) - 1)
        first, last = sorted((data.draw(places, label="first"), data.draw(places, label="last")))
        self.running.append(Invocation(self.tables, self.log[first : last + 1], self.rollups))
        self._reap()

    @precondition(lambda self: self.log)
    @rule()
    def catch_up(self):
        """Handle what nobody has handled or holds, at once."""
        self._deliver(held={_number(record) for one in self.running for record in one.records})

    @precondition(lambda self: self.running)
    @rule(data=st.data(), calls=st.integers(1, 6))
    def step(self, data, calls):
        one = data.draw(st.sampled_from(self.running), label="which")
        for _ in range(calls):
            if not one.over:
                one.step()
        self._reap()

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def throttle(self, data):
        data.draw(st.sampled_from(self.running), label="which").step(TransientError("ThrottlingException", "slowly"))
        self._reap()

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def kill(self, data):
        data.draw(st.sampled_from(self.running), label="which").kill()
        self._reap()

    def _reap(self):
        for one in [one for one in self.running if one.over]:
            self.running.remove(one)
            self.handled |= one.handled

    def teardown(self):
        """Handle what nobody has, then end what is under way, then handle what that left: late writes come last."""
        self._deliver(held={_number(record) for one in self.running for record in one.records})
        for one in self.running:
            one.finish()
            self.handled |= one.handled
        self._deliver(held=set())
        self._check()

    def _deliver(self, held):
        for record in self.log:
            if _number(record) not in self.handled | held:
                last = Invocation(self.tables, [record], self.rollups)
                last.finish()
                assert last.response == {"batchItemFailures": []}
                self.handled.add(_number(record))

    def _check(self):
        slots = {}
        for item in self.tables.tables["readings"].values():
            found = slot(item)
            slots.setdefault(found.device, []).append(found)
        expected = {}
        for device, each in slots.items():
            for start in {start for found in each for start in ranges_of(found.start)}:
                rollup = rollup_of(device, start, sorted(each, key=lambda found: found.start))
                if rollup is not None:
                    expected[device, start] = rollup
        stored = map(rollup_from, self.tables.tables["rollups"].values())
        assert {(each.device, each.start): each for each in stored if each.cells} == expected
        self._check_states({device: state_of(device, each) for device, each in slots.items()})

    def _check_states(self, expected):
        assert {item["device"]["S"]: state_from(item) for item in self.tables.tables["devices"].values()} == expected


class Unmarked(Rollups):
    """Roll-ups that forget that their ranges lost readings."""

    def _set(self, rollup, condition, operands=None, *, mark=False, deadline=None):
        if condition == "#d = :d":
            return False
        return super()._set(rollup, condition, operands, deadline=deadline)


class Deletions(Deliveries):
    """The same where readings are deleted, by any that read them before too."""

    @precondition(lambda self: self.tables.tables["readings"])
    @rule(data=st.data())
    def delete(self, data):
        items = self.tables.tables["readings"]
        item = items[data.draw(st.sampled_from(sorted(items)), label="which")]
        key = {name: item[name] for name in ("device", "slot")}
        self.tables.call("DeleteItem", {"TableName": "processor-readings", "Key": key})

    def _check_states(self, expected):
        """A state knows what is there, and may know what was."""
        stored = {item["device"]["S"]: state_from(item) for item in self.tables.tables["devices"].values()}
        assert {device: join(stored[device], each) for device, each in expected.items()} == {
            device: stored[device] for device in expected
        }


EFFORT = settings(
    max_examples=250,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

TestDeliveries = Deliveries.TestCase
TestDeliveries.settings = EFFORT
TestDeletions = Deletions.TestCase
TestDeletions.settings = EFFORT


@pytest.mark.parametrize(("machine", "unsafe"), [(Deliveries, Unguarded), (Deletions, Unmarked)])
def test_without_its_guard_a_stale_roll_up_is_found(machine, unsafe):
    """The same machines come to a wrong one: so they can fail.

    What is drawn depends on the modules that are imported, by whose constants Hypothesis is inspired: a thousand
    examples were enough for this file by itself, and not in every company.
    """

    class Wrong(machine):
        rollups = unsafe

    with pytest.raises(AssertionError):
        run_state_machine_as_test(
            Wrong,
            settings=settings(EFFORT, max_examples=10_000, derandomize=True, phases=[Phase.generate], print_blob=False),
        )


def test_the_window_holds_all_that_a_range_depends_on():
    begin, end = window(BASE // 1000)
    assert (begin, end) == (BASE - 60_000, BASE + 360_000)
    assert ranges_of(BASE // 1000) == [BASE // 1000 - 300, BASE // 1000]
