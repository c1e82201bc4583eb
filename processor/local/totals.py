"""What a local run's functions say of themselves: their EMF blobs, added up as they come."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import orjson

KEPT_LINES = 200

QUIET = ("[INFO]", "[DEBUG]")
"""How the lines begin that libraries log and the runtime formats, where they are no warnings."""


class Blobs:
    """Adds up one function's EMF blobs; keeps the last lines that are warnings or worse. Safe for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.batches = 0
        self.cold_starts = 0
        self.memory_mb = 0.0
        self.duration_ms = 0.0
        self.troubles: list[str] = []

    def line(self, line: str) -> None:
        """Take one line of a worker's output."""
        try:
            found = orjson.loads(line)
        except orjson.JSONDecodeError:
            found = None
        with self._lock:
            if not isinstance(found, dict):
                if not line.startswith(QUIET):
                    self._trouble(line)
            elif "_aws" in found:
                self._blob(found)
            elif found.get("level") not in ("INFO", "DEBUG"):
                self._trouble(line)

    def _trouble(self, line: str) -> None:
        self.troubles = [*self.troubles, line][-KEPT_LINES:]

    def _blob(self, blob: dict[str, Any]) -> None:
        self.batches += 1
        self.cold_starts += blob["ColdStart"]
        self.memory_mb = max(self.memory_mb, blob["MemoryPeakMB"])
        self.duration_ms += blob["BatchDuration"][0]


class RollupTotals(Blobs):
    """What `rollup` says: `counts` as its log line has them (records, ranges, written, stale, devices, failed)."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def _blob(self, blob: dict[str, Any]) -> None:
        super()._blob(blob)
        self.counts.update(blob["Rollup"])


class Totals(Blobs):
    """What `ingest` says: the ledger, the reasons, what was written and how late."""

    def __init__(self) -> None:
        super().__init__()
        self.records = 0
        self.ledger: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.ignored: Counter[str] = Counter()
        self.write_calls = 0
        self.write_units = 0.0
        self.ages: Counter[int] = Counter()
        """How many records were so many ms old when they were stored; in thousandths of a record."""

    def _blob(self, blob: dict[str, Any]) -> None:
        super()._blob(blob)
        self.records += blob["Records"]
        self.ledger.update(blob["Ledger"])
        self.reasons.update(blob["Reasons"])
        self.ignored.update(blob["Ignored"])
        self.write_calls += blob["WriteCalls"]
        self.write_units += blob["WriteUnits"]
        ages = blob["RecordAge"]
        for age in ages if blob["Records"] else ():
            self.ages[round(age)] += round(1000 * blob["Records"] / len(ages))

    def age(self, share: float) -> float:
        """Return the age in ms that so great a share of the records did not exceed when they were stored."""
        with self._lock:
            ages = sorted(self.ages.items())
        wanted = share * sum(weight for _, weight in ages)
        seen = 0
        for age, weight in ages:
            seen += weight
            if seen >= wanted:
                return age
        return 0.0
