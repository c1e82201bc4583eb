"""`processor formats`: what can be decoded, from the tables themselves."""

from __future__ import annotations

import click

from processor.cli.show import FORMATS as SHAPES
from processor.cli.show import show
from processor.decode.formats import FORMATS


@click.command()
@click.option("--format", "form", type=SHAPES, default="table", show_default=True)
def formats(form: str) -> None:
    """List the formats: what each measures and how finely, what counts its measurements, and whether it needs a key."""
    rows = (
        {
            "format": each.name,
            "quantities": ", ".join(
                name if step is None else f"{name} {step}" for name, step in sorted(each.resolutions.items())
            ),
            "counter": each.counter,
            "key": "may be encrypted" if each.encrypted else None,
            "source": each.source,
        }
        for each in sorted(FORMATS, key=lambda each: each.name)
    )
    show(rows, form, "formats")
