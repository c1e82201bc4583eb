"""How long poison holds its shard: records of which nothing can be stored, and the invocations that each of them is in.

The bound is one invocation: such a record needs neither the table nor a key, so the first one that nothing else spoils
must be the last. What spoils one is told from outside: its worker was killed or timed out, a record that has something
to store failed before it, S3 did not take it into quarantine at once, or could not be reached. Whatever else has it
come again is a problem, and so is a record that comes again after the mapping was told that it is handled.
"""

from __future__ import annotations

import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from processor.errors import LocalError
from processor.local.environment import Crashed, OutOfMemory, TimedOut
from processor.local.proxy import Call, Reply

PROMPT_SECONDS = 0.5
"""An answer of S3 that takes longer is none: ingest waits for two seconds."""

TAKEN = (b" 200 ", b" 412 ")
"""What S3 answers where the object is there now: put, or put before."""

_NUMBER = re.compile(rb'"sequence_number":"(\d+)"')

Invoke = Callable[[bytes], Any]


class Poison:
    """Watches the records of one run of which nothing can be stored. problem: takes what must not be.

    first, later: how many were done with in their first invocation, and in a later one. slowest_ms: the longest time
    from a record's arrival until its shard could go on.
    """

    def __init__(self, problem: Callable[[str], None]) -> None:
        self.first = self.later = 0
        self.slowest_ms = 0.0
        self._problem = problem
        self._lock = threading.Lock()
        self._deliveries: Counter[str] = Counter()
        self._done: set[str] = set()
        self._refused: dict[str, float] = {}
        self._cuts = 0
        self._cut_until = 0.0

    @contextmanager
    def cut_off(self) -> Iterator[None]:
        """Note that meanwhile some worker cannot reach AWS at all."""
        with self._lock:
            self._cuts += 1
        try:
            yield
        finally:
            with self._lock:
                self._cuts -= 1
                self._cut_until = time.monotonic()

    def put(self, call: Call, reply: Reply | None) -> Reply:
        """Have an object put into quarantine, or a fault's reply instead; note the records not taken at once."""
        begun = time.monotonic()
        head = b""
        try:
            reply = reply or Reply(call.forward())
            head = reply.data[:16]
            return reply
        finally:
            now = time.monotonic()
            if now > begun + PROMPT_SECONDS or not any(taken in head for taken in TAKEN):
                with self._lock:
                    self._refused |= dict.fromkeys((number.decode() for number in _NUMBER.findall(call.body)), now)

    def watching(self, records: Sequence[str], poison: Mapping[str, float], invoke: Invoke) -> Invoke:
        """Return what invokes the function with a batch and judges its own answer, before any fault changes it.

        records: the batch's sequence numbers. poison: those among them of which nothing can be stored, with the time
        of their arrival (seconds since 1970).
        """

        def invoked(event: bytes) -> Any:
            begun = time.monotonic()
            try:
                answer = invoke(event)
            except LocalError as error:
                if not _by_a_fault(error):
                    self._problem(f"ingest failed by itself: {error}")
                raise
            failed = lowest_of(records, answer)
            if failed is not None and failed in poison and not self._spoiled(failed, begun):
                self._problem(
                    f"{failed} can never be stored, is reported as failed, and nothing kept it from quarantine"
                )
            return answer

        return invoked

    def ended(self, poison: Mapping[str, float], handled: set[str]) -> None:
        """Note an invocation as the mapping saw it end. handled: the sequence numbers that it may take for handled."""
        now = time.time()
        with self._lock:
            for number, arrived in poison.items():
                self._deliveries[number] += 1
                if number in self._done:
                    self._problem(f"{number} can never be stored, and comes again after it was called handled")
                elif number in handled:
                    self._done.add(number)
                    first = self._deliveries.pop(number) == 1
                    self.first += first
                    self.later += not first
                    self.slowest_ms = max(self.slowest_ms, (now - arrived) * 1000)

    def _spoiled(self, number: str, begun: float) -> bool:
        with self._lock:
            return bool(self._cuts) or self._cut_until >= begun or self._refused.get(number, -1.0) >= begun


def _by_a_fault(error: LocalError) -> bool:
    """Tell whether an invocation ended as faults have them end: killed, at the timeout, or out of memory."""
    killed = isinstance(error, Crashed) and error.exit_code == -signal.SIGKILL
    return killed or isinstance(error, TimedOut | OutOfMemory)


def lowest_of(records: Sequence[str], answer: Any) -> str | None:
    """Return the lowest record that an answer of the function reports as failed; None where it reports none."""
    failures = answer.get("batchItemFailures") if isinstance(answer, dict) else None
    named = {each["itemIdentifier"] for each in failures or ()}
    return next((number for number in records if number in named), None)
