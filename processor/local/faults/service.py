"""Faults of what is around the function: the stream's shards, the mapping, keys and secrets, deployed versions."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import orjson

from processor.errors import LocalError
from processor.local.faults.fault import Injector, Sent
from processor.local.faults.input import Source
from processor.local.faults.wire import Wire, corrupted, quarantines, reads_many, unprocessed
from processor.local.proxy import Call, Reply, refusal
from processor.local.sensors import Sensor

if TYPE_CHECKING:
    from processor.local.faults.run import Run

MOST_SHARDS = 6
REFUSALS = 2
"""So often what is to be refused for a while is refused."""


class Reshard(Injector):
    """Splits a shard, merges two neighbours, or merges all of them into one, while batches of them are under way."""

    def __init__(self, how: Callable[[Any, list[dict[str, Any]]], int], *, every: float = 1.0) -> None:
        self.every = every
        self._how = how

    def tick(self) -> None:
        """Reshard where it is due and possible."""
        if not self.due():
            return
        stream = self.run.system.kinesis
        for _ in range(self._how(stream, open_shards(stream))):
            self.count()


def split(stream: Any, shards: list[dict[str, Any]]) -> int:
    """Split the widest shard, unless there are many."""
    if len(shards) >= MOST_SHARDS:
        return 0
    widest = max(shards, key=lambda shard: _range(shard)[1] - _range(shard)[0])
    stream.split_shard(ShardToSplit=widest["ShardId"])
    return 1


def merge(stream: Any, shards: list[dict[str, Any]]) -> int:
    """Merge the two first neighbours, unless there is but one shard."""
    if len(shards) < 2:
        return 0
    stream.merge_shards(ShardToMerge=shards[0]["ShardId"], AdjacentShardToMerge=shards[1]["ShardId"])
    return 1


def merge_all(stream: Any, shards: list[dict[str, Any]]) -> int:
    """Merge until a single shard is left, where there are several."""
    merged = 0
    while len(shards) > 1:
        merged += merge(stream, shards)
        shards = open_shards(stream)
    if not merged:  # one shard already: what comes goes through it alone
        return split(stream, shards)
    return merged


def _range(shard: dict[str, Any]) -> tuple[int, int]:
    keys = shard["HashKeyRange"]
    return int(keys["StartingHashKey"]), int(keys["EndingHashKey"])


def open_shards(stream: Any) -> list[dict[str, Any]]:
    """Return the shards that take records, by hash key."""
    shards: list[dict[str, Any]] = []
    page: dict[str, Any] = {}
    while not shards or "NextToken" in page:
        page = stream.list_shards(**({"NextToken": page["NextToken"]} if page else {}))
        shards += page["Shards"]
    parents = {shard.get(name) for shard in shards for name in ("ParentShardId", "AdjacentParentShardId")}
    return sorted((shard for shard in shards if shard["ShardId"] not in parents), key=_range)


class IteratorsExpire(Injector):
    """Every iterator that was handed out expires: ExpiredIteratorException."""

    def tick(self) -> None:
        """Have them expire where it is due."""
        if self.due():
            self.run.system.kinesis.expire_iterators()
            self.count()


class Disabled(Injector):
    """The mapping is disabled amid its work, and enabled again: it goes on from its checkpoints."""

    def __init__(self, *, every: float = 1.0, seconds: float = 0.5) -> None:
        self.every = every
        self._seconds = seconds

    def tick(self) -> None:
        """Disable the mapping where it is due; enable it later."""
        if self.due():
            self.run.later(0, self._pause)

    def _pause(self) -> None:
        self.run.system.mapping.disable()
        self.count()
        time.sleep(self._seconds)
        self.end()

    def end(self) -> None:
        """Have it enabled."""
        self.run.system.mapping.enable()


class QuarantineFails(Injector):
    """S3 refuses what is put into quarantine, while records come that belong there."""

    every = 1.0
    lasting = 1.5

    def records(self) -> Iterable[Sent]:
        """Send poison while it lasts."""
        if self.on() and self.random.random() < 0.3:
            yield Sent(b"\x16\x03\x01unkept " + self.random.randbytes(20))

    def call(self, call: Call) -> Reply | None:
        """Refuse the object."""
        if not quarantines(call) or not self.on():
            return None
        self.count()
        return Reply(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n")


class KeyUnavailable(Injector):
    """KMS refuses the first times that the bindkey of a new sensor is to be decrypted."""

    def begin(self, run: Run, name: str, seed: int, pace: float) -> None:
        """Begin with no sensor."""
        super().begin(run, name, seed, pace)
        self._asked: Counter[str] = Counter()

    def records(self) -> Iterable[Sent]:
        """Register a new sensor with a sealed key, and have it heard."""
        if self.due():
            source = Source(self)
            sensor = source.sensor("bthome.encrypted")
            self.run.registered.by_kms(sensor)
            yield source.record(source.measure(sensor, [source.now]))

    def call(self, call: Call) -> Reply | None:
        """Refuse to decrypt."""
        if call.service != "kms":
            return None
        device = orjson.loads(call.body)["EncryptionContext"]["device"]
        with self._lock:
            self._asked[device] += 1
            if self._asked[device] > REFUSALS:
                return None
        self.count()
        return Reply(refusal("DisabledException"))


class KeysUnread(Wire):
    """BatchGetItem leaves every key unread for a while, when a sensor is heard whose bindkey the registry has."""

    def __init__(self) -> None:
        super().__init__(unprocessed, reads_many, lasting=1.0)

    def records(self) -> Iterable[Sent]:
        """Register a new sensor with a sealed key, and have it heard."""
        if self.on() and self.random.random() < 0.1:
            source = Source(self)
            sensor = source.sensor("bthome.encrypted")
            self.run.registered.by_kms(sensor)
            yield source.record(source.measure(sensor, [source.now]))


class Corrupted(Injector):
    """The readings that a new sensor's roll-up is made of come with a digit changed: nothing would put it right."""

    every = 0.3

    def __init__(self) -> None:
        self._waiting: set[str] = set()

    def records(self) -> Iterable[Sent]:
        """Have a new sensor heard once."""
        if self.due():
            source = Source(self)
            sensor = source.sensor()
            self._waiting.add(sensor.address)
            yield source.record(source.measure(sensor, [source.now - 1000 * n for n in range(3)]))

    def call(self, call: Call) -> Reply | None:
        """Change the first answer to a query for one of them."""
        if call.operation != "Query":
            return None
        device = orjson.loads(call.body)["ExpressionAttributeValues"][":d"]["S"]
        with self._lock:
            if device not in self._waiting:
                return None
            self._waiting.remove(device)
        self.count()
        return Reply(corrupted(call.forward()))


class SecretRotated(Injector):
    """A sensor's key is changed, and so is its secret: what comes under the new key is stored or quarantined whole."""

    def records(self) -> Iterable[Sent]:
        """Have a sensor heard under its old key, rotate, and have it heard under the new one."""
        if not self.due():
            return
        source = Source(self)
        sensor = source.sensor("bthome.encrypted")
        self.run.registered.by_secret(sensor)
        before = source.record(source.measure(sensor, [source.now - 3000]))
        sensor.key = self.random.randbytes(16)
        after = source.record(source.measure(sensor, [source.now]))
        self.run.rotated[sensor.address] = {before.data, after.data}
        yield before
        self.run.later(0.5, lambda: self._rotate(sensor, after))

    def _rotate(self, sensor: Sensor, after: Sent) -> None:
        self.run.registered.rotate(sensor)
        self.run.put(after)
        self.count()


class Deployed(Injector):
    """An older version of the function is deployed amid the work, and the present one again: both are live at once."""

    def __init__(self, *, every: float = 1.0, seconds: float = 1.5) -> None:
        self.every = every
        self._seconds = seconds

    def tick(self) -> None:
        """Deploy the older one where it is due; workers at work finish their batch in the version that they have."""
        if self.due():
            self.run.versions.deploy(self.run.versions.older)
            self.count()
            self.run.later(self._seconds, self.end)

    def end(self) -> None:
        """Deploy the present version."""
        self.run.versions.deploy(None)


class OldReplays(Injector):
    """The older version is given batches that the present one has handled: it changes nothing of what is stored."""

    def invoke(self, _name: str, event: bytes, following: Callable[[bytes], Any]) -> Any:
        """Hand a batch that was handled to the older one too, where it is due."""
        found = following(event)
        if _name == "ingest" and found == {"batchItemFailures": []} and self.due():
            with contextlib.suppress(LocalError):
                self.run.versions.old_function.invoke(event)
                self.count()
        return found


class TooLarge(Injector):
    """A record of 10 MiB: no invocation of the mapping holds it, it is given up whole, and then invoked directly."""

    def __init__(self, *, every: float = 1.0) -> None:
        self.every = every

    def records(self) -> Iterable[Sent]:
        """Put one where it is due."""
        if not self.due():
            return
        source = Source(self)
        sensor = source.sensor()
        heard = source.measure(sensor, [source.now - n * 50 for n in range(500)])
        yield Sent(self.run.inflated(heard, source.now))
        self.count()


class DestinationFails(Injector):
    """What the mapping gives up cannot be delivered the first times."""

    def begin(self, run: Run, name: str, seed: int, pace: float) -> None:
        """Begin with nothing given up."""
        super().begin(run, name, seed, pace)
        self._tried: Counter[str] = Counter()

    def records(self) -> Iterable[Sent]:
        """Put a record that no invocation holds."""
        if self.due():
            source = Source(self)
            yield Sent(self.run.inflated(source.measure(source.sensor(), [source.now]), source.now))

    def discarded(self, failure: dict[str, Any]) -> None:
        """Fail."""
        number = failure["KinesisBatchInfo"]["startSequenceNumber"]
        with self._lock:
            self._tried[number] += 1
            if self._tried[number] > REFUSALS:
                return
        self.count()
        raise LocalError("the failure destination cannot be reached (injected)")
