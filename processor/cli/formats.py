"""`processor formats`: what can be decoded, from the tables themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from processor.cli.show import FORMATS as SHAPES
from processor.cli.show import show
from processor.decode.formats import FORMATS
from processor.reading import quantity

MARKDOWN = "markdown"
COLUMNS = ("format", "models", "quantities", "counter", "key", "source")


@click.command()
@click.option("--format", "form", type=click.Choice([*SHAPES.choices, MARKDOWN]), default="table", show_default=True)
def formats(form: str) -> None:
    """List the formats: their models, quantities and steps, what counts measurements, and whether a key is needed."""
    if form == MARKDOWN:
        click.echo(page(), nl=False)
    else:
        show(rows(), form, "formats")


def rows() -> Iterator[dict[str, Any]]:
    """Yield a row for each format, by name."""
    for each in sorted(FORMATS, key=lambda each: each.name):
        yield {
            "format": each.name,
            "models": each.products,
            "quantities": ", ".join(
                name if step is None else f"{name} {step} {quantity(name).unit}".rstrip()
                for name, step in sorted(each.resolutions.items())
            ),
            "counter": each.counter,
            "key": "may be encrypted" if each.encrypted else None,
            "source": each.source,
        }


def page() -> str:
    """Return the list as the page that lies beside the tables, decode/formats/FORMATS.md."""
    lines = [
        "# What is decoded",
        "",
        "Made from the tables by `processor formats --format markdown`: what is wrong here is wrong there. A quantity",
        "is followed by its step, where it has a constant one; the counter tells one measurement from the next, where",
        "the sensor counts: beside the bytes' hash it is a reading's identity, and where there is none the time is.",
        "What gateways decode themselves is in [gateways](../gateways/README.md).",
        "",
        f"| {' | '.join(COLUMNS)} |",
        "|---" * len(COLUMNS) + "|",
    ]
    for row in rows():
        cells = ((row[name] or "").replace("|", "\\|") for name in COLUMNS)
        lines.append("".join(f"| {cell} " if cell else "| " for cell in cells) + "|")
    return "\n".join(lines) + "\n"
