"""Every fault of the registry, one by one: nothing lost, nothing doubled, by what was sent and by the tables alone."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from processor.local.aws import EmbeddedAws
from processor.local.faults.fault import FAMILIES
from processor.local.faults.oracle import judge
from processor.local.faults.registry import FAULTS
from processor.local.faults.run import started
from processor.local.faults.traffic import Traffic
from processor.local.system import MAPPING, ROLLUP_MAPPING

SEED = 7
INJECTIONS = 3
FEW = dict.fromkeys(
    ("timeout", "ten-mebibytes", "refused", "no-address", "out-of-memory", "deploy-mid-batch", "kill-before-response",
     "split", "merge", "single-shard", "metrics-overflow", "destination-fails"), 1
)  # fmt: skip
"""Faults that take long are injected less often."""

PACE = 0.4
TRAFFIC_SECONDS = 0.1
"""Between two records that keep everything busy: enough for every fault to meet some, and few enough to judge."""
PATIENCE = 180.0
"""So long may it take where the machine has much else to do."""
LIVE = [fault for fault in FAULTS if fault.make]
SCENES = [fault for fault in FAULTS if fault.scene]


FAULTS_EACH = 6
"""So many faults share a system: each judgement looks at all that was sent since it started."""


class Arena:
    """A system under faults that tests share, as starting one takes a while. A failed one is replaced."""

    def __init__(self):
        self._open = None
        self.run = None

    def ready(self):
        if self.run is not None and self._left == 0:
            self.close()
        if self.run is None:
            self._left = FAULTS_EACH
            self._aws = EmbeddedAws()
            self._open = started(
                SEED, aws=self._aws, timeout_s=8,
                mapping=replace(MAPPING, batching_window_seconds=0.1, parallelization_factor=10),
                rollup_mapping=replace(ROLLUP_MAPPING, batching_window_seconds=0.2),
            )  # fmt: skip
            self.run = self._open.__enter__()
            self.traffic = Traffic(self.run)
        self._left -= 1
        return self.run

    def close(self):
        if self.run is not None:
            self.run = None
            self._open.__exit__(None, None, None)
            self._aws.stop()


@pytest.fixture(scope="module")
def arena():
    found = Arena()
    yield found
    found.close()


@pytest.mark.parametrize("fault", LIVE, ids=lambda fault: fault.name)
def test_nothing_is_lost_and_nothing_doubled_by(fault, arena):
    run = arena.ready()
    passed = False
    try:
        wanted = FEW.get(fault.name, INJECTIONS)
        answers, passed_by = run.witness.answers, run.witness.checkpoints.passed
        run.begin([fault], PACE)
        injector = run.injectors[fault.name]
        deadline = time.monotonic() + PATIENCE
        while injector.injected < wanted and time.monotonic() < deadline:
            arena.traffic.send(injector)
            time.sleep(TRAFFIC_SECONDS)
        run.finish()
        run.drain(PATIENCE)
        run.witness.look()
        found = judge(run)
        assert found.passed, "\n".join(found.lines())  # a list would be shortened
        assert run.injected[fault.name] >= wanted
        assert run.witness.answers > answers
        assert run.witness.checkpoints.passed > passed_by
        passed = True
    finally:
        if not passed:
            arena.close()


@pytest.mark.parametrize("fault", SCENES, ids=lambda fault: fault.name)
@pytest.mark.parametrize("seed", [1, 2])
def test_under_a_virtual_clock_nothing_is_lost_and_nothing_doubled_by(fault, seed):
    scene = fault.scene(seed)
    assert scene.passed, (scene.injected, scene.lost, scene.doubled, scene.problems)


def test_every_fault_has_a_name_of_its_own_a_family_and_one_place_where_it_happens():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    assert {fault.family for fault in FAULTS} == FAMILIES.keys()
    assert all((fault.make is None) != (fault.scene is None) and fault.what and fault.guard for fault in FAULTS)


def test_the_readme_lists_every_fault_as_the_registry_has_it():
    text = (Path(__file__).parent / "README.md").read_text()
    missing = [fault.name for fault in FAULTS if f"| `{fault.name}` | {fault.what} | {fault.guard} |" not in text]
    assert not missing
    assert all(f"| {fault.guard} |" in text for fault in FAULTS)
