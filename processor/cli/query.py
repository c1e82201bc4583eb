"""`processor query`: what the tables hold of one device, of many or of all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import click
from rich.console import Console

from processor.ask.query import RESOLUTIONS, Question
from processor.ask.store import Store, span
from processor.cli.asked import (
    AS_STORED,
    CHOOSING,
    DEVICES,
    EVERYONE,
    QUANTITIES,
    READ_UNITS,
    choice_of,
    options,
    quantities_of,
)
from processor.cli.show import FORMATS, show, warn_of
from processor.cli.sparkline import Sparklines
from processor.cli.times import When, iso
from processor.errors import QueryError
from processor.reading import Reading, quantity
from processor.store.rollups import Rollup

READING = ("at", "device", "format", "identity", "gateway", "rssi")
SUMMARY = ("start", "device", "quantity", "unit", "count", "mean", "min", "max", "last")

Row = tuple[dict[str, Any], Iterable[tuple[str, int, Any]]]
"""A row to print, and its values by quantity and time, in ms since 1970."""


@click.command()
@options(DEVICES, *CHOOSING, EVERYONE)
@click.option("--from", "start", type=When(), help="From this time on: ISO 8601, or -2h. Default: -24h.")
@click.option("--to", "end", type=When(), help="Up to this time, itself not included. Default: now (and a minute).")
@click.option("--last", type=click.IntRange(1), help="The last N readings of each instead, whenever they were.")
@QUANTITIES
@click.option("--resolution", type=click.Choice(list(RESOLUTIONS)), default="raw", show_default=True,
              help="Every reading, or what each five minutes, hour or day (of UTC) come to.")  # fmt: skip
@options(AS_STORED, READ_UNITS)
@click.option("--format", "form", type=FORMATS, default="table", show_default=True)
def query(
    devices: tuple[str, ...],
    sites: tuple[str, ...],
    models: tuple[str, ...],
    everyone: bool,
    start: int | None,
    end: int | None,
    last: int | None,
    quantities: tuple[str, ...],
    resolution: str,
    raw: bool,
    read_units: float | None,
    form: str,
) -> None:
    """Show devices' readings, every copy counted once, or what they come to by five minutes, hour or day.

    Devices are named by address, in a file (@FILE, one a line), by site or by model; or all of them.

    \b
    processor query CB:B8:33:4C:88:4F --last 5
    processor query --site Home --from -7d --quantity temperature --resolution hour
    processor query --all --from 2026-11-20 --to 2026-11-21 --format csv > day.csv
    """  # noqa: D301 - \b is click's
    if last is not None and (start is not None or end is not None):
        raise click.UsageError("--last excludes --from and --to")
    if last is not None and resolution != "raw":
        raise click.UsageError("--last counts readings: it goes with --resolution raw")
    choice = choice_of(devices, sites, models, everyone)
    if choice.whole and not everyone:
        raise click.UsageError("whose readings? Name a DEVICE, @FILE, --site or --model, or ask for --all")
    wanted = quantities_of(quantities)
    try:
        begin, finish = span(start, end)
    except QueryError as error:
        raise click.UsageError(f"--from, --to: {error}") from None
    title = ("readings" if resolution == "raw" else f"by {resolution}") + _whose(devices, sites, models)
    with Store.open(read_units=read_units) as store:
        question = Question(store.members(choice), begin, finish, resolution, wanted, last, raw)
        _answer(store, question, form, title)
        warn_of(store.unread)
        if read_units is not None:
            click.echo(f"{store.budget.units:,.1f} read units in {store.budget.reads:,} requests", err=True)


def _answer(store: Store, question: Question, form: str, title: str) -> None:
    """Print the answer as it comes, and on a terminal how its numbers went over time."""
    start, end = question.start, question.end
    rows: Iterable[Row]
    if question.resolution != "raw":
        columns: Sequence[str] | None = SUMMARY
        rows = (row for rollup in store.source.summaries(question) for row in _summaries(rollup))
    else:
        columns = (*READING, *sorted(question.quantities)) if question.quantities else None
        readings: Iterable[Reading] = store.source.readings(question)
        if question.last is not None:
            readings = list(readings)
            start = min((reading.at or 0 for reading in readings), default=0)
            end = max((reading.at or 0 for reading in readings), default=0) + 1
        rows = map(_reading, readings)
    console = Console()
    lines = Sparklines(start, end) if form == "table" and console.is_terminal else None
    shown = show(_noted(rows, lines), form, title, columns)
    if lines is not None:
        lines.show(console)
    if not shown and form == "table":
        click.echo("none: another --from? `processor devices` lists who has readings and when", err=True)


def _noted(rows: Iterable[Row], lines: Sparklines | None) -> Iterator[dict[str, Any]]:
    """Yield the rows, and let the sparklines have their numbers."""
    for row, numbers in rows:
        if lines is not None:
            for name, at, value in numbers:
                if isinstance(value, int | float) and not isinstance(value, bool):
                    lines.add(row["device"], name, at, value)
        yield row


def _reading(reading: Reading) -> Row:
    """Return a reading's row."""
    at = reading.at or 0
    row = {
        "at": iso(at),
        "device": reading.device,
        "format": reading.format,
        "identity": reading.identity,
        "gateway": reading.gateway,
        "rssi": reading.rssi,
        **reading.values,
    }
    return row, ((name, at, value) for name, value in reading.values.items())


def _summaries(rollup: Rollup) -> Iterator[Row]:
    """Yield the rows of a roll-up, one for each quantity."""
    for name, summary in rollup.quantities.items():
        row: dict[str, Any] = {"start": iso(rollup.start * 1000), "device": rollup.device, "quantity": name}
        row |= {"unit": quantity(name).unit, "count": summary.count}
        row |= {each: float(getattr(summary, each)) for each in ("mean", "min", "max", "last")}
        yield row, [(name, rollup.start * 1000, row["mean"])]


def _whose(devices: tuple[str, ...], sites: tuple[str, ...], models: tuple[str, ...]) -> str:
    if len(devices) > 3:
        return f" of {len(devices)} devices"
    named = [*devices, *(f"site {site}" for site in sites), *(f"model {model}" for model in models)]
    return f" of {', '.join(named)}" if named else " of all devices"
