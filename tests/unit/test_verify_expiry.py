"""Verify: what has expired is told from what is wrong by the readings that lie nearest, and by nobody else's."""

from __future__ import annotations

import json
from functools import partial
from importlib import import_module

import pytest
from click.testing import CliRunner

from processor.cli import main
from processor.local.memory_dynamodb import MemoryDynamoDB
from processor.reading import Reading
from processor.settings import Settings
from processor.store.differences import EXPIRED, Difference
from processor.store.reader import Reader
from processor.store.rollups import Rollup, Rollups, item_of, ranges_of, rollup_of
from processor.store.states import States, state_of
from processor.store.tables import SLOT_SECONDS, Slot, cell_name, cell_value, slot_of
from processor.verify.expiry import Kept, by_expiry
from processor.verify.plan import Plan
from processor.verify.verifier import Verifier

A, B = "CB:B8:33:4C:88:4F", "C0:00:00:00:00:01"
HOUR, DAY = 3600, 86_400
NOW = 1_800_000_000
START = (NOW - 5 * DAY) // 300 * 300
"""The range that is damaged: it is five days old, and kept for 400."""

ALL = Plan(fix=True, lower=True, empty=True)


class Tables(MemoryDynamoDB):
    """The tables, and what puts readings with an expiry of their own into them."""

    def measure(self, device, at, kept=400 * DAY):
        reading = Reading(device, at * 1000, "ruuvi.5", {"temperature": 20.5}, at % 65_536, at % 65_536)
        slot = slot_of(reading.at)
        self.tables["readings"][device, str(slot)] = {
            "device": {"S": device},
            "slot": {"N": str(slot)},
            "expires": {"N": str(slot + SLOT_SECONDS + kept)},
            cell_name(reading, reading.at - slot * 1000): cell_value(reading, reading.at - slot * 1000),
        }

    def roll_up(self):
        for device in {device for device, _ in self.tables["readings"]}:
            slots = list(Reader(self, "processor-readings").stored(device, 0, 1 << 50))
            for start in {start for slot in slots for start in ranges_of(slot.start)}:
                if (rollup := rollup_of(device, start, slots)) is not None:
                    Rollups(self, "processor-rollups").put(rollup)
            States(self, "processor-devices").join(state_of(device, slots))

    def shorten(self, device, at, kept):
        """Have an item expire so many seconds after its slot, as somebody does who wants it deleted."""
        slot = slot_of(at * 1000)
        self.tables["readings"][device, str(slot)]["expires"] = {"N": str(slot + SLOT_SECONDS + kept)}

    def lose(self, device, at):
        del self.tables["readings"][device, str(slot_of(at * 1000))]

    def rollup(self, device, start):
        return self.tables["rollups"][device, str(start)]


@pytest.fixture
def store():
    """A has three readings in the range that is damaged, and one a day later; B has one of an hour ago."""
    found = Tables()
    for offset in (100, 130, 160, DAY):
        found.measure(A, START + offset)
    found.measure(B, NOW - HOUR)
    found.roll_up()
    return found


def verify(tables, plan=None, days=400, now=NOW):
    verifier = Verifier(
        tables, Settings(writer_threads=2, retention_days=days), clock=lambda: now, sleep=lambda seconds: None
    )
    return verifier.verify(plan or Plan())


def lose_all(store):
    for offset in (100, 130, 160):
        store.lose(A, START + offset)


DAMAGES = {
    "different": lambda store: store.rollup(A, START)["q"]["M"]["t"]["M"]["sum"].update(N="999"),
    "foreign": lambda store: store.lose(A, START + 100),
    "without readings": lose_all,
}


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize("devices", [None, [B, A]], ids=["all", "named"])
def test_no_item_of_another_device_makes_anything_pass(store, kind, devices):
    DAMAGES[kind](store)
    for short in (None, 2 * HOUR):
        if short is not None:
            store.shorten(B, NOW - HOUR, short)
        report = verify(store, Plan(devices=devices))
        assert (report.passed, dict(report.left), report.expired) == (False, {kind: 1}, 0)
        assert (report.retention, report.shorteners) == (400 * DAY, [])


@pytest.mark.parametrize("kind", DAMAGES)
def test_no_item_of_the_devices_own_does_but_beside_what_it_lacks(store, kind):
    """A day later is another range, and what is left of the damaged one says that it is kept for longer."""
    store.measure(A, START + 12 * HOUR)
    store.measure(A, START - 12 * HOUR)
    store.roll_up()
    DAMAGES[kind](store)
    store.shorten(A, START + DAY, HOUR)
    assert dict(verify(store).left) == {kind: 1}


def test_a_wrong_sum_of_readings_that_are_all_there_is_found_however_old_they_are(store):
    """Those past their expiry are there until DynamoDB deletes them: that makes fewer of them, not others."""
    DAMAGES["different"](store)
    right = store.rollup(A, START)["n"]
    assert dict(verify(store, days=1).left) == {"different": 1}
    store.shorten(A, START + 130, 2 * HOUR)
    assert dict(verify(store).left) == {"different": 1}
    assert dict(verify(store, Plan(fix=True)).fixed) == {"different": 1}
    assert (verify(store).passed, store.rollup(A, START)["n"]) == (True, right)


def test_where_an_item_beside_what_is_gone_is_kept_for_a_shorter_time_it_is_named(store):
    store.lose(A, START + 100)
    store.shorten(A, START + 130, 2 * HOUR)
    before = store.rollup(A, START)
    report = verify(store, ALL)
    assert (report.passed, report.expired, report.shortened) == (True, 1, 1)
    assert report.shorteners == [Kept(2 * HOUR, A, slot_of((START + 130) * 1000))]
    assert store.rollup(A, START) == before
    assert verify(store, Plan(shown=0)).shorteners == []
    store.lose(A, START + 130)  # when it has gone, nothing says any more that it had expired
    assert dict(verify(store).left) == {"foreign": 1}


def test_where_only_what_came_late_is_left_the_next_ones_on_either_side_say_that_the_others_expired():
    """EXPIRES_FROM=arrival: what came 20 days late is kept for 20 days longer than what was measured beside it."""
    late = Slot(A, START + 100, START + 100 + SLOT_SECONDS + 50 * DAY, {}, {})
    beside = Slot(A, START + 900, START + 900 + SLOT_SECONDS + 30 * DAY, {}, {})
    found = [Difference(A, START, "foreign", None, None)]
    assert by_expiry(found, [late], START + 35 * DAY) == (found, [])
    judged, by = by_expiry(found, [late, beside], START + 35 * DAY)
    assert ([each.kind for each in judged], by) == ([EXPIRED], [Kept(30 * DAY, A, beside.start)])


def test_each_item_is_named_once_and_every_range_counted(store):
    for start in (START, START + 600, START + 1200):
        store.measure(A, start + 100)
    store.roll_up()
    for offset in (100, 130, 160, 700, 1300):
        store.lose(A, START + offset)
    store.shorten(A, START + DAY, HOUR)
    report = verify(store)
    assert (report.expired, report.shortened, len(report.shorteners)) == (3, 3, 1)


@pytest.mark.parametrize("devices", [None, [A]], ids=["all", "named"])
@pytest.mark.parametrize("narrow", [False, True], ids=["ever", "span"])
def test_a_range_without_readings_is_judged_by_the_nearest_on_either_side(store, devices, narrow):
    """Until 50 days ago readings were kept for 400 days, since then for 30."""
    store.tables["readings"].clear()
    store.tables["rollups"].clear()
    begin, changed = NOW - 120 * DAY, NOW - 50 * DAY
    for at in range(begin, NOW, 5 * DAY):
        store.measure(A, at, 400 * DAY if at < changed else 30 * DAY)
    store.roll_up()
    store.expire("readings", NOW)
    gone = [start for _, start in store.tables["rollups"] if changed <= int(start) < NOW - 31 * DAY]
    report = verify(store, Plan(devices=devices))
    assert (report.passed, report.expired, report.retention) == (True, len(gone), 400 * DAY)
    store.lose(A, NOW - 100 * DAY)
    start = (NOW - 100 * DAY) // 300 * 300
    plan = Plan(devices, start * 1000, (start + 300) * 1000) if narrow else Plan(devices)
    assert [(each.start, each.kind) for each in verify(store, plan).first] == [(start, "without readings")]


@pytest.mark.parametrize("offset", [DAY, -DAY], ids=["after", "before"])
def test_the_nearest_readings_may_lie_outside_of_what_is_verified(store, offset):
    """The shell says 400 days, and the only reading that the device has left, before --from or after --to, 4."""
    lose_all(store)
    store.lose(A, START + DAY)
    store.measure(A, START + offset, 4 * DAY)
    plan = Plan(devices=[A], start=START * 1000, end=(START + 300) * 1000, fix=True, lower=True, empty=True)
    report = verify(store, plan)
    assert (report.passed, report.expired, report.retention) == (True, 1, 400 * DAY)


def test_what_cannot_be_read_outside_of_what_is_verified_is_not_told_of(store):
    lose_all(store)
    store.tables["readings"][A, str(slot_of((START + DAY) * 1000))]["c1.AAAA"] = {"M": {}}
    report = verify(store, Plan(devices=[A], start=START * 1000, end=(START + 300) * 1000))
    assert (dict(report.left), len(report.unread)) == ({"without readings": 1}, 0)


def test_the_first_day_of_all_has_none_before_it(store):
    """DynamoDB refuses a BETWEEN whose first bound is above the second."""
    store.tables["rollups"][A, "0"] = item_of(Rollup(A, 0, 3, 3, {}))
    bounds = []

    def note(operation, body):
        if operation == "Query":
            values = body["ExpressionAttributeValues"]
            bounds.append(int(values[":b"]["N"]) - int(values[":a"]["N"]))

    store.fault = note
    assert verify(store, days=36_500).expired == 1  # by what the readings of this day say
    assert min(bounds) >= 0


def test_a_device_of_which_nothing_is_left_is_not_emptied_where_the_settings_are_not_the_deployments(store):
    """Every reading there is says 4 days: of what is older nobody can tell that it was deleted, so it is not passed."""
    lose_all(store)
    store.lose(A, START + DAY)
    del store.tables["rollups"][A, str(START + DAY)]
    store.shorten(B, NOW - HOUR, 4 * DAY)
    before = store.rollup(A, START)
    report = verify(store, ALL)
    assert (dict(report.left), dict(report.fixed)) == ({"without readings": 1}, {})
    assert (report.retention, store.rollup(A, START)) == (4 * DAY, before)
    store.shorten(B, NOW - HOUR, 400 * DAY)
    assert dict(verify(store, ALL).fixed) == {"without readings": 1}


@pytest.fixture
def run(store, monkeypatch):
    """Runs `processor verify` over these tables, now."""
    command = import_module("processor.cli.verify")
    monkeypatch.setattr(command, "client", lambda _settings: store)
    monkeypatch.setattr(command, "Verifier", partial(Verifier, clock=lambda: NOW))
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    wait = ("verify", "--wait", "0", "--lag", "0")
    return lambda *arguments: CliRunner().invoke(main, [*wait, *arguments], catch_exceptions=False).stdout


def test_the_command_says_which_item_shortened_what(store, run):
    assert "shorter" not in run()
    store.lose(A, START + 100)
    store.shorten(A, START + 130, 2 * HOUR)
    said = run()
    assert "1 of these only as items nearby are kept for a shorter time than others" in said
    assert A in said
    assert "0.0833" in said
    early = json.loads(run("--format", "json"))["expired_early"]
    assert (early["ranges"], [(each["device"], each["kept_days"]) for each in early["by"]]) == (1, [(A, 0.0833)])


def test_the_command_asks_whether_retention_days_is_the_deployments_where_every_item_says_less(store, run):
    store.shorten(B, NOW - HOUR, 2 * HOUR)
    assert "RETENTION_DAYS" not in run()
    for device, slot in list(store.tables["readings"]):
        store.shorten(device, int(slot), 10 * DAY)
    said = "No reading seen is kept for more than 10 days, as their own expiry says: is RETENTION_DAYS=400 this"
    assert said in run()
    assert "Nothing older is emptied" not in run()
    assert "Nothing older is emptied" in run("--fix-emptied")
