"""The tables for Python programs: `Store.open().query(...)`, as rows, Arrow, pandas or polars.

>>> from processor import Store
>>> with Store.open() as store:
...     frame = store.query(site="Home", start="-7d", quantities=["temperature"], resolution="hour").to_pandas()
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Self

from processor.ask.choice import Choice, Member, addresses_of
from processor.ask.columns import arrow, reading_row, readings_table, rollups_table, summary_rows, time_of
from processor.ask.query import RESOLUTIONS, Question, Source
from processor.errors import QueryError
from processor.reading import Reading, quantity
from processor.settings import Settings
from processor.store import client as connected
from processor.store.budget import Budget, Metered
from processor.store.reader import Reader
from processor.store.rollups import Rollup, Rollups
from processor.store.unreadable import Unread
from processor.store.wire import Client
from processor.times import END_MS, iso, moment

THREADS = 200
"""So many reads go on at once."""

BATCH = 50_000
"""So many rows become one part of an Arrow table."""

DAY_MS = 86_400_000
AHEAD_MS = 60_000
"""How far ahead of now a query looks that names no end: clocks differ."""

When = str | int | datetime | None
"""A time: ISO 8601 or an offset from now (`-2h`), ms since 1970, or a datetime (of UTC where it has no zone)."""


class Store:
    """The tables of one environment, opened by `Store.open()`; use it in a `with`, or close it.

    `budget.units` is what was read so far, in read units; `unread` what could not be read, and is left out of answers.
    """

    def __init__(
        self, settings: Settings, client: Client, *, read_units: float | None = None, threads: int = THREADS
    ) -> None:
        self.settings = settings
        self.budget = Budget(read_units)
        self.client = Metered(client, self.budget, measure=settings.count_units == "items")
        self.unread = Unread()
        self.reader = Reader(self.client, settings.readings_table, note=self.unread.add)
        rollups = Rollups(self.client, settings.rollups_table, note=self.unread.add)
        self.source = Source(self.reader, rollups, threads=threads)

    @classmethod
    def open(cls, settings: Settings | None = None, *, read_units: float | None = None, threads: int = THREADS) -> Self:
        """Open the tables that the environment, or `settings`, names.

        read_units: read at most so many units a second. threads: so many reads go on at once.
        """
        settings = settings or Settings.read()
        wire = connected(replace(settings, writer_threads=threads))
        return cls(settings, wire, read_units=read_units, threads=threads)

    def close(self) -> None:
        """Close the connections; reads that wait for units end."""
        self.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def members(self, choice: Choice) -> list[Member]:
        """Return the devices that are meant, with what is known of them."""
        return choice.members(self.client, self.settings.devices_table, self.reader, self.unread.add)

    def query(
        self,
        *devices: str,
        site: str | Iterable[str] = (),
        model: str | Iterable[str] = (),
        start: When = None,
        end: When = None,
        resolution: str = "raw",
        quantities: Iterable[str] = (),
        last: int | None = None,
        raw: bool = False,
    ) -> Result:
        """Ask for readings, or their summaries by five minutes, hour or day (`5m`, `hour`, `day`).

        devices: addresses; none: all, of the sites and models where these are given. start, end: without them the last
        24 hours; `end` itself is not included. quantities: these only. last: the last so many readings of each device
        instead. raw: as stored, without calibration. Nothing but the devices is read before rows are asked for.
        Raises QueryError.
        """
        sites, models = ((each,) if isinstance(each, str) else tuple(each) for each in (site, model))
        choice = Choice(addresses_of(devices, "query"), sites, models, everyone=True)
        wanted = named(quantities)
        begin, finish = span(start, end)
        if resolution not in RESOLUTIONS:
            raise QueryError(f"the resolution is one of {', '.join(RESOLUTIONS)}, not {resolution!r}")
        if last is not None and (resolution != "raw" or last < 1):
            raise QueryError("`last` takes a number of readings, at least 1, at the resolution raw")
        return Result(self.source, Question(self.members(choice), begin, finish, resolution, wanted, last, raw))


class Result:
    """An answer: iterate over its rows as they come, or take all of it as a table. Each time it is read anew."""

    def __init__(self, source: Source, question: Question) -> None:
        self.question = question
        self._source = source
        self._devices = {member.device.address: member.device for member in question.members}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield rows: a reading's, or one for each range and quantity. Times are datetimes of UTC."""
        if self.question.resolution == "raw":
            for reading in self.readings():
                yield reading_row(reading, self._devices)
        else:
            for row in summary_rows(self.rollups(), self._devices):
                yield row | {"start": time_of(row["start"])}

    def rows(self) -> list[dict[str, Any]]:
        """Return all rows."""
        return list(self)

    def readings(self) -> Iterator[Reading]:
        """Yield readings, device by device, in the order of time. Only at the resolution raw."""
        return self._source.readings(self.question)

    def rollups(self) -> Iterator[Rollup]:
        """Yield roll-ups, device by device, in the order of time. Only at the other resolutions."""
        return self._source.summaries(self.question)

    def to_arrow(self) -> Any:
        """Return a pyarrow.Table, with the columns that an export has."""
        pa = arrow()
        parts = list(self._tables())
        return pa.concat_tables(parts, promote_options="default")

    def to_pandas(self) -> Any:
        """Return a pandas.DataFrame."""
        return self.to_arrow().to_pandas()

    def to_polars(self) -> Any:
        """Return a polars.DataFrame."""
        try:
            import polars
        except ImportError:
            raise QueryError("this needs polars: pip install polars") from None
        return polars.from_arrow(self.to_arrow())

    def _tables(self) -> Iterator[Any]:
        """Yield at least one table: an empty answer has its columns, too."""
        if self.question.resolution == "raw":
            yield readings_table([], self._devices)
            readings = self.readings()
            while batch := list(islice(readings, BATCH)):
                yield readings_table(batch, self._devices)
        else:
            yield rollups_table([], self._devices)
            rollups = self.rollups()
            while part := list(islice(rollups, BATCH // 10)):
                yield rollups_table(part, self._devices)


def named(quantities: Iterable[str]) -> frozenset[str]:
    """Return the quantities that are meant. Raises QueryError for one that there is not."""
    found = frozenset([quantities] if isinstance(quantities, str) else quantities)
    for name in found:
        try:
            quantity(name)
        except KeyError:
            raise QueryError(f"no quantity is called {name!r}: `processor formats` lists them") from None
    return found


def span(start: When, end: When) -> tuple[int, int]:
    """Return from and to in ms since 1970: the last 24 hours where nothing is said. Raises QueryError."""
    now = time.time()
    begin = round(now * 1000) - DAY_MS if start is None else _at(start, now)
    finish = round(now * 1000) + AHEAD_MS if end is None else _at(end, now)
    if begin >= finish:
        raise QueryError(f"{iso(begin)} is not before {iso(finish)}")
    return begin, finish


def _at(when: str | int | datetime, now: float) -> int:
    if isinstance(when, datetime):
        when = round((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1000)
    if isinstance(when, int):
        if not 0 <= when < END_MS:
            raise QueryError(f"{when} is no time in ms since 1970")
        return when
    try:
        return moment(when, now)
    except ValueError as error:
        raise QueryError(str(error)) from None
