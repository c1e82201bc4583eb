"""What an export is going to do, kept beside its files: an interrupted one goes on with it, whatever the time is then.

DIRECTORY/export.json   the plan: from, to, whose, how; `finished` once everything is there
DIRECTORY/export.log    a line for each part that is there: a day of a bucket of devices
DIRECTORY/export.lock   empty; locked while an export runs, and left there: another one may be about to lock it
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import orjson

from processor.ask.choice import Choice
from processor.ask.spool import DAY_MS, replace_file
from processor.errors import QueryError
from processor.store.rollups import RANGE_MS, RANGE_SECONDS
from processor.times import iso

PLAN, LOG, LOCK = "export.json", "export.log", "export.lock"
VERSION = 1
TABLES = ("readings", "rollups", "devices")

LABELS = {"choice": "choice of devices", "quantities": "choice of quantities", "tables": "--only", "raw": "--raw"}

NOTED = ("day", "bucket", "start", "end", "begun")
"""What a line of the log says of a part, beside its rows."""

CLOSED_MS = 3_600_000
"""A day that was exported so long after its end stays as it is when a finished export is run again."""


class Part(NamedTuple):
    """A day (numbered from 1970) of a bucket of devices, from start to end (ms since 1970) where these cut the day."""

    day: int
    bucket: int
    start: int
    end: int

    @property
    def ranges(self) -> tuple[int, int]:
        """The five-minute ranges that it touches: from, to (epoch seconds)."""
        return self.start // RANGE_MS * RANGE_SECONDS, -(-self.end // RANGE_MS) * RANGE_SECONDS


@dataclass(frozen=True)
class Plan:
    """An export. start, end: ms since 1970; typed: these two as they were asked for. begun: ms since 1970.

    by: `scan` or `query`. buckets: so many groups of devices make a file each, for each day. tables: of TABLES.
    """

    start: int
    end: int
    typed: tuple[str, str]
    choice: Choice
    quantities: tuple[str, ...]
    tables: tuple[str, ...]
    raw: bool
    by: str
    buckets: int
    begun: int
    finished: bool = False

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Return the plan of a folder; None where it has none. Raises QueryError for a folder of something else."""
        try:
            found = orjson.loads((folder / PLAN).read_bytes())
        except FileNotFoundError:
            if folder.exists() and any(
                each.name != LOCK and not each.name.endswith(".tmp") for each in folder.iterdir()
            ):
                raise QueryError(f"{folder} holds other things than an export: name a new directory") from None
            return None
        except NotADirectoryError:
            raise QueryError(f"{folder} is no directory") from None
        except orjson.JSONDecodeError as error:
            raise QueryError(f"{folder / PLAN} is not an export's plan: {error}") from None
        if not isinstance(found, dict) or found.pop("version", None) != VERSION:
            raise QueryError(f"{folder / PLAN} is of another version of this program: export into a new directory")
        try:
            chosen = found["choice"]
            addresses, sites, models = (tuple(chosen[name]) for name in ("addresses", "sites", "models"))
            choice = Choice(addresses, sites, models, chosen["everyone"])
            lists = {name: tuple(found[name]) for name in ("typed", "quantities", "tables")}
            return cls(**found | lists | {"choice": choice})
        except (LookupError, TypeError) as error:
            raise QueryError(f"{folder / PLAN} is not an export's plan: {error!r}") from None

    def write(self, folder: Path) -> None:
        """Put the plan into its folder."""
        replace_file(folder / PLAN, orjson.dumps({"version": VERSION, **asdict(self)}, option=orjson.OPT_INDENT_2))

    def continued(self, asked: Plan, folder: Path) -> Plan:
        """Return what is to be done in this folder, which holds `self`, where `asked` is asked for.

        An unfinished export goes on; a finished one is brought up to what is asked. Raises QueryError where it would
        mix two kinds of export.
        """
        for what in ("choice", "quantities", "tables", "raw"):
            here, there = getattr(self, what), getattr(asked, what)
            if here != there:
                raise QueryError(
                    f"{folder} holds an export with another {LABELS[what]} ({_words(here)}, not {_words(there)}): "
                    "ask for the same, or name another directory"
                )
        if self.finished:
            return replace(asked, buckets=self.buckets)
        if self.typed != asked.typed and (self.start, self.end) != (asked.start, asked.end):
            raise QueryError(
                f"{folder} holds an unfinished export from {iso(self.start)} to {iso(self.end)}: give the same "
                "--from and --to to finish it, or name another directory"
            )
        return self

    def part(self, day: int, bucket: int) -> Part:
        """Return one part."""
        return Part(day, bucket, max(self.start, day * DAY_MS), min(self.end, (day + 1) * DAY_MS))

    def parts(self, days: Iterable[int]) -> Iterator[Part]:
        """Yield the parts of these days."""
        for day in days:
            for bucket in range(self.buckets):
                part = self.part(day, bucket)
                if part.start < part.end:
                    yield part


def _words(what: Any) -> str:
    if isinstance(what, Choice):
        said = [
            *what.addresses[:3],
            *(f"site {each}" for each in what.sites),
            *(f"model {each}" for each in what.models),
        ]
        return ", ".join(said) or "all devices"
    return ", ".join(what) or "all" if isinstance(what, tuple) else str(what).lower()


class Log:
    """The parts that are there. A line is written when a part's files are; a line that was cut short does not count."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOG
        self._done: dict[tuple[int, int], Mapping[str, Any]] = {}
        text = self._path.read_bytes() if self._path.exists() else b""
        for number, line in enumerate(text[: text.rfind(b"\n") + 1].splitlines(), 1):
            try:
                entry = orjson.loads(line)
                self._done[entry["day"], entry["bucket"]] = {name: entry[name] for name in NOTED} | entry
            except (LookupError, TypeError, ValueError) as error:
                message = f"{self._path}, line {number}: no part of an export ({error!r}): export into a new directory"
                raise QueryError(message) from None

    def keep(self, wanted: Callable[[Part], bool], begun: int) -> None:
        """Forget the parts that are not wanted, and those that an export before this one made of a day hardly over.

        begun: when this export began, ms since 1970.
        """
        for place, entry in list(self._done.items()):
            open_then = entry["begun"] != begun and entry["begun"] < entry["end"] + CLOSED_MS
            if open_then or not wanted(Part(*(entry[name] for name in Part._fields))):
                del self._done[place]
        replace_file(self._path, b"".join(orjson.dumps(entry) + b"\n" for entry in self._done.values()))

    def done(self, day: int, bucket: int) -> bool:
        """Tell whether a part is there."""
        return (day, bucket) in self._done

    def add(self, part: Part, begun: int, rows: Mapping[str, int]) -> None:
        """Note that a part is there."""
        entry = {**part._asdict(), "begun": begun, **rows}
        with self._path.open("ab") as file:
            file.write(orjson.dumps(entry) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._done[part.day, part.bucket] = entry

    def total(self, table: str) -> int:
        """Return how many rows of a table the parts have."""
        return sum(entry.get(table, 0) for entry in self._done.values())
