"""What the commands that redrive say: how far they are, what became of it, and what a record holds."""

from __future__ import annotations

import sys
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Iterable, Mapping
from typing import Any

import click
import orjson
from rich.console import Console

from processor.redrive import Counts


class Status:
    """The counts so far, on a terminal."""

    def __init__(self) -> None:
        self._status = Console(stderr=True).status("redriving")

    def __enter__(self) -> Status:
        if sys.stderr.isatty():
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def show(self, counts: Counts) -> None:
        """Show these counts."""
        self._status.update(f"redriving: {counts.records:,} records, {counts.stored:,} readings stored")


def content(data: str) -> Any:
    """Return a record's content (Base64): parsed JSON, text, or {"hex": …}."""
    try:
        raw = b64decode(data, validate=True)
    except Base64Error:
        return {"not_base64": data}
    try:
        found = orjson.loads(raw)
        orjson.dumps([[[[found]]]])  # it reads 1,024 levels and writes 254
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        pass
    else:
        return found
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return {"hex": raw.hex()}
    return text if text.isprintable() else {"hex": raw.hex()}


def print_all(found: Iterable[Mapping[str, Any]], what: str) -> None:
    """Print each as JSON. what: is printed where there is none, and the exit status is 1."""
    count = 0
    for count, each in enumerate(found, 1):  # noqa: B007 - the count is what is wanted
        click.echo(orjson.dumps(each, option=orjson.OPT_INDENT_2))
    if not count:
        click.echo(f"no {what} is meant: does `list` show it?", err=True)
        raise SystemExit(1)


def report(counts: Counts, dry_run: bool, failed: str, of: str = "advertisements") -> None:
    """Print what became of a redrive; the lines add up. failed: where what failed again is. of: what is counted."""
    parts = [
        (counts.stored, "stored"),
        (counts.rolled_up, "rolled up anew"),
        (counts.ready, "would be written"),
        (counts.duplicates, "duplicates: were stored already"),
        (counts.failed_again, f"failed again and {'stay' if dry_run else failed}"),
        (counts.ignored, "ignored by today's rules"),
        (counts.left, "could not be tried now"),
    ]
    click.echo(f"{counts.redriven:,} {of} of {counts.records:,} records redriven" + (" (dry run)" * dry_run))
    for count, what in parts:
        if count:
            click.echo(f"{count:>8,} {what}")
    for reason, count in sorted(counts.reasons.items(), key=lambda each: -each[1]):
        click.echo(f"         failed again: {reason} {count:,}")
    if counts.error:
        click.echo(f"         the first that could not be tried: {counts.error}")
