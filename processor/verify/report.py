"""What was compared, and what became of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from processor.store.differences import Difference
from processor.store.unreadable import Unread
from processor.verify.expiry import Kept


@dataclass
class Report:
    """What was compared, and what became of it."""

    retention: int = 0
    """Seconds for which readings are kept: as the settings say, or as the longest-lived of those seen, if less."""

    devices: int = 0
    ranges: int = 0
    pending: int = 0
    expired: int = 0
    shortened: int = 0
    """Those of the expired that are younger than `retention`: the items nearest to them are kept for less."""
    shorteners: list[Kept] = field(default_factory=list)
    """The first of those items."""
    caught_up: int = 0
    """Differed at first, and did not any more when looked at again."""
    fixed: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    first: list[Difference] = field(default_factory=list)
    """The first of the differences that are left."""

    unread: Unread = field(default_factory=Unread)
    """What nothing can be compared with: somebody wrote it by hand, and has to put it right."""

    def shorten(self, by: Iterable[Kept], shown: int) -> None:
        """Count the ranges that expired by these items, one for each, of those that are kept for less than others."""
        for each in by:
            if each.seconds < self.retention:
                self.shortened += 1
                if len(self.shorteners) < shown and each not in self.shorteners:
                    self.shorteners.append(each)

    @property
    def passed(self) -> bool:
        """Tell whether no difference is left, and everything could be read."""
        return not self.left and not self.unread
