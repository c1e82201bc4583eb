"""What the jobs of the command line share: the clients that the environment names, and options that mean records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

import click

from processor.cli.devices import vault
from processor.cli.show import FORMATS
from processor.cli.times import When, iso
from processor.devices import Devices
from processor.errors import DecodeError
from processor.quarantine import Quarantine
from processor.reading import device_id
from processor.rules import Rules
from processor.selection import Selection
from processor.settings import Settings
from processor.store import client
from processor.store.registry import Registry
from processor.store.writer import Writer

FORM = click.option("--format", "form", type=FORMATS, default="table", show_default=True)
DRY_RUN = click.option("--dry-run", is_flag=True, help="Decode only, and say what would happen.")
RECORDS = click.argument("names", nargs=-1, metavar="[SHARD:SEQUENCE]...")


class Stores(NamedTuple):
    """What a job writes with, as apex/functions/ingest/main.py makes it."""

    writer: Writer
    rules: Rules


@contextmanager
def stores(settings: Settings) -> Iterator[Stores]:
    """Give the table's writer and ingest's rules: today's keys, registry and limits, by the environment."""
    with closing(client(settings)) as dynamodb:
        devices = Devices(Registry(dynamodb, settings.devices_table), vault(settings), fixed=settings.bindkeys)
        rules = Rules.of(settings, devices, keys=devices)
        measure = settings.count_units == "items"
        writer = Writer(dynamodb, settings.readings_table, threads=settings.writer_threads, measure=measure)
        with closing(writer):
            yield Stores(writer, rules)


def s3(settings: Settings) -> Any:
    """Return the boto3 client of S3, with a connection for each thread that a job reads with."""
    import boto3
    from botocore.config import Config

    return boto3.client("s3", region_name=settings.region or None, config=Config(max_pool_connections=32))


def quarantine_of(settings: Settings) -> Quarantine:
    """Return the quarantine that the environment names."""
    return Quarantine(settings.quarantine_bucket, lambda: s3(settings))


def address(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Return a device's id in its one spelling: a callback of click."""
    del context, parameter
    try:
        return None if value is None else device_id(value)
    except DecodeError as error:
        raise click.BadParameter(str(error)) from None


def selecting(reason: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the options that say which records are meant. reason: what --reason takes, in words."""
    options = [
        click.option(
            "--reason", "reasons", multiple=True, metavar="WORD", help=f"{reason} May be given several times."
        ),
        click.option("--from", "start", type=When(), help="Arrived in the stream at this time or later."),
        click.option("--to", "end", type=When(), help="Arrived before this time."),
        click.option("--device", callback=address, metavar="ADDRESS", help="Only of this sensor."),
    ]

    def add(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def selection(
    names: tuple[str, ...], reasons: tuple[str, ...], start: int | None, end: int | None, device: str | None
) -> Selection:
    """Return the selection that the options ask for."""
    if start is not None and end is not None and start >= end:
        raise click.UsageError(f"--from ({iso(start)}) is not before --to ({iso(end)})")
    return Selection.of_names(names, reasons=frozenset(reasons), start=start, end=end, device=device)
