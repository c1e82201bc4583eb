"""`processor quarantine`: the records that were rejected; look at them, and redrive them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from processor.cli.jobs import DRY_RUN, FORM, RECORDS, quarantine_of, selecting, selection, stores
from processor.cli.redriven import Status, content, print_all, report
from processor.cli.show import show
from processor.cli.times import iso
from processor.quarantine import Quarantine
from processor.redrive import Redrive
from processor.rules import known_gateways
from processor.selection import Selection
from processor.settings import Settings

BY_RECORD = selecting("Rejected for this reason, as `list` names it.")


@click.group(invoke_without_command=True)
@FORM
@click.pass_context
def quarantine(context: click.Context, form: str) -> None:
    """List the rejected records, with the reasons; show them whole; redrive them."""
    if context.invoked_subcommand is None:
        _list(Settings.read(), Selection(), form)


@quarantine.command("list")
@RECORDS
@BY_RECORD
@FORM
def list_quarantine(names: tuple[str, ...], form: str, **options: Any) -> None:
    """List the rejected records, with the reasons."""
    _list(Settings.read(), selection(names, **options), form)


def _list(settings: Settings, meant: Selection, form: str) -> None:
    rows = (
        {
            "arrived": iso(entry["arrived_at"]),
            "shard": entry["shard"],
            "sequence_number": entry["sequence_number"],
            "index": rejection["index"],
            "reason": rejection["reason"],
            "message": rejection["message"],
            "attempts": entry["attempts"],
        }
        for entry in _entries(quarantine_of(settings), meant, settings)
        for rejection in entry["rejected"]
    )
    show(rows, form, "rejected records")


def _entries(source: Quarantine, meant: Selection, settings: Settings) -> Iterator[dict[str, Any]]:
    """Yield the records that are meant, each with those of its rejections that are. Only a device needs their data."""
    known = known_gateways(settings)
    for entry in source.entries(data=meant.device is not None):
        found = meant.rejections(entry, known)
        if found:
            yield entry | {"rejected": found}


@quarantine.command("show")
@RECORDS
@BY_RECORD
def show_quarantine(names: tuple[str, ...], **options: Any) -> None:
    """Show rejected records whole, as JSON: the content as JSON or text where it is that, else as hexadecimal."""
    settings = Settings.read()
    meant, known = selection(names, **options), known_gateways(settings)
    found = ((entry, meant.rejections(entry, known)) for entry in quarantine_of(settings).entries())
    print_all(
        (
            {
                "arrived": iso(entry["arrived_at"]),
                **{name: entry[name] for name in ("shard", "sequence_number", "partition_key", "stream", "attempts")},
                "rejected": rejected,
                "content": content(entry["data"]),
            }
            for entry, rejected in found
            if rejected
        ),
        "rejected record",
    )


@quarantine.command("redrive")
@RECORDS
@BY_RECORD
@DRY_RUN
def redrive_quarantine(names: tuple[str, ...], dry_run: bool, **options: Any) -> None:
    """Decode rejected records again, with today's decoder, keys and registry, and store what can be stored.

    What fails again stays, with its new reason and one more attempt. Nothing leaves quarantine before it is stored, so
    this may be interrupted, and run again, at any time.
    """
    settings = Settings.read()
    meant = selection(names, **options)
    with stores(settings) as (writer, rules), Status() as status:
        counts = Redrive(quarantine_of(settings), writer, rules).redrive(meant, dry_run=dry_run, progress=status.show)
    report(counts, dry_run, "are still in quarantine")
    if counts.changed:
        click.echo(f"{counts.changed} objects changed meanwhile and stay: run it again")
    raise SystemExit(1 if counts.left or counts.changed else 0)
