"""Sparklines: how numbers went over time, in one line for each device and quantity."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from processor.cli.show import literal

BARS = "▁▂▃▄▅▆▇█"
WIDTH = 48
"""So many bars a line: half an hour each for a day."""

MOST = 40
"""So many lines are shown; who wants others asks for fewer quantities or devices."""


class Bin(NamedTuple):
    """What the numbers of one bar come to."""

    total: float
    numbers: int


class Sparklines:
    """Numbers by device and quantity, summed up as they come: what is held does not grow with their number.

    start, end: the time that a line spans, ms since 1970.
    """

    def __init__(self, start: int, end: int) -> None:
        self._start = start
        self._width = max(1, end - start) / WIDTH
        self._bins: dict[tuple[str, str], dict[int, Bin]] = {}
        self._range: dict[tuple[str, str], tuple[float, float]] = {}

    def add(self, device: str, quantity: str, at: int, value: float) -> None:
        """Take a number that was measured at `at` (ms since 1970)."""
        place = device, quantity
        number = min(WIDTH - 1, max(0, int((at - self._start) / self._width)))
        bins = self._bins.setdefault(place, {})
        there = bins.get(number, Bin(0.0, 0))
        bins[number] = Bin(there.total + value, there.numbers + 1)
        least, most = self._range.get(place, (value, value))
        self._range[place] = min(least, value), max(most, value)

    def lines(self) -> Iterator[tuple[str, str, str, float, float]]:
        """Yield device, quantity, its line, and the least and the most of the numbers. One number makes no line."""
        for (device, quantity), bins in self._bins.items():
            means = {number: each.total / each.numbers for number, each in bins.items()}
            if sum(each.numbers for each in bins.values()) > 1:
                yield device, quantity, _line(means), *self._range[device, quantity]

    def show(self, console: Console) -> None:
        """Print the lines, as a table, where the terminal has such characters."""
        lines = list(self.lines())
        if not lines or not _shows(console.encoding):
            return
        several = len({device for device, *_ in lines}) > 1
        table = Table(title="over time", title_justify="left", expand=False)
        heads = ["device"] * several + ["quantity", "", "least", "most"]
        for head in heads:
            table.add_column(head, justify="right" if head in ("least", "most") else "left", no_wrap=True)
        for device, quantity, line, least, most in lines[:MOST]:
            table.add_row(*[literal(device)] * several, literal(quantity), line, f"{least:.6g}", f"{most:.6g}")
        console.print(table)
        if len(lines) > MOST:
            console.print(f"… and {len(lines) - MOST} more lines: --quantity, or fewer devices, shows others")


def _line(means: dict[int, float]) -> str:
    least, most = min(means.values()), max(means.values())
    height = (most - least) or 1.0
    last = max(means)
    return "".join(
        BARS[round((means[number] - least) / height * (len(BARS) - 1))] if number in means else " "
        for number in range(last + 1)
    )


def _shows(encoding: str) -> bool:
    try:
        codecs.encode(BARS, encoding)
    except (LookupError, UnicodeEncodeError):
        return False
    return True
