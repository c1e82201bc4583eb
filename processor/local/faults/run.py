"""A live run under faults: what its injectors share, and how they get between the parts of a System."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from processor.decode import NO_KEYS
from processor.errors import LocalError
from processor.local.aws import EmbeddedAws
from processor.local.expected import Expected
from processor.local.faults.fault import Fault, Injector, Sent
from processor.local.faults.order import Order
from processor.local.faults.registered import Registered
from processor.local.faults.traffic import Traffic
from processor.local.faults.versions import Versions
from processor.local.faults.wire import quarantines
from processor.local.faults.witness import Witness
from processor.local.faults.workers import Workers
from processor.local.memory_kinesis import MemoryKinesis
from processor.local.outbox import MAXIMUM_RECORD
from processor.local.proxy import Call, Proxy, Reply
from processor.local.seams import Invoke, Keep, Seams, Sink
from processor.local.sensors import Sensor
from processor.local.system import System
from processor.rules import known_gateways
from processor.store import client

TICK_SECONDS = 0.02
FIRST_SENSOR = 40_000
PATIENCE_SECONDS = 180.0
"""How long a fault that has not struck may take by itself, where the machine has much else to do."""
HANDLED_SECONDS = 240.0
"""How long what came before may take, and what was given up when it is invoked directly, every fault at work."""
TRAFFIC_SECONDS = 0.05


class Run(Seams):
    """The faults of one live run, a context manager around its System: `begin` some, `finish` them, ask `witness`.

    seed: draws their moments. truth: how many readings of each of the faults' own devices there must be.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.injectors: dict[str, Injector] = {}
        self.injected: Counter[str] = Counter()
        self.single_until = 0.0
        """Until then (time.monotonic()) nobody reshards: there is to be one shard."""
        self.resharding = threading.Lock()
        """Is held by who looks at the open shards and closes some."""
        self.truth: Counter[str] = Counter()
        self.rotated: dict[bytes, tuple[str, bytes]] = {}
        """Records of devices whose key was changed, each with the device and the key that it was sealed with."""
        self.order = Order()
        self.errors: list[str] = []
        """What went wrong in the faults' own doing."""
        self._lock = threading.Lock()
        self._sensors = FIRST_SENSOR
        self._laters: list[threading.Thread] = []
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    @contextlib.contextmanager
    def attached(self, system: System) -> Iterator[Run]:
        """Take the system that was put together with these seams, for as long as it is there."""
        self.system = system
        with contextlib.ExitStack() as stack:
            dynamodb = stack.enter_context(contextlib.closing(client(system.settings)))
            self.registered = Registered(system, dynamodb)
            self.workers = Workers(system)
            self.versions = stack.enter_context(Versions(system, self.workers.replace))
            self.witness = stack.enter_context(Witness(system, dynamodb, self))
            stack.callback(self._stop)
            yield self

    def _stop(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    # What a System asks.

    def stream(self, aws: EmbeddedAws, shards: int) -> Any:
        """Return a stream in memory: MiniStack's loses its records where shards split or merge."""
        del aws
        return MemoryKinesis(shards, clock=time.time, name="processor")

    def variables(self, aws: EmbeddedAws) -> Mapping[str, str]:
        """Send the functions' calls through the proxy."""
        self.proxy = self._stack.enter_context(Proxy(aws.endpoint, self._call))
        return {"AWS_ENDPOINT_URL": self.proxy.endpoint}

    def invoke(self, name: str, invoke: Invoke) -> Invoke:
        """Invoke through every injector, the witness looking at what the mapping is told in the end."""

        def around(following: Invoke) -> Invoke:
            for injector in self._working():
                following = _through(injector, name, following)
            return following

        def invoked(event: bytes) -> Any:
            if name != "ingest":
                return around(invoke)(event)
            with self.order.delivering(event):
                return self.witness.invoked(event, invoke, around)

        return invoked

    def sink(self, name: str, sink: Sink) -> Sink:
        """Show each line to the injectors."""

        def line(text: str) -> None:
            sink(text)
            for injector in self._working():
                injector.line(name, text)

        return line

    def discarded(self, keep: Keep) -> Keep:
        """Let the failure destination fail, or keep the batch; a record that no mapping can send is then invoked."""

        def kept(failure: dict[str, Any]) -> None:
            for injector in self._working():
                injector.discarded(failure)
            keep(failure)
            if failure["requestContext"]["condition"] == "PayloadTooLarge":
                self.later(0, lambda: self._invoke_directly(failure["payload"].encode()))

        return kept

    def _call(self, call: Call) -> Reply | None:
        reply = next(filter(None, (injector.call(call) for injector in self._working())), None)
        return self.witness.poison.put(call, reply) if quarantines(call) else reply

    def _working(self) -> list[Injector]:
        return list(self.injectors.values())

    # Faults at work.

    def begin(self, faults: Iterable[Fault], pace: float) -> None:
        """Have these faults at work from now on, each about once in so many seconds."""
        for fault in faults:
            if fault.make is not None:
                injector = fault.make()
                injector.begin(self, fault.name, self.seed, pace)
                self.injectors[fault.name] = injector
        self._start()

    def _start(self) -> None:
        self._stopping.clear()
        self._thread = threading.Thread(target=self._tick, name="faults", daemon=True)
        self._thread.start()

    def wait_for_all(self) -> None:
        """Give those that have not struck yet their turn, the others ended.

        A fault of several steps waits for its records behind all that came before: its time begins when those are
        handled. Records go on coming.
        """
        self._end([name for name, injector in self.injectors.items() if injector.injected])
        self._start()
        waiting = list(self.injectors.values())
        if not waiting:
            return
        for injector in waiting:
            injector.hasten()
        with contextlib.suppress(LocalError):  # who drains in the end says what is left
            self.system.drain(HANDLED_SECONDS)
        traffic = Traffic(self)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not all(injector.injected for injector in waiting) and time.monotonic() < deadline:
            traffic.send(waiting[0])
            time.sleep(TRAFFIC_SECONDS)

    def finish(self) -> None:
        """End them all, and wait for what they left to be done."""
        self._end(list(self.injectors))
        self.settle()

    def _end(self, names: Iterable[str]) -> None:
        self._stop()
        for name in names:
            injector = self.injectors.pop(name)
            injector.end()
            self.injected[name] += injector.injected

    def settle(self) -> None:
        """Wait for what was to be done later."""
        while self._laters:
            self._laters.pop().join()

    def drain(self, seconds: float) -> None:
        """Wait until everything is handled: what the mapping gave up meanwhile, and somebody invoked directly, too."""
        self.system.drain(seconds)
        if self._laters:
            self.settle()
            self.system.drain(seconds)

    def _tick(self) -> None:
        broken = set()
        while not self._stopping.wait(TICK_SECONDS):
            for name, injector in list(self.injectors.items()):
                if name in broken:
                    continue
                try:
                    injector.tick()
                    for sent in injector.records():
                        self.put(sent)
                except Exception as error:
                    self.errors.append(f"{name}: {type(error).__name__}: {error}")
                    broken.add(name)

    # What injectors are given.

    def now(self) -> int:
        """Return the time in ms since 1970."""
        return round(time.time() * 1000)

    def later(self, seconds: float, do: Callable[[], object]) -> None:
        """Do something in so many seconds, in a thread of its own."""

        def run() -> None:
            time.sleep(seconds)
            try:
                do()
            except Exception as error:
                self.errors.append(f"{type(error).__name__}: {error}")

        thread = threading.Thread(target=run, name="later", daemon=True)
        thread.start()
        self._laters.append(thread)

    def put(self, sent: Sent) -> None:
        """Put a record into the stream; one that the outbox has no room for too."""
        if len(sent.data) < MAXIMUM_RECORD - 100:
            self.system.put(sent.data, sent.key)
            return
        self.system.kinesis.put_records(Records=[{"Data": sent.data, "PartitionKey": "large"}])
        self.system.sent.append(sent.data)

    def sensor(self, model: str) -> Sensor:
        """Return a new sensor."""
        with self._lock:
            self._sensors += 1
            return Sensor(self._sensors, self.seed, model)

    def expect(self, device: str, readings: int = 1) -> None:
        """Note that there must be so many more readings of a device in the end."""
        with self._lock:
            self.truth[device] += readings

    def expected(self, records: Iterable[Mapping[str, Any]], keys: Mapping[str, bytes] = NO_KEYS) -> Expected:
        """Return what must become of records of the stream. keys: more bindkeys than those that stay as they are."""
        settings = self.system.settings
        known = {**settings.bindkeys, **self.registered.keys, **keys}
        return Expected.of(records, self.system.limits, known, known_gateways(settings))

    def _invoke_directly(self, event: bytes) -> None:
        """Invoke ingest with an event until it has handled it, as somebody redrives what was given up."""
        deadline = time.monotonic() + HANDLED_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(LocalError):
                if not self.system.function.invoke(event)["batchItemFailures"]:
                    return
            time.sleep(0.2)
        self.errors.append(f"an event of {len(event):,} bytes was not handled in {HANDLED_SECONDS:g} s")


def _through(injector: Injector, name: str, following: Invoke) -> Invoke:
    return lambda event: injector.invoke(name, event, following)


@contextlib.contextmanager
def started(seed: int, **options: Any) -> Iterator[Run]:
    """Start a System with these options, faults between its parts; none is at work yet."""
    with Run(seed) as run, System(seams=run, **options) as system, run.attached(system):
        yield run
