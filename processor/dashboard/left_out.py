"""What an answer leaves out, for it cannot be read: how many parts of the tables, and the first of them in words."""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice
from typing import Any

from processor.store.unreadable import Unreadable

NAMED = 3
"""So many say what they are, where, and what to do; the commands name more."""


def left_out(unread: Collection[Unreadable]) -> dict[str, Any]:
    """Return {count, first}: texts."""
    return {"count": len(unread), "first": [str(each) for each in islice(unread, NAMED)]}
