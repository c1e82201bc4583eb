"""Which process a connection on the loopback interface belongs to, by /proc; without it (macOS) it cannot be told."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

TABLE = Path("/proc/net/tcp")


def process_of(port: int, pids: Iterable[int]) -> int | None:
    """Return which of the processes has a socket at that local port; None where none has, or it cannot be told."""
    inode = _inode(port)
    if inode is None:
        return None
    mark = f"socket:[{inode}]"
    for pid in pids:
        with suppress(OSError):  # it has ended
            for descriptor in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208 - names, nothing more
                with suppress(OSError):
                    if os.readlink(f"/proc/{pid}/fd/{descriptor}") == mark:  # noqa: PTH115 - no file: a socket's name
                        return pid
    return None


def _inode(port: int) -> str | None:
    with suppress(OSError):
        for line in TABLE.read_text().splitlines()[1:]:
            fields = line.split()
            if int(fields[1].rpartition(":")[2], 16) == port and fields[9] != "0":
                return fields[9]
    return None
