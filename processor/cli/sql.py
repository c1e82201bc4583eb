"""`processor sql`: a statement over an export, or over what a query brings."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from processor.ask.export import Export
from processor.ask.sql import answer, tables_of
from processor.ask.store import Store, span
from processor.cli.asked import AS_STORED, CHOOSING, EVERYONE, QUANTITIES, READ_UNITS, choice_of, options, quantities_of
from processor.cli.show import FORMATS, show, warn_of
from processor.cli.times import When
from processor.errors import QueryError


@click.command()
@click.argument("statement", metavar="SELECT")
@click.option("--over", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="DIRECTORY",
              help="An export. Without it the tables are read, for the devices and times below.")  # fmt: skip
@click.option("--device", "devices", multiple=True, metavar="ADDRESS|@FILE", help="This device. May be repeated.")
@options(*CHOOSING, EVERYONE)
@click.option("--from", "start", type=When(), help="From this time on: ISO 8601, or -2h. Default: -24h.")
@click.option("--to", "end", type=When(), help="Up to this time, itself not included. Default: now (and a minute).")
@options(QUANTITIES, AS_STORED, READ_UNITS)
@click.option("--format", "form", type=FORMATS, default="table", show_default=True)
def sql(
    statement: str,
    over: Path | None,
    devices: tuple[str, ...],
    sites: tuple[str, ...],
    models: tuple[str, ...],
    everyone: bool,
    start: int | None,
    end: int | None,
    quantities: tuple[str, ...],
    raw: bool,
    read_units: float | None,
    form: str,
) -> None:
    """Answer a SELECT by DuckDB. Its views:

    \b
    readings  device, time, format, identity, gateway, rssi, name, site, model, day,
              and a column for each quantity: temperature, humidity, …
    rollups   device, start, quantity, unit, count, sum, mean, min, max, last, name, site, model, day
    devices   device, name, site, model, format, first_seen, last_seen

    \b
    processor sql "SELECT device, avg(mean) AS mean, rank() OVER (ORDER BY avg(mean) DESC) AS place
                   FROM rollups WHERE quantity = 'temperature' GROUP BY device" --all --from -7d

    A statement that names rollups only reads the roll-ups, which takes far fewer read units than all readings do.
    """  # noqa: D301, D400, D415 - \b is click's
    tables = tables_of(statement)
    if over is not None:
        idle = {"device": devices, "site": sites, "model": models, "all": everyone, "from": start, "to": end,
                "quantity": quantities, "raw": raw, "read-units": read_units}  # fmt: skip
        for name, given in idle.items():
            if given:
                raise click.UsageError(f"--{name} does nothing with --over: the export is as it is")
        _answer(statement, over, form)
        return
    choice = choice_of(devices, sites, models, everyone)
    if choice.whole and not everyone:
        raise click.UsageError("over what? Name an export (--over), or --device, --site, --model, or --all")
    try:
        begin, finish = span(start, end)
    except QueryError as error:
        raise click.UsageError(f"--from, --to: {error}") from None
    wanted = quantities_of(quantities)
    with tempfile.TemporaryDirectory(prefix="processor-sql-") as folder, Store.open(read_units=read_units) as store:
        Export(store, Path(folder), choice, start=begin, end=finish, quantities=wanted, tables=tables, raw=raw).run()
        warn_of(store.unread)
        _answer(statement, Path(folder), form)


def _answer(statement: str, folder: Path, form: str) -> None:
    with answer(statement, folder) as (columns, rows):
        show(rows, form, "", columns)
