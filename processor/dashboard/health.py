"""The pipeline's health, from a run on this machine. `cloudwatch.py` gives the same from AWS.

What both give, so that the page need not know which it is:

    source, note       where the figures come from; why there are none, where there are none
    span               what the ledger and the costs cover, in words
    history            columns over `t` (epoch seconds), each value for the time since the one before: records, stored,
                       duplicates, rejected, failed (all a second), age_ms, duration_ms, write_units (a second)
    ledger             advertisements: received, stored, duplicates, rejected, ignored, failed; None: not known
    reasons, ignored   why, by word
    shards             [{shard, age_ms}]: the age of a batch's last record when the function got it
    functions          [{name, invocations, errors, duration_ms, slowest_ms, memory_mb, limit_mb}]
    costs              prices.costs
    troubles           the last lines of the log that were warnings or worse
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from processor.background import Background
from processor.dashboard import prices

SAMPLE_SECONDS = 2.0
WRITES = ("written", "stale", "devices")
"""What costs the roll-up function a write, of one unit nearly always: its items are small."""

SAMPLES = 1800
"""An hour is kept."""

COUNTED = ("stored", "duplicates", "rejected", "failed")
LEDGER = ("received", "stored", "duplicates", "rejected", "ignored", "failed")
COLUMNS = ("t", "records", *COUNTED, "age_ms", "duration_ms", "write_units")


class Health(Protocol):
    """Whoever can tell of the pipeline's health."""

    def snapshot(self) -> dict[str, Any]:
        """Return the figures of now, with their history, as the module says."""


def nothing(source: str, note: str) -> dict[str, Any]:
    """Return a snapshot without figures, and why there are none."""
    return {
        "source": source,
        "note": note,
        "span": "",
        "history": {name: [] for name in COLUMNS},
        "ledger": dict.fromkeys(LEDGER),
        "reasons": {},
        "ignored": {},
        "shards": [],
        "functions": [],
        "costs": None,
        "troubles": [],
    }


class Calls(Protocol):
    """What a run adds up of one function (processor/local/totals.py)."""

    batches: int
    memory_mb: float
    duration_ms: float
    troubles: list[str]


class Totals(Calls, Protocol):
    """What it adds up of the ingest function."""

    records: int
    write_units: float
    ledger: Counter[str]
    reasons: Counter[str]
    ignored: Counter[str]


class RollupTotals(Calls, Protocol):
    """What it adds up of the roll-up function: its counts as its log line has them."""

    counts: Counter[str]


def _troubles(calls: Calls) -> list[str]:
    """Return the last lines of a function's output that were warnings or worse."""
    return calls.troubles[-5:]


class Stats(Protocol):
    """What an event source mapping counts (processor/local/mapping.py)."""

    errors: int
    iterator_age_ms: dict[str, float]


class RunHealth(Background):
    """The health of a run on this machine; sampled by a thread of its own as long as it is entered.

    totals, rollup: what the two functions come to so far. stats, rollup_stats: give the counts of their mappings.
    memory_mb: the functions' limits, by name.
    """

    def __init__(
        self,
        totals: Totals,
        stats: Callable[[], Stats],
        *,
        rollup: RollupTotals,
        rollup_stats: Callable[[], Stats],
        memory_mb: Mapping[str, int],
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__("health")
        self._totals = totals
        self._rollup = rollup
        self._stats = stats
        self._calls: dict[str, tuple[Calls, Callable[[], Stats]]] = {
            "ingest": (totals, stats),
            "rollup": (rollup, rollup_stats),
        }
        self._memory_mb = memory_mb
        self._clock = clock
        self._started = clock()
        self._lock = threading.Lock()
        self._history: deque[tuple[float, ...]] = deque(maxlen=SAMPLES)
        self._before = self._counts()

    def work(self) -> None:
        """Sample."""
        while not self.stopping.wait(SAMPLE_SECONDS):
            self.sample()

    def _counts(self) -> tuple[float, ...]:
        """Return time, records, COUNTED, write units, batches and duration so far."""
        totals = self._totals
        ledger = (float(totals.ledger[name]) for name in COUNTED)
        return (self._clock(), totals.records, *ledger, totals.write_units, totals.batches, totals.duration_ms)

    def sample(self) -> None:
        """Take what happened since the last sample into the history."""
        with self._lock:
            now = self._counts()
            passed = now[0] - self._before[0]
            if passed <= 0:
                return
            gained = [one - other for one, other in zip(now, self._before, strict=True)]
            _, records, *counted, units, batches, duration = gained
            age = max(self._stats().iterator_age_ms.values(), default=0.0)
            rates = (each / passed for each in (records, *counted))
            mean = duration / batches if batches else 0.0
            self._history.append((now[0], *rates, age, mean, units / passed))
            self._before = now

    def snapshot(self) -> dict[str, Any]:
        """Return the figures of now, as the module says."""
        totals, stats = self._totals, self._stats()
        with self._lock:
            history = list(self._history)
        hours = (self._clock() - self._started) / 3600
        columns = zip(*history, strict=True) if history else ((),) * len(COLUMNS)
        return {
            "source": "this run",
            "note": "",
            "span": "since the run began",
            "history": {
                name: [round(value, 3) for value in column] for name, column in zip(COLUMNS, columns, strict=True)
            },
            "ledger": {name: totals.ledger[name] for name in LEDGER},
            "reasons": dict(totals.reasons),
            "ignored": dict(totals.ignored),
            "shards": [{"shard": shard, "age_ms": round(age)} for shard, age in sorted(stats.iterator_age_ms.items())],
            "functions": [self._function(name) for name in self._calls],
            "costs": prices.costs(
                write_units=totals.write_units,
                rollup_units=sum(self._rollup.counts[name] for name in WRITES),
                readings=totals.ledger["stored"],
                invocations=sum(calls.batches for calls, _ in self._calls.values()),
                gb_seconds=sum(
                    calls.duration_ms / 1000 * self._memory_mb[name] / 1024 for name, (calls, _) in self._calls.items()
                ),
                shard_hours=hours * len(stats.iterator_age_ms),
            ),
            "troubles": [line[:300] for calls, _ in self._calls.values() for line in _troubles(calls)],
        }

    def _function(self, name: str) -> dict[str, Any]:
        calls, stats = self._calls[name]
        return {
            "name": name,
            "invocations": calls.batches,
            "errors": stats().errors,
            "duration_ms": round(calls.duration_ms / calls.batches, 1) if calls.batches else None,
            "slowest_ms": None,
            "memory_mb": calls.memory_mb,
            "limit_mb": self._memory_mb[name],
        }
