"""Roll-ups under real concurrency: two functions at once, ten batches of a shard at a time, workers killed."""

from __future__ import annotations

import os
import random
import signal
from dataclasses import replace

import pytest

from processor.local.function import Function
from processor.local.mapping import EventSourceMapping
from processor.local.rollup_check import compare_rollups
from processor.local.system import FUNCTIONS, ROLLUP_MAPPING, System
from processor.local.totals import RollupTotals
from processor.store.states import States, state_of
from processor.store.tables import slot
from tests.faults.test_main_job import fleet_records

BUSY = replace(ROLLUP_MAPPING, batch_size=10, batching_window_seconds=0, parallelization_factor=10)


class Killer:
    """Kills a busy worker of either function when it is about to write, or has written: seeded."""

    def __init__(self, seed, kills):
        self.random = random.Random(seed)
        self.left = kills
        self.functions = []

    def fault(self, operation, body, forward):
        ours = operation == "UpdateItem" and (b"processor-rollups" in body or b"processor-devices" in body)
        found = None if ours and self.strike() else forward()
        return None if ours and self.strike() else found

    def strike(self):
        if not self.left or self.random.random() > 0.05:
            return False
        pids = [pid for function in self.functions for pid in function.busy_pids]
        if pids:
            os.kill(self.random.choice(pids), signal.SIGKILL)
            self.left -= 1
        return bool(pids)


@pytest.mark.parametrize("seed", [1, 2])
def test_two_roll_up_functions_at_once_killed_again_and_again_end_in_the_sums_of_the_readings(proxy, aws, seed):
    killer = Killer(seed, kills=8)
    fleet, records = fleet_records(seed, seconds=60)
    variables = {"AWS_ENDPOINT_URL_DYNAMODB": proxy(killer.fault).endpoint}
    totals = RollupTotals()
    with System(aws=aws, keys=fleet.keys, variables=variables, rollup_mapping=BUSY) as system:
        table = aws.client("dynamodb").describe_table(TableName=system.settings.readings_table)["Table"]
        streams = aws.client("dynamodbstreams")
        with (
            Function(FUNCTIONS / "rollup", environment=system.variables, sink=totals.line) as function,
            EventSourceMapping(streams, table["LatestStreamArn"], function.invoke, BUSY) as mapping,
        ):
            killer.functions = [system.rollup, function]
            for at in range(0, len(records), 20):
                system.send(records[at : at + 20])
            system.drain(120)
            mapping.drain(120)
        verdict = system.check()
        number, wrong = compare_rollups(verdict.readings, system.rollups.all())
        found = {}
        for each in map(slot, system.reader.scan()):
            found.setdefault(each.device, []).append(each)
        known = States(system.client, system.settings.devices_table).known(found)
    assert verdict.passed, verdict.differences()
    assert wrong == []
    assert number >= len(found) > 30
    assert killer.left == 0
    assert system.rollup_totals.counts["written"] > 0 < totals.counts["written"]
    assert {device: state for device, (state, _) in known.items()} == {
        device: state_of(device, each) for device, each in found.items()
    }


def test_a_lost_and_a_changed_roll_up_are_found(aws):
    """The check that the test above leans on can fail."""
    fleet, records = fleet_records()
    with System(aws=aws, keys=fleet.keys) as system:
        system.send(records)
        system.drain(60)
        readings = system.check().readings
        assert compare_rollups(readings, system.rollups.all())[1] == []
        one = max(system.rollups.all(), key=lambda rollup: rollup.readings)
        system.rollups.rebuild(one._replace(readings=one.readings - 1, quantities={}))
        wrong = compare_rollups(readings, system.rollups.all())[1]
    assert len(wrong) == 1 + len(one.quantities)
    assert all(line.startswith(one.device) for line in wrong)
