"""The run's summary and verdict: a difference anywhere fails it, and its figures are the right ones."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from decimal import Decimal
from types import SimpleNamespace

import pytest

from processor.cli.summary import summary
from processor.local.check import Verdict
from processor.local.expected import Expected
from processor.local.totals import RollupTotals, Totals
from processor.reading import Reading
from processor.store.rollups import Rollup, Summary

DEVICE = "CB:B8:33:4C:88:4F"
CELL = (DEVICE, 0, "c1.AAAA")
READING = Reading(DEVICE, 0, "ruuvi.5", {"temperature": 20.5}, 1, 0)
SUMMARY = Summary(1, *[Decimal("20.5")] * 4)
ROLLUP = Rollup(DEVICE, 0, 1, 1, {"temperature": SUMMARY})


@pytest.fixture
def system():
    totals = Totals()
    totals.batches, totals.records, totals.write_calls, totals.write_units = 1, 3, 2, 4.0
    totals.ledger = Counter(received=6, stored=1, duplicates=2, rejected=1, ignored=2, failed=0)
    totals.ages = Counter({10: 50_000, 20: 45_000, 30: 4_000, 40: 1_000})
    mapping = SimpleNamespace(
        stats=SimpleNamespace(errors=0, retries=0), settings=SimpleNamespace(batching_window_seconds=0.5)
    )
    return SimpleNamespace(
        totals=totals,
        rollup_totals=RollupTotals(),
        rollups=SimpleNamespace(all=lambda: [ROLLUP]),
        mapping=mapping,
        function=SimpleNamespace(config=SimpleNamespace(memory_mb=256)),
        reader=SimpleNamespace(latest=lambda device: [READING]),
    )


@pytest.fixture
def verdict():
    expected = Expected(records=3, advertisements=6, cells={CELL: [READING]}, single_units=6.0)
    expected.rejected["shard", "1", 0] = 1
    expected.ignored.update(no_value=2)
    return Verdict(sent=3, expected=expected, found=1, readings={DEVICE: [READING]}, quarantined=1, items=1)


class FakeFleet:
    def __init__(self, **truth):
        self.truth = SimpleNamespace(**({"advertisements": 6, "malformed": 1, "ignored": 2} | truth))
        self.lines = []

    def compare(self, readings):
        return self.lines


def text(system, verdict, fleet=None):
    lines, passed = summary(system, verdict, fleet)
    return "\n".join(lines), passed


def test_a_clean_run_passes_and_says_what_it_counted(system, verdict):
    found, passed = text(system, verdict, FakeFleet())
    assert passed
    assert (
        "6 advertisements received in 3 records = 1 stored + 2 duplicates + 1 rejected + 2 ignored + 0 failed" in found
    )
    assert "PASSED" in found
    assert "4.00 write units a reading (4 in 2 calls); one item a reading would take 6.00" in found
    assert "median 10 ms, 95 % 20 ms, 99 % 30 ms" in found
    assert "temperature 20.5" in found


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("lost", [CELL]),
        ("foreign", [CELL]),
        ("changed", [CELL]),
        ("missing_records", 1),
        ("not_quarantined", [("shard", "1", 0)]),
        ("wrongly_quarantined", [("shard", "1", 0)]),
    ],
)
def test_each_kind_of_difference_fails_the_run(system, verdict, field, value):
    setattr(verdict, field, value)
    found, passed = text(system, verdict)
    assert not verdict.passed
    assert not passed
    assert "FAILED" in found


@pytest.mark.parametrize("name", ["received", "stored", "duplicates", "rejected", "ignored", "failed"])
def test_a_ledger_that_does_not_balance_or_agree_fails_the_run(system, verdict, name):
    system.totals.ledger[name] += 1
    assert not text(system, verdict)[1]


@pytest.mark.parametrize("name", ["advertisements", "malformed", "ignored"])
def test_a_fleet_that_counted_otherwise_fails_the_run(system, verdict, name):
    assert not text(system, verdict, FakeFleet(**{name: 9}))[1]


def test_a_fleet_that_measured_otherwise_fails_the_run(system, verdict):
    fleet = FakeFleet()
    fleet.lines = ["1 measurement not stored"]
    found, passed = text(system, verdict, fleet)
    assert not passed
    assert "1 measurement not stored" in found


def test_after_a_failed_invocation_the_ledger_may_count_twice_but_still_has_to_balance(system, verdict):
    system.mapping.stats.errors = 1
    system.totals.ledger.update(received=1, duplicates=1)
    found, passed = text(system, verdict)
    assert passed
    assert "1 failed invocations" in found
    system.totals.ledger["received"] += 1
    assert not text(system, verdict)[1]


def test_troubles_are_shown(system, verdict):
    for n in range(12):
        system.totals.line(f"Traceback {n}")
    found, _ = text(system, verdict)
    assert "Traceback 0" in found
    assert "2 more lines" in found


@pytest.mark.parametrize(
    ("rollups", "says"),
    [
        ([], "1 readings, 0 in the roll-ups"),
        ([ROLLUP, ROLLUP._replace(start=300)], "1 readings, 2 in the roll-ups"),
        ([ROLLUP._replace(quantities={})], "temperature: 1 values, sum 20.5, 20.5 to 20.5, the roll-ups say nothing"),
        ([ROLLUP._replace(quantities={"temperature": replace(SUMMARY, sum=Decimal(20))})], "sum 20,"),
        ([ROLLUP._replace(quantities={"temperature": replace(SUMMARY, max=Decimal(21))})], "20.5 to 21"),
    ],
)
def test_roll_ups_that_come_to_something_else_than_the_readings_fail_the_run(system, verdict, rollups, says):
    system.rollups.all = lambda: rollups
    found, passed = text(system, verdict, FakeFleet())
    assert not passed
    assert says in found
