"""Where a local run can be opened: between its parts, for faults to get in. Here nothing gets in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from processor.local.aws import EmbeddedAws

Invoke = Callable[[bytes], Any]
Sink = Callable[[str], None]
Keep = Callable[[dict[str, Any]], None]


class Seams:
    """What a System asks while it is put together."""

    def stream(self, aws: EmbeddedAws, shards: int) -> Any:
        """Return the client of a stream other than the embedded AWS's, already made; None takes that one."""

    def variables(self, aws: EmbeddedAws) -> Mapping[str, str]:
        """Return more of the functions' environment."""
        del aws
        return {}

    def invoke(self, name: str, invoke: Invoke) -> Invoke:
        """Return what the mapping invokes a function by."""
        del name
        return invoke

    def sink(self, name: str, sink: Sink) -> Sink:
        """Return what takes a function's lines."""
        del name
        return sink

    def discarded(self, keep: Keep) -> Keep:
        """Return what takes the batches that a mapping gives up."""
        return keep


SHUT = Seams()
