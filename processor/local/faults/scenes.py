"""Scenes: faults that no live run can have, played under a virtual clock. Each is the same again under its seed."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from typing import Any

from processor.errors import LocalError, TransientError
from processor.local.faults.fault import Scene
from processor.local.faults.input import poison, post
from processor.local.faults.reshard import merge, open_shards, split
from processor.local.faults.world import CONTEXT, World
from processor.local.mapping import MappingSettings

HOUR = 3600.0
RETRIES = 5
SLOT_READINGS, SLOT_PART = 6_000, 200
"""More readings of one slot than an item holds, and so many of them a record."""

POLL_SECONDS = 1.0
"""How long a record may wait in the stream until the mapping reads it."""

INVOCATION_SECONDS = 2.0
"""What an invocation takes where poison is timed: more than a poll, for which a second one cannot pass then."""

POISONED = ((0,), (2,), (4,), (0, 1, 2, 3, 4))
"""Which of a batch's five records can never be decoded: the first, the middle one, the last, all."""


def crashing_record(seed: int) -> Scene:
    """Have a record crash the function whenever it is in a batch: first, in the middle, or last in its shard.

    It is found by halving, tried RETRIES times more, and given up; its shard goes on no later than the back-off's sum.
    """
    settings = MappingSettings(
        batch_size=100,
        batching_window_seconds=0.5,
        bisect_batch_on_function_error=True,
        maximum_retry_attempts=RETRIES,
        report_batch_item_failures=True,
    )
    crashes = 0
    bad: list[bytes] = []

    def around(event: bytes, invoke: Callable[[bytes], Any]) -> Any:
        nonlocal crashes
        if any(b64encode(data) in event for data in bad):
            crashes += 1
            raise LocalError("the function crashed (injected)")
        return invoke(event)

    world = World(seed, settings, shards=2, around=around)
    sensors = [world.sensor() for _ in range(5)]
    places = {0, 150, 299, world.random.randrange(300)}
    for number in range(300):
        heard = [world.measure(world.random.choice(sensors))]
        if number in places:
            bad.append(post(heard, round(world.now * 1000)))
        world.send(heard)
        world.until(world.now + world.random.choice((0.0, 0.02, 0.3)))
    world.until(world.now + 120)
    delay = _held(world, bad)
    # Two of them may stand one behind the other.
    bound = len(bad) * (POLL_SECONDS + settings.batching_window_seconds + sum(0.1 * 2**n for n in range(RETRIES + 1)))
    scene = world.judge(crashes, f"its shard went on after {delay:.1f} s, the bound is {bound:.1f} s", crashing=bad)
    if delay > bound:
        scene.problems.append(f"a record that crashes the function held its shard for {delay:.1f} s, not {bound:.1f} s")
    if len(world.failures) != len(bad):
        scene.problems.append(f"{len(bad)} records crash the function, {len(world.failures)} batches were given up")
    return scene


def poison_delay(seed: int) -> Scene:
    """Have batches of five records of which some can never be decoded, one batch at a time, and time them.

    Each must be done with, and its shard gone on, within a poll, the window and a single invocation.
    """
    settings = MappingSettings(
        batch_size=100,
        batching_window_seconds=0.5,
        bisect_batch_on_function_error=True,
        report_batch_item_failures=True,
    )

    def around(event: bytes, invoke: Callable[[bytes], Any]) -> Any:
        world.now += INVOCATION_SECONDS
        return invoke(event)

    world = World(seed, settings, around=around)
    sensor = world.sensor()
    bad: list[bytes] = []
    batches = list(POISONED) * 5
    world.random.shuffle(batches)
    for places in batches:
        for place in range(5):
            if place in places:
                bad.append(poison(world.random))
                world.put(bad[-1])
            else:
                world.send([world.measure(sensor)])
        world.until(world.now + world.random.uniform(4, 6))
    world.until(world.now + 60)
    delay = _held(world, bad)
    bound = POLL_SECONDS + settings.batching_window_seconds + INVOCATION_SECONDS
    scene = world.judge(len(bad), f"its shard went on after {delay:.1f} s, the bound is {bound:.1f} s")
    if delay > bound:
        scene.problems.append(f"a record that can never be decoded held its shard for {delay:.1f} s, not {bound:.1f} s")
    return scene


def _held(world: World, records: list[bytes]) -> float:
    """Return for how many seconds the slowest of these records held its shard; until now, where it still does."""
    return max(
        world.settled.get(record["SequenceNumber"], world.now) - float(record["ApproximateArrivalTimestamp"])
        for record in world.records
        if record["Data"] in records
    )


def retention(seed: int) -> Scene:
    """Have the table hang for 25 hours: the oldest records are given up just before the stream forgets them."""
    settings = MappingSettings(batch_size=500, batching_window_seconds=1.0, report_batch_item_failures=True)
    hung = 0

    def around(event: bytes, invoke: Callable[[bytes], Any]) -> Any:
        nonlocal hung
        if HOUR <= world.now - begin < 26 * HOUR:
            hung += 1
            world.now += 60  # its timeout
            raise LocalError("timed out (injected)")
        return invoke(event)

    world = World(seed, settings, around=around)
    begin = world.now
    sensor = world.sensor()
    for number in range(28 * 4):
        world.send([world.measure(sensor)])
        world.until(world.now + 5)
        world.leap(begin + (number + 1) * HOUR / 4)
    world.leap(begin + 29 * HOUR)
    given_up = sum(failure["KinesisBatchInfo"]["batchSize"] for failure in world.failures)
    world.redrive()
    world.until(world.now + 60)
    scene = world.judge(hung, f"{given_up} of {len(world.records)} records expired into the failure destination")
    if not given_up:
        scene.problems.append("no record came to the limit of its retention")
    if world.mapping.stats.trimmed:  # Kinesis keeps them no longer: nobody could give them up
        scene.problems.append("records may have expired before the mapping had read them")
    return scene


def reshards(seed: int) -> Scene:
    """Split and merge shards while batches fail half-way and iterators expire."""
    settings = MappingSettings(
        batch_size=20,
        batching_window_seconds=0.5,
        parallelization_factor=3,
        bisect_batch_on_function_error=True,
        report_batch_item_failures=True,
    )
    world = World(seed, settings, shards=2)

    def fault(operation: str, body: Any) -> None:
        if operation == "UpdateItem" and body["TableName"] == "processor-readings" and world.random.random() < 0.1:
            raise TransientError("ThrottlingException", "injected")

    world.dynamodb.fault = fault
    sensors = [world.sensor() for _ in range(8)]
    resharded = 0
    for number in range(400):
        # Few keys: what comes before its parents' records, or beside them, is out of its key's order.
        world.send([world.measure(world.random.choice(sensors))], key=f"key {world.random.randrange(12)}")
        if number % 25 == 24:
            resharded += _reshard(world)
        if number % 60 == 59:
            world.kinesis.expire_iterators()
        world.until(world.now + world.random.choice((0.0, 0.05, 0.4)))
    world.dynamodb.fault = None
    world.until(world.now + 120)
    return world.judge(resharded, f"{len(world.mapping.checkpoints)} shards in all")


def _reshard(world: World) -> int:
    there = open_shards(world.kinesis)
    if len(there) > 1 and world.random.random() < 0.5:
        place = world.random.randrange(len(there) - 1)
        return merge(world.kinesis, there[place : place + 2])
    return split(world.kinesis, there)


def full_item(seed: int) -> Scene:
    """Put more readings of one slot than an item of 400 KB holds: those that find room are stored, no other is lost."""
    settings = MappingSettings(batch_size=3, batching_window_seconds=0.5, report_batch_item_failures=True)
    world = World(seed, settings)
    sensor = world.sensor()
    start = world.now // 15 * 15 - 60
    for part in range(SLOT_READINGS // SLOT_PART):
        first = part * SLOT_PART
        world.send([world.measure(sensor, start + n * 15 / SLOT_READINGS) for n in range(first, first + SLOT_PART)])
        world.until(world.now + 0.2)
    world.until(world.now + 30)
    scene = world.judge(0)
    scene.injected = world.spared
    scene.figures = f"{SLOT_READINGS - world.spared:,} readings fill the item, {world.spared:,} are in quarantine"
    return scene


def expired_visible(seed: int) -> Scene:
    """Have items stay in the table long past their expiry, be touched again, and be deleted by DynamoDB at last."""
    settings = MappingSettings(batch_size=100, batching_window_seconds=1.0, report_batch_item_failures=True)
    world = World(seed, settings, retention_days=1)
    sensor = world.sensor()
    begin = world.now
    for number in range(40):
        world.send([world.measure(sensor)])
        world.until(world.now + 5)
        world.leap(begin + (number + 1) * 20)
    # Measured among the first ones, and as late as may be: the range is computed anew from what is past its expiry.
    world.leap(begin + 24 * HOUR - 5)
    world.send([world.measure(sensor, begin + 301)])
    world.until(world.now + 5)
    world.leap(begin + 30 * HOUR)
    scene = world.judge(len(world.dynamodb.tables["readings"]))
    before = dict(world.dynamodb.tables["rollups"])
    seen = len(list(world.reader.scan()))
    if seen:
        scene.problems.append(f"{seen} items are past their expiry, and read")
    for key in world.dynamodb.expire("readings", world.now):
        _tell_of_expiry(world, key)
    if world.dynamodb.tables["rollups"] != before or not before:
        scene.problems.append("a roll-up changed when DynamoDB deleted what had expired")
    scene.figures = f"{len(before)} roll-ups outlive {scene.injected} expired items"
    return scene


def _tell_of_expiry(world: World, key: Any) -> None:
    """Deliver the record of a deletion by Time to Live."""
    identity = {"type": "Service", "principalId": "dynamodb.amazonaws.com"}
    change = {"Keys": key, "SequenceNumber": "1", "ApproximateCreationDateTime": world.now}
    record = {"eventName": "REMOVE", "userIdentity": identity, "dynamodb": change}
    world.aggregator.handle({"Records": [record]}, CONTEXT)
