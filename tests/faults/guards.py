"""The guards that can be taken out one by one, and what the judgement then says of the faults that each stands against.

What guards in a function is taken out of the function's own code, what guards in the mapping or in a reader out of
this process's.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from processor.batch import Batch
from processor.ingest import Ingest
from processor.local import consumer, iterator
from processor.local.batch import SUCCESS, Outcome
from processor.local.faults import scenes
from processor.local.faults.registry import AGAIN, CELLS, FAILED, GIVEN_UP, HALVED, LATE, PARENTS, QUARANTINE, WHOLE
from processor.local.mapping import EventSourceMapping
from processor.local.shard import ShardQueue
from processor.local.shards import Shards
from processor.local.stream import Start
from processor.store import writer

LOST, DOUBLED = r"lost: ", r"doubled: .* measurements, "
"""The judgement's lines: whatever is lost; measurements that are read more often than they were made."""

FEWER = r"lost: .* measurements, "
"""Measurements that are not read."""


@dataclass(frozen=True)
class Guard:
    """One that is taken out, or a part of one. of: the guard that it is, as the registry of faults calls it.

    faults: those that must be found then, by a pattern of the line that must say so. worker: what is put before a
    function's own code. here: what is patched in this process.
    """

    name: str
    of: str
    faults: Mapping[str, tuple[str, ...]]
    worker: str = ""
    here: Callable[..., object] = lambda patch: None

    def __str__(self) -> str:
        return self.name


IN_FUNCTIONS = (
    Guard("a cell has its reading's identity", CELLS, {DOUBLED: (
        "redelivered", "producer-retry", "kill-before-response", "answer-never-came", "delivered-at-once",
        "overlapping-replay", "kill-amid-write", "freeze", "timeout", "out-of-memory",
    )}, """
import processor.batch, random
name = processor.batch.cell_name
processor.batch.cell_name = lambda *given: f'c{random.getrandbits(30)}.{name(*given)[-4:]}'
"""),
    Guard("a repeated write has it too", CELLS, {
        DOUBLED: ("answer-lost", "late-write", "reset-mid-body", "garbled", "slow"),
    }, """
import processor.store.writer, random
Writer = processor.store.writer.Writer
request = Writer.request
def renamed(self, part):
    found = request(self, part)
    names = found['ExpressionAttributeNames']
    for mark, name in names.items():
        if name[0] == 'c':
            names[mark] = f'c{random.getrandbits(30)}.{name[-4:]}'
    return found
Writer.request = renamed
"""),
    Guard("the first copy stays", CELLS, {
        r"wrong: .* has changed since it was first seen": ("old-version-replays", "deploy-mid-batch"),
    }, """
import processor.store.writer
processor.store.writer._expression = lambda n: 'SET ' + ','.join(f'#{i}=:{i}' for i in range(n))
"""),
    Guard("a cell's name depends on nothing that is decoded", CELLS, {
        DOUBLED: ("deploy-mid-batch", "old-version-replays"),
    }, """
import processor.batch, zlib
from processor.reading import identity
name = processor.batch.cell_name
def decoded(reading, offset):
    digest = zlib.crc32(repr(sorted(reading.values.items())).encode()) % 2**24
    return name(reading, offset)[:-4] + identity(None, digest)
processor.batch.cell_name = decoded
"""),
    Guard("the digest in a cell's name", "a cell's name has the payload's digest beside the counter", {
        FEWER: ("reboot", "wrap-around"),
    }, """
import processor.batch
name = processor.batch.cell_name
processor.batch.cell_name = lambda *given: name(*given)[:-4] + 'AAAA'
"""),
    Guard("a write sets its own cells alone", "a write sets its own cells alone", {LOST: ("random-keys",)}, """
import processor.store.writer, time
def put(self, part):
    asked, call = self.writer.request(part), self.writer._client.call
    key = {'TableName': asked['TableName'], 'Key': asked['Key']}
    before = call('GetItem', key | {'ConsistentRead': True}, deadline=self.deadline).get('Item', {})
    time.sleep(0.1)
    values = asked['ExpressionAttributeValues']
    cells = {name: values[':' + mark[1:]] for mark, name in asked['ExpressionAttributeNames'].items()}
    call('PutItem', {'TableName': asked['TableName'], 'Item': asked['Key'] | cells | before}, deadline=self.deadline)
    self.settle(part, {'Attributes': before})
processor.store.writer._Run.put = put
processor.store.writer._Run.most = lambda self, client: None
"""),
    Guard("failures are reported", FAILED, {
        LOST: ("access-denied", "expired-credentials", "throttled-key", "throttled-table"),
    }, """
import processor.batch
processor.batch.Batch.response = lambda self: {'batchItemFailures': []}
"""),
    Guard("the lowest failure is reported", FAILED, {LOST: ("access-denied",)}, """
import processor.batch
response = processor.batch.Batch.response
def highest(self):
    if not self.failed:
        return response(self)
    numbers = [self.records[place]['kinesis']['sequenceNumber'] for place in self.failed]
    return {'batchItemFailures': [{'itemIdentifier': max(numbers, key=int)}]}
processor.batch.Batch.response = highest
"""),
    Guard("what is not known to be written has failed", FAILED, {LOST: ("throttled-key", "server-errors")}, """
import processor.store.writer
def believed(self, part, reason):
    part.written.stored.update(part.cells)
processor.store.writer._Run.fail = believed
"""),
    # Three guards, one behind the other: what finds a kept connection closed is sent anew, what has no answer is made
    # again, and what is not known to be written after all that has failed.
    Guard("what has no answer is made again, or has failed", FAILED, {
        LOST: ("reset-before", "unavailable", "refused", "no-address", "expired-credentials"),
    }, """
import processor.store.connection, processor.store.retries, processor.store.writer
exchange = processor.store.connection.Connection.exchange
def once(self, request, limit):
    self._used = False
    return exchange(self, request, limit)
def believed(self, part, reason):
    part.written.stored.update(part.cells)
processor.store.connection.Connection.exchange = once
processor.store.retries.Retries.run = lambda self, attempt, deadline: attempt()
processor.store.writer._Run.most = lambda self, client: None
processor.store.writer._Run.fail = believed
"""),
    Guard("rejected records are quarantined", QUARANTINE, {
        r"lost: .* is rejected, and not in quarantine": (
            "poison-middle", "clock-1970", "malformed", "empty-key", "poison-first", "poison-last", "poison-all",
            "clock-2000",
        ),
        LOST: ("secret-rotated",),
    }, """
import processor.ingest
processor.ingest.Ingest._keep = lambda self, batch: ''
"""),
    Guard("a failed quarantine fails its records", "records that cannot be quarantined are failed ones", {
        r"lost: .* is rejected, and not in quarantine": ("quarantine-fails",),
    }, """
import processor.batch
processor.batch.Batch.quarantine_failed = lambda self: None
"""),
    Guard("a time ahead is replaced", "a time ahead is replaced by the envelope's", {
        r"wrong: .* fit to be stored": ("clock-ahead", "clock-2038"),
    }, """
from processor.decode.gateways import heard, plain
plain.measured_at = lambda at, sent_at, time: at if time is None else time
"""),
    Guard("late readings are taken", LATE, {
        r"wrong: .* fit to be stored": ("late-by-days", "late-by-seconds", "late-by-hours"),
    }, """
import processor.rules
processor.rules.Limits.allowed = lambda self, arrived: (arrived - 1_500, arrived + 3_600_000)
"""),
    Guard("the roll-ups of late readings are computed anew", LATE, {
        r"wrong: r(oll-ups|ecomputed): ": ("late-by-hours", "late-by-days"),
    }, """
import processor.rollup, time
runs_of = processor.rollup.runs_of
late = time.time() - 1800
processor.rollup.runs_of = lambda records, note: [run for run in runs_of(records, note) if run.starts[-1] > late]
"""),
    Guard("what is no answer of DynamoDB's is no success", "what is no answer of DynamoDB's is no success", {
        LOST: ("garbled",),
    }, """
import processor.store.wire
parsed = processor.store.wire.Wire._parsed
def believed(self, operation, answer):
    return parsed(self, operation, answer) if answer.body.startswith(b'{') else {'Attributes': {}}
processor.store.wire.Wire._parsed = believed
"""),
    Guard("a key that cannot be had is a failure", "a key that cannot be had now is a failure, not a rejection", {
        LOST: ("kms-disabled",),
    }, """
import processor.devices, processor.vault
opened = processor.devices.Devices._open
def careless(self, found):
    try:
        return opened(self, found)
    except Exception:
        return processor.vault.Opened(None, found.until)
processor.devices.Devices._open = careless
processor.devices.Devices.registered = lambda self, address: False
"""),
    Guard("few values a metric", "a metric's values are a sample of at most 50", {
        r"wrong: .* values in one blob": ("metrics-overflow",),
    }, """
import processor.ingest, processor.telemetry
ages = processor.telemetry.ages
processor.ingest.ages = lambda arrivals, now: ages(arrivals, now, most=10_000)
processor.telemetry.EMF_VALUES = 10_000
"""),
    Guard("the answer's CRC32 is checked", "the answer's CRC32 is checked", {
        r"wrong: r(oll-ups|ecomputed): ": ("corrupted",),
    }, """
import processor.store.wire
processor.store.wire._whole = lambda answer: True
"""),
    Guard("keys left unread are asked for again", "keys left unread are asked for again", {
        LOST: ("unprocessed-keys",),
    }, """
import processor.store.items
def careless(client, table, keys, *, consistent=False, deadline=None):
    wanted = {'Keys': list(keys), 'ConsistentRead': consistent}
    if wanted['Keys']:
        answer = client.call('BatchGetItem', {'RequestItems': {table: wanted}}, deadline=deadline)
        yield wanted['Keys'], answer['Responses'].get(table, [])
processor.store.items.answers = careless
"""),
)  # fmt: skip


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


def leave_closed_shards(patch):
    """Ends a shard as soon as it is closed, unread records or not."""
    poll = consumer.ShardConsumer.poll

    def polled(self):
        stream = getattr(self.iterator._stream, "_kinesis", None)
        shards = getattr(stream, "_shards", {})
        shard = shards.get(self.queue.shard_id)
        if shard is not None and shard.closed:
            self.end()
        else:
            poll(self)

    patch.setattr(consumer.ShardConsumer, "poll", polled)


def at_the_tip(opened):
    """Has an iterator that is opened anew begin with what comes next."""

    def reopened(self):
        if self._start.type == "AFTER_SEQUENCE_NUMBER":
            return self._stream.iterator(self._shard_id, Start("LATEST"))
        return opened(self)

    return reopened


def anew(enable):
    """Has a mapping that is enabled begin where a new one would: with what comes next."""

    def enabled(self):
        for one in self._consumers() if self.disabled else ():
            one.iterator._iterator, one.iterator._start = None, Start("LATEST")
        enable(self)

    return enabled


def late(start):
    """Has a child be read from its tip on."""

    def found(self, shard_id, checkpoint):
        return start(self, shard_id, checkpoint) if shard_id in self._at_start else Start("LATEST")

    return found


def deliver_nothing(patch):
    """Gives records up, and delivers them nowhere."""
    patch.setattr(consumer.ShardConsumer, "_give_up", lambda self, batch: SUCCESS)


def never_handled(response):
    """Reports what is in quarantine as failed all the same."""

    def reported(self):
        self.failed.update(self.rejections)
        return response(self)

    return reported


def dropped(self, part, error):
    """Forgets what DynamoDB calls invalid."""
    part.written.stored.update(part.cells)


def first_alone(keep):
    """Quarantines the first of a record's rejected readings, and forgets the others."""

    def kept(self, batch):
        batch.rejections = {place: found[:1] for place, found in batch.rejections.items()}
        return keep(self, batch)

    return kept


def whole_batches(patch):
    """Gives a failed batch up as a whole."""
    settings = scenes.MappingSettings
    patch.setattr(
        scenes, "MappingSettings", lambda **given: settings(**given | {"bisect_batch_on_function_error": False})
    )


HERE = (
    Guard(
        "no answer, no checkpoint",
        AGAIN,
        {
            LOST: ("kill-before-write", "not-invoked", "kill-any"),
            r"wrong: r(oll-ups|ecomputed): ": ("kill-rollup",),
        },
        here=lambda patch: patch.setattr(consumer.ShardConsumer, "_invoke", trusting),
    ),
    Guard(
        "an answer that names no record fails the batch",
        WHOLE,
        {LOST: ("unknown-identifier", "empty-identifier", "null-identifier", "malformed-answer", "answer-not-json")},
        here=lambda patch: patch.setattr(consumer, "outcome_of", answered(Outcome("success"))),
    ),
    Guard(
        "the checkpoint waits for the destination",
        "the checkpoint waits until it is",
        {LOST: ("destination-fails",)},
        here=lambda patch: patch.setattr(consumer.ShardConsumer, "_give_up", forgetful),
    ),
    Guard(
        "what is given up goes to the failure destination",
        GIVEN_UP,
        {LOST: ("ten-mebibytes",)},
        here=deliver_nothing,
    ),
    Guard(
        "a new iterator begins after what was read",
        "a new iterator begins after what was read",
        {LOST: ("iterators-expire",)},
        here=lambda patch: patch.setattr(iterator.ShardIterator, "_open", at_the_tip(iterator.ShardIterator._open)),
    ),
    Guard(
        "a mapping that is enabled goes on from its checkpoints",
        "it goes on from its checkpoints",
        {LOST: ("disabled",)},
        here=lambda patch: patch.setattr(EventSourceMapping, "enable", anew(EventSourceMapping.enable)),
    ),
    Guard(
        "copies within the skew count once",
        "one identity within the skew counts once",
        {DOUBLED: ("two-gateways", "three-gateways")},
        here=lambda patch: patch.setattr("processor.store.reader.SKEW_MS", 1000),
    ),
    Guard(
        "a closed shard is read to its end",
        PARENTS,
        {LOST: ("split", "merge")},
        here=leave_closed_shards,
    ),
    Guard(
        "children wait for their parents",
        PARENTS,
        {r"wrong: records of the key .* are under way": ("split", "merge")},
        here=lambda patch: patch.setattr(Shards, "_finished", lambda self, parent, listed: True),
    ),
    Guard(
        "a child is read from its beginning",
        "a child is read from its beginning",
        {LOST: ("split", "merge", "single-shard")},
        here=lambda patch: patch.setattr(Shards, "_start", late(Shards._start)),
    ),
    Guard(
        "a key keeps to its lane",
        "a key's records are delivered in order, one batch at a time",
        {r"wrong: record.* of the key ": ("hot-key",)},
        here=lambda patch: patch.setattr(
            ShardQueue, "lane_of", lambda self, order_key: random.randrange(len(self.lanes))
        ),
    ),
)

IN_SCENES = (
    Guard(
        "a closed shard is read to its end",
        PARENTS,
        {LOST: ("reshard-mid-batch",)},
        here=leave_closed_shards,
    ),
    Guard(
        "children wait for their parents",
        PARENTS,
        {r"wrong: record .* is first delivered after": ("reshard-mid-batch",)},
        here=lambda patch: patch.setattr(Shards, "_finished", lambda self, parent, listed: True),
    ),
    Guard(
        "a failed batch is halved",
        HALVED,
        {LOST: ("crashing-record",)},
        here=whole_batches,
    ),
    Guard(
        "what is given up goes to the failure destination",
        GIVEN_UP,
        {r"wrong: the checkpoint passed .* kept nowhere": ("crashing-record", "retention")},
        here=deliver_nothing,
    ),
    Guard(
        "what is quarantined counts as handled",
        QUARANTINE,
        {r"wrong: a record that can never be decoded held its shard": ("poison-delay",)},
        here=lambda patch: patch.setattr(Batch, "response", never_handled(Batch.response)),
    ),
    Guard(
        "what has no room is rejected",
        "what finds no room is quarantined, the rest is stored",
        {LOST: ("full-item",)},
        here=lambda patch: patch.setattr(writer._Run, "halve", dropped),
    ),
    Guard(
        "each reading that has no room is rejected",
        "what finds no room is quarantined, the rest is stored",
        {LOST: ("full-item",), r"wrong: the checkpoint passed .* kept nowhere": ("full-item",)},
        here=lambda patch: patch.setattr(Ingest, "_keep", first_alone(Ingest._keep)),
    ),
    Guard(
        "an expiry is no deletion",
        "readers pass them over, and no roll-up loses them",
        {r"wrong: a roll-up changed": ("expired-visible",)},
        # Two guards, one behind the other: the deletion is passed over, and so would be the rebuild of what is so old.
        here=lambda patch: (
            patch.setattr("processor.runs.expired", lambda record: False),
            patch.setattr("processor.rollup.SLOT_MS", -(10**15)),
        ),
    ),
)
