"""One device's history as columns to draw: readings, or roll-ups where there would be too many, with min and max.

Whatever the time asked for, about as many points travel as can be seen. A line is drawn of the means; where a point
stands for several values it has their least and greatest too, so that no peak is lost. Roll-ups that the table lacks
are computed from the readings, as a query's are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

from processor.ask.query import Source
from processor.dashboard.left_out import left_out
from processor.errors import SettingsError
from processor.reading import Reading, Value, quantity
from processor.store.parallel import ahead
from processor.store.reader import Reader, once
from processor.store.registry import Calibration, Device
from processor.store.rollups import RANGE_MS, RANGE_SECONDS, Rollup, Rollups, folded
from processor.store.tables import SKEW_MS, Slot
from processor.store.unreadable import Note, Unread
from processor.store.wire import Client

HOUR, DAY = 3600, 86400
RESOLUTIONS = {"raw": 0, "5m": RANGE_SECONDS, "hour": HOUR, "day": DAY}
"""What a point stands for, in seconds; raw: a reading."""

AUTOMATIC = (("raw", 6 * HOUR), ("5m", 7 * DAY), ("hour", 90 * DAY), ("day", 10_000 * DAY))
"""The resolution for times of up to so many seconds, where none is asked for."""

POINTS = 2000
MOST_POINTS = 100_000
MOST_SLOTS = 20_000
"""So many items of the table are read for one answer: 3½ days without a break."""

PIECE_MS = DAY * 1000
"""Roll-ups are read in such pieces, THREADS at once, the latest first."""

FEW = 7
"""For more pieces than these it is asked first from when to when there is anything."""

THREADS = 2
FILLED = 100_000
"""When so many readings were read for one answer in place of roll-ups, the pieces before have only what the table has.
THREADS pieces may be under way then. A device that is heard every six minutes comes to as many in more than a year."""

GATEWAYS = 8
"""The signal is drawn for so many gateways: those that heard the device most often."""


class Series:
    """Reads one device's history, from the tables of these names. clock: epoch seconds."""

    def __init__(self, client: Client, readings: str, rollups: str, *, clock: Callable[[], float] = time.time) -> None:
        self._client = client
        self._readings = readings
        self._rollups = rollups
        self._clock = clock

    def read(
        self, device: Device, start: int, end: int, *, resolution: str = "auto", points: int = POINTS
    ) -> dict[str, Any]:
        """Return what a device measured in [start, end) (ms since 1970), calibrated.

        `quantities`: a list of {name, unit, kind, t, mean} and, where points stand for several values, min and max;
        `t` in seconds. `signal`: RSSI by gateway over a common t, or None where roll-ups are read, which have none.
        `complete`: false where not all was looked at, for there was too much. `left_out`: what cannot be read.
        Raises SettingsError for times or a resolution that make no sense.
        """
        if not 0 <= start < end:
            raise SettingsError("from is before to, both in ms since 1970")
        if resolution not in RESOLUTIONS and resolution != "auto":
            raise SettingsError(f"resolution is auto or one of {', '.join(RESOLUTIONS)}, not {resolution!r}")
        points = max(10, min(points, MOST_POINTS))
        if resolution == "auto":
            resolution = next(name for name, seconds in AUTOMATIC if end - start <= seconds * 1000)
        unread = Unread()
        reader = Counted(self._client, self._readings, clock=self._clock, note=unread.add)
        if resolution == "raw":
            found = _raw(reader, device, start, end, points)
        else:
            found = self._rolled(reader, device, start, end, RESOLUTIONS[resolution], points, unread.add)
        answer = {"device": device.address, "from": start, "to": end, "resolution": resolution}
        return answer | found | {"left_out": left_out(unread)}

    def _rolled(
        self, reader: Counted, device: Device, start: int, end: int, seconds: int, points: int, note: Note
    ) -> dict[str, Any]:
        source = Source(reader, Rollups(self._client, self._rollups, note=note), threads=THREADS, clock=self._clock)
        pieces = self._pieces(source, device.address, start, end)

        def read(piece: tuple[int, int]) -> tuple[list[Rollup], bool]:
            begin, finish = piece
            if reader.cells < FILLED:
                return source.rolled(device.address, begin, finish), True
            return list(source.rollups.read(device.address, begin // 1000, finish // 1000)), False

        parts = [found for _, found in ahead(pieces, read, threads=THREADS, weigh=lambda _: 1, most=THREADS)]
        rollups = chain.from_iterable(part for part, _ in reversed(parts))
        return {
            "complete": all(complete for _, complete in parts),
            "quantities": _from_rollups(device, list(folded(rollups, seconds)), points),
            "signal": None,
        }

    def _pieces(self, source: Source, device: str, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield [start, end) in pieces of whole ranges, the latest first; of a long time where there is anything."""
        end = min(end, round(self._clock() * 1000) + RANGE_MS)
        if end - start > FEW * PIECE_MS:
            start, end = source.extent(device, start, end) or (0, 0)
        first, last = start // RANGE_MS * RANGE_MS, -(-end // RANGE_MS) * RANGE_MS
        while first < last:
            cut = max(first, (last - 1) // PIECE_MS * PIECE_MS)
            yield cut, last
            last = cut


class Counted(Reader):
    """A reader that counts the readings it gave: `cells`."""

    cells = 0

    def slots(self, device: str, start: int, end: int) -> Iterator[Slot]:
        """Yield the device's slots that touch [start, end) (ms since 1970), in order."""
        for slot in super().slots(device, start, end):
            self.cells += len(slot.cells)
            yield slot


def _raw(reader: Reader, device: Device, start: int, end: int, points: int) -> dict[str, Any]:
    slots = list(islice(reader.slots(device.address, start - SKEW_MS, end + SKEW_MS), MOST_SLOTS + 1))
    cells = chain.from_iterable(slot.cells.values() for slot in slots[:MOST_SLOTS])
    readings = [reading for reading in once(cells) if start <= (reading.at or 0) < end]
    return {
        "complete": len(slots) <= MOST_SLOTS,
        "quantities": _from_readings(device, readings, start, end, points),
        "signal": _signal(slots, start // 1000, end // 1000, points),
    }


Points = list[tuple[float, float, float, float, int]]
"""(time in seconds, mean, min, max, how many values), in the order of time."""


def _from_readings(device: Device, readings: Sequence[Reading], start: int, end: int, points: int) -> list[Any]:
    found: dict[str, Points] = {}
    for reading in device_calibrated(device, readings):
        at = (reading.at or 0) / 1000
        for name, value in reading.values.items():
            number = _number(name, value)
            if number is not None:
                found.setdefault(name, []).append((at, number, number, number, 1))
    return [_columns(name, _thinned(each, start / 1000, end / 1000, points)) for name, each in _ordered(found)]


def device_calibrated(device: Device, readings: Iterable[Reading]) -> Iterable[Reading]:
    """Return a device's readings, corrected as it is registered."""
    return map(device.calibrated, readings) if device.calibration else readings


def _from_rollups(device: Device, rollups: Sequence[Rollup], points: int) -> list[Any]:
    found: dict[str, Points] = {}
    for rollup in rollups:
        for name, summary in rollup.quantities.items():
            corrected = device.calibration.get(name, Calibration())
            mean, low, high = (
                float(value * corrected.scale + corrected.offset) for value in (summary.mean, summary.min, summary.max)
            )
            found.setdefault(name, []).append((rollup.start, mean, min(low, high), max(low, high), summary.count))
    first, last = (rollups[0].start, rollups[-1].start + 1) if rollups else (0, 1)
    return [_columns(name, _thinned(each, first, last, points)) for name, each in _ordered(found)]


def _number(name: str, value: Value) -> float | None:
    """Return what can be drawn of a value: numbers, and flags as 0 and 1."""
    if isinstance(value, bool):
        return float(value)
    return None if isinstance(value, str) or quantity(name).kind != "number" else float(value)


def _ordered(found: Mapping[str, Points]) -> list[tuple[str, Points]]:
    """Return the quantities in the registry's order, which is that of how often they are looked for."""
    return sorted(found.items(), key=lambda pair: (_place(pair[0]), pair[0]))


FIRST = ("temperature", "humidity", "pressure", "co2", "pm2_5", "illuminance", "battery", "battery_voltage")


def _place(name: str) -> int:
    return FIRST.index(name) if name in FIRST else len(FIRST)


def _thinned(values: Points, start: float, end: float, points: int) -> Points:
    """Return at most about so many points, each for the values of an equal part of the time."""
    if len(values) <= points:
        return values
    width = (end - start) / points
    found: Points = []
    part, begun = -1, 0
    for place, value in enumerate(values):
        number = int((value[0] - start) / width)
        if number != part and place:
            found.append(_joined(values[begun:place]))
            begun = place
        part = number
    found.append(_joined(values[begun:]))
    return found


def _joined(values: Points) -> tuple[float, float, float, float, int]:
    count = sum(value[4] for value in values)
    at = sum(value[0] for value in values) / len(values)
    mean = sum(value[1] * value[4] for value in values) / count
    return at, mean, min(value[2] for value in values), max(value[3] for value in values), count


def _columns(name: str, values: Points) -> dict[str, Any]:
    columns: dict[str, Any] = {
        "name": name,
        "unit": quantity(name).unit,
        "kind": quantity(name).kind,
        "t": [round(value[0], 3) for value in values],
        "mean": [_short(value[1]) for value in values],
    }
    if any(value[4] > 1 for value in values):
        columns["min"] = [_short(value[2]) for value in values]
        columns["max"] = [_short(value[3]) for value in values]
    return columns


def _short(number: float) -> float:
    """Return a number with the digits that can be seen."""
    return float(f"{number:.8g}")


def _signal(slots: Sequence[Slot], start: int, end: int, points: int) -> dict[str, Any]:
    """Return the RSSI of each gateway over a common t (s); where thinned, the strongest of each part."""
    heard: dict[str, list[tuple[int, int]]] = {}
    for slot in slots:
        if start <= slot.start < end:
            for gateway, rssi in slot.gateways.items():
                if rssi is not None:
                    heard.setdefault(gateway, []).append((slot.start, rssi))
    names = sorted(heard, key=lambda name: (-len(heard[name]), name))[:GATEWAYS]
    width = max(1, (end - start) // points)
    table: dict[int, dict[str, int]] = {}
    for name in names:
        for at, rssi in heard[name]:
            row = table.setdefault(at - at % width if width > 1 else at, {})
            row[name] = max(rssi, row.get(name, rssi))
    times = sorted(table)
    return {
        "t": times,
        "gateways": [{"name": name, "rssi": [table[at].get(name) for at in times]} for name in sorted(names)],
        "others": len(heard) - len(names),
    }
