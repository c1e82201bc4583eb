"""What a fault is: its row in the registry, and the injector that makes it happen in a live run."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from processor.local.proxy import Call, Reply

if TYPE_CHECKING:
    from processor.local.faults.run import Run

FAMILIES = {
    1: "the worker",
    2: "the table and the wire",
    3: "poison records and answers",
    4: "duplicates",
    5: "shards, the mapping, retention",
    6: "partition keys",
    7: "order and clocks",
    8: "malformed and oversized",
    9: "credentials and keys",
    10: "versions of the decoder",
    11: "expiry, metrics, the failure destination",
}


PASSING_SECONDS = 0.5
FIRST_SECONDS = 20.0
"""The first moment of a fault comes by then, however rare it is."""

SOON_SECONDS = 4.0


class Injector:
    """A fault at work in one run, counting what it injected. At each place that it does not override it does nothing.

    Its moments are drawn from the run's seed and its own name: about one in `pace` times `every` seconds, each of them
    `lasting` so many seconds where it is a state rather than an event. One that has never struck takes the first
    chance that it gets after its first moment; later moments pass where there is none.
    """

    every = 1.0
    lasting = 0.0

    def begin(self, run: Run, name: str, seed: int, pace: float) -> None:
        """Be at work from now on."""
        self.run = run
        self.random = random.Random(f"{seed}.{name}")  # noqa: S311 - a simulation
        self.injected = 0
        self._lock = threading.Lock()
        self._pace = pace * self.every
        self._next = time.monotonic() + self.random.uniform(0.0, min(0.6 * self._pace, FIRST_SECONDS))

    def end(self) -> None:
        """Be at work no longer, and leave nothing behind that a run could not end with."""

    def due(self) -> bool:
        """Tell whether the next moment has come; it then has been used. One that nobody asks about in time has passed.

        Otherwise the only call of a quiet stretch would meet all faults at once, and so would each of its repetitions.
        """
        with self._lock:
            now = time.monotonic()
            if now < self._next:
                return False
            missed = bool(self.injected) and now > self._next + PASSING_SECONDS
            self._next = now + self._gap(self._pace)
            return not missed

    def again(self) -> None:
        """Have another moment soon: this one came to nothing."""
        with self._lock:
            self._next = time.monotonic() + self._gap(SOON_SECONDS)

    def hasten(self) -> None:
        """Have the next moment now."""
        with self._lock:
            self._next = min(self._next, time.monotonic())

    def _gap(self, mean: float) -> float:
        return self.random.uniform(0.5, 1.5) * min(mean, self._pace)

    def on(self) -> bool:
        """Tell whether the fault's state lasts now."""
        with self._lock:
            now = time.monotonic()
            if now >= self._next + self.lasting:
                self._next = now + (self._gap(self._pace) if self.injected else 0.0)
            return now >= self._next

    def count(self) -> None:
        """Note one more injection."""
        with self._lock:
            self.injected += 1

    def call(self, call: Call) -> Reply | None:
        """Say what becomes of a function's request to AWS; None: nothing of this fault's."""

    def invoke(self, _name: str, event: bytes, following: Callable[[bytes], Any]) -> Any:
        """Invoke the function of that name with an event: `following` does, and gives its answer."""
        return following(event)

    def line(self, name: str, line: str) -> None:
        """See one line of a function's output."""

    def records(self) -> Iterable[Sent]:
        """Return what is to be put into the stream now, nearly always nothing."""
        return ()

    def tick(self) -> None:
        """Do what is due now."""

    def discarded(self, failure: dict[str, Any]) -> None:
        """See what the mapping gives up; raise where the failure destination fails."""


@dataclass(frozen=True)
class Sent:
    """A record to be put into the stream. key: its partition key; a random one where it is None."""

    data: bytes
    key: str | None = None


@dataclass
class Scene:
    """What a scene came to: how often its fault was injected, what was lost, doubled or otherwise wrong; figures."""

    injected: int
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    figures: str = ""

    @property
    def passed(self) -> bool:
        """Tell whether nothing is wrong, and the fault really happened."""
        return bool(self.injected) and not (self.lost or self.doubled or self.problems)


@dataclass(frozen=True)
class Fault:
    """One row of the registry.

    what: what is injected. guard: what sees to it that nothing is lost or doubled. make: the injector of a live run;
    scene: what is played under a virtual clock instead, under a seed.
    """

    name: str
    family: int
    what: str
    guard: str
    make: Callable[[], Injector] | None = None
    scene: Callable[[int], Scene] | None = field(default=None, repr=False)
