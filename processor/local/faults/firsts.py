"""What is watched of the first copies: what was once seen in `readings` stays as it was, whatever comes later."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

from processor.local.expected import Cell
from processor.store.tables import AttributeValue


class Firsts:
    """The cells as they were when each was first seen."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cells: dict[Cell, AttributeValue] = {}

    def see(self, items: Iterable[Mapping[str, AttributeValue]]) -> list[str]:
        """Look at items of the table; return what is not as it was."""
        changed = []
        with self._lock:
            for item in items:
                device, start = item["device"]["S"], int(item["slot"]["N"])
                for name, value in item.items():
                    cell = (device, start, name)
                    if "M" in value and self._cells.setdefault(cell, value) != value:
                        changed.append(f"{cell} has changed since it was first seen")
                        self._cells[cell] = value  # said once
        return changed

    def of(self, device: str) -> int:
        """Return how many cells of a device were seen."""
        with self._lock:
            return sum(cell[0] == device for cell in self._cells)
