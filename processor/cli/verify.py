"""`processor verify`: whether everything that is stored is rolled up, and every roll-up right."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import click
import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from processor.cli.show import show, warn_of
from processor.cli.times import When, iso
from processor.errors import DecodeError
from processor.reading import device_id
from processor.settings import Settings
from processor.store import client
from processor.store.budget import Budget, Metered
from processor.store.differences import EMPTIED, KINDS, STATE, UNREADABLE, Difference
from processor.store.rollups import Rollup, Summary
from processor.store.states import Heard, Latest, State
from processor.verify.expiry import Kept
from processor.verify.plan import Plan
from processor.verify.report import Report
from processor.verify.verifier import DAY, Verifier

WAIT, LAG = 330.0, 600.0
"""Seconds: more than a batching window, which is 300 at most."""

LOCAL_WAIT, LOCAL_LAG = 3.0, 10.0
"""The same on this machine, where the window is a second."""


@click.command()
@click.argument("devices", nargs=-1, metavar="[DEVICE]...")
@click.option("--from", "start", type=When(), help="Only what was measured from this time on: ISO 8601, or -2h.")
@click.option("--to", "end", type=When(), help="Only what was measured before this time.")
@click.option("--fix", is_flag=True, help="Write the roll-ups that are missing, stale or different, and the states.")
@click.option(
    "--fix-foreign",
    is_flag=True,
    help="Also take out of the roll-ups what is not stored any more: say so only where it was you who deleted it.",
)
@click.option(
    "--fix-emptied",
    is_flag=True,
    help="Also empty the roll-ups of which no reading is left. Nothing brings back what they say: say so only where "
    "it was you who deleted their readings, and none of them expired.",
)
@click.option(
    "--wait",
    type=click.FloatRange(0),
    help="Seconds after which what differs is looked at again: more than the roll-up function's batching window. "
    f"Default: {WAIT:g}; {LOCAL_WAIT:g} where AWS_ENDPOINT_URL is set.",
)
@click.option(
    "--lag",
    type=click.FloatRange(0),
    help="Seconds that roll-ups may be behind: differences younger than that are pending, not wrong. "
    f"Default: {LAG:g}; {LOCAL_LAG:g} where AWS_ENDPOINT_URL is set.",
)
@click.option("--read-units", type=click.FloatRange(1), help="Read so many units a second at most. Default: no limit.")
@click.option("--show", "shown", type=click.IntRange(0), default=20, show_default=True, help="Differences to show.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def verify(
    devices: tuple[str, ...],
    start: int | None,
    end: int | None,
    fix: bool,
    fix_foreign: bool,
    fix_emptied: bool,
    wait: float | None,
    lag: float | None,
    read_units: float | None,
    shown: int,
    form: str,
) -> None:
    """Compute roll-ups and devices' states anew from the stored readings, and compare with what is there.

    All devices, or those named: without names the keys of the whole table are read first. It can be run on a live
    table. The exit status is 1 if differences are left.
    """
    if start is not None and end is not None and start >= end:
        raise click.UsageError(f"--from ({iso(start)}) is not before --to ({iso(end)})")
    settings = Settings.read()
    local = settings.endpoint is not None
    plan = Plan(
        devices=sorted(set(map(_address, devices))) or None,
        start=start,
        end=end,
        wait=(LOCAL_WAIT if local else WAIT) if wait is None else wait,
        lag=(LOCAL_LAG if local else LAG) if lag is None else lag,
        fix=fix or fix_foreign or fix_emptied,
        lower=fix_foreign or fix_emptied,
        empty=fix_emptied,
        shown=shown,
    )
    budget = Budget(read_units)
    dynamodb = Metered(client(settings), budget, measure=settings.count_units == "items")
    with closing(dynamodb), progress_bar() as bar:
        task = bar.add_task("listing", total=None)

        def progress(what: str, done: int, of: int) -> None:
            bar.update(task, description=what, completed=done, total=of or None)

        report = Verifier(dynamodb, settings).verify(plan, progress)
    if form == "json":
        click.echo(orjson.dumps(_object(report, budget.units), option=orjson.OPT_INDENT_2))
    else:
        _print(report, plan, settings, budget.units)
    if not report.passed:
        raise SystemExit(1)


def _address(text: str) -> str:
    try:
        return device_id(text)
    except DecodeError as error:
        raise click.BadParameter(str(error), param_hint="DEVICE") from None


def progress_bar() -> Progress:
    """Return a progress bar on stderr, which shows at a terminal only."""
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _print(report: Report, plan: Plan, settings: Settings, units: float) -> None:
    click.echo(f"{report.ranges:,} five-minute ranges of {report.devices:,} devices compared, {units:,.1f} read units")
    if report.retention < settings.retention_days * DAY:
        click.echo(
            f"No reading seen is kept for more than {report.retention / DAY:,.4g} days, as their own expiry says: "
            f"is RETENTION_DAYS={settings.retention_days} this deployment's?"
            + (" Nothing older is emptied" if plan.empty else "")
        )
    if report.pending:
        click.echo(f"{report.pending:,} pending: younger than {plan.lag:g} s, or changing while they were looked at")
    if report.expired:
        click.echo(f"{report.expired:,} expired: readings may have expired since, so that their roll-ups say more")
    if report.shortened:
        click.echo(f"{report.shortened:,} of these only as items nearby are kept for a shorter time than others")
        show(map(_kept, report.shorteners), "table", "The first of these items")
    if report.caught_up:
        click.echo(f"{report.caught_up:,} caught up while they were looked at")
    for kind, count in report.fixed.items():
        click.echo(f"{count:,} {kind}: put right")
    for kind, count in report.left.items():
        click.echo(f"{count:,} {kind}: {KINDS[kind]}")
    rows = [row for each in report.first for row in _rows(each)]
    if rows:
        show(rows, "table", f"The first {len(report.first)} differences" if len(report.first) > 1 else "The difference")
    if report.unread:
        click.echo(f"{len(report.unread):,} cannot be read: no fix writes these")
        warn_of(report.unread)
    if not report.ranges:
        click.echo("Nothing to compare: another --from? `processor devices` lists who has readings and when", err=True)
    elif report.passed:
        click.echo("No difference.")
    elif report.left and not plan.fix:
        kinds = set(report.left)
        if kinds - {"foreign", EMPTIED}:
            click.echo("--fix writes what is right")
        elif "foreign" in kinds:
            click.echo("--fix-foreign takes it out, where it was you who deleted it")


def _object(report: Report, units: float) -> dict[str, Any]:
    return {
        "devices": report.devices,
        "ranges": report.ranges,
        "read_units": units,
        "retention_days": report.retention / DAY,
        "pending": report.pending,
        "expired": report.expired,
        "expired_early": {"ranges": report.shortened, "by": [_kept(each) for each in report.shorteners]},
        "caught_up": report.caught_up,
        "fixed": report.fixed,
        "differences": report.left,
        "unreadable": [str(each) for each in report.unread],
        "first": [row for each in report.first for row in _rows(each)],
    }


def _kept(item: Kept) -> dict[str, Any]:
    return {"device": item.device, "slot": iso(item.slot * 1000), "kept_days": round(item.seconds / DAY, 4)}


def _rows(difference: Difference) -> Iterator[dict[str, Any]]:
    """Yield what differs, one row for each quantity or other part."""
    at = None if difference.start == STATE else iso(difference.start * 1000)
    stored, right = _parts(difference.stored), _parts(difference.right)
    if difference.kind == UNREADABLE and not right:
        yield {"device": difference.device, "at": at, "kind": UNREADABLE, "of": None, "stored": None, "expected": None}
    for name in dict.fromkeys((*stored, *right)):
        if stored.get(name) != right.get(name):
            row = {"device": difference.device, "at": at, "kind": difference.kind, "of": name}
            yield row | {"stored": _text(stored.get(name)), "expected": _text(right.get(name))}


def _parts(value: Rollup | State | None) -> dict[str, Any]:
    """Return a roll-up or a state in parts to compare."""
    if value is None:
        return {}
    if isinstance(value, Rollup):
        return {"cells": value.cells, "readings": value.readings, **value.quantities}
    return {
        "first seen": iso(value.first_seen),
        "last seen": iso(value.last_seen),
        "format": value.format,
        **value.latest,
        **{f"heard by {name}": each for name, each in value.heard_by.items()},
    }


def _text(part: Any) -> str | None:
    match part:
        case Summary():
            return f"{part.count} values, {part.min} to {part.max}, sum {part.sum}, last {part.last}"
        case Latest():
            return f"{part.value} at {iso(part.at)}"
        case Heard():
            return f"{part.rssi} at {iso(part.at * 1000)}"
    return None if part is None else str(part)
