"""What was compared, and what became of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from processor.store.differences import Difference
from processor.store.unreadable import Unread


@dataclass
class Report:
    """What was compared, and what became of it."""

    retention: int = 0
    """Seconds for which readings are kept: as the settings say, or as their own expiry does, whichever is shorter."""

    devices: int = 0
    ranges: int = 0
    pending: int = 0
    expired: int = 0
    caught_up: int = 0
    """Differed at first, and did not any more when looked at again."""
    fixed: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    first: list[Difference] = field(default_factory=list)
    """The first of the differences that are left."""

    unread: Unread = field(default_factory=Unread)
    """What nothing can be compared with: somebody wrote it by hand, and has to put it right."""

    @property
    def passed(self) -> bool:
        """Tell whether no difference is left, and everything could be read."""
        return not self.left and not self.unread
