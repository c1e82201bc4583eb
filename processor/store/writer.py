"""The parallel fan-out: groups of cells, one UpdateItem each, all at once.

Every cell is written with `if_not_exists`: the first copy stays, so a write sent twice, late, out of order or by a
retried batch changes nothing, and DynamoDB's answer (`UPDATED_OLD`) names the cells that were there already.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from processor.errors import InvalidWrite, StoreError
from processor.reading import Reading
from processor.store.tables import AttributeValue, cell_value
from processor.store.units import item_size, write_units
from processor.store.wire import Client, Wire

MAX_CLAUSES = 140
"""An expression takes 4 KB and 300 operators and functions; a clause costs up to 30 bytes and two of them."""

ITEM_FULL = "exceeded the maximum allowed size"
"""In DynamoDB's message for an item that would pass 400 KB; its error code says only that something is invalid."""

MAX_GATEWAYS = 100
"""So many gateways' RSSI are noted for one device, slot and batch: their clauses ride with the first cells."""


@dataclass(slots=True)
class Group:
    """What one batch has for one device and slot: cells and gateways not yet known to be in the table."""

    device: str
    slot: int
    expires: int
    cells: dict[str, Reading] = field(default_factory=dict)
    """By cell name. Their attribute values are made when they are sent: a batch's worth of them kept at once, thirteen
    small dicts a cell, costs three times the CPU of making them, in fresh memory and garbage collection."""
    gateways: dict[str, int | None] = field(default_factory=dict)


@dataclass(slots=True)
class Written:
    """What became of a group's cells, by name. Every cell is in exactly one of the four."""

    stored: set[str] = field(default_factory=set)
    duplicates: set[str] = field(default_factory=set)
    invalid: dict[str, str] = field(default_factory=dict)
    """Cells that DynamoDB calls invalid, and why."""
    failed: set[str] = field(default_factory=set)
    """Cells that may or may not be in the table: to be written again."""


@dataclass(slots=True)
class Outcome:
    """What became of a whole write: one Written for each group, in order, and what it took."""

    written: list[Written]
    calls: int = 0
    units: float = 0
    error: str = ""
    """The first failure's message, for the log."""


@dataclass(slots=True)
class _Part:
    """One UpdateItem: some cells of a group."""

    group: Group
    written: Written
    cells: list[str]
    gateways: list[str]


class Writer:
    """Writes groups of cells in parallel, through one client, from a fixed pool of threads.

    measure: ask for the whole item as it was, to compute write units from its size, for a server that does not count
    them; otherwise the service's own ConsumedCapacity is added up.
    """

    def __init__(self, client: Client, table: str, *, threads: int = 16, measure: bool = False) -> None:
        self._client = client
        self._table = table
        self._threads = threads
        self._measure = measure
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="writer")

    def write(self, groups: Iterable[Group], *, deadline: float) -> Outcome:
        """Write every group; no call starts after `deadline` (time.monotonic()), what is then left has failed."""
        outcome = Outcome([])
        parts: deque[_Part] = deque()
        for group in groups:
            written = Written()
            outcome.written.append(written)
            parts.extend(_parts(group, written))
        run = _Run(self, outcome, parts, deadline)
        if isinstance(self._client, Wire):
            run.most(self._client)
        running = [self._pool.submit(run.work) for _ in range(min(self._threads, len(run.parts)))]
        for future in running:
            future.result()
        return outcome

    def close(self) -> None:
        """Stop the threads, when what they write has been written."""
        self._pool.shutdown()

    def request(self, part: _Part) -> dict[str, Any]:
        """Return the UpdateItem of one part."""
        group = part.group
        start = group.slot * 1000
        names = {"#0": "expires"}
        values: dict[str, AttributeValue] = {":0": {"N": str(group.expires)}}
        n = 1
        for cell in part.cells:
            names[f"#{n}"] = cell
            reading = group.cells[cell]
            values[f":{n}"] = cell_value(reading, (reading.at or 0) - start)
            n += 1
        for gateway in part.gateways:
            rssi = group.gateways[gateway]
            names[f"#{n}"] = f"g{gateway}"
            values[f":{n}"] = {"NULL": True} if rssi is None else {"N": str(rssi)}
            n += 1
        return {
            "TableName": self._table,
            "Key": {"device": {"S": group.device}, "slot": {"N": str(group.slot)}},
            "UpdateExpression": _expression(n),
            "ExpressionAttributeNames": names,
            "ExpressionAttributeValues": values,
            "ReturnValues": "ALL_OLD" if self._measure else "UPDATED_OLD",
            "ReturnConsumedCapacity": "TOTAL",
        }

    def units(self, part: _Part, answer: dict[str, Any]) -> float:
        """Return the write units of one answered call."""
        if not self._measure:
            return float(answer.get("ConsumedCapacity", {}).get("CapacityUnits", 0))
        request = self.request(part)
        before = answer.get("Attributes", {})
        values = request["ExpressionAttributeValues"]
        new = {name: values[":" + mark[1:]] for mark, name in request["ExpressionAttributeNames"].items()}
        return write_units(item_size(before), item_size(request["Key"] | new | before))


class _Run:
    """One write() under way: what its threads share."""

    def __init__(self, writer: Writer, outcome: Outcome, parts: deque[_Part], deadline: float) -> None:
        self.writer = writer
        self.outcome = outcome
        self.parts = parts
        self.deadline = deadline
        self.lock = threading.Lock()

    def most(self, client: Wire) -> None:
        """Write what goes well at once, from this thread; leave the rest to the others, which try again."""
        rest: deque[_Part] = deque()
        answers = client.call_many("UpdateItem", self.parts, self.writer.request, deadline=self.deadline)
        for part, answer in answers:
            if answer is None:
                rest.append(part)
            else:
                self.settle(part, answer)
        self.parts = rest

    def work(self) -> None:
        """Write parts until none is left: one thread's whole share, which is cheaper than a future for each part."""
        while True:
            try:
                part = self.parts.popleft()
            except IndexError:
                return
            self.put(part)

    def put(self, part: _Part) -> None:
        if time.monotonic() >= self.deadline:
            self.fail(part, "the invocation's time is nearly up")
            return
        try:
            answer = self.writer._client.call("UpdateItem", self.writer.request(part), deadline=self.deadline)
        except InvalidWrite as error:
            self.halve(part, error)
        except StoreError as error:
            self.fail(part, str(error))
        else:
            self.settle(part, answer)

    def settle(self, part: _Part, answer: dict[str, Any]) -> None:
        """Count what an answer says of a part's cells."""
        there = answer.get("Attributes", ())
        for cell in part.cells:
            (part.written.duplicates if cell in there else part.written.stored).add(cell)
        units = self.writer.units(part, answer)
        with self.lock:
            self.outcome.calls += 1
            self.outcome.units += units

    def halve(self, part: _Part, error: InvalidWrite) -> None:
        """Find the cells that are to blame, so that the others are stored.

        Where the item is full (400 KB) no cell is: looking for one would cost 400 write units a try.
        """
        if len(part.cells) <= 1 or ITEM_FULL in str(error):
            part.written.invalid.update((cell, str(error)) for cell in part.cells)
            return
        middle = len(part.cells) // 2
        for half in (part.cells[:middle], part.cells[middle:]):  # either may fail: both carry the gateways
            self.put(_Part(part.group, part.written, half, part.gateways))

    def fail(self, part: _Part, reason: str) -> None:
        part.written.failed.update(part.cells)
        with self.lock:
            self.outcome.error = self.outcome.error or reason


def _parts(group: Group, written: Written) -> Iterable[_Part]:
    """Split a group into calls of at most MAX_CLAUSES clauses, each with a cell; nearly always it is one call."""
    cells, gateways = list(group.cells), list(group.gateways)[:MAX_GATEWAYS]
    first = MAX_CLAUSES - 1 - len(gateways)  # one clause is for `expires`
    yield _Part(group, written, cells[:first], gateways)
    for at in range(first, len(cells), MAX_CLAUSES - 1):
        yield _Part(group, written, cells[at : at + MAX_CLAUSES - 1], [])


@cache
def _expression(clauses: int) -> str:
    return "SET " + ",".join(f"#{n}=if_not_exists(#{n},:{n})" for n in range(clauses))
