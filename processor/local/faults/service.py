"""Faults of what is around the function: the mapping, its failure destination, keys and secrets, deployed versions."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import orjson

from processor.decode.gateways import Advertisement
from processor.errors import LocalError
from processor.local.faults.fault import Injector, Sent
from processor.local.faults.input import Source, post
from processor.local.faults.wire import Wire, corrupted, quarantines, reads_many, unprocessed
from processor.local.proxy import Call, Reply, refusal
from processor.local.sensors import Sensor

if TYPE_CHECKING:
    from processor.local.faults.run import Run

LARGEST_RECORD = 10 * 1024 * 1024
"""Bytes of a Kinesis record at most, its key included."""

ALL_HANDLED: dict[str, list[Any]] = {"batchItemFailures": []}

REFUSALS = 2
"""So often what is to be refused for a while is refused."""


class IteratorsExpire(Injector):
    """Every iterator that was handed out expires: ExpiredIteratorException."""

    def tick(self) -> None:
        """Have them expire where it is due."""
        if self.due():
            self.run.system.kinesis.expire_iterators()
            self.count()


class Disabled(Injector):
    """The mapping is disabled amid its work, and enabled again when records have come meanwhile."""

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
        try:
            time.sleep(self._seconds)
            source = Source(self)
            sent = source.record(source.measure(source.sensor(), [source.now]))
            self.run.system.put(sent.data).result()
        finally:
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
        self.run.rotated[before.data] = sensor.address, sensor.key
        sensor.key = self.random.randbytes(16)
        after = source.record(source.measure(sensor, [source.now]))
        self.run.rotated[after.data] = sensor.address, sensor.key
        yield before
        self.run.later(0.5, lambda: self._rotate(sensor, after))

    def _rotate(self, sensor: Sensor, after: Sent) -> None:
        self.run.registered.rotate(sensor)
        self.run.put(after)
        self.count()


class Deployed(Injector):
    """An older version of the function is deployed amid the work, and the present one again.

    Each handles a payload first, and then a copy of what the other one had first: what was stored stays.
    """

    def __init__(self, *, every: float = 1.0) -> None:
        self.every = every

    def begin(self, run: Run, name: str, seed: int, pace: float) -> None:
        """Begin with the present version."""
        super().begin(run, name, seed, pace)
        self._over = threading.Event()
        self._deploying = threading.Lock()

    def tick(self) -> None:
        """Deploy where it is due, one deployment at a time."""
        if not self._deploying.locked() and self.due():
            self.run.later(0, self._deploy)

    def _deploy(self) -> None:
        versions = self.run.versions
        folder = versions.older  # made before anything is measured: what is measured is put
        source = Source(self)
        sensors = [source.sensor(), source.sensor()]
        present = source.record(source.measure(sensors[0], [source.now]))
        with self._deploying:
            self.run.put(present)
            if not self._stored(sensors[0]):
                return
            older = source.record(source.measure(sensors[1], [source.now]))
            versions.deploy(folder)
            try:
                self.run.put(present)
                self.run.put(older)
                stored = self._stored(sensors[1])
            finally:
                versions.deploy(None)
            if stored:
                self.run.put(older)
                self.count()

    def _stored(self, sensor: Sensor) -> bool:
        """Wait until the sensor's reading was seen in the table; tell whether it was before the fault's end."""
        while not self.run.witness.firsts.of(sensor.address):
            if self._over.wait(0.05):
                return False
        return True

    def end(self) -> None:
        """Wait for nothing any more."""
        self._over.set()


class OldReplays(Injector):
    """The older version is given batches that the present one has handled: it changes nothing of what is stored."""

    _handled = _last = b""

    def invoke(self, _name: str, event: bytes, following: Callable[[bytes], Any]) -> Any:
        """Hand the older one a batch that was handled before, where it is due."""
        if _name == "ingest" and self._handled and self.due():
            with contextlib.suppress(LocalError):
                if self.run.versions.old_function.invoke(self._handled) == ALL_HANDLED:
                    self.count()
        found = following(event)
        if _name == "ingest" and found == ALL_HANDLED:
            # Not the last one: whoever looks at what is stored has to see it before the older version meets it.
            self._handled, self._last = self._last, event
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
        yield Sent(_inflated(heard, source.now))
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
            yield Sent(_inflated(source.measure(source.sensor(), [source.now]), source.now))

    def discarded(self, failure: dict[str, Any]) -> None:
        """Fail."""
        number = failure["KinesisBatchInfo"]["startSequenceNumber"]
        with self._lock:
            self._tried[number] += 1
            if self._tried[number] > REFUSALS:
                return
        self.count()
        raise LocalError("the failure destination cannot be reached (injected)")


def _inflated(heard: Iterable[Advertisement], at: int) -> bytes:
    """Return a record as large as Kinesis takes."""
    envelope = orjson.loads(post(heard, at)) | {"note": ""}
    envelope["note"] = "x" * (LARGEST_RECORD - len(orjson.dumps(envelope)) - 64)
    return orjson.dumps(envelope)
