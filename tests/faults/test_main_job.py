"""Nothing lost, nothing doubled: the main job with its worker killed, and the check that would see a loss."""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import replace

import orjson
import pytest

from processor.local.fleet import Fleet
from processor.local.system import MAPPING, System


def fleet_records(seed=1, devices=40, rate=40, seconds=30, malformed=0.05):
    fleet = Fleet(
        devices=devices, gateways=5, rate=rate, seed=seed, start=round(time.time() * 1000) - 60_000, malformed=malformed
    )
    return fleet, [record.data for record in fleet.records(duration_ms=seconds * 1000)]


class Killer:
    """Kills the busy worker at seeded points: before a write is forwarded, after it, or after the batch's last line."""

    def __init__(self, seed, each):
        self.random = random.Random(seed)
        self.left = {"before": each, "amid": each, "after": each}
        self.system = None

    def strike(self, where, chance):
        if self.random.random() > chance or not self.left[where]:
            return False
        pids = self.system.function.busy_pids
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        self.left[where] -= bool(pids)
        return bool(pids)

    def fault(self, operation, body, forward):
        if operation == "UpdateItem" and self.strike("before", 0.05):
            return None
        found = forward()
        if operation == "UpdateItem" and self.strike("amid", 0.05):
            return None
        return found

    def line(self, line):
        if '"_aws"' in line:
            self.strike("after", 0.6)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_worker_killed_before_amid_and_after_its_writes_loses_and_doubles_nothing(proxy, aws, seed):
    killer = Killer(seed, each=4)
    fleet, records = fleet_records(seed)
    way = proxy(killer.fault)
    variables = {"AWS_ENDPOINT_URL_DYNAMODB": way.endpoint}
    mapping = replace(MAPPING, batch_size=20)  # else a slow machine has few batches to strike at
    with System(aws=aws, keys=fleet.keys, variables=variables, mapping=mapping) as system:
        killer.system = system
        line = system.totals.line

        def sink(text):
            line(text)
            killer.line(text)

        system.function._sink = sink
        for at in range(0, len(records), 20):
            system.send(records[at : at + 20])
        system.drain(120)
        verdict = system.check()
    assert verdict.passed, verdict.differences()
    assert killer.left == {"before": 0, "amid": 0, "after": 0}
    assert verdict.expected.rejected.total() == fleet.truth.malformed > 0


def test_a_write_dropped_on_the_wire_but_acknowledged_is_found_lost(proxy, aws):
    """All writes of one item are dropped: after a single one, another gateway's copy would fill the gap."""
    dropped = []

    def fault(operation, body, forward):
        request = orjson.loads(body)
        ours = operation == "UpdateItem" and request["TableName"] == "processor-readings"
        if not ours or (dropped and request["Key"] != dropped[0]["Key"]):
            return forward()
        dropped.append(request)
        return proxy.answer(b"{}")

    fleet, records = fleet_records()
    way = proxy(fault)
    with System(aws=aws, keys=fleet.keys, variables={"AWS_ENDPOINT_URL_DYNAMODB": way.endpoint}) as system:
        system.send(records)
        system.drain(60)
        verdict = system.check()
    assert not verdict.passed
    names = {name for each in dropped for name in each["ExpressionAttributeNames"].values() if name[0] in "ct"}
    assert {name for _, _, name in verdict.lost} == names


def test_the_check_sees_a_deleted_a_changed_and_a_foreign_cell_and_a_missing_quarantine_object(aws):
    fleet, records = fleet_records(malformed=0.3)
    with System(aws=aws, keys=fleet.keys) as system:
        system.send(records)
        system.drain(60)
        assert system.check().passed

        table = system.settings.readings_table
        dynamodb = aws.client("dynamodb")
        item = next(iter(system.reader.scan()))
        key = {"device": item["device"], "slot": item["slot"]}
        name = next(name for name in item if name.startswith(("c", "t")))

        def update(expression, **values):
            dynamodb.update_item(
                TableName=table, Key=key, UpdateExpression=expression, ExpressionAttributeNames={"#c": name},
                **({"ExpressionAttributeValues": values["values"]} if values else {}),
            )  # fmt: skip

        update("REMOVE #c")
        assert system.check().lost == [(item["device"]["S"], int(item["slot"]["N"]), name)]
        update("SET #c = :c", values={":c": {"M": item[name]["M"] | {"t": {"N": "-99"}}}})
        assert system.check().changed == [(item["device"]["S"], int(item["slot"]["N"]), name)]
        update("SET #c = :c", values={":c": item[name]})
        assert system.check().passed
        name = "c1.AAAA"
        update("SET #c = :c", values={":c": {"M": {"o": {"N": "1"}, "f": {"S": "x"}}}})
        assert len(system.check().foreign) == 1
        update("REMOVE #c")

        s3 = aws.client("s3")
        bucket = system.settings.quarantine_bucket
        objects = s3.list_objects_v2(Bucket=bucket)["Contents"]
        s3.delete_object(Bucket=bucket, Key=objects[0]["Key"])
        assert system.check().not_quarantined


def test_a_drain_waits_for_what_is_still_on_its_way_into_the_stream(aws, monkeypatch):
    monkeypatch.setattr("processor.local.outbox.GATHER_SECONDS", 3.0)
    _, (record, *_) = fleet_records()
    with System(aws=aws) as system:
        system.put(record)
        system.drain(60)
        assert system.sent == [record]


def test_the_same_input_twice_changes_no_stored_byte(aws):
    fleet, records = fleet_records()
    with System(aws=aws, keys=fleet.keys, any_age=True) as system:
        system.send(records)
        system.drain(60)
        before = sorted(map(orjson.dumps, system.reader.scan()))
        system.send(records[::-1])
        system.drain(60)
        assert sorted(map(orjson.dumps, system.reader.scan())) == before
        assert system.totals.ledger["stored"] == sum(
            name[0] in "ct" for item in map(orjson.loads, before) for name, value in item.items() if "M" in value
        )
        assert system.check().passed
