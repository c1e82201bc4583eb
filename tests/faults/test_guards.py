"""Each guard is needed: without it, each fault that it stands against is found out, by the sentence that names it.

A guard is taken out of a system, and its faults strike one after the other, each among sensors of its own: what the
judgement says is told apart by these. What comes before them, without a fault, must not be found; each of them must.
With every guard in place nothing is found: test_faults.py.
"""

from __future__ import annotations

import contextlib
import random
import re
import shutil
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from processor.local.check import stream_records
from processor.local.faults.input import Source
from processor.local.faults.oracle import judge
from processor.local.faults.registry import FAULTS, named
from processor.local.faults.run import started
from processor.local.system import FUNCTIONS, MAPPING, ROLLUP_MAPPING, STREAM
from tests.faults.guards import HERE, IN_FUNCTIONS, IN_SCENES

SEED = 3
PACE = 0.1
INJECTIONS = 3
ONCE = ("timeout", "ten-mebibytes", "refused", "no-address", "out-of-memory", "deploy-mid-batch", "metrics-overflow",
        "single-shard", "freeze", "split", "merge", "destination-fails")  # fmt: skip
"""Faults of which one injection is enough."""

MANY = {"kill-any": 15, "unavailable": 10, "reset-before": 10}
"""Faults that do not strike ingest each time, or not at work."""

LASTING = 2.0
"""Seconds that a state lasts: longer than an invocation tries."""

PATIENCE = 180.0
"""So long may it take where the machine has much else to do."""
SENSORS = 3


class Strike:
    """What was sent while a fault struck: the devices, partition keys and sequence numbers that tell of it."""

    def __init__(self, run):
        self._run = run
        self._before = self._state()

    def _state(self):
        run = self._run
        return set(run.truth), len(run.system.sent), len(run.errors)

    def end(self):
        """Nothing more comes of it."""
        devices, sent, errors = self._before
        self._devices = set(self._run.truth) - devices
        self._sent = set(self._run.system.sent[sent:])
        self._errors = {f"wrong: {line}" for line in self._run.errors[errors:]}

    def among(self, lines, records):
        """Return the lines that are about it."""
        own = [record for record in records if record["Data"] in self._sent]
        marks = self._devices.union(*((record["SequenceNumber"], record["PartitionKey"]) for record in own))
        return [line for line in lines if line in self._errors or marks.intersection(re.findall(r"\w+(?::\w+)*", line))]


class Bench:
    """A system whose functions are copies, perhaps with a guard taken out of them, and faults that strike it."""

    def __init__(self, run):
        self.run = run

    def strike(self, fault=None):
        """Have a fault strike, records of new sensors coming all the time; or have only them come."""
        run, strike = self.run, Strike(self.run)
        if fault is None:
            self.send()
        else:
            run.begin(named([fault]), PACE)
            injector = run.injectors[fault]
            injector.lasting = 60.0 if injector.lasting else 0
            enough = 1 if fault in ONCE else MANY.get(fault, INJECTIONS)
            begun = time.monotonic()
            while injector.injected < enough or (injector.lasting and time.monotonic() < begun + LASTING):
                assert time.monotonic() < begun + PATIENCE, f"{fault} came {injector.injected} times"
                self.send()
                time.sleep(0.1)
            run.finish()
        run.drain(PATIENCE)
        strike.end()
        return strike

    def send(self):
        """Send a record of sensors that nobody has heard of."""
        source = Source(SimpleNamespace(run=self.run, random=random.Random(SEED)))
        heard = [one for _ in range(SENSORS) for one in source.measure(source.sensor(), [source.now])]
        self.run.put(source.record(heard))

    def judged(self):
        """Return what the judgement has to say, and the stream's records."""
        self.run.drain(PATIENCE)
        return lines(judge(self.run)), stream_records(self.run.system.kinesis, STREAM)


@pytest.fixture
def bench(aws, tmp_path):
    """Makes a system, with that code before the functions' own."""

    @contextlib.contextmanager
    def made(worker=""):
        functions = tmp_path / "functions"
        shutil.copytree(FUNCTIONS, functions)
        for main in functions.glob("*/main.py"):
            head, first, body = main.read_text().partition("\nfrom ")
            main.write_text(head + "\n" + worker + first + body)
        mapping = replace(MAPPING, batching_window_seconds=0.1, parallelization_factor=10)
        rollup = replace(ROLLUP_MAPPING, batching_window_seconds=0.2)
        with started(SEED, aws=aws, timeout_s=7.5, functions=functions, mapping=mapping, rollup_mapping=rollup) as run:
            yield Bench(run)

    return made


def lines(found):
    kinds = (("lost", found.lost), ("doubled", found.doubled), ("wrong", found.problems))
    return [f"{kind}: {each}" for kind, texts in kinds for each in texts]


def tells(some, pattern):
    return any(re.match(pattern, line) for line in some)


@pytest.mark.parametrize("guard", IN_FUNCTIONS + HERE, ids=str)
def test_without_its_guard_a_fault_is_found(guard, bench, monkeypatch):
    guard.here(monkeypatch)
    patterns = {fault: pattern for pattern, faults in guard.faults.items() for fault in faults}
    with bench(guard.worker) as system:
        for function in (system.run.system.function, system.run.system.rollup):
            function.invoke({"Records": []})  # a cold start would take the time that a write has
        calm = system.strike()
        missing, deadline = list(patterns), time.monotonic() + PATIENCE
        while (missing or calm) and time.monotonic() < deadline:
            strikes = {fault: system.strike(fault) for fault in missing}
            found, records = system.judged()
            missing = [each for each in missing if not tells(strikes[each].among(found, records), patterns[each])]
            # A machine with much else to do is not calm, and then the guard is missed: once more.
            calm = (
                system.strike()
                if calm and any(tells(calm.among(found, records), each) for each in guard.faults)
                else None
            )
        assert not calm, found
        assert not missing, found


@pytest.mark.parametrize("guard", IN_SCENES, ids=str)
def test_without_its_guard_a_fault_under_a_virtual_clock_is_found(guard, monkeypatch):
    guard.here(monkeypatch)
    for pattern, faults in guard.faults.items():
        for fault in named(faults):
            assert tells(lines(fault.scene(SEED)), pattern), fault.name


def test_of_each_fault_the_guard_that_the_registry_names_is_taken_out():
    guards = IN_FUNCTIONS + HERE + IN_SCENES
    tried = {(fault, guard.of) for guard in guards for faults in guard.faults.values() for fault in faults}
    assert [(fault.name, fault.guard) for fault in FAULTS if (fault.name, fault.guard) not in tried] == []
    assert {guard.of for guard in guards} <= {fault.guard for fault in FAULTS}


def test_the_readme_says_which_faults_are_found_without_each_guard():
    text = (Path(__file__).parent / "README.md").read_text()
    for guard in IN_FUNCTIONS + HERE + IN_SCENES:
        rows = [line for line in text.splitlines() if line.startswith(f"| {guard} | ")]
        assert any(all(f"`{fault}`" in row for faults in guard.faults.values() for fault in faults) for row in rows)
