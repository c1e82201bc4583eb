"""What of the tables cannot be read, for somebody wrote it by hand: named, counted and passed over.

One such part must neither stop whoever reads nor hide what lies beside it. So what turns items into readings, roll-ups
and devices tells of it (`note`), and goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from processor.times import iso

MOST = 1000
"""So many are kept: a table of something else would have millions."""


class Unreadable(NamedTuple):
    """One part of an item. start: of the slot or range, epoch seconds; None where the item has no such key, or none."""

    table: str
    device: str
    start: int | None
    part: str
    why: str
    remedy: str

    def __str__(self) -> str:
        """Say what it is, where, and what to do."""
        kind = "slot" if self.table == "readings" else "range"
        at = "" if self.start is None else f", {kind} {self.start} ({iso(self.start * 1000)})"
        return f"{self.table}, {self.device}{at}: {self.part}: {self.why}; {self.remedy}"


Note = Callable[[Unreadable], object]


def passed_over(_: Unreadable) -> None:
    """Tell nobody."""


class Unread(Collection[Unreadable]):
    """Those that were met so far, each once however often it was read."""

    def __init__(self) -> None:
        self._found: dict[Unreadable, None] = {}

    def add(self, each: Unreadable) -> None:
        """Keep one more."""
        if len(self._found) < MOST:
            self._found[each] = None

    def __len__(self) -> int:
        return len(self._found)

    def __contains__(self, each: object) -> bool:
        return each in self._found

    def __iter__(self) -> Iterator[Unreadable]:
        return iter(list(self._found))
