"""Each guard is needed: without it, the fault that it stands against is found out by the same judgement.

What guards in a worker is taken out of the worker's own code, what guards in the mapping out of this process's.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from processor.errors import LocalError
from processor.local import consumer, iterator
from processor.local.batch import SUCCESS, Outcome
from processor.local.faults.oracle import judge
from processor.local.faults.registry import named
from processor.local.faults.run import started
from processor.local.mapping import EventSourceMapping
from processor.local.stream import Start
from processor.local.system import FUNCTIONS, MAPPING, ROLLUP_MAPPING
from processor.store import writer
from tests.faults.test_faults import Traffic

SEED = 3
PATIENCE = 20.0

WORKER = {
    "a cell has its reading's identity": (
        "import processor.batch, random\n"
        "name = processor.batch.cell_name\n"
        "processor.batch.cell_name = lambda *given: f't{random.getrandbits(30)}.{name(*given)[-4:]}'\n",
        ("redelivered", "producer-retry"),
        ("kill-before-response", "answer-never-came", "delivered-at-once", "overlapping-replay", "kill-amid-write",
         "freeze"),
    ),
    "a repeated write has it too": (
        "import processor.store.writer, random\n"
        "Writer = processor.store.writer.Writer\n"
        "request = Writer.request\n"
        "def renamed(self, part):\n"
        "    found = request(self, part)\n"
        "    names = found['ExpressionAttributeNames']\n"
        "    for mark, name in names.items():\n"
        "        if name[0] == 'c':\n"
        "            names[mark] = f'c{random.randrange(60000)}.{name[-4:]}'\n"
        "    return found\n"
        "Writer.request = renamed\n",
        ("answer-lost",),
        ("late-write", "reset-mid-body", "garbled", "slow"),
    ),
    "the first copy stays": (
        "import processor.store.writer\n"
        "processor.store.writer._expression = lambda n: 'SET ' + ','.join(f'#{i}=:{i}' for i in range(n))\n",
        ("old-version-replays",),
        (),
    ),
    "the digest in a cell's name": (
        "import processor.batch\n"
        "name = processor.batch.cell_name\n"
        "processor.batch.cell_name = lambda *given: name(*given)[:-4] + 'AAAA'\n",
        ("reboot",),
        (),
    ),
    "failures are reported": (
        "import processor.batch\n"
        "processor.batch.Batch.response = lambda self: {'batchItemFailures': []}\n",
        ("access-denied",),
        ("expired-credentials", "throttled-key", "throttled-table"),
    ),
    "the lowest failure is reported": (
        "import processor.batch\n"
        "response = processor.batch.Batch.response\n"
        "def highest(self):\n"
        "    if not self.failed:\n"
        "        return response(self)\n"
        "    numbers = [self.records[place]['kinesis']['sequenceNumber'] for place in self.failed]\n"
        "    return {'batchItemFailures': [{'itemIdentifier': max(numbers, key=int)}]}\n"
        "processor.batch.Batch.response = highest\n",
        ("access-denied",),
        (),
    ),
    "what is not known to be written has failed": (
        "import processor.store.writer\n"
        "def believed(self, part, reason):\n"
        "    part.written.stored.update(part.cells)\n"
        "processor.store.writer._Run.fail = believed\n",
        ("throttled-key",),
        ("server-errors", "refused"),
    ),
    "a call without an answer is made again": (
        "import processor.store.writer\n"
        "def once(self, client):\n"
        "    answers = client.call_many('UpdateItem', self.parts, self.writer.request, deadline=self.deadline)\n"
        "    for part, answer in answers:\n"
        "        self.settle(part, answer or {})\n"
        "    self.parts = processor.store.writer.deque()\n"
        "processor.store.writer._Run.most = once\n",
        ("reset-before",),
        ("unavailable", "expired-credentials", "no-address"),
    ),
    "rejected records are quarantined": (
        "import processor.ingest\n"
        "processor.ingest.Ingest._keep = lambda self, batch: ''\n",
        ("poison-middle",),
        ("clock-1970", "malformed", "empty-key", "poison-first", "poison-last", "poison-all", "clock-2000",
         "secret-rotated"),
    ),
    "a failed quarantine fails its records": (
        "import processor.batch\n"
        "processor.batch.Batch.quarantine_failed = lambda self: None\n",
        ("quarantine-fails",),
        (),
    ),
    "a time ahead is replaced": (
        "from processor.decode.gateways import heard, plain\n"
        "plain.measured_at = lambda at, sent_at, time: at if time is None else time\n",
        ("clock-ahead",),
        ("clock-2038",),
    ),
    "late readings are taken": (
        "import processor.rules\n"
        "processor.rules.Limits.allowed = lambda self, arrived: (arrived - 20_000, arrived + 3_600_000)\n",
        ("late-by-days",),
        ("late-by-seconds", "late-by-hours"),
    ),
    "a key that cannot be had is a failure": (
        "import processor.devices\n"
        "def opened(self, device):\n"
        "    try:\n"
        "        return None if device is None else self._vault.key(device)\n"
        "    except Exception:\n"
        "        return None\n"
        "processor.devices.Devices._open = opened\n"
        "processor.devices.Devices.registered = lambda self, address: False\n",
        ("kms-disabled",),
        (),
    ),
    "few values a metric": (
        "import processor.ingest, processor.telemetry\n"
        "ages = processor.telemetry.ages\n"
        "processor.ingest.ages = lambda arrivals, now: ages(arrivals, now, most=10_000)\n"
        "processor.telemetry.EMF_VALUES = 10_000\n",
        ("metrics-overflow",),
        (),
    ),
    "the answer's CRC32 is checked": (
        "import processor.store.wire\n"
        "processor.store.wire._whole = lambda answer: True\n",
        ("corrupted",),
        (),
    ),
    "keys left unread are asked for again": (
        "import processor.store.items\n"
        "def careless(client, table, keys, *, consistent=False, deadline=None):\n"
        "    wanted = {'Keys': list(keys), 'ConsistentRead': consistent}\n"
        "    if wanted['Keys']:\n"
        "        answer = client.call('BatchGetItem', {'RequestItems': {table: wanted}}, deadline=deadline)\n"
        "        yield from answer['Responses'].get(table, ())\n"
        "processor.store.items.get_items = careless\n",
        ("unprocessed-keys",),
        (),
    ),
}  # fmt: skip


def answered(instead):
    """An `outcome_of` that believes what the true one does not."""
    true = consumer.outcome_of

    def outcome(batch, response):
        found = true(batch, response)
        return instead if found.kind == "failed" else found

    return outcome


def trusting(self, batch):
    """Takes an invocation that raised, or was not made, for one that went well."""
    try:
        self._invoke_function(batch.event(self._source.stream_arn))
    except Exception:
        return SUCCESS
    return SUCCESS


def forgetful(self, batch):
    """Takes what the failure destination refuses for delivered."""
    try:
        self._on_failure(consumer.failure_record(batch, self._source, self._clock()))
    except Exception:
        return SUCCESS
    return SUCCESS


MAPPING_GUARDS = {
    "no answer, no checkpoint": (
        lambda patch: patch.setattr(consumer.ShardConsumer, "_invoke", trusting),
        ("kill-before-write",),
        ("not-invoked", "kill-any", "kill-rollup", "timeout", "out-of-memory"),
    ),
    "an answer that names no record fails the batch": (
        lambda patch: patch.setattr(consumer, "outcome_of", answered(Outcome("success"))),
        ("unknown-identifier",),
        ("empty-identifier", "null-identifier", "malformed-answer", "answer-not-json"),
    ),
    "the checkpoint waits for the destination": (
        lambda patch: patch.setattr(consumer.ShardConsumer, "_give_up", forgetful),
        ("destination-fails",),
        (),
    ),
    "what is given up goes to the failure destination": (
        lambda patch: patch.setattr(consumer.ShardConsumer, "_give_up", undelivered),
        (),
        ("ten-mebibytes",),
    ),
    "a new iterator begins after what was read": (
        lambda patch: patch.setattr(iterator.ShardIterator, "_open", at_the_tip(iterator.ShardIterator._open)),
        ("iterators-expire",),
        (),
    ),
    "a mapping that is enabled goes on": (
        lambda patch: patch.setattr(EventSourceMapping, "enable", lambda self: None),
        (),
        ("disabled",),
    ),
    "copies within the skew count once": (
        lambda patch: patch.setattr("processor.store.reader.SKEW_MS", 1000),
        ("two-gateways",),
        ("three-gateways",),
    ),
}


def only_open(poll):
    """Ends a shard as soon as it is closed, unread records or not."""

    def polled(self):
        stream = getattr(self.iterator._stream, "_kinesis", None)
        shards = getattr(stream, "_shards", {})
        shard = shards.get(self.queue.shard_id)
        if shard is not None and shard.closed:
            self.end()
        else:
            poll(self)

    return polled


def at_the_tip(opened):
    """Has an iterator that is opened anew begin with what comes next."""

    def reopened(self):
        if self._start.type == "AFTER_SEQUENCE_NUMBER":
            return self._stream.iterator(self._shard_id, Start("LATEST"))
        return opened(self)

    return reopened


def undelivered(self, batch):
    """Gives records up, and delivers them nowhere."""
    return SUCCESS


def dropped(self, part, error):
    """Forgets what DynamoDB calls invalid."""
    part.written.stored.update(part.cells)


SCENE_GUARDS = {
    "a closed shard is read to its end": (
        lambda patch: patch.setattr(consumer.ShardConsumer, "poll", only_open(consumer.ShardConsumer.poll)),
        ("reshard-mid-batch",),
    ),
    "what is given up goes to the failure destination": (
        lambda patch: patch.setattr(consumer.ShardConsumer, "_give_up", undelivered),
        ("crashing-record", "retention"),
    ),
    "what has no room is rejected": (
        lambda patch: patch.setattr(writer._Run, "halve", dropped),
        ("full-item",),
    ),
    "an expiry is no deletion": (
        # Two guards, one behind the other: the deletion is passed over, and so would be the rebuild of what is so old.
        lambda patch: (
            patch.setattr("processor.rollup.expired", lambda record: False),
            patch.setattr("processor.rollup.SLOT_MS", -(10**15)),
        ),
        ("expired-visible",),
    ),
}


def found_out(fault, aws, **options):
    """Whether a short run under one fault is judged to have failed."""
    mapping = replace(MAPPING, batching_window_seconds=0.1)
    rollup = replace(ROLLUP_MAPPING, batching_window_seconds=0.2)
    with started(SEED, aws=aws, timeout_s=8, mapping=mapping, rollup_mapping=rollup, **options) as run:
        run.begin(named([fault]), 0.3)
        traffic = Traffic(run)
        injector = run.injectors[fault]
        deadline = time.monotonic() + PATIENCE
        lasting = time.monotonic() + (3.5 if injector.lasting else 0)
        while (injector.injected < 6 or time.monotonic() < lasting) and time.monotonic() < deadline:
            traffic.send(injector)
            time.sleep(0.02)
        run.finish()
        try:
            run.drain(PATIENCE)
        except LocalError:
            return SimpleNamespace(passed=False, lines=lambda: ["it never ended"])
        return judge(run)


def cases(table):
    """Every pair of a guard and a fault; those that repeat what another one shows run with --every-guard."""
    return [
        pytest.param(guard, fault, id=f"{fault} without: {guard}", marks=[pytest.mark.every_guard] if more else [])
        for guard, (_, *faults) in table.items()
        for more, some in enumerate(faults)
        for fault in some
    ]


@pytest.mark.parametrize(("guard", "fault"), cases(WORKER))
def test_without_its_guard_in_the_worker_a_fault_is_found(guard, fault, aws, tmp_path):
    folder = tmp_path / "functions"
    shutil.copytree(FUNCTIONS, folder)
    for main in folder.glob("*/main.py"):
        head, first, body = main.read_text().partition("\nfrom ")
        main.write_text(head + "\n" + WORKER[guard][0] + first + body)
    found = found_out(fault, aws, functions=folder)
    assert not found.passed, guard


@pytest.mark.parametrize(("guard", "fault"), cases(MAPPING_GUARDS))
def test_without_its_guard_in_the_mapping_or_the_reader_a_fault_is_found(guard, fault, aws, monkeypatch):
    MAPPING_GUARDS[guard][0](monkeypatch)
    found = found_out(fault, aws)
    assert not found.passed, guard


@pytest.mark.parametrize(("guard", "fault"), cases(SCENE_GUARDS))
def test_without_its_guard_a_fault_under_a_virtual_clock_is_found(guard, fault, monkeypatch):
    SCENE_GUARDS[guard][0](monkeypatch)
    (found,) = named([fault])
    assert not found.scene(SEED).passed, guard
