"""Times as people type them: ISO 8601, or an offset from now such as -2h."""

from __future__ import annotations

import time

import click

from processor.times import iso, moment

__all__ = ["When", "iso"]


class When(click.ParamType[int]):
    """A time as ms since 1970, from ISO 8601 (UTC where no zone is given), `now`, or -30s, -15m, -2h, -7d, -1w."""

    name = "time"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return ms since 1970."""
        if isinstance(value, int):
            return value
        try:
            return moment(value, time.time())
        except ValueError as error:
            self.fail(str(error), param, ctx)
