"""A lock on what only one process may change at a time: a file, or a folder by a file in it."""

from __future__ import annotations

import sys
from pathlib import Path

from processor.errors import ProcessorError

if sys.platform != "win32":
    import fcntl


def lock(file: int, path: Path, *, kind: str, job: str, error: type[ProcessorError]) -> None:
    """Keep other jobs of this sort from a file until it is closed, or its process ends in whatever way.

    file: its descriptor, open for writing, as NFS wants it. path, kind, job: what it stands for, for the message: a
    `file` or `directory`, of a `replay` or `export`. Raises `error` where another one has it, or where none can.
    """
    if sys.platform == "win32":
        return  # which has no flock
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise error(
            f"{path} is in use by another {job}: wait until that ends, or give this one a {kind} of its own"
        ) from None
    except OSError as refused:
        raise error(
            f"{path} cannot be kept from other {job}s ({refused.strerror}): give a {kind} on a local disk"
        ) from None
