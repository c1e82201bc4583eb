"""The judge of runs under faults can fail: each thing that it looks at is broken once, and found."""

from __future__ import annotations

import random
import re
import shutil
import signal
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from processor.batch import Batch
from processor.cli.chaos import under_faults
from processor.errors import LocalError
from processor.local import function as functions
from processor.local.consumer import ShardConsumer
from processor.local.environment import Crashed, HandlerError
from processor.local.faults import fault as moments
from processor.local.faults.fault import Injector, Sent
from processor.local.faults.input import Source
from processor.local.faults.oracle import judge
from processor.local.faults.poison import Poison
from processor.local.faults.registry import named
from processor.local.faults.run import started
from processor.local.faults.traffic import Traffic
from processor.local.faults.world import World
from processor.local.fleet import Fleet
from processor.local.mapping_settings import MappingSettings
from processor.local.proxy import Call, Reply
from processor.local.system import FUNCTIONS, MAPPING, ROLLUP_MAPPING
from processor.store import writer
from tests.faults.striking import PATIENCE, strike

SEED = 11
OK, BUSY = b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 503 Slow Down\r\n\r\n"


@pytest.fixture
def poison():
    problems = []
    found = Poison(problems.append)
    found.problems = problems
    return found


def put(body, forward=lambda: OK):
    return Call("s3", "PUT /bucket/quarantine/x", body, 0, forward, forward)


def reported(*numbers):
    return {"batchItemFailures": [{"itemIdentifier": number} for number in numbers]}


def invoked(poison, answer, during=lambda: None):
    """Invoke with records 7, 8 and 9, of which 8 can never be stored."""

    def invoke(_event):
        during()
        if isinstance(answer, Exception):
            raise answer
        return answer

    try:
        return poison.watching(["7", "8", "9"], {"8": time.time()}, invoke)(b"")
    except LocalError:
        return None


REFUSED = b'{"shard":"s","sequence_number":"8","data":""}\n'


def test_poison_that_is_reported_as_failed_is_a_problem_unless_quarantine_was_refused(poison):
    invoked(poison, reported("8"))
    assert len(poison.problems) == 1
    poison.put(put(REFUSED), None)  # it was taken
    invoked(poison, reported("8"))
    poison.put(put(REFUSED), Reply(BUSY))  # before the invocation
    invoked(poison, reported("8"))
    invoked(poison, reported("8"), during=lambda: poison.put(put(b'{"sequence_number":"7"}'), Reply(BUSY)))
    assert len(poison.problems) == 4
    invoked(poison, reported("8"), during=lambda: poison.put(put(REFUSED), Reply(BUSY)))
    invoked(poison, reported("8"), during=lambda: poison.put(put(REFUSED, lambda: BUSY), None))
    with poison.cut_off():
        invoked(poison, reported("8"))
    assert len(poison.problems) == 4


def test_another_record_that_failed_before_it_has_poison_come_again(poison):
    invoked(poison, reported("7"))
    invoked(poison, reported("9"))
    invoked(poison, reported("9", "7"))
    assert not poison.problems
    invoked(poison, reported("9", "8"))
    assert len(poison.problems) == 1


def test_an_invocation_may_end_by_a_kill_and_not_by_itself(poison):
    told = {"function": "ingest", "request_id": "1"}
    invoked(poison, Crashed("killed", exit_code=-signal.SIGKILL, **told))
    assert not poison.problems
    invoked(poison, Crashed("ended", exit_code=1, **told))
    invoked(poison, HandlerError({"errorType": "KeyError", "errorMessage": "data"}, trace=[], **told))
    assert len(poison.problems) == 2


def test_poison_that_comes_again_after_it_was_handled_is_a_problem(poison):
    poison.ended({"8": time.time()}, {"7"})
    poison.ended({"8": time.time()}, {"7", "8"})
    poison.ended({"6": time.time()}, {"6"})
    assert (poison.first, poison.later, poison.problems) == (1, 1, [])
    poison.ended({"8": time.time()}, set())
    assert len(poison.problems) == 1


BROKEN = {
    # a record that can never be decoded is reported as failed when it first comes, as if it could be later
    "poison-middle": "import base64, processor.ingest\n"
    "seen = set()\n"
    "true = processor.ingest.Ingest.handle\n"
    "def again(self, event, context):\n"
    "    answer = true(self, event, context)\n"
    "    for kinesis in [record['kinesis'] for record in event['Records']]:\n"
    "        number = kinesis['sequenceNumber']\n"
    "        if b'poison' in base64.b64decode(kinesis['data']) and number not in seen:\n"
    "            seen.add(number)\n"
    "            return {'batchItemFailures': [{'itemIdentifier': number}]}\n"
    "    return answer\n"
    "processor.ingest.Ingest.handle = again\n",
    # what fits well is called invalid, and kept in quarantine
    "producer-retry": "import processor.store.writer\n"
    "def full(self, part, answer):\n"
    "    part.written.invalid.update((cell, 'no room') for cell in part.cells)\n"
    "processor.store.writer._Run.settle = full\n",
    # what a rotated key does not open is neither stored nor kept
    "secret-rotated": "import processor.ingest\nprocessor.ingest.Ingest._keep = lambda self, batch: ''\n",
}
FOUND = {
    "poison-middle": "nothing kept it from quarantine",
    "producer-retry": "is in quarantine for invalid_write, and fit to be stored",
    "secret-rotated": "called handled, and not kept anywhere",
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_function_that_is_broken_is_found_by_the_witness_and_the_oracle(fault, aws, tmp_path):
    folder = tmp_path / "functions"
    shutil.copytree(FUNCTIONS, folder)
    main = folder / "ingest" / "main.py"
    head, first, body = main.read_text().partition("\nfrom ")
    main.write_text(head + "\n" + BROKEN[fault] + first + body)
    mapping = replace(MAPPING, batching_window_seconds=0.1)
    rolling = replace(ROLLUP_MAPPING, batching_window_seconds=0.2)
    with started(SEED, aws=aws, timeout_s=8, mapping=mapping, rollup_mapping=rolling, functions=folder) as run:
        strike(run, fault)
        found = judge(run)
    assert any(FOUND[fault] in line for line in found.problems), found.lines()


@pytest.fixture
def sent(aws):
    """A run that has handled what a fleet sent, and the fleet."""
    fleet = Fleet(devices=12, gateways=2, rate=40, seed=SEED, start=round(time.time() * 1000) - 60_000, malformed=0.1)
    with started(SEED, aws=aws, keys=fleet.keys) as run:
        for record in fleet.records(measurements=60):
            run.put(Sent(record.data))
        run.drain(PATIENCE)
        assert judge(run, fleet).passed
        yield run, fleet


def test_a_cell_too_many_is_doubled_and_the_ledger_does_not_balance(sent, aws):
    run, fleet = sent
    copied = {**next(run.system.reader.scan()), "device": {"S": "AA:00:00:00:00:01"}}
    aws.client("dynamodb").put_item(TableName=run.system.settings.readings_table, Item=copied)
    found = judge(run, fleet)
    assert any("was never sent" in line for line in found.doubled)
    assert any(line.startswith("the ledger does not balance: ") for line in found.problems)


def test_what_cannot_be_read_in_the_table_is_found(sent, aws):
    run, fleet = sent
    item = next(run.system.reader.scan())
    aws.client("dynamodb").put_item(TableName=run.system.settings.readings_table, Item={**item, "c1.x": {"M": {}}})
    (problem,) = judge(run, fleet).problems
    assert item["device"]["S"] in problem
    assert "c1.x" in problem


def test_a_function_whose_parts_are_not_what_it_received_is_found(sent):
    run, fleet = sent
    run.system.totals.ledger["stored"] += 1
    (problem,) = judge(run, fleet).problems
    assert re.fullmatch(r"the function's ledger: [\d,]+ received, and parts of [\d,]+", problem)


def test_a_record_that_the_stream_does_not_have_is_lost(sent):
    run, fleet = sent
    run.system.sent.append(b"never taken")
    assert judge(run, fleet).lost == ["1 records are not in the stream"]


def test_a_measurement_that_the_fleet_never_made_is_found(sent):
    run, fleet = sent
    measured = next(place for place in fleet.truth.measured if place[0] in judge(run).verdict.readings)
    del fleet.truth.measured[measured]
    (problem,) = judge(run, fleet).problems
    assert problem.startswith(f"the fleet's measurements: {measured[0]} ")


def test_a_device_whose_state_goes_back_is_found(sent, aws):
    run, _ = sent
    dynamodb, table = aws.client("dynamodb"), run.system.settings.devices_table
    (before, *_) = dynamodb.scan(TableName=table)["Items"]
    run.witness.look()
    assert not run.witness.problems
    dynamodb.put_item(TableName=table, Item={**before, "last_seen": {"N": str(int(before["last_seen"]["N"]) - 1)}})
    run.witness.look()
    (problem, *_) = run.witness.problems
    assert problem.startswith(f"{before['device']['S']}: its state went back, from ")


def test_a_witness_that_can_look_no_more_says_so(sent, monkeypatch):
    run, _ = sent

    def broken():
        raise KeyError("Items")

    monkeypatch.setattr(run.witness, "_look", broken)
    wait(lambda: run.witness.problems)
    assert run.witness.problems == ["the witness has seen no more: KeyError: 'Items'"]


def test_a_checkpoint_that_passes_what_is_not_stored_yet_is_found_though_all_is_stored_in_the_end(aws, monkeypatch):
    last_read = property(lambda self: None if self.queue.read_to < 0 else str(self.queue.read_to))
    monkeypatch.setattr(ShardConsumer, "checkpoint", last_read)
    mapping = replace(MAPPING, batching_window_seconds=0.1)
    rolling = replace(ROLLUP_MAPPING, batching_window_seconds=0.2)
    with started(SEED, aws=aws, timeout_s=8, mapping=mapping, rollup_mapping=rolling) as run:
        run.begin(named(["access-denied"]), 0.2)
        injector, traffic = run.injectors["access-denied"], Traffic(run)
        injector.lasting = PATIENCE  # until the witness has looked: twice a second it does
        wait(lambda: traffic.send(injector) or run.witness.problems)
        run.finish()
        run.drain(PATIENCE)
        found = judge(run)
    assert not found.lost
    assert found.problems
    assert all(re.fullmatch(r"the checkpoint passed \S+ \d+: kept nowhere", line) for line in found.problems)


def test_a_scene_whose_item_has_room_does_not_excuse_what_is_in_quarantine(monkeypatch):
    monkeypatch.setattr(writer._Run, "put", lambda self, part: self.halve(part, Exception(writer.ITEM_FULL)))
    world = World(SEED, MappingSettings(batch_size=3, report_batch_item_failures=True))
    world.send([world.measure(world.sensor())])
    world.until(world.now + 5)
    assert any("has room" in problem for problem in world.judge(1).problems)


def test_a_poison_record_that_comes_again_once_holds_its_shard_for_longer_than_it_may(monkeypatch):
    response, seen = Batch.response, set()

    def again(self):
        for place in self.rejections:
            number = self.records[place]["kinesis"]["sequenceNumber"]
            if number not in seen:
                seen.add(number)
                self.failed.add(place)
        return response(self)

    monkeypatch.setattr(Batch, "response", again)
    (fault,) = named(["poison-delay"])
    (problem,) = fault.scene(SEED).problems
    assert re.fullmatch(r"a record that can never be decoded held its shard for .* s, not 3\.5 s", problem)


class Clock:
    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(moments, "time", SimpleNamespace(monotonic=lambda: self.now))


@pytest.mark.parametrize("pace", [0.3, 22.0, 250.0])
def test_a_fault_takes_the_first_chance_there_is_and_later_ones_only_at_its_moments(pace, monkeypatch):
    clock = Clock(monkeypatch)
    injector = Injector()
    injector.begin(None, "any", SEED, pace)
    clock.now += moments.FIRST_SECONDS + 100
    assert injector.due()
    injector.count()
    assert not injector.due()
    clock.now += 2 * pace + 1  # past its next moment: the only call of a quiet stretch does not meet all that it missed
    assert not injector.due()
    injector.again()
    assert any(injector.due() for clock.now in [clock.now + n / 10 for n in range(70)])


@pytest.mark.parametrize("pace", [2.0, 22.0, 250.0])
def test_a_state_that_has_never_struck_lasts_until_it_has(pace, monkeypatch):
    clock = Clock(monkeypatch)
    injector = Injector()
    injector.lasting = 1.0
    injector.begin(None, "any", SEED, pace)
    clock.now += moments.FIRST_SECONDS + 7
    assert all(injector.on() for clock.now in [clock.now + n * 0.9 for n in range(9)])
    injector.count()
    clock.now += 1.1
    assert not injector.on()


class Never(Injector):
    """Never has a chance."""


def test_a_fault_that_was_asked_for_and_never_struck_makes_the_run_fail(monkeypatch, capsys):
    monkeypatch.setattr("processor.local.faults.run.PATIENCE_SECONDS", 1.0)
    faults = [replace(named(["slow"])[0], name="never", make=Never), *named(["producer-retry"])]
    passed = under_faults(
        faults, SEED, lambda system, _: time.sleep(1), None, shards=1, any_age=False, keys={}, variables={}
    )
    out = capsys.readouterr().out
    assert not passed
    assert "never struck: never\n" in out
    assert "Check      lost 0, doubled 0: FAILED" in out


def test_a_single_shard_counts_only_where_it_stays_the_only_one(aws):
    with started(SEED, aws=aws, shards=3) as run:
        run.begin(named(["single-shard"]), 0.2)
        injector = run.injectors["single-shard"]
        injector._seconds = 5  # so long has this test for its split
        wait(lambda: injector._taken)
        run.system.kinesis.split_shard(ShardToSplit=run.system.kinesis.open_shards[0])
        wait(lambda: not injector._taken)
        assert not injector.injected
        injector._seconds = 0.5
        wait(lambda: injector.injected)
        run.finish()
        run.drain(PATIENCE)
        assert judge(run).passed


def wait(until):
    deadline = time.monotonic() + PATIENCE
    while not until() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert until()


def test_only_the_worker_that_has_written_is_killed_before_its_response(aws):
    with started(SEED, aws=aws, workers=3) as run:
        killed, kill = [], run.workers.kill
        run.workers.kill = lambda pid: killed.append(run.workers.doing().get(pid)) or kill(pid)
        injected = strike(run, "kill-before-response")
        assert judge(run).passed
        errors = run.system.mapping.stats.errors
    assert injected >= 3
    assert set(killed) <= {"at work", None}
    assert errors == injected  # who had answered already is not counted, and fails nothing


def test_a_kill_counts_where_there_is_a_worker_and_by_what_it_did(aws):
    with started(SEED, aws=aws) as run:
        assert not run.workers.kill(None)
        source = SimpleNamespace(run=run, random=random.Random(1))
        run.put(Source(source).record([]))
        wait(lambda: run.system.function.idle_pids)  # the stream may not have the record yet
        (pid,) = run.system.function.idle_pids
        assert run.workers.kill(pid)
        wait(lambda: not run.system.function.idle_pids)
        assert not run.workers.kill(pid)  # it has ended, although nobody has noticed yet
        assert run.workers.kills == {"idle": 1}
        run.workers.replace(pid)
        assert run.workers.replaced == 0


def test_a_worker_that_starts_while_another_configuration_is_deployed_does_not_stay(aws, monkeypatch):
    with started(SEED, aws=aws) as run:
        made, deployed = functions.Environment, run.system.function

        def make(config, **options):
            monkeypatch.undo()
            deployed.config = replace(config, timeout_s=9)
            return made(config, **options)

        monkeypatch.setattr(functions, "Environment", make)
        with pytest.raises(Crashed):
            deployed.invoke({"Records": []})
        assert not deployed.pids
        assert deployed.invoke({"Records": []}) == {"batchItemFailures": []}
