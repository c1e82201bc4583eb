"""Verify: every damage to roll-ups and states is found, none is made up, and what is fixed stays fixed."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from processor.errors import InvalidWrite
from processor.local.memory_dynamodb import MemoryDynamoDB
from processor.reading import Reading
from processor.settings import Settings
from processor.store.budget import Budget, Metered
from processor.store.differences import differences
from processor.store.reader import Reader
from processor.store.rollups import Rollup, Rollups, item_of, ranges_of, rollup_of, window
from processor.store.states import States, state_of
from processor.store.tables import cell_name, cell_value, slot_of
from processor.verify.plan import Plan
from processor.verify.verifier import Verifier

A, B = "CB:B8:33:4C:88:4F", "C0:00:00:00:00:01"
BASE = 1_700_000_100  # the start of a range
NOW = BASE + 10_000
SETTINGS = Settings(writer_threads=3)


class Tables(MemoryDynamoDB):
    """The tables, and what puts readings, roll-ups and states into them."""

    def __init__(self, **options):
        super().__init__(**options)
        self.reader = Reader(self, "processor-readings")
        self.rollups = Rollups(self, "processor-rollups")
        self.states = States(self, "processor-devices")

    def measure(self, device, at, counter=1, temperature=20.5):
        reading = Reading(device, round(at * 1000), "ruuvi.5", {"temperature": temperature}, counter, counter)
        start = slot_of(reading.at)
        key = (device, str(start))
        item = self.tables["readings"].setdefault(key, {"device": {"S": device}, "slot": {"N": str(start)}})
        offset = reading.at - start * 1000
        item[cell_name(reading, offset)] = cell_value(reading, offset)
        item["gG1"] = {"N": "-60"}

    def roll_up(self):
        """Bring everything up to date, as the roll-up function does."""
        for device in {device for device, _ in self.tables["readings"]}:
            slots = list(self.reader.stored(device, 0, 1 << 50))
            for start in {start for slot in slots for start in ranges_of(slot.start)}:
                rollup = rollup_of(device, start, slots)
                if rollup is not None:
                    self.rollups.put(rollup)
            self.states.join(state_of(device, slots))

    def rollup(self, device, start):
        return self.tables["rollups"][device, str(start)]


@pytest.fixture
def store():
    found = Tables()
    for n in range(40):
        found.measure(A, BASE + 30 * n, n)
    for n in range(5):
        found.measure(B, BASE - 86_400 * 3 * n + 7, n)
    found.roll_up()
    return found


def verifier(tables, *, now=NOW, sleep=lambda seconds: None, settings=SETTINGS):
    return Verifier(tables, settings, clock=lambda: now, sleep=sleep)


def verify(tables, plan=None, **options):
    return verifier(tables, **options).verify(plan or Plan())


def test_what_is_right_is_called_right(store):
    report = verify(store)
    assert (report.devices, report.ranges, report.passed, report.pending, report.expired) == (2, 9, True, 0, 0)


DAMAGES = {
    "missing": lambda store: store.tables["rollups"].pop((A, str(BASE))),
    "stale": lambda store: store.measure(A, BASE + 5, 1000),
    "different": lambda store: store.rollup(A, BASE)["q"]["M"]["t"]["M"]["sum"].update(N="1"),
    "foreign": lambda store: store.tables["readings"].pop((A, str(BASE + 150))),
    "no state": lambda store: store.tables["devices"].pop((A,)),
    "state behind": lambda store: store.tables["devices"][A,]["last_seen"].update(N="5"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_each_kind_of_damage_is_found_named_and_fixed(store, kind):
    DAMAGES[kind](store)
    report = verify(store)
    assert dict(report.left) == ({kind: 1} if kind != "foreign" else {"foreign": 1})
    assert [(each.device, each.kind) for each in report.first] == [(A, kind)]
    report = verify(store, Plan(fix=True, lower=True))
    assert (dict(report.fixed), report.passed) == ({kind: 1}, True)
    assert verify(store).passed


EMPTIED = {"without readings": 1}


def test_a_roll_up_of_which_no_reading_is_left_is_taken_out_only_where_that_very_thing_is_asked_for(store):
    """They may have expired, if readings were ever kept for a shorter time: nothing would bring back what it says."""
    stranger = Rollup("AA:00:00:00:00:01", BASE, 3, 3, {})
    store.tables["rollups"][stranger.device, str(BASE)] = item_of(stranger)
    for plan in (Plan(fix=True), Plan(fix=True, lower=True)):
        report = verify(store, plan)
        assert (dict(report.left), dict(report.fixed)) == (EMPTIED, {})
        assert store.rollup(stranger.device, BASE) == item_of(stranger)
    assert dict(verify(store, Plan(fix=True, lower=True, empty=True)).fixed) == EMPTIED
    assert store.rollup(stranger.device, BASE)["n"] == {"N": "0"}
    assert verify(store).passed


def test_roll_ups_whose_readings_have_expired_are_counted_and_left_alone(store):
    """B's readings of twelve days before are past a retention of ten days, and DynamoDB has deleted them."""
    gone = BASE - 86_400 * 12
    store.tables["readings"].pop((B, str(slot_of((gone + 7) * 1000))))
    before = store.rollup(B, gone)
    report = verify(store, ALL, settings=Settings(retention_days=10))
    assert (report.passed, report.expired, dict(report.fixed)) == (True, 1, {})
    assert store.rollup(B, gone) == before
    assert dict(verify(store).left) == EMPTIED


ALL = Plan(fix=True, lower=True, empty=True)


def kept(store, days):
    """Give every item the expiry that ingest gives it where readings are kept for so many days."""
    for item in store.tables["readings"].values():
        item["expires"] = {"N": str(int(item["slot"]["N"]) + 15 + days * 86_400)}


@pytest.mark.parametrize("devices", [None, [B]], ids=["all", "named"])
def test_how_long_readings_are_kept_is_read_off_the_readings_where_the_settings_say_longer(store, devices):
    """A shell without the deployment's RETENTION_DAYS says 400; nothing may be taken out because of that."""
    kept(store, 10)
    gone = BASE - 86_400 * 12
    store.tables["readings"].pop((B, str(slot_of((gone + 7) * 1000))))
    before = store.rollup(B, gone)
    report = verify(store, replace(ALL, devices=devices))
    assert (report.passed, report.expired, dict(report.fixed), report.retention) == (True, 1, {}, 10 * 86_400)
    assert store.rollup(B, gone) == before
    assert verify(store, settings=Settings(retention_days=7)).retention == 7 * 86_400


def test_a_range_that_is_about_to_expire_is_not_lowered_where_the_settings_say_longer(store):
    """DynamoDB deletes expired items late and in no order: some of a range are left when others are gone."""
    gone, left = BASE - 86_400 * 12 + 7, BASE - 86_400 * 12 + 100
    store.measure(B, left, 77)
    store.roll_up()
    kept(store, 10)
    for key in [key for key in store.tables["readings"] if int(key[1]) > gone + 100]:
        del store.tables["readings"][key]  # and there is none that has not expired
    store.tables["readings"].pop((B, str(slot_of(gone * 1000))))
    before = store.rollup(B, gone - 7)
    report = verify(store, Plan(fix=True, lower=True, devices=[B], end=(BASE - 86_400 * 11) * 1000))
    assert (dict(report.left), report.expired) == ({}, 1)
    assert store.rollup(B, gone - 7) == before


def test_an_old_roll_up_that_is_missing_is_a_difference_all_the_same(store):
    """What is still there can be rolled up, however old it is."""
    store.tables["rollups"].pop((B, str(BASE - 86_400 * 12)))
    assert dict(verify(store, settings=Settings(retention_days=10)).left) == {"missing": 1}


def test_what_is_younger_than_the_lag_is_pending_and_not_waited_for(store):
    store.measure(A, BASE + 5, 1000)
    store.measure(A, BASE + 1201, 1001)
    naps = []
    report = verify(store, Plan(lag=600), now=BASE + 1300, sleep=naps.append)
    # Pending: the ranges on both sides of the young one, and the device's state.
    assert (dict(report.left), report.pending, naps) == ({"stale": 1}, 3, [330.0])
    store.roll_up()
    store.measure(A, BASE + 1202, 1002)
    report = verify(store, Plan(lag=600), now=BASE + 1300, sleep=naps.append)
    assert (report.passed, report.pending, len(naps)) == (True, 3, 1)


def test_a_range_that_catches_up_while_it_is_looked_at_is_none(store):
    store.measure(A, BASE + 5, 1000)
    report = verify(store, sleep=lambda seconds: store.roll_up())
    assert (report.passed, report.caught_up) == (True, 1)


def test_a_range_that_goes_on_changing_is_pending(store):
    counter = iter(range(1000, 2000))

    def change(_seconds=0):
        store.measure(A, BASE + 5, next(counter))

    change()
    report = verify(store, sleep=change)
    assert (report.passed, report.pending) == (True, 1)


def test_a_fix_does_not_undo_what_was_written_meanwhile(store):
    """Between the comparison and the write the roll-up function takes one more in, and then comes yet another."""
    store.measure(A, BASE + 5, 1000)

    def meanwhile(operation, body):
        if operation == "UpdateItem" and ":known" in body["ExpressionAttributeValues"]:
            store.fault = None
            store.measure(A, BASE + 6, 1001)
            store.roll_up()
            store.measure(A, BASE + 7, 1002)

    store.fault = meanwhile
    assert verify(store, Plan(fix=True)).passed
    assert store.fault is None
    assert verify(store).passed
    assert int(store.rollup(A, BASE)["r"]["N"]) == 13


def test_what_cannot_be_written_is_left_as_a_difference(store):
    def refuse(operation, body):
        if operation == "UpdateItem":
            raise InvalidWrite("ValidationException", "Number overflow")

    store.tables["rollups"].pop((A, str(BASE)))
    store.fault = refuse
    report = verify(store, Plan(fix=True))
    assert (dict(report.left), dict(report.fixed)) == ({"missing": 1}, {})


@pytest.mark.parametrize("broken", [{}, {"n": {"S": "many"}, "q": {"M": {}}, "r": {"N": "1"}}], ids=str)
def test_an_item_that_is_no_roll_up_is_found_and_written_anew(store, broken):
    """It holds up neither the other ranges nor the fix. The roll-up function would never write over it."""
    right = store.rollup(A, BASE).copy()
    key = {name: right[name] for name in ("device", "start")}
    store.tables["rollups"][A, str(BASE)] = key | broken
    assert dict(verify(store).left) == {"unreadable": 1}
    assert dict(verify(store, Plan(devices=[A])).left) == {"unreadable": 1}
    assert dict(verify(store, Plan(fix=True)).fixed) == {"unreadable": 1}
    written = store.rollup(A, BASE)
    assert {name: written[name] for name in right} == right
    assert verify(store).passed


def test_an_item_that_is_no_roll_up_where_no_readings_are_stays_until_it_is_deleted(store):
    store.tables["rollups"][B, str(BASE + 3000)] = {"device": {"S": B}, "start": {"N": str(BASE + 3000)}}
    assert dict(verify(store, Plan(fix=True)).left) == {"unreadable": 1}
    del store.tables["rollups"][B, str(BASE + 3000)]
    assert verify(store).passed


def test_a_state_that_is_none_is_found_and_written_anew(store):
    right = dict(store.tables["devices"][A,])
    store.tables["devices"][A,] |= {"latest": {"S": "20.5"}, "revision": {"S": "second"}}
    assert dict(verify(store).left) == {"unreadable": 1}
    assert dict(verify(store, Plan(fix=True)).fixed) == {"unreadable": 1}
    assert store.tables["devices"][A,] == right | {"revision": {"N": "1"}}
    assert verify(store).passed


def test_a_cell_that_is_none_is_named_and_no_fix_passes_over_it(store):
    slot = slot_of(BASE * 1000)
    store.tables["readings"][A, str(slot)]["c1.AAAA"] = {"M": {}}
    store.tables["readings"][A, "7"] = {"device": {"S": A}, "slot": {"N": "7"}}
    store.tables["rollups"][A, "8"] = {"device": {"S": A}, "start": {"N": "8"}}
    report = verify(store, Plan(fix=True))
    assert (report.passed, dict(report.left), dict(report.fixed)) == (False, {}, {})
    assert sorted((each.table, each.start, each.part) for each in report.unread if each.start) == [
        ("readings", slot, "c1.AAAA")
    ]
    assert {each.part for each in report.unread} == {"c1.AAAA", "the item of slot 7", "the item of start 8"}


def test_only_the_ranges_and_devices_that_are_meant_are_compared(store):
    store.tables["rollups"].clear()
    report = verify(store, Plan(start=(BASE + 310) * 1000, end=(BASE + 610) * 1000))
    assert [(each.device, each.start) for each in report.first] == [(A, BASE + 300), (A, BASE + 600)]
    assert report.ranges == 2
    assert dict(verify(store, Plan(devices=[B])).left) == {"missing": 5}


def test_only_so_many_differences_are_kept_and_all_are_counted(store):
    store.tables["rollups"].clear()
    report = verify(store, Plan(shown=3))
    assert (len(report.first), dict(report.left)) == (3, {"missing": 9})


def test_the_slots_of_the_neighbourhood_are_all_taken_into_account():
    """A range's cells are counted a minute around it: a slot at either end of its window changes the roll-up."""
    store = Tables()
    begin, end = window(BASE)
    for n, at in enumerate((begin / 1000, BASE, end / 1000 - 1)):
        store.measure(A, at, n)
    slots = list(store.reader.stored(A, begin, end))
    stored = {BASE: rollup_of(A, BASE, slots)}
    assert stored[BASE].cells == 3
    assert list(differences(A, stored, slots, (BASE, BASE + 300), 0)) == []


def test_a_budget_slows_reads_and_counts_them():
    naps, now = [], [0.0]

    class Answers:
        def call(self, operation, body, *, deadline=None):
            each = {"TableName": "t", "CapacityUnits": 25.0}
            if operation == "UpdateItem":
                assert "ReturnConsumedCapacity" not in body
                return {"ConsumedCapacity": each}
            return {"ConsumedCapacity": [each] if operation == "BatchGetItem" else each}

    def sleep(seconds):
        naps.append(round(seconds, 9))
        now[0] += seconds

    budget = Budget(50, clock=lambda: now[0], sleep=sleep)
    client = Metered(Answers(), budget)
    for operation in ("Query", "UpdateItem", "BatchGetItem", "Scan"):
        client.call(operation, {})
    assert (budget.units, naps) == (75.0, [0.5, 0.5])
    now[0] = 60.0  # of what was not used, half a second is saved up
    client.call("Query", {})
    client.call("Query", {})
    client.call("Query", {})
    assert naps == [0.5, 0.5, 0.5]


def test_who_is_interrupted_does_not_wait_for_the_reads_under_way(store):
    """They may wait for read units, each for the one before it; closing the client, which comes next, ends them."""
    held, ended = threading.Event(), []

    class Slow:
        def call(self, operation, body, *, deadline=None):
            if operation == "Query" and body["ExpressionAttributeValues"][":d"]["S"] == A:  # compared after B
                held.wait(10)
                ended.append(A)
            return store.call(operation, body, deadline=deadline)

    def interrupt(what, done, of):
        if what == "comparing":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verifier(Slow()).verify(Plan(), interrupt)
    assert ended == []
    held.set()


def test_units_can_be_measured_where_nobody_counts_them(store):
    """Five roll-ups of B, of some 80 bytes each: one unit read consistently, half a unit if not."""
    budget = Budget()
    rollups = Rollups(Metered(store, budget, measure=True), "processor-rollups")
    assert len(list(rollups.read(A, 0, 1 << 40))) == 4
    assert budget.units == 1.0  # two pages
    assert len(list(rollups.read(A, 0, 1 << 40, consistent=True))) == 4
    assert budget.units == 3.0
