"""Times as people type them, ISO 8601 or an offset from now such as -2h, as ms since 1970; and back."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}

END_MS = 253_402_300_800_000
"""The year 10000, in ms since 1970: no time that can be written in words is later."""

EXPECTED = "neither ISO 8601 (2026-11-20T19:00Z) nor an offset such as -2h"


def moment(text: str, now: float) -> int:
    """Return ms since 1970 of ISO 8601 (UTC where no zone is given), `now`, or -30s, -15m, -2h, -7d, -1w.

    now: epoch seconds. What lies before 1970 is 1970, what lies after 9999 its end. Raises ValueError.
    """
    if text == "now":
        return round(now * 1000)
    offset = re.fullmatch(r"([+-]\d+(?:\.\d+)?)([smhdw])", text)
    if offset:
        return _within(now + float(offset[1]) * _UNITS[offset[2]])
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is {EXPECTED}") from None
    return _within((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp())


def _within(seconds: float) -> int:
    return round(min(max(seconds * 1000, 0), END_MS - 1))


def iso(at: int) -> str:
    """Return ms since 1970 as ISO 8601 in UTC, to the millisecond."""
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
