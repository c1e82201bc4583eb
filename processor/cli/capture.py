"""A capture's lines as records: Funnel envelopes or raw payloads, from a file or standard input."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from processor.errors import LocalError
from processor.local.fleet import Sent
from processor.local.outbox import MAXIMUM_RECORD
from processor.local.system import KEY_LENGTH


@contextmanager
def _opened(source: str) -> Iterator[IO[bytes]]:
    """Open a capture; standard input through a file of our own.

    A thread that waits for input when the process ends must not hold the interpreter's own `sys.stdin`.
    """
    with open(os.dup(0) if source == "-" else source, "rb") as lines:  # noqa: PTH123 - a descriptor has no Path
        yield lines


def records(source: str, rate: float | None, most: int | None) -> Iterator[Sent]:
    """Yield a capture's lines as records, at a rate where one is asked for."""
    name = "standard input" if source == "-" else source
    with _opened(source) as lines:
        yield from _sent(name, lines, rate, most)


def _sent(name: str, lines: IO[bytes], rate: float | None, most: int | None) -> Iterator[Sent]:
    sent = 0
    for number, line in enumerate(lines, 1):
        data = line.strip()
        if not data:
            continue
        if len(data) > MAXIMUM_RECORD - KEY_LENGTH:
            raise LocalError(
                f"{name}, line {number}: {len(data):,} bytes, but the embedded Kinesis takes records of up to "
                f"{MAXIMUM_RECORD:,}, key included (AWS: 10 MiB): split the line's payload"
            )
        yield Sent(round(sent * 1000 / rate) if rate else 0, data)
        sent += 1
        if sent == most:
            return
    if not sent:
        raise LocalError(f"{name} has no lines: it takes one Funnel envelope or payload a line (JSON Lines)")
