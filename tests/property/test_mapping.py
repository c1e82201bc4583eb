"""Whatever the records, the settings and the failures: nothing lost, keys in order, the checkpoint never ahead."""

from __future__ import annotations

import base64
import json
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from processor.local.batch import MAXIMUM_PAYLOAD, Outcome, outcome_of, payload_size
from processor.local.mapping import SHARD_END, EventSourceMapping, MappingSettings, Throttled
from processor.local.memory_kinesis import MemoryKinesis
from processor.local.shard import ShardQueue
from processor.local.stream import Record

SETTINGS = st.builds(
    MappingSettings,
    batch_size=st.integers(1, 12),
    batching_window_seconds=st.sampled_from([0, 0.3, 5]),
    parallelization_factor=st.integers(1, 10),
    bisect_batch_on_function_error=st.booleans(),
    maximum_retry_attempts=st.sampled_from([-1, -1, 0, 2]),
    maximum_record_age_seconds=st.sampled_from([-1, -1, 60]),
    report_batch_item_failures=st.booleans(),
    starting_position=st.sampled_from(["TRIM_HORIZON", "LATEST"]),
)

EVENTS = [b"x" * size for size in (10, 10, 10, MAXIMUM_PAYLOAD // 3, MAXIMUM_PAYLOAD)]
OUTCOMES = ("success", "success", "raise", "throttle", "partial", "malformed")


class Ledger:
    """Checks every delivery as it happens: `finished` are the records that nobody has to see again."""

    def __init__(self, keys):
        self.keys = keys  # of each record, by its number
        self.finished = set()
        self.delivered = set()
        self.under_way = []

    def begin(self, numbers):
        assert numbers == sorted(numbers)
        keys = {self.keys[number] for number in numbers}
        assert not any(keys & other for other in self.under_way), "a key in two invocations at a time"
        self.under_way.append(keys)
        for number in numbers:
            assert number not in self.finished, "a finished record was delivered again"
            before = {other for other, key in self.keys.items() if key == self.keys[number] and other < number}
            assert before <= self.finished | set(numbers), "an earlier record of the key is not finished"
        self.delivered |= set(numbers)
        return keys

    def end(self, keys, finished):
        self.under_way.remove(keys)
        self.finished |= set(finished)

    def check(self, checkpoint):
        assert {number for number in self.keys if number <= checkpoint} <= self.finished, "the checkpoint ran ahead"


def response_for(kind, batch, random):
    """Return the outcome of one invocation, made as the consumer makes it, and the numbers that are finished then."""
    numbers = [record.sequence for record in batch.records]
    if kind == "success":
        return Outcome("success"), numbers
    if kind == "throttle":
        return Outcome("throttled"), []
    if kind == "raise":
        return Outcome("failed", unhandled=True), []
    if kind == "malformed":
        return outcome_of(batch, b'{"batchItemFailures": [{"itemIdentifier": ""}]}'), []
    bad = random.sample(batch.records, random.randint(1, len(batch.records)))
    outcome = outcome_of(batch, {"batchItemFailures": [{"itemIdentifier": record.sequence_number} for record in bad]})
    return outcome, [number for number in numbers if number < min(record.sequence for record in bad)]


@settings(max_examples=150)
@given(st.data(), SETTINGS, st.integers(0, 2**32))
def test_lanes_in_any_interleaving_deliver_everything_in_order_and_never_let_the_checkpoint_run_ahead(
    data, mapping_settings, seed
):
    random = Random(seed)
    keys = data.draw(st.lists(st.sampled_from("abcdefgh"), max_size=40))
    records = [Record(str(number), key, 0.0, random.choice(EVENTS)) for number, key in enumerate(keys, 1)]
    ledger = Ledger({record.sequence: record.order_key for record in records})
    queue = ShardQueue("shard", mapping_settings)
    failures = data.draw(st.lists(st.sampled_from(OUTCOMES), max_size=60))
    running = []
    now = 0.0
    while records or queue.unfinished:
        now += random.choice([0.0, 0.05, 1.0])
        if records and random.random() < 0.5:
            take = random.randint(1, 8)
            queue.add(records[:take], now)
            del records[:take]
        for lane in random.sample(range(mapping_settings.parallelization_factor), 1):
            batch = queue.take(lane, now)
            if batch is not None:
                size = payload_size(len(batch.records), sum(len(record.event) for record in batch.records))
                assert size <= MAXIMUM_PAYLOAD or batch.condition == "PayloadTooLarge"
                assert len(batch.records) <= mapping_settings.batch_size
                running.append((batch, ledger.begin([record.sequence for record in batch.records])))
        if running and random.random() < 0.6:
            batch, keys_of_batch = running.pop(random.randrange(len(running)))
            numbers = [record.sequence for record in batch.records]
            kind = failures.pop() if failures else "success"
            if batch.condition is not None:
                outcome = Outcome("success" if kind == "success" else "failed")
                finished = numbers if kind == "success" else []
            else:
                outcome, finished = response_for(kind, batch, random)
            queue.complete(batch, outcome, now)
            ledger.end(keys_of_batch, finished)
        ledger.check(int(queue.checkpoint or 0))
    assert ledger.delivered == ledger.finished == set(ledger.keys)
    assert int(queue.checkpoint or 0) == len(ledger.keys)
    assert queue.counts.records + queue.counts.discarded == len(ledger.keys)
    assert queue.has_room()


class Clock:
    now = 1_700_000_000.0

    def __call__(self):
        return self.now


@settings(max_examples=50)
@given(
    SETTINGS,
    st.integers(1, 4),
    st.lists(st.tuples(st.sampled_from(["put", "split", "merge", "wait", "expire", "restart"]), st.integers(0, 99))),
    st.lists(st.sampled_from(OUTCOMES), max_size=40),
)
def test_over_reshards_restarts_and_failures_every_record_is_handled_or_given_up_in_its_keys_order(
    mapping_settings, shards, actions, failures
):
    clock = Clock()
    kinesis = MemoryKinesis(shards, clock=clock, number=str)
    put, handled, given_up = [], [], []

    def texts(event):
        return [base64.b64decode(record["kinesis"]["data"]).decode() for record in json.loads(event)["Records"]]

    def invoke(event):
        kind = failures.pop() if failures else "success"
        if kind == "throttle":
            raise Throttled("busy")
        if kind == "raise":
            raise RuntimeError("never mind")
        if kind == "malformed" and mapping_settings.report_batch_item_failures:
            return b"nonsense"
        if kind == "partial" and mapping_settings.report_batch_item_failures:
            records = json.loads(event)["Records"]
            at = len(records) // 2
            handled.extend(texts(event)[:at])
            return {"batchItemFailures": [{"itemIdentifier": r["kinesis"]["sequenceNumber"]} for r in records[at:]]}
        handled.extend(texts(event))
        return None

    def start(checkpoints):
        return EventSourceMapping(
            kinesis,
            kinesis.arn,
            invoke,
            mapping_settings,
            on_failure=lambda failure: given_up.extend(texts(failure["payload"])),
            checkpoints=checkpoints,
            clock=clock,
        )

    def run(seconds):
        end = clock.now + seconds
        while (due := mapping.step()) <= end:
            clock.now = max(clock.now, due)
        clock.now = end

    mapping = start({})
    mapping.step()  # the start that LATEST speaks of: all is put later
    for action, number in actions:
        open_shards = sorted(
            (shard for shard in kinesis._shards.values() if not shard.closed), key=lambda shard: shard.first
        )
        if action == "put":
            batch = [(f"key {n % 5}:{len(put) + n}", f"key {n % 5}") for n in range(number)]
            put += [text for text, _ in batch]
            kinesis.put_records(Records=[{"Data": text.encode(), "PartitionKey": key} for text, key in batch])
        elif action == "split" and len(open_shards) < 6:
            kinesis.split_shard(ShardToSplit=open_shards[number % len(open_shards)].shard_id)
        elif action == "merge" and len(open_shards) > 1:
            at = number % (len(open_shards) - 1)
            left, right = open_shards[at : at + 2]
            kinesis.merge_shards(ShardToMerge=left.shard_id, AdjacentShardToMerge=right.shard_id)
        elif action == "expire":
            kinesis.expire_iterators()
        elif action == "restart":
            mapping = start(mapping.checkpoints)
        else:
            run(number / 50)
    failures.clear()
    run(40)
    assert set(handled) | set(given_up) == set(put)
    if mapping_settings.maximum_retry_attempts == mapping_settings.maximum_record_age_seconds == -1:
        assert not given_up
    first = list(dict.fromkeys(handled))
    for key in {text.partition(":")[0] for text in first}:
        numbers = [int(text.partition(":")[2]) for text in first if text.startswith(f"{key}:")]
        assert numbers == sorted(numbers)
    ended = {shard_id for shard_id, checkpoint in mapping.checkpoints.items() if checkpoint == SHARD_END}
    assert ended == {shard.shard_id for shard in kinesis._shards.values() if shard.closed}
