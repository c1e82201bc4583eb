"""What a replay has done, piece by piece, so that another goes on from there and does nothing twice or not at all.

A name does not tell a piece: a file grows, or another one takes its name. So the records that are done are known by
their digest as well; and one that is done to its end need not be read again as long as its tag is the same.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from processor.archive import Piece
from processor.errors import SourceError
from processor.lock import lock


class Done(NamedTuple):
    """How far a piece is: so many records, and their digest. tag: the piece's, once it was read to its end."""

    records: int = 0
    digest: str = ""
    tag: str = ""


class Checkpoint:
    """What is done, in a file of JSON Lines that only grows: what it is of, then how far each piece is.

    about: source, times and destination. The last line may be cut by a crash: what it said is done again. Raises
    SourceError, and leaves the file as it is, where it is about something else, is no checkpoint, or is another
    replay's just now.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self._file = path.open("a+b")  # each note goes to the file's end, wherever that is by now
        try:
            lock(self._file.fileno(), path, kind="file", job="replay", error=SourceError)
            self._file.seek(0)
            body = self._file.read()
            header = {"replay": dict(about)}
            self._done = {} if _begun(body, header) else _parsed(body, header, path)
            self._file.truncate(body.rfind(b"\n") + 1)
            if b"\n" not in body:
                self._write(header)
        except BaseException:
            self._file.close()
            raise

    def done(self, piece: Piece) -> Done:
        """Return how far a piece is."""
        return self._done.get(piece.name, Done())

    def whole(self, piece: Piece) -> bool:
        """Tell whether all of a piece's records are done, and it is still the same."""
        return bool(piece.tag) and piece.tag == self.done(piece).tag

    def note(self, piece: Piece, done: Done) -> None:
        """Note durably how far a piece is."""
        self._done[piece.name] = done
        self._write({"piece": piece.name, **done._asdict()})

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, line: Mapping[str, Any]) -> None:
        self._file.write(orjson.dumps(line) + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def _begun(body: bytes, header: Mapping[str, Any]) -> bool:
    """Tell whether a file holds nothing, or no more than a beginning of its first line: a crash cut that."""
    return orjson.dumps(header).startswith(body)


def _parsed(body: bytes, header: Mapping[str, Any], path: Path) -> dict[str, Done]:
    """Return how far each piece is, by the lines that are whole."""
    whole, end, _ = body.rpartition(b"\n")
    try:
        first, *lines = [orjson.loads(line) for line in (whole if end else body).split(b"\n")]
        if first != header:
            _ = first["replay"]
            raise SourceError(
                f"{path} is about another replay ({orjson.dumps(first).decode()}): give the options and the "
                "environment that it was made with, or another file"
            )
        return {line["piece"]: Done(line["records"], line["digest"], line["tag"]) for line in lines}
    except (orjson.JSONDecodeError, LookupError, TypeError) as error:
        raise SourceError(f"{path} is no checkpoint of a replay: {error!r}: give another file") from None
