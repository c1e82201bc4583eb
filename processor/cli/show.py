"""Rows as a table, JSON Lines or CSV."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import click
import orjson
from rich.console import Console
from rich.table import Table

from processor.reading import quantity

FORMATS = click.Choice(["table", "json", "csv"])


def show(rows: Iterable[dict[str, Any]], form: str, title: str) -> None:
    """Print rows as JSON Lines (as they come), CSV, or a table; the columns are all that any row has."""
    if form == "json":
        for row in rows:
            click.echo(orjson.dumps(row))
        return
    rows = list(rows)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    if form == "csv":
        click.echo(_csv(rows, columns), nl=False)
        return
    table = Table(title=title, title_justify="left", expand=False)
    for name in columns:
        table.add_column(_heading(name), overflow="fold")
    for row in rows:
        table.add_row(*("" if row.get(name) is None else str(row[name]) for name in columns))
    # Where nobody's terminal limits it, a table takes the width it needs.
    Console(width=None if sys.stdout.isatty() else 10_000).print(table)


def _heading(name: str) -> str:
    try:
        unit = quantity(name).unit
    except KeyError:
        return name
    return f"{name} {unit}".strip()


def _csv(rows: list[dict[str, Any]], columns: list[str]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(_cells(row, columns) for row in rows)
    return out.getvalue()


def _cells(row: dict[str, Any], columns: list[str]) -> Iterator[Any]:
    """Yield a row's cells; a text that a spreadsheet would run as a formula is quoted with an apostrophe."""
    for name in columns:
        value = row.get(name)
        runs = name != "identity" and isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r")
        yield f"'{value}" if runs else value
