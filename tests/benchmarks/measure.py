"""Paired timing: contenders take turns, A B C A B C …, and are compared within each round.

CPU time, not time on the clock: all threads of this process together, none of any other (the stub's is its own).
A machine that others use runs now faster, now slower; what it does to one round it does to all contenders of it, so a
ratio within a round says more than two numbers of different runs.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

LEAST = 0.05
"""Seconds of CPU that one turn should take at least; quick work is repeated within its turn."""


@dataclass(frozen=True)
class Measured:
    """CPU seconds of one piece of work, by contender and round."""

    rounds: Mapping[str, Sequence[float]]

    def seconds(self, name: str) -> float:
        """Return the median of a contender's rounds."""
        return median(self.rounds[name])

    def ratio(self, name: str, to: str) -> float:
        """Return how often `to`'s CPU time goes into `name`'s: the median of the rounds' own ratios."""
        return median(mine / other for mine, other in zip(self.rounds[name], self.rounds[to], strict=True))


def paired(
    contenders: Mapping[str, Callable[[], object]], *, rounds: int, least: float, frozen: bool = True
) -> Measured:
    """Run all contenders, `rounds` times in turn, after one turn that warms them up and is not counted.

    frozen: keep what is there before they start, all contenders' imports and inputs, out of garbage collection, so that
    none pays for the others'. What they make while they run is collected, and counted, as always.
    """
    if frozen:
        gc.collect()
        gc.freeze()
    repeats = {}
    for name, work in contenders.items():
        work()
        repeats[name] = max(1, round(least / max(_turn(work, 1), 1e-6)))
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, work in contenders.items():
            found[name].append(_turn(work, repeats[name]))
    return Measured(found)


def _turn(work: Callable[[], object], repeats: int) -> float:
    gc.collect()  # one contender's rubbish must not be cleared away in another's time
    started = time.process_time()
    for _ in range(repeats):
        work()
    return (time.process_time() - started) / repeats


def show(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table in Markdown, its columns aligned."""
    cells = [list(head), *map(list, rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    cells.insert(1, ["-" * (width - 1) + (":" if n else "-") for n, width in enumerate(widths)])
    print(f"\n{title}\n")
    for row in cells:
        padded = (
            cell.rjust(width) if n else cell.ljust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        print(f"| {' | '.join(padded)} |", flush=True)


def verdict(value: float, *, least: float | None = None, most: float | None = None) -> str:
    """Return how a value stands to its target: `met` or `missed`, and the target."""
    if least is not None:
        return f"{'met' if value >= least else 'missed'} (≥ {least:.2g})"
    assert most is not None
    return f"{'met' if value <= most else 'missed'} (≤ {most:.2g})"
