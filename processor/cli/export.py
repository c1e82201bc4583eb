"""`processor export`: the tables as Parquet files, by day."""

from __future__ import annotations

import time
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from processor.ask.export import Export, Progress
from processor.ask.plan import TABLES
from processor.ask.store import Store
from processor.cli.asked import AS_STORED, CHOOSING, QUANTITIES, READ_UNITS, choice_of, options, quantities_of
from processor.cli.show import warn_of
from processor.cli.times import iso
from processor.times import moment

PLAIN_SECONDS = 2.0


@click.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.option("--device", "devices", multiple=True, metavar="ADDRESS|@FILE", help="This device. May be repeated.")
@options(*CHOOSING)
@click.option("--from", "start", metavar="TIME", help="From this time on: ISO 8601, or -30d. Default: all there is.")
@click.option("--to", "end", metavar="TIME", help="Up to this time, itself not included. Default: now.")
@QUANTITIES
@click.option("--only", "tables", multiple=True, type=click.Choice(TABLES), help="This table only. May be repeated.")
@click.option("--by", type=click.Choice(["scan", "query"]), help="One scan of the whole table, or a query for each "
              "device and day. Default: what takes fewer read units.")  # fmt: skip
@options(AS_STORED, READ_UNITS)
def export(
    directory: Path,
    devices: tuple[str, ...],
    sites: tuple[str, ...],
    models: tuple[str, ...],
    start: str | None,
    end: str | None,
    quantities: tuple[str, ...],
    tables: tuple[str, ...],
    by: str | None,
    raw: bool,
    read_units: float | None,
) -> None:
    """Export readings, roll-ups and devices to Parquet files in DIRECTORY, by day; all devices unless told otherwise.

    Interrupt it whenever you like: the same command goes on where it was. Run again later it adds what is new; days
    that were over when they were exported stay as they are.
    """
    choice = choice_of(devices, sites, models, everyone=not (devices or sites or models))
    report = _Reporter()
    with Store.open(read_units=read_units) as store:
        job = Export(
            store,
            directory,
            choice,
            start=_moment(start, "--from"),
            end=_moment(end, "--to"),
            typed=(start or "", end or ""),
            quantities=quantities_of(quantities),
            tables=[table for table in TABLES if table in tables or not tables],
            raw=raw,
            by=by,
            report=report,
        )
        plan = job.plan
        since = "all there is" if not plan.start else f"from {iso(plan.start)}"
        verb = "continuing" if job.continues else "exporting"
        click.echo(f"{verb} {since} to {iso(plan.end)}, by {plan.by} ({job.why})", err=True)
        with report:
            rows = job.run()
        warn_of(store.unread)
        counts = ", ".join(f"{rows[table]:,} {table}" for table in plan.tables)
        spent = store.budget
        click.echo(f"{directory}: {counts}; {spent.units:,.1f} read units in {spent.reads:,} requests", err=True)


def _moment(text: str | None, option: str) -> int | None:
    """Return ms since 1970. What was typed is kept beside it: `-30d` means another time when the export goes on."""
    try:
        return None if text is None else moment(text, time.time())
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=option) from None


class _Reporter:
    """Shows how far an export is: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[detail]}"),
        )
        self._bar = Bar(*columns, console=console) if console.is_terminal else None
        self._tasks: dict[str, TaskID] = {}
        self._shown = time.monotonic()

    def __enter__(self) -> None:
        if self._bar is not None:
            self._bar.start()

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, progress: Progress) -> None:
        detail = f"{progress.readings:,} readings, {progress.units:,.0f} read units"
        if self._bar is None:
            if time.monotonic() - self._shown >= PLAIN_SECONDS:
                self._shown = time.monotonic()
                of = "" if progress.total is None else f" of {progress.total:,}"
                click.echo(f"{progress.what}: {progress.done:,}{of}; {detail}", err=True)
            return
        if progress.what not in self._tasks:
            self._tasks[progress.what] = self._bar.add_task(progress.what, total=None, detail="")
        task = self._tasks[progress.what]
        self._bar.update(task, completed=progress.done, total=progress.total, detail=detail)
