"""Rows as a table, JSON Lines or CSV, as they come: what is held at once does not grow with their number."""

from __future__ import annotations

import csv
import io
import re
import sys
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import chain, islice
from typing import Any

import click
import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from processor.reading import quantity
from processor.store.unreadable import MOST, Unreadable

FORMATS = click.Choice(["table", "json", "csv"])

NAMED = 10
"""So many parts of the tables that cannot be read are named."""

PIECE = 1000
"""A longer table comes in pieces of so many rows, each with its heads."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""How a formula may begin (OWASP, "CSV Injection"); the wide ones are for keyboards that write them."""

_IDENTITY = re.compile(r"(?:[0-9]+\.)?[A-Za-z0-9_-]{4}")
"""A reading's identity, which may begin with a minus and is to stay what others have for it; too short to do harm."""

_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What moves a terminal's cursor, or turns its text round; but line feeds, which a table's cell has."""

SPOOLED = 8 << 20
"""So many bytes of rows wait in memory, where their columns are known only at the end; what is more, in a file."""


def show(rows: Iterable[dict[str, Any]], form: str, title: str, columns: Sequence[str] | None = None) -> int:
    """Print rows as JSON Lines, CSV, or a table, and return how many there were.

    columns: None for all that any row has; CSV then begins when the last row has come. Texts in JSON and CSV are as
    they are, but for what a spreadsheet would run.
    """
    if form == "json":
        shown = 0
        for row in rows:
            click.echo(orjson.dumps(row))
            shown += 1
        return shown
    return _show_csv(rows, columns) if form == "csv" else _show_table(rows, title, columns)


def warn_of(unread: Collection[Unreadable]) -> None:
    """Say on stderr what of the tables could not be read, and is not among the rows."""
    for each in islice(unread, NAMED):
        click.echo(f"left out: {each}", err=True)
    if len(unread) > NAMED:
        more = f"{len(unread):,} in all" if len(unread) < MOST else f"{MOST:,} or more in all"
        click.echo(f"left out: {more}, of which these are the first", err=True)


def _show_table(rows: Iterable[dict[str, Any]], title: str, columns: Sequence[str] | None) -> int:
    # Where nobody's terminal limits it, a table takes the width it needs.
    console = Console(width=None if sys.stdout.isatty() else 10_000)
    coming, shown = iter(rows), 0
    while (piece := list(islice(coming, PIECE))) or not shown:
        table = Table(title=literal(title, "table.title") if not shown else None, title_justify="left", expand=False)
        names = columns or list(dict.fromkeys(name for row in piece for name in row))
        for name in names:
            table.add_column(literal(_heading(name)), overflow="fold")
        for row in piece:
            table.add_row(*(literal(_shown(row.get(name))) for name in names))
        console.print(table)
        shown += len(piece)
        if len(piece) < PIECE:
            break
    return shown


def literal(text: str, style: str = "") -> Text:
    """Return a text as it is: neither rich's markup, nor the terminal, takes any of it for a command."""
    return Text(_CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text), style)


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def _heading(name: str) -> str:
    try:
        unit = quantity(name).unit
    except KeyError:
        return name
    return f"{name} {unit}".strip()


def _show_csv(rows: Iterable[dict[str, Any]], columns: Sequence[str] | None) -> int:
    if columns is None:
        with tempfile.SpooledTemporaryFile(SPOOLED) as spool:
            names: dict[str, None] = {}
            for row in rows:
                names.update(dict.fromkeys(row))
                spool.write(orjson.dumps(row) + b"\n")
            spool.seek(0)
            return _show_csv(map(orjson.loads, spool), list(names))
    coming, shown = iter(rows), 0
    click.echo(_csv([], columns), nl=False)
    while piece := list(islice(coming, PIECE)):
        click.echo(_csv(piece, columns, header=False), nl=False)
        shown += len(piece)
    return shown


def _csv(rows: Iterable[dict[str, Any]], columns: Sequence[str], *, header: bool = True) -> str:
    out = _Lines(newline="")
    writer = csv.writer(out, lineterminator="\r\n")  # with "\n" it would leave a "\r" in a text unquoted, a line's end
    lines: Iterable[Iterable[Any]] = (_cells(row, columns) for row in rows)
    writer.writerows(chain([map(_harmless, columns)] if header else [], lines))
    return out.getvalue()


class _Lines(io.StringIO):
    """Takes a writer's lines, which end with CR and LF, and ends them with LF."""

    def write(self, line: str, /) -> int:
        """Write one line."""
        return super().write(line.removesuffix("\r\n") + "\n")


def _cells(row: dict[str, Any], columns: Sequence[str]) -> Iterator[Any]:
    for name in columns:
        value = row.get(name)
        own = name == "identity" and isinstance(value, str) and _IDENTITY.fullmatch(value)
        yield value if own else _harmless(value)


def _harmless(value: Any) -> Any:
    """Return a cell's value; a text that a spreadsheet would run as a formula is quoted with an apostrophe."""
    if value is None or isinstance(value, int | float | Decimal):
        return value
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
