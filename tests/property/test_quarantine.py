"""Nothing is missing that is not stored, and no attempt is forgotten, in whatever order batches come and are redriven.

Hypothesis chooses which batches ingest is given (again, in part, with other keys), which keys a redrive has, what
happens between its calls, and at which of them it dies.
"""

from __future__ import annotations

import orjson
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from processor.batch import Batch
from processor.decode.advertisement import service_data
from processor.decode.formats import bthome
from processor.quarantine import Quarantine
from processor.redrive import Redrive
from processor.rules import Limits, Rules
from processor.store.tables import slot_of
from processor.store.writer import Writer
from tests.unit.test_redrive import KEY, NOW, Everybody

DEVICES = ("AA:00:00:00:00:01", "AA:00:00:00:00:02")
RECORDS = 3
BATCHES = ([0, 2], [0, 1, 2], [2])
"""Few, so that they come again: the first two with the same first and last sequence number."""
KEYS = (frozenset(), frozenset(DEVICES[:1]), frozenset(DEVICES))
LIMITS = Limits(400 * 86400)


class Died(BaseException):
    """The process is gone."""


def at(n):
    return NOW + 60_000 * n


def record(n):
    """What each of the devices sealed, in one record, each in a slot of its own."""
    entries = [
        {
            "address": device,
            "timestamp": at(n),
            "data": service_data(
                bthome.UUID, bthome.encode({"temperature": 21}, key=KEY, address=device, counter=n)
            ).hex(),
        }
        for device in DEVICES
    ]
    return orjson.dumps({"payloads": entries, "timestamp": at(n), "imsi": "295050000000001"})


def machine(new_table, new_bucket, kinesis_event):
    """The state machine, on a table and a bucket in memory."""

    class Machine(RuleBasedStateMachine):
        def __init__(self):
            super().__init__()
            self.records = kinesis_event(*map(record, range(1, RECORDS + 1)))["Records"]
            self.table, self.bucket = new_table(), new_bucket()
            self.writer = Writer(self.table, "processor-readings", threads=1)
            self.quarantine = Quarantine("bucket", lambda: self.bucket)
            self.attempts = {}
            """The most attempts ever seen of what was rejected, by sequence number and index."""

        def teardown(self):
            self.writer.close()

        def ingest(self, places, keys, attempts=1):
            batch = Batch([self.records[place] for place in places], self.todays(keys))
            batch.store(self.writer, now=NOW / 1000)
            rejected = [(batch.records[place], found) for place, found in batch.rejections.items()]
            self.quarantine.put(rejected, attempts)
            for each, found in rejected:
                for rejection in found:
                    place = each["kinesis"]["sequenceNumber"], rejection.index
                    self.attempts[place] = max(attempts, self.attempts.get(place, 0))

        @staticmethod
        def todays(keys):
            return Rules(LIMITS, dict.fromkeys(keys, KEY), devices=Everybody())

        @rule(
            places=st.sampled_from(BATCHES),
            keys=st.sampled_from(KEYS),
            attempts=st.sampled_from([1, 1, 1, 2, 3]),
        )
        def batch(self, places, keys, attempts):
            """attempts: ingest's, or those of `failures redrive`."""
            self.ingest(places, keys, attempts)
            self.check()

        @rule(
            keys=st.sampled_from(KEYS),
            meanwhile=st.lists(
                st.tuples(
                    st.integers(1, 12),
                    st.sampled_from(["ingest", "redrive"]),
                    st.sampled_from(BATCHES),
                    st.sampled_from(KEYS),
                ),
                max_size=3,
            ),
            dies=st.none() | st.integers(1, 12),
        )
        def redrive(self, keys, meanwhile, dies):
            """Redrive; at its nth call others do their part, or it dies."""
            calls = 0

            def call(*_):
                nonlocal calls
                calls += 1
                if calls == dies:
                    raise Died
                self.bucket.before = lambda *_: None
                for number, what, places, theirs in meanwhile:
                    if number == calls:
                        self.ingest(places, theirs) if what == "ingest" else self.run(theirs)
                self.bucket.before = call
                self.check()

            self.bucket.before = call
            try:
                self.run(keys)
            except Died:
                pass
            finally:
                self.bucket.before = lambda *_: None
            self.check()

        def run(self, keys):
            Redrive(self.quarantine, self.writer, self.todays(keys), clock=lambda: NOW / 1000).redrive()

        def check(self):
            found = {}
            for body in self.bucket.objects.values():
                for line in map(orjson.loads, body.splitlines()):
                    for rejection in line["rejected"]:
                        place = line["sequence_number"], rejection["index"]
                        found[place] = max(line["attempts"], found.get(place, 0))
            for (number, index), attempts in self.attempts.items():
                if (DEVICES[index], slot_of(at(int(number)))) not in self.table.items:
                    assert found.get((number, index), 0) >= attempts, (number, index, attempts)
            self.attempts |= found

    return Machine


def test_nothing_is_missing_that_is_not_stored_and_attempts_never_go_down(
    new_table, new_bucket, kinesis_event, monkeypatch
):
    monkeypatch.setattr("processor.redrive.THREADS", 1)  # one call after the other
    run_state_machine_as_test(
        machine(new_table, new_bucket, kinesis_event), settings=settings(max_examples=200, stateful_step_count=15)
    )
