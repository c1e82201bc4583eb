"""Tumbling windows: the state that a function hands from one invocation of a shard's window to the next.

By the Lambda Developer Guide, "Implementing stateful Kinesis Data Streams processing in Lambda" (and "… DynamoDB stream
processing …", which says the same but for the two minutes). "When no new records are being added to the current window,
Lambda waits for up to 2 minutes before assuming that the window is over": here that is counted from the window's end,
or from the last record read where that was later, and `tumbling_window_grace_seconds` says how long. Not documented,
and ours: windows begin at multiples of their length since 1970; a record of a later window ends the open one at once;
one that comes late for its own joins the open one; the last invocation has no records.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson

MAXIMUM_STATE = 1024 * 1024
"""Bytes of a state's JSON; a larger one ends its window early."""

FRESH = b"{}"


class Part(NamedTuple):
    """What an invocation is told of its window; `start` and `end` in seconds since 1970, `state` as JSON."""

    start: float
    end: float
    state: bytes
    final: bool
    early: bool

    def fields(self, shard_id: str, stream_arn: str) -> bytes:
        """Return the event's members besides `Records`, beginning with a comma."""
        window = {"start": _iso(self.start), "end": _iso(self.end)}
        about = {
            "shardId": shard_id,
            "eventSourceARN": stream_arn,
            "isFinalInvokeForWindow": self.final,
            "isWindowTerminatedEarly": self.early,
        }
        return b',"window":' + orjson.dumps(window) + b',"state":' + self.state + b"," + orjson.dumps(about)[1:-1]


class Windows:
    """The windows of one shard. `start` is that of the open one, None where none is."""

    def __init__(self, seconds: int) -> None:
        self.start: float | None = None
        self.state = FRESH
        self.early = False
        self._seconds = seconds

    @property
    def end(self) -> float:
        """When the open window ends."""
        return (self.start or 0.0) + self._seconds

    def open(self, arrival: float) -> None:
        """Open the window of a record, unless one is open already."""
        if self.start is None:
            self.start = arrival // self._seconds * self._seconds

    def holds(self, arrival: float) -> bool:
        """Say whether a record belongs to the open window; one that came late for its own does."""
        return self.start is not None and arrival < self.end

    def same(self, first: float, arrival: float) -> bool:
        """Say whether a record belongs to the window that is open, or else to that of the first."""
        end = self.end if self.start is not None else first // self._seconds * self._seconds + self._seconds
        return arrival < end

    def part(self, *, final: bool) -> Part:
        """Return what the next invocation is told."""
        return Part(self.start or 0.0, self.end, self.state, final, final and self.early)

    def keep(self, state: bytes) -> None:
        """Take the state that an invocation returned."""
        self.state = state
        self.early = len(state) > MAXIMUM_STATE

    def close(self) -> None:
        """Drop the window and its state."""
        self.start, self.state, self.early = None, FRESH, False


def state_in(response: object) -> bytes | None:
    """Return the state in a function's answer (its body, or the object it encodes) as JSON; None where it has none."""
    if isinstance(response, (bytes, bytearray, memoryview, str)):
        try:
            response = orjson.loads(response)
        except orjson.JSONDecodeError:
            return None
    state: Any = response.get("state") if isinstance(response, Mapping) else None
    return orjson.dumps(state) if isinstance(state, Mapping) else None


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
