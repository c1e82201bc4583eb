"""The main job under a virtual clock: handlers that fail, shards that split, duplicates and faults, from a seed."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processor.local.mapping import MappingSettings
from processor.local.simulation import Odds, Simulation
from processor.store.registry import Registry
from processor.store.tables import slot
from processor.vault import REMEMBERED_SECONDS

ROUGH = Odds(
    crash_before=0.05,
    crash_after=0.05,
    throttled=0.05,
    write=0.02,
    read=0.05,
    reshard=0.005,
    disabled=0.01,
    duplicate=0.05,
)


def checked(simulation):
    """All that was sent is stored once or quarantined, every roll-up is what its readings come to, none is given up."""
    verdict = simulation.check()
    assert verdict.passed, verdict.differences()
    stored = {(rollup.device, rollup.start): rollup for rollup in simulation.rollups.all()}
    assert stored == simulation.recomputed()
    for mapping in (simulation.mapping, simulation.rollup_mapping):
        assert mapping.stats.discarded == 0
    assert simulation.mapping.stats.records == len(simulation.sent)
    return verdict


def test_an_hour_with_whatever_goes_wrong_loses_and_doubles_nothing(new_bucket):
    simulation = Simulation(new_bucket(), seed=7, devices=16, rate=0.5, odds=ROUGH)
    simulation.run(3600)
    simulation.settle()
    verdict = checked(simulation)
    assert simulation.now - 1_700_000_000 >= 3590
    assert verdict.found > 1000
    assert all(simulation.struck.values()), simulation.struck


chances = st.sampled_from([0.0, 0.02, 0.1, 0.3])


@settings(max_examples=12)
@given(
    seed=st.integers(0, 2**32),
    minutes=st.integers(1, 5),
    shards=st.integers(1, 3),
    odds=st.builds(
        Odds,
        crash_before=chances,
        crash_after=chances,
        throttled=chances,
        write=chances,
        read=chances,
        reshard=st.sampled_from([0.0, 0.02, 0.1]),
        disabled=chances,
        duplicate=chances,
    ),
    ingest=st.builds(
        MappingSettings,
        batch_size=st.sampled_from([1, 7, 500]),
        batching_window_seconds=st.sampled_from([0, 2, 30]),
        parallelization_factor=st.integers(1, 10),
        bisect_batch_on_function_error=st.booleans(),
        report_batch_item_failures=st.just(True),
    ),
)
def test_any_mix_of_faults_under_any_settings_loses_and_doubles_nothing(
    new_bucket, seed, minutes, shards, odds, ingest
):
    simulation = Simulation(new_bucket(), seed=seed, shards=shards, devices=6, rate=0.5, odds=odds, ingest=ingest)
    simulation.run(minutes * 60)
    simulation.settle()
    checked(simulation)


def run(bucket, seed):
    simulation = Simulation(bucket, seed=seed, devices=6, rate=1, odds=ROUGH)
    simulation.run(180)
    simulation.settle()
    stats = (simulation.mapping.stats, simulation.rollup_mapping.stats)
    return simulation.sent, simulation.struck, stats, simulation.dynamodb.tables, simulation.now


def test_the_same_seed_does_the_same_again_and_another_does_not(new_bucket):
    first = run(new_bucket(), 3)
    assert run(new_bucket(), 3) == first
    assert run(new_bucket(), 4)[1] != first[1]


def test_what_a_simulation_stored_can_be_read_by_its_own_clock(new_bucket):
    simulation = Simulation(new_bucket(), seed=5, devices=6, rate=0.2)
    simulation.run(900)
    simulation.settle()
    stored = simulation.check().found
    assert stored > 100
    assert sum(len(slot(item).cells) for item in simulation.reader.scan()) == stored
    simulation.now += simulation.settings.retention_days * 86_400 + 3600
    assert not list(simulation.reader.scan())


def test_the_registry_is_asked_again_when_what_it_said_is_no_longer_remembered(new_bucket, monkeypatch):
    asked = {}
    answers = Registry.answers

    def counted(self, addresses, *, deadline=None):
        addresses = list(addresses)
        for address in addresses:
            asked.setdefault(address, []).append(simulation.now)
        return answers(self, addresses, deadline=deadline)

    monkeypatch.setattr(Registry, "answers", counted)
    simulation = Simulation(new_bucket(), seed=5, devices=16, rate=0.2)
    simulation.run(1200)
    assert asked
    assert all(len(times) > 1 for times in asked.values()), asked
    assert all(b - a >= REMEMBERED_SECONDS for times in asked.values() for a, b in itertools.pairwise(times))


@pytest.mark.parametrize("function", ["mapping", "rollup_mapping"])
def test_a_function_that_swallows_a_batch_is_found_out(new_bucket, monkeypatch, function):
    """The check itself can fail: what is acknowledged unhandled is missing afterwards."""
    made, numbers = Simulation._function, itertools.count()

    def swallowing(self, handle):
        place = next(numbers)
        turns = itertools.count()
        invoke = made(self, handle)
        which = {"mapping": 0, "rollup_mapping": 1}[function]
        return lambda event: {} if place == which and next(turns) >= 2 else invoke(event)

    monkeypatch.setattr(Simulation, "_function", swallowing)
    simulation = Simulation(new_bucket(), seed=1, shards=1, devices=6, rate=1)
    simulation.run(60)
    simulation.settle()
    with pytest.raises(AssertionError):
        checked(simulation)
