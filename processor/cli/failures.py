"""`processor failures`: the batches that the event source mappings gave up; look at them, and redrive them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import click

from processor.cli.jobs import DRY_RUN, FORM, RECORDS, quarantine_of, s3, selecting, selection, stores
from processor.cli.redriven import Status, content, print_all, report
from processor.cli.show import show
from processor.cli.times import iso
from processor.failures import Failure, Failures, FailuresRedrive
from processor.rollup import Aggregator
from processor.rules import known_gateways
from processor.selection import Selection
from processor.settings import Settings
from processor.store import client
from processor.telemetry import Telemetry

BY_BATCH = selecting("Given up for this reason: RetryAttemptsExhausted or RecordAgeExceeded.")


@click.group(invoke_without_command=True)
@FORM
@click.pass_context
def failures(context: click.Context, form: str) -> None:
    """List the batches that the event source mappings gave up; show them whole; redrive them."""
    if context.invoked_subcommand is None:
        _list_failures(Settings.read(), Selection(), form)


@failures.command("list")
@RECORDS
@BY_BATCH
@FORM
def list_failures(names: tuple[str, ...], form: str, **options: Any) -> None:
    """List the batches that were given up."""
    _list_failures(Settings.read(), selection(names, **options), form)


def _failures(settings: Settings) -> Failures:
    return Failures(settings.quarantine_bucket, lambda: s3(settings))


def _list_failures(settings: Settings, meant: Selection, form: str) -> None:
    show(map(_row, _failures(settings).all(meant, known_gateways(settings))), form, "batches given up")


def _row(failure: Failure) -> dict[str, Any]:
    return {
        "arrived": iso(failure.arrived),
        "reason": failure.condition,
        "source": failure.source,
        "shard": failure.shard,
        "first": failure.first,
        "last": failure.last,
        "records": failure.size,
        "invocations": failure.invocations,
        "attempts": failure.attempts,
        "object": failure.key,
    }


@failures.command("show")
@RECORDS
@BY_BATCH
def show_failures(names: tuple[str, ...], **options: Any) -> None:
    """Show the records of batches that were given up, as JSON. SHARD:SEQUENCE means the whole batch it is in."""
    settings = Settings.read()
    print_all(
        (
            _row(failure) | {"content": list(map(_content, failure.records or ()))}
            for failure in _failures(settings).all(selection(names, **options), known_gateways(settings))
        ),
        "batch",
    )


def _content(record: Mapping[str, Any]) -> dict[str, Any]:
    if "kinesis" in record:
        found = record["kinesis"]
        return {"sequence_number": found["sequenceNumber"], "content": content(found["data"])}
    change = record["dynamodb"]
    return {"sequence_number": change["SequenceNumber"], "change": record["eventName"], "keys": change["Keys"]}


@failures.command("redrive")
@RECORDS
@BY_BATCH
@DRY_RUN
def redrive_failures(names: tuple[str, ...], dry_run: bool, **options: Any) -> None:
    """Handle batches that were given up as ingest does: store what can be stored, quarantine what never can.

    Of a batch of the table's stream, what the changes touched is rolled up anew. An object is removed when all of it is
    done. SHARD:SEQUENCE means the whole batch.
    """
    settings = Settings.read()
    meant = selection(names, **options)
    with stores(settings) as (writer, rules), _aggregator(settings) as aggregator, Status() as status:
        job = FailuresRedrive(_failures(settings), quarantine_of(settings), writer, rules, aggregator)
        counts, stay = job.redrive(meant, dry_run=dry_run, progress=status.show)
    report(counts, dry_run, "are in quarantine now", "advertisements and changes")
    for failure in stay:
        if failure.advice or not dry_run:
            what = "changed" if failure.changed else "stays"
            click.echo(": ".join(filter(None, (what, failure.key, failure.advice))))
    raise SystemExit(1 if stay and not dry_run else 0)


@contextmanager
def _aggregator(settings: Settings) -> Iterator[Aggregator]:
    """Give the roll-up function's job, as apex/functions/rollup/main.py makes it, but for what it would say."""
    with closing(client(settings)) as dynamodb, ThreadPoolExecutor(settings.writer_threads) as pool:
        yield Aggregator.of(settings, dynamodb, Telemetry(settings.function), pool)
