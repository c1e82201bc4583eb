"""The check of the roll-ups of a local run: what all of them come to, against the readings themselves.

It adds the readings up on its own, without asking which range they fall into: each must be in the roll-ups once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from processor.reading import Reading, quantity
from processor.store.rollups import Rollup


@dataclass(frozen=True, slots=True)
class Sums:
    """What one quantity of one device comes to over a whole run."""

    count: int
    total: Fraction
    least: Fraction
    most: Fraction


def compare_rollups(readings: Mapping[str, list[Reading]], rollups: Iterable[Rollup]) -> tuple[int, list[str]]:
    """Return how many roll-ups there are, and a line for each device and quantity of which they come to something else.

    readings: each device's readings, every copy counted once.
    """
    counted: dict[str, int] = {}
    rolled: dict[tuple[str, str], Sums] = {}
    number = 0
    for rollup in rollups:
        number += 1
        counted[rollup.device] = counted.get(rollup.device, 0) + rollup.readings
        for name, each in rollup.quantities.items():
            _add(rolled, (rollup.device, name), Sums(each.count, *map(Fraction, (each.sum, each.min, each.max))))
    expected: dict[tuple[str, str], Sums] = {}
    for device, found in readings.items():
        for reading in found:
            for name, value in reading.values.items():
                if isinstance(value, int | float) and (isinstance(value, bool) or quantity(name).kind == "number"):
                    exact = Fraction(repr(value + 0))
                    _add(expected, (device, name), Sums(1, exact, exact, exact))
    lines = [
        f"{device}: {len(readings.get(device, ()))} readings, {counted.get(device, 0)} in the roll-ups"
        for device in sorted(readings.keys() | counted.keys())
        if len(readings.get(device, ())) != counted.get(device, 0)
    ]
    lines += [
        f"{device}: {name}: {_shown(expected.get(place))}, the roll-ups say {_shown(rolled.get(place))}"
        for place in sorted(expected.keys() | rolled.keys())
        if expected.get(place) != rolled.get(place)
        for device, name in [place]
    ]
    return number, lines


def _add(sums: dict[tuple[str, str], Sums], place: tuple[str, str], new: Sums) -> None:
    old = sums.get(place)
    if old is not None:
        new = Sums(old.count + new.count, old.total + new.total, min(old.least, new.least), max(old.most, new.most))
    sums[place] = new


def _shown(sums: Sums | None) -> str:
    if sums is None:
        return "nothing"
    return f"{sums.count} values, sum {float(sums.total):g}, {float(sums.least):g} to {float(sums.most):g}"
