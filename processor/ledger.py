"""What became of the advertisements of a batch: each is stored, a duplicate, rejected, ignored or failed."""

from __future__ import annotations

from collections import Counter
from typing import Any

from processor.decode.gateways import Advertisement
from processor.errors import StoreError
from processor.quarantine import Rejection
from processor.reading import Reading

Source = tuple[int, int]
"""Where an advertisement came from: its record's place in the batch, its own place in the record."""

MAX_REJECTIONS = 10_000
"""So many rejections of one batch are told apart: each has its reason in words, and six megabytes of nothing come to
two million. Of a record beyond that one stands for all, and a redrive takes the whole of it."""


class Ledger:
    """The counts of one batch, and the reasons behind them. samples: of so many that are ignored a sample is kept."""

    def __init__(self, *, samples: int) -> None:
        self.received = 0
        self.stored = 0
        self.duplicates = 0
        self.rejections: dict[int, list[Rejection]] = {}
        """By their record's place in the batch."""
        self.ignored: Counter[str] = Counter()
        self.failed: Counter[int] = Counter()
        """How many advertisements failed, by their record's place in the batch."""
        self.samples: list[str] = []
        self.error = ""
        """Why the first of them failed before anything was written."""
        self._most_samples = samples
        self._told_apart = 0
        self._told_apart_of: Counter[int] = Counter()
        """The same of each record, by its place in the batch."""
        self._folded: dict[int, tuple[int, str]] = {}
        """Of each record of which one rejection stands for all: for how many, and what the first of them said."""

    @property
    def rejected(self) -> int:
        """How many advertisements (and records that cannot be opened) were rejected."""
        return sum(map(len, self.rejections.values()))

    def ledger(self) -> dict[str, int]:
        """Return the counts; received = stored + duplicates + rejected + ignored + failed."""
        return {
            "received": self.received,
            "stored": self.stored,
            "duplicates": self.duplicates,
            "rejected": self.rejected,
            "ignored": self.ignored.total(),
            "failed": self.failed.total(),
        }

    def quarantine_failed(self) -> None:
        """Take every rejection back as failed: their records have to come again."""
        for place, rejections in self.rejections.items():
            self.failed[place] += len(rejections)
        self.rejections = {}

    def fail(self, source: Source, error: StoreError) -> None:
        """Count an advertisement as failed: its record comes again."""
        self.failed[source[0]] += 1
        self.error = self.error or str(error)

    def reject(self, place: int, index: int | None, reason: str, message: str) -> None:
        """Note why an advertisement goes into quarantine; index: None for the record as a whole."""
        self.rejections.setdefault(place, []).append(Rejection(index, reason, message))

    def fold(self, place: int) -> None:
        """Keep one rejection of a record instead of many, where the batch has too many of them.

        It is asked for when the record is decoded, and again with each that the table refuses.
        """
        found = self.rejections.get(place, [])
        others = self._told_apart - self._told_apart_of[place]
        if len(found) > 1 and (place in self._folded or others + len(found) > MAX_REJECTIONS):
            before, first = self._folded.get(place, (1, found[0].message))
            count = before + len(found) - 1
            message = (
                f"{count} of its advertisements, not told apart, for more than {MAX_REJECTIONS} of the batch were "
                f"rejected. The first: {first}"
            )
            self._folded[place] = count, first
            self.rejections[place] = [Rejection(None, "many", message)]
            self.received -= len(found) - 1
        self._told_apart_of[place] = len(self.rejections.get(place, ()))
        self._told_apart = others + self._told_apart_of[place]

    def ignore(self, kind: str, advertisement: Any = None) -> None:
        """Count an advertisement that is dropped, by kind, and keep a sample of it."""
        self.ignored[kind] += 1
        if advertisement is not None and len(self.samples) < self._most_samples:
            self.samples.append(_sample(advertisement))


def _sample(advertisement: Advertisement | Reading) -> str:
    if isinstance(advertisement, Reading):
        return f"{advertisement.device} {advertisement.format}"
    return f"{advertisement.address} {advertisement.data.hex()}"
