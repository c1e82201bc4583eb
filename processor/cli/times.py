"""Times as people type them: ISO 8601, or an offset from now such as -2h."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

import click

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class When(click.ParamType[int]):
    """A time as ms since 1970, from ISO 8601 (UTC where no zone is given), `now`, or -30s, -15m, -2h, -7d, -1w."""

    name = "time"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return ms since 1970."""
        if isinstance(value, int):
            return value
        if value == "now":
            return round(time.time() * 1000)
        offset = re.fullmatch(r"([+-]\d+(?:\.\d+)?)([smhdw])", value)
        if offset:
            return round((time.time() + float(offset[1]) * _UNITS[offset[2]]) * 1000)
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is neither ISO 8601 (2026-11-20T19:00Z) nor an offset such as -2h", param, ctx)
        return round((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1000)


def iso(at: int) -> str:
    """Return ms since 1970 as ISO 8601 in UTC, to the millisecond."""
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
