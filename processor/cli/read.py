"""`processor query` and `quarantine`: what the table and the quarantine hold."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import click

from processor.cli.show import FORMATS, show
from processor.cli.times import When, iso
from processor.errors import DecodeError
from processor.quarantine import Quarantine
from processor.reading import Reading
from processor.reading import address as canonical
from processor.settings import Settings
from processor.store import client
from processor.store.reader import Reader
from processor.store.registry import Registry


@click.command()
@click.argument("device")
@click.option("--from", "start", type=When(), help="From this time on: ISO 8601, or -2h. Default: -24h.")
@click.option("--to", "end", type=When(), help="Up to this time, itself not included. Default: now (and a minute).")
@click.option("--last", type=click.IntRange(1), help="The last N readings instead, whenever they were.")
@click.option("--raw", is_flag=True, help="As they were stored, without the device's calibration.")
@click.option("--format", "form", type=FORMATS, default="table", show_default=True)
def query(device: str, start: int | None, end: int | None, last: int | None, raw: bool, form: str) -> None:
    """Show a device's readings, every copy counted once."""
    if last is not None and (start is not None or end is not None):
        raise click.UsageError("--last excludes --from and --to")
    try:
        device = canonical(device)
    except DecodeError as error:
        raise click.BadParameter(str(error), param_hint="DEVICE") from None
    settings = Settings.read()
    with closing(client(settings)) as dynamodb:
        source = Reader(dynamodb, settings.readings_table)
        if last is not None:
            found = source.latest(device, last)
        else:
            now = When().convert("now", None, None)
            start = now - 86_400_000 if start is None else start
            end = now + 60_000 if end is None else end
            if start >= end:
                raise click.UsageError(f"--from ({iso(start)}) is not before --to ({iso(end)})")
            found = source.readings(device, start, end)
        registered = None if raw else Registry(dynamodb, settings.devices_table).get(device)
    if registered is not None:
        found = [registered.calibrated(reading) for reading in found]
    show((_row(reading) for reading in found), form, f"readings of {device}")
    if not found and form == "table":
        click.echo("none: another --from? `processor devices` lists who has readings and when", err=True)


def _row(reading: Reading) -> dict[str, Any]:
    return {
        "at": iso(reading.at or 0),
        "device": reading.device,
        "format": reading.format,
        "identity": reading.identity,
        "gateway": reading.gateway,
        "rssi": reading.rssi,
        **reading.values,
    }


@click.command()
@click.option("--format", "form", type=FORMATS, default="table", show_default=True)
def quarantine(form: str) -> None:
    """List the rejected records, with the reasons."""
    import boto3

    settings = Settings.read()
    source = Quarantine(settings.quarantine_bucket, lambda: boto3.client("s3", region_name=settings.region or None))
    rows = (
        {
            "arrived": iso(entry["arrived_at"]),
            "shard": entry["shard"],
            "sequence_number": entry["sequence_number"],
            "index": rejection["index"],
            "reason": rejection["reason"],
            "message": rejection["message"],
        }
        for entry in source.entries(data=False)
        for rejection in entry["rejected"]
    )
    show(rows, form, "rejected records")
