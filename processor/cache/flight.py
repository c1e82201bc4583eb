"""One computation for many callers, written once for threads and for coroutines.

`steps` is the protocol as a generator: it yields what is to be done, and a driver does it: by blocking, here, or by
awaiting, in coroutines.py.
Within a process the first caller flies and the others wait for it; between processes the lease in the table decides.
Early refresh follows Vattani, Chierichetti and Lowenstein, "Optimal Probabilistic Cache Stampede Prevention",
VLDB 2015 (XFetch): the nearer the expiry, and the longer the computation, the likelier one caller refreshes ahead.
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError, Future
from enum import Enum
from typing import Any, NamedTuple

import orjson

from processor.cache.codec import REFUSAL, Encoded
from processor.cache.memory import NEVER, Entry
from processor.cache.tiers import Tiers

PAUSE, LONGEST = 0.02, 1.0
"""Seconds: the first pause between looks at another process's computation, and the longest; they grow by GROWTH."""
GROWTH = 1.5


class Compute(Enum):
    """The step that calls the user's function."""

    STEP = 0


Step = Callable[[], Any] | float | Compute
"""What a driver is to do: call this, without blocking others; sleep; or compute."""


class Plan(NamedTuple):
    """How results are kept: `cached` says what each means."""

    ttl: float | None
    negative_ttl: float | None
    negative: tuple[type[Exception], ...]
    stale: float
    early: float
    lease: float | None
    wait: float

    def due(self, entry: Entry, now: int) -> bool:
        """Tell whether this caller should refresh the entry: because it expired, or by lot, ahead of that."""
        if not entry.cost or not self.early or entry.until == NEVER:
            return entry.until <= now
        lot = -math.log(1 - random.random())  # noqa: S311 - no secret
        return now + entry.cost * self.early * lot >= entry.until

    def usable(self, entry: Entry | None, now: int) -> bool:
        """Tell whether the entry may be served while another refreshes it."""
        return entry is not None and now < entry.until + self.stale * 1000


def steps(tiers: Tiers, key: str, plan: Plan) -> Generator[Step, Any, Encoded]:
    """Return the key's value from the table, or have it computed and stored: once, among all processes."""
    seen: Entry | None = yield lambda: tiers.read(key, grace=plan.stale)
    if seen is not None and not tiers.readable(seen):
        seen = None
    now = tiers.now()
    if seen is not None and not plan.due(seen, now):
        return Encoded(seen.form, seen.data)
    early = seen is not None and seen.until > now
    owner = ""
    try:
        if plan.lease is not None:
            owner, found = yield from _lease(tiers, key, plan, seen)
            if owner and found is None:
                found = yield lambda: tiers.read(key, consistent=True, grace=plan.stale)
                renewed = found is not None and found.until > tiers.now() and tiers.readable(found)
                if not renewed or (early and seen is not None and found.written == seen.written):
                    found = None
            if found is not None:
                return Encoded(found.form, found.data)
        started = tiers.monotonic()
        try:
            value = yield Compute.STEP
            encoded = tiers.values.encode(value)
            ttl = plan.negative_ttl if value is None else plan.ttl
        except plan.negative as refusal:
            encoded, ttl = _refused(refusal, plan), plan.negative_ttl
        tiers.stats.add("computed")
        if early:
            tiers.stats.add("early")
        if ttl != 0:
            entry = tiers.entry(encoded, ttl, round((tiers.monotonic() - started) * 1000))
            yield lambda: tiers.write(key, entry, plan.stale)
        return encoded
    finally:
        if owner:
            yield lambda: tiers.release(key, owner)


def _lease(tiers: Tiers, key: str, plan: Plan, seen: Entry | None) -> Generator[Step, Any, tuple[str, Entry | None]]:
    """Return the lease's token, or the entry that makes it needless; neither if the table fails or the wait is over."""
    seconds = plan.lease or 0.0
    asked, pause = tiers.monotonic(), PAUSE
    while True:
        owner: str | None = yield lambda: tiers.acquire(key, seconds)
        if owner is not None:
            return owner, None
        if seen is not None and plan.usable(seen, tiers.now()):
            if seen.until <= tiers.now():
                tiers.stats.add("stale")
            return "", seen
        held = True
        while held:
            if tiers.monotonic() - asked >= plan.wait:
                return "", None
            yield pause * (0.5 + random.random())  # noqa: S311 - no secret
            pause = min(LONGEST, pause * GROWTH)
            found, held = yield lambda: tiers.look(key, plan.stale)
            if found is not None and found.until > tiers.now() and tiers.readable(found):
                tiers.stats.add("waited")
                return "", found


def _refused(refusal: Exception, plan: Plan) -> Encoded:
    """Return an exception as it is kept. Raises it, where its arguments are not JSON."""
    kind = type(refusal) if type(refusal) in plan.negative else next(k for k in plan.negative if isinstance(refusal, k))
    try:
        return Encoded(REFUSAL, orjson.dumps([kind.__qualname__, *refusal.args]))
    except TypeError:
        raise refusal from None


def outcome(tiers: Tiers, encoded: Encoded, plan: Plan) -> Any:
    """Return the value, or raise the exception that was kept."""
    value = tiers.values.decode(*encoded)
    if encoded.form != REFUSAL:
        return value
    name, *arguments = value
    kinds = {kind.__qualname__: kind for kind in plan.negative}
    raise kinds.get(name, LookupError)(*arguments)


class Threads:
    """Single flight for threads: by key, the first caller's work is every caller's answer."""

    def __init__(self) -> None:
        self._flights: dict[str, tuple[Future[Encoded], int]] = {}
        self._lock = threading.Lock()

    def run(
        self, tiers: Tiers, key: str, plan: Plan, compute: Callable[[], Any], *, instead: Callable[[], Encoded | None]
    ) -> Encoded:
        """Return the key's value. Whoever finds the flight under way gets `instead()` at once, if that is something."""
        me = threading.get_ident()
        while True:
            with self._lock:
                future, pilot = self._flights.get(key, (None, 0))
                if future is None:
                    mine: Future[Encoded] = Future()
                    self._flights[key] = mine, me
            if future is None:
                return self._fly(key, mine, lambda: drive(steps(tiers, key, plan), compute, tiers.sleep))
            if pilot == me:  # a function that calls itself for the same key: let Python's recursion limit tell
                return tiers.values.encode(compute())
            if (other := instead()) is not None:
                return other
            try:
                return future.result()
            except CancelledError:
                continue  # the pilot was interrupted, by Ctrl-C say: fly ourselves

    def _fly(self, key: str, future: Future[Encoded], work: Callable[[], Encoded]) -> Encoded:
        try:
            result = work()
        except Exception as error:
            future.set_exception(error)
            raise
        except BaseException:
            future.cancel()
            raise
        else:
            future.set_result(result)
            return result
        finally:
            with self._lock:
                del self._flights[key]


def drive(work: Generator[Step, Any, Encoded], compute: Callable[[], Any], sleep: Callable[[float], object]) -> Encoded:
    """Carry out the steps in this thread."""
    reply: Any = None
    error: BaseException | None = None
    while True:
        try:
            step = work.send(reply) if error is None else work.throw(error)
        except StopIteration as end:
            result: Encoded = end.value
            return result
        reply = error = None
        try:
            if isinstance(step, float):
                sleep(step)
            else:
                reply = compute() if step is Compute.STEP else step()
        except BaseException as failed:  # the generator decides, and raises it again
            error = failed
