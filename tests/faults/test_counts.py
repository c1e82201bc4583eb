"""A fault counts what really happened: not what it tried, and not what came to nothing."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from processor.local import environment
from processor.local.environment import Crashed, OutOfMemory, TimedOut
from processor.local.faults import run as running
from processor.local.faults import traffic as sending
from processor.local.faults.fault import Injector
from processor.local.faults.input import Source
from processor.local.faults.oracle import judge
from processor.local.faults.registry import named
from processor.local.faults.run import started
from processor.local.faults.traffic import Traffic
from processor.local.proxy import Call, answer
from processor.local.system import MAPPING
from tests.faults.striking import PATIENCE, strike

SEED = 11
OK = answer()
FIRST, OTHER = 1, 2
"""Two connections of the worker."""


def test_out_of_memory_counts_the_workers_that_ran_out_of_it(aws, monkeypatch):
    ended = []

    class Noted(OutOfMemory):
        def __init__(self, message, **told):
            ended.append(message)
            super().__init__(message, **told)

    monkeypatch.setattr(environment, "OutOfMemory", Noted)
    with started(SEED, aws=aws) as run:
        injected = strike(run, "out-of-memory")
        assert judge(run).passed
        errors = run.system.mapping.stats.errors
    assert injected >= 3
    assert errors == len(ended) == injected


class Workers:
    """One worker of process id 7, at work on the invocation `at`. That it was killed nobody notices for a while."""

    def __init__(self):
        self.at = "one"
        self.killed = []

    def owner(self, _port):
        return 7

    def at_work(self, _port):
        return 7, self.at

    @property
    def invocations(self):
        return {self.at: 7}

    def kill(self, pid):
        self.killed.append(pid)
        return True


@pytest.fixture
def workers():
    return Workers()


def begun(fault, workers):
    """Return a fault's injector that is due at once, and then as often as may be."""
    injector = named([fault])[0].make()
    function = SimpleNamespace(at_work={}, config=SimpleNamespace(memory_mb=1))
    injector.begin(SimpleNamespace(workers=workers, system=SimpleNamespace(function=function)), fault, SEED, 0.0)
    return injector


def update(port, done, forward=lambda: OK):
    """Return a write on its way; done: gets its port when it is carried out."""

    def carry_out():
        found = forward()
        done.append(port)
        return found

    body = b'{"TableName":"processor-readings"}'
    return Call("dynamodb", "UpdateItem", body, port, carry_out, carry_out)


def test_amid_its_writes_a_worker_is_killed_only_where_another_is_not_carried_out(workers):
    injector, done = begun("kill-amid-write", workers), []
    for workers.at in ("one", "two", "three"):  # each has a single write
        reply = injector.call(update(FIRST, done))
        assert reply is None or reply.then == "keep"
    assert (injector.injected, workers.killed) == (0, [])
    workers.at = "four"
    time.sleep(0.01)
    done.clear()
    replies = [injector.call(update(port, done)) for port in (FIRST, OTHER)]
    assert done == [FIRST]
    assert replies[0].then == "keep"
    assert replies[1].then == "close"
    assert (injector.injected, workers.killed) == (1, [7])
    assert injector.call(update(OTHER, done)).then == "close"  # it was on its way when its sender died
    workers.at = "five"
    assert injector.call(update(FIRST, done)).then == "keep"
    assert (injector.injected, done) == (1, [FIRST, FIRST])


def test_writes_that_come_at_once_are_held_back_until_the_first_is_carried_out_and_the_worker_killed(workers):
    injector, done = begun("kill-amid-write", workers), []
    slow = threading.Event()
    calls = [update(FIRST, done, lambda: slow.wait(10) and OK), update(OTHER, done), update(OTHER, done)]
    threads = [threading.Thread(target=injector.call, args=(call,), daemon=True) for call in calls]
    for thread in threads:
        thread.start()
        time.sleep(0.05)
    assert not workers.killed
    slow.set()
    for thread in threads:
        thread.join(10)
    assert done == [FIRST]
    assert (injector.injected, workers.killed) == (1, [7])


def test_a_worker_that_got_too_much_counts_when_it_ends_by_it_and_not_when_it_is_killed_or_times_out(workers):
    injector, done = begun("out-of-memory", workers), []

    def ended(error):
        def following(_event):
            raise error

        with pytest.raises(type(error)):
            injector.invoke("ingest", b"", following)

    told = {"function": "ingest", "request_id": "one"}
    assert len(injector.call(update(FIRST, done)).data) > 1_000
    assert injector.injected == 0
    ended(TimedOut("late", **told))
    ended(OutOfMemory("of another", exit_code=-9, function="ingest", request_id="two"))
    injector.hasten()
    assert injector.call(update(FIRST, done)) is not None
    ended(Crashed("killed", exit_code=-9, **told))
    assert injector.injected == 0
    injector.hasten()
    assert injector.call(update(FIRST, done)) is not None
    ended(OutOfMemory("by it", exit_code=-9, **told))
    assert injector.injected == 1
    assert done == [FIRST] * 3


class Stepwise(Injector):
    """Strikes so many times, each when a record of its own is stored."""

    def __init__(self, run, times):
        self.begin(run, "stepwise", SEED, 1.0)
        self.times = times
        self.sensors = []

    def records(self):
        if self.injected < self.times and len(self.sensors) == self.injected:
            source = Source(self)
            self.sensors.append(source.sensor())
            yield source.record(source.measure(self.sensors[-1], [source.now]))

    def tick(self):
        if len(self.sensors) > self.injected and self.run.witness.firsts.of(self.sensors[-1].address):
            self.count()


@pytest.fixture
def slow(aws, monkeypatch):
    """A run whose mapping sends a record at a time, each a tenth of a second long."""
    with started(SEED, aws=aws, shards=1, mapping=replace(MAPPING, batch_size=1, parallelization_factor=1)) as run:
        invoked = run.witness.invoked

        def slowly(*call):
            time.sleep(0.1)
            return invoked(*call)

        monkeypatch.setattr(run.witness, "invoked", slowly)
        yield run


def turn(run, injector):
    """Give an injector that has not struck its turn; return how often it did."""
    run.injectors["stepwise"] = injector
    run.wait_for_all()
    run.finish()
    return injector.injected


def test_a_fault_that_waits_for_its_records_waits_behind_a_late_mapping_too(slow, monkeypatch):
    monkeypatch.setattr(running, "PATIENCE_SECONDS", 5.0)
    monkeypatch.setattr(sending, "AT_ONCE", 100)
    injector, traffic = Stepwise(slow, 1), Traffic(slow)
    for _ in range(100):
        traffic.send(injector)
    assert turn(slow, injector) == 1


def test_traffic_does_not_outrun_the_mapping(slow, monkeypatch):
    monkeypatch.setattr(sending, "AT_ONCE", 5)
    injector, traffic, most = Stepwise(slow, 0), Traffic(slow), 0
    deadline = time.monotonic() + PATIENCE
    while len(slow.system.sent) < 20 and time.monotonic() < deadline:
        traffic.send(injector)
        most = max(most, len(slow.system.sent) - slow.system.mapping.stats.records)
    assert len(slow.system.sent) >= 20
    assert most <= 5
