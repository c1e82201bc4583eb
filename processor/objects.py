"""Objects of S3, read whole, and none that is larger than what we have there can be."""

from __future__ import annotations

from typing import Any

from processor.errors import SourceError

MAX_OBJECT = 64 * 1024 * 1024
"""Bytes of one object of quarantine or of the failure destination: an event has six megabytes, its reasons a few."""


def whole(body: Any, name: str, most: int = MAX_OBJECT) -> bytes:
    """Return an object's content. body: of boto3's answer. Raises SourceError where it has more than `most` bytes."""
    data: bytes = body.read(most + 1)
    if len(data) > most:
        raise SourceError(
            f"{name} has more than {most:,} bytes, which nothing has that was put there for us: move the object "
            "elsewhere (a capture of your own is read as a file, of any size)"
        )
    return data
