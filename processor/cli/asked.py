"""The options that `query`, `export` and `sql` share: whose readings, from when to when, how fast."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click

from processor.ask.choice import Choice, addresses_of
from processor.ask.store import named
from processor.errors import DecodeError, QueryError
from processor.reading import device_id

Command = TypeVar("Command", bound=Callable[..., Any])

DEVICES = click.argument("devices", nargs=-1, metavar="[DEVICE|@FILE]...")

CHOOSING = (
    click.option("--site", "sites", multiple=True, help="Devices registered at this site. May be repeated."),
    click.option("--model", "models", multiple=True, help="Devices of this model. May be repeated."),
)
EVERYONE = click.option("--all", "everyone", is_flag=True, help="All devices.")
QUANTITIES = click.option("--quantity", "quantities", multiple=True, help="This quantity only. May be repeated.")
READ_UNITS = click.option(
    "--read-units", type=click.FloatRange(1), metavar="N", help="Read at most N read units a second. Default: no limit."
)
AS_STORED = click.option("--raw", is_flag=True, help="As they were stored, without the devices' calibration.")


def options(*each: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Put several options on a command, in this order."""

    def decorate(command: Command) -> Command:
        for option in reversed(each):
            command = option(command)
        return command

    return decorate


def choice_of(devices: tuple[str, ...], sites: tuple[str, ...], models: tuple[str, ...], everyone: bool) -> Choice:
    """Return the devices that a command line means; @FILE has an address a line, what follows a comma passed over."""
    if everyone and (devices or sites or models):
        raise click.UsageError("--all excludes DEVICE, --site and --model")
    addresses: list[str] = []
    try:
        for text in devices:
            addresses += _listed(Path(text[1:])) if text.startswith("@") else [device_id(text)]
    except (DecodeError, QueryError) as error:
        raise click.BadParameter(str(error), param_hint="DEVICE") from None
    return Choice(tuple(dict.fromkeys(addresses)), sites, models, everyone)


def quantities_of(quantities: tuple[str, ...]) -> frozenset[str]:
    """Return the quantities that are asked for."""
    try:
        return named(quantities)
    except QueryError as error:
        raise click.BadParameter(str(error), param_hint="--quantity") from None


def _listed(file: Path) -> Iterator[str]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{file}: {error}", param_hint="@FILE") from None
    found = 0
    for number, line in enumerate(lines, 1):
        text = line.partition(",")[0].partition("#")[0].strip()
        if text and not (number == 1 and text.casefold() in ("address", "device")):
            found += 1
            yield from addresses_of([text], f"{file}, line {number}")
    if not found:
        raise click.BadParameter(f"{file} names no device: it takes an address a line", param_hint="@FILE")
