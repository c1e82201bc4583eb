"""Roll-ups: what the readings of five minutes come to, as a pure function of what is stored, and the table of them.

    device (S)   the sensor's address                                     partition key
    start (N)    the range's start, epoch seconds, a multiple of 300      sort key
    n (N)        the cells read for it, neighbours within the skew included, copies too
    r (N)        the readings of the range, every copy counted once
    q (M)        by short key of a quantity: {n: count, sum, min, max, last}, exact decimals; flags count as 0 and 1
    d (N)        1 where readings of it were deleted

Cells only grow. So of two states of a range the one with the larger `n` is the later one, and a roll-up is written on
the condition that none with a larger `n` is there: redelivered, reordered and concurrent writes end in the same item.
(A read of several slots is no snapshot, so that two states of the same `n` may differ. But whoever handles the last
change reads all cells, and nobody has more.)

A deletion alone makes `n` smaller, and from then on it does not say any more which state is the later one: who read
before has more cells. So the roll-up of a range that lost readings is marked, and stays where nothing is left, with
nothing in it. There nobody writes by `n` again, but all as the rebuild did: whatever is there, then reading once more
whether it still holds. So the last to write has seen what it wrote to be right, or comes again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Any, NamedTuple

from processor.reading import Reading, key_of, quantity
from processor.store.extent import extent
from processor.store.items import pages, set_item
from processor.store.reader import once
from processor.store.tables import SKEW_MS, SLOT_MS, AttributeValue, Slot, known_quantity, start_of
from processor.store.unreadable import Note, Unreadable, passed_over
from processor.store.wire import Client

RANGE_SECONDS = 300
RANGE_MS = RANGE_SECONDS * 1000

EXACT = Context(prec=38)
"""DynamoDB's own precision: what a sum of sensor values needs is far below it."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What one quantity's values of a range come to, uncalibrated. `last` is the latest, ties by identity."""

    count: int
    sum: Decimal
    min: Decimal
    max: Decimal
    last: Decimal

    @property
    def mean(self) -> Decimal:
        """The arithmetic mean."""
        return EXACT.divide(self.sum, Decimal(self.count))


class Rollup(NamedTuple):
    """What a device's readings come to from `start` (epoch seconds) on, for five minutes, or longer once folded.

    cells: those it was computed from. readings: those that count. quantities: by name, numbers and flags only.
    """

    device: str
    start: int
    cells: int
    readings: int
    quantities: Mapping[str, Summary]


def ranges_of(slot: int) -> list[int]:
    """Return the starts of the ranges that a slot (its start, epoch seconds) may change, in order.

    Its own range, and a neighbour within the skew, whose readings may turn out to be copies.
    """
    first = (slot * 1000 - SKEW_MS) // RANGE_MS
    last = (slot * 1000 + SLOT_MS - 1 + SKEW_MS) // RANGE_MS
    return [number * RANGE_SECONDS for number in range(first, last + 1)]


def window(start: int, count: int = 1) -> tuple[int, int]:
    """Return what must be read for `count` ranges from `start` on: from, to (ms since 1970, the end not included)."""
    return start * 1000 - SKEW_MS, start * 1000 + count * RANGE_MS + SKEW_MS


def rollup_of(
    device: str, start: int, slots: Iterable[Slot], *, within: tuple[int, int] | None = None
) -> Rollup | None:
    """Return the roll-up of one range from the slots of its window; others among them are passed over.

    within: only of what was measured from, to (ms since 1970, the end not included), for a range that a query cuts.
    None where nothing was ever measured in the range itself, so that nothing is written for it either.
    """
    begin, end = window(start)
    near = [slot for slot in slots if begin < slot.start * 1000 + SLOT_MS and slot.start * 1000 < end and slot.cells]
    if not any(start <= slot.start < start + RANGE_SECONDS for slot in near):
        return None
    cells = [reading for slot in near for reading in slot.cells.values()]
    first, last = start * 1000, start * 1000 + RANGE_MS
    if within is not None:
        first, last = max(first, within[0]), min(last, within[1])
    inside = [reading for reading in once(cells) if first <= (reading.at or 0) < last]
    return Rollup(device, start, len(cells), len(inside), _summaries(inside))


def _summaries(readings: Iterable[Reading]) -> dict[str, Summary]:
    values: dict[str, list[Decimal]] = {}
    for reading in readings:
        for name, value in reading.values.items():
            if isinstance(value, bool):
                values.setdefault(name, []).append(Decimal(value))
            elif not isinstance(value, str) and quantity(name).kind == "number":
                values.setdefault(name, []).append(Decimal(repr(value)))
    return {
        name: Summary(len(each), _total(each), min(each), max(each), each[-1]) for name, each in sorted(values.items())
    }


def _total(values: Iterable[Decimal]) -> Decimal:
    total = Decimal(0)
    for value in values:
        total = EXACT.add(total, value)
    return total


def folded(rollups: Iterable[Rollup], seconds: int) -> Iterator[Rollup]:
    """Yield one device's roll-ups, which come in order, as those of longer ranges: hours, say, or days of UTC."""
    begun: Rollup | None = None
    for rollup in rollups:
        start = rollup.start // seconds * seconds
        if begun is not None and begun.start == start:
            begun = _joined(begun, rollup)
            continue
        if begun is not None:
            yield begun
        begun = rollup._replace(start=start)
    if begun is not None:
        yield begun


def _joined(one: Rollup, other: Rollup) -> Rollup:
    """Return a range's roll-up and that of a later part of it as one."""
    quantities = dict(one.quantities)
    for name, b in other.quantities.items():
        a = quantities.get(name)
        quantities[name] = (
            b
            if a is None
            else Summary(a.count + b.count, EXACT.add(a.sum, b.sum), min(a.min, b.min), max(a.max, b.max), b.last)
        )
    return Rollup(one.device, one.start, one.cells + other.cells, one.readings + other.readings, quantities)


def item_of(rollup: Rollup) -> dict[str, AttributeValue]:
    """Return a roll-up as an item of the table."""
    return {
        "device": {"S": rollup.device},
        "start": {"N": str(rollup.start)},
        "n": {"N": str(rollup.cells)},
        "r": {"N": str(rollup.readings)},
        "q": {"M": {key_of(name): _summary_value(each) for name, each in rollup.quantities.items()}},
    }


def _summary_value(summary: Summary) -> AttributeValue:
    values = {"n": summary.count, **{name: getattr(summary, name) for name in ("sum", "min", "max", "last")}}
    return {"M": {name: {"N": str(value)} for name, value in values.items()}}


def rollup_from(item: Mapping[str, AttributeValue], note: Note = passed_over) -> Rollup | None:
    """Return an item of the table as a Rollup; None, and a note, where it cannot be read.

    A quantity that is not known is passed over: a newer version may know more than this one.
    """
    start = start_of(item, "rollups", "start", RANGE_SECONDS, note)
    if start is None:
        return None
    device = item["device"]["S"]
    try:
        summaries = ((known_quantity(key), _summary(value["M"])) for key, value in sorted(item["q"]["M"].items()))
        quantities = {name: each for name, each in summaries if name is not None}
        return Rollup(device, start, int(item["n"]["N"]), int(item["r"]["N"]), quantities)
    except (LookupError, ValueError) as error:
        why = f"it is no roll-up ({error!r})"
        note(Unreadable("rollups", device, start, "the item", why, "`processor verify --fix` writes it anew"))
        return None


def _summary(value: Mapping[str, AttributeValue]) -> Summary:
    rest = (Decimal(value[name]["N"]) for name in ("sum", "min", "max", "last"))
    return Summary(int(value["n"]["N"]), *rest)


class Rollups:
    """The table `rollups`, through one client. note: is told of what cannot be read, and is left out."""

    def __init__(self, client: Client, table: str, *, note: Note = passed_over) -> None:
        self._client = client
        self._table = table
        self._note = note

    def read(
        self, device: str, start: int, end: int, *, consistent: bool = False, note: Note | None = None
    ) -> Iterator[Rollup]:
        """Yield a device's roll-ups of the ranges that start in [start, end) (epoch seconds), in order."""
        body: dict[str, Any] = {
            "TableName": self._table,
            "KeyConditionExpression": "#d = :d AND #s BETWEEN :a AND :b",
            "ExpressionAttributeNames": {"#d": "device", "#s": "start"},
            "ExpressionAttributeValues": {":d": {"S": device}, ":a": {"N": str(start)}, ":b": {"N": str(end - 1)}},
            "ConsistentRead": consistent,
        }
        yield from self._pages("Query", body, note or self._note)

    def all(self) -> Iterator[Rollup]:
        """Yield every roll-up, in no order."""
        yield from self._pages("Scan", {"TableName": self._table}, self._note)

    def _pages(self, operation: str, body: dict[str, Any], note: Note) -> Iterator[Rollup]:
        for items in pages(self._client, operation, body):
            yield from filter(None, (rollup_from(item, note) for item in items))

    def extent(self, device: str, start: int, end: int) -> tuple[int, int] | None:
        """Return the starts of the device's first and last range in [start, end) (epoch seconds); None: it has none."""
        return extent(self._client, self._table, "start", device, start, end - 1)

    def put(self, rollup: Rollup, *, worn: bool = False, deadline: float | None = None) -> bool:
        """Write a roll-up unless one of a later state is there, or a marked one; tell whether it was written.

        worn: over a marked one too, for ranges whose readings may have expired: they are not rebuilt.
        """
        later = "attribute_not_exists(#n) OR #n <= :n"
        return self._set(rollup, later if worn else f"{later} AND attribute_not_exists(#d)", deadline=deadline)

    def rebuild(self, rollup: Rollup, *, marked: bool = False, deadline: float | None = None) -> bool:
        """Write a roll-up whatever is there, and mark it: for ranges that lost readings; tell whether it was written.

        marked: only where it is marked already.
        """
        return self._set(rollup, "#d = :d" if marked else None, mark=True, deadline=deadline)

    def replace(self, rollup: Rollup, known: int | None) -> bool:
        """Write a roll-up where the table's is of `known` cells (None: it has none); tell whether it was."""
        if known is None:
            return self._set(rollup, "attribute_not_exists(#n)")
        return self._set(rollup, "#n = :known", {":known": {"N": str(known)}}, mark=rollup.cells < known)

    def _set(
        self,
        rollup: Rollup,
        condition: str | None,
        operands: Mapping[str, AttributeValue] | None = None,
        *,
        mark: bool = False,
        deadline: float | None = None,
    ) -> bool:
        item = item_of(rollup) | ({"d": {"N": "1"}} if mark else {})
        key = {name: item.pop(name) for name in ("device", "start")}
        return set_item(self._client, self._table, key, item, condition, operands, deadline=deadline)
