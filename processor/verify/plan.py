"""What to verify, and how patiently."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from processor.store.differences import EMPTIED, Difference
from processor.store.rollups import RANGE_MS, RANGE_SECONDS

EVER = 0, 1 << 40
"""Every range there can be."""


@dataclass(frozen=True)
class Plan:
    """What to verify, and how patiently.

    devices: only these; None for all. start, end: only ranges that touch [start, end) (ms since 1970). wait: seconds
    after which differences are looked at again. lag: seconds that roll-ups may take; what is younger is pending.
    fix: put right what is missing, stale or different. lower: what is foreign too. empty: also that of which no reading
    is left, which nothing brings back. shown: so many differences are kept.
    """

    devices: Collection[str] | None = None
    start: int | None = None
    end: int | None = None
    wait: float = 330.0
    lag: float = 600.0
    fix: bool = False
    lower: bool = False
    empty: bool = False
    shown: int = 20

    @property
    def span(self) -> tuple[int, int]:
        """The starts of the ranges that are meant, epoch seconds, the end not included."""
        first = EVER[0] if self.start is None else self.start // RANGE_MS * RANGE_SECONDS
        return first, EVER[1] if self.end is None else -(-self.end // RANGE_MS) * RANGE_SECONDS

    def fixes(self, difference: Difference) -> bool:
        """Tell whether such a difference is to be put right."""
        return {"foreign": self.lower, EMPTIED: self.empty}.get(difference.kind, self.fix)
