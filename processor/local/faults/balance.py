"""The ledger: every advertisement that was sent is in one of its places, and nothing else is there."""

from __future__ import annotations

from typing import NamedTuple

from processor.local.check import Verdict


class Balance(NamedTuple):
    """What the stream holds, and what the scans found: the table's and quarantine's, and copies and ignored by rule."""

    advertisements: int
    stored: int
    copies: int
    quarantined: int
    ignored: int

    @classmethod
    def of(cls, verdict: Verdict, *, quarantined: int = 0, ignored: int = 0) -> Balance:
        """Add up a verdict. quarantined, ignored: how many more, or fewer, than its records' own rules say."""
        expected = verdict.expected
        apart = set(verdict.wrongly_quarantined)
        # Copies of what had no room are in quarantine, each by itself, and none of them is stored.
        refused = sum(len(places) - 1 for places in expected.places.values() if apart.issuperset(places))
        # What nothing in its own record explains is either told by a model from another one, or ignored.
        unexplained = len(expected.unknown) - expected.ignored["unknown_format"]
        return cls(
            expected.advertisements,
            verdict.found - verdict.optional,
            expected.copies - refused,
            verdict.quarantined + quarantined,
            expected.ignored.total() + unexplained + ignored,
        )

    @property
    def holds(self) -> bool:
        """Tell whether nothing is missing and nothing is there twice."""
        return self.advertisements == self.stored + self.copies + self.quarantined + self.ignored

    def __str__(self) -> str:
        return (
            f"{self.advertisements:,} advertisements = {self.stored:,} stored + {self.copies:,} copies + "
            f"{self.quarantined:,} quarantined + {self.ignored:,} ignored"
        )
