"""What a cache counts: hits, misses, errors, and what protection against stampedes did."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import orjson

NAMES = {
    "memory_hits": "answered from memory, absences included",
    "hits": "answered by the table",
    "misses": "not in the table, or expired",
    "writes": "values that the table took",
    "errors": "calls that failed because the table did",
    "computed": "computations by `cached`",
    "early": "of these, before the value expired",
    "waited": "calls of `cached` that waited for another process's computation",
    "stale": "expired values served while a new one was computed",
    "incomplete": "values found with a chunk missing or damaged",
    "undecodable": "values of another codec, compression or shape",
}


class Stats:
    """Counts by name, as attributes: `cache.stats.hits`. NAMES says what each counts. Safe to share between threads."""

    def __init__(self, memory_hits: Callable[[], int]) -> None:
        self._memory_hits = memory_hits  # counted under the lock of the memory layer, which a hit takes anyway
        self._counts = dict.fromkeys(NAMES, 0)
        self._emitted = dict(self._counts)
        self._lock = threading.Lock()
        self.last_error = ""
        """The last error of the table, as text."""

    def add(self, name: str, count: int = 1) -> None:
        """Count."""
        with self._lock:
            self._counts[name] += count

    def error(self, error: Exception) -> None:
        """Count a failure of the table, and keep its text."""
        self.last_error = str(error)
        self.add("errors")

    def __getattr__(self, name: str) -> int:
        if name not in NAMES:
            raise AttributeError(f"a cache counts {', '.join(NAMES)}, not {name!r}")
        return self.counts()[name]

    def counts(self) -> dict[str, int]:
        """Return all counts since the cache was made."""
        with self._lock:
            return self._counts | {"memory_hits": self._memory_hits()}

    def emf(self, *, namespace: str = "Processor", service: str = "cache", at: float | None = None) -> str:
        """Return one EMF line of what was counted since the last such line, for a Lambda function to print.

        Only CacheErrors is a metric, for each costs money every month; the others are properties, for Logs Insights.
        """
        counts = self.counts()
        with self._lock:
            since = {name: count - self._emitted[name] for name, count in counts.items()}
            self._emitted = counts
        line: dict[str, Any] = {
            "_aws": {
                "Timestamp": round((time.time() if at is None else at) * 1000),
                "CloudWatchMetrics": [
                    {
                        "Namespace": namespace,
                        "Dimensions": [["service"]],
                        "Metrics": [{"Name": "CacheErrors", "Unit": "Count"}],
                    }
                ],
            },
            "service": service,
            "CacheErrors": since["errors"],
            "cache": since,
        }
        if since["errors"]:
            line["cache_error"] = self.last_error
        return orjson.dumps(line).decode()
