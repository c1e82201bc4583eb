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


class Done(NamedTuple):
    """How far a piece is: so many records, and their digest. tag: the piece's, once it was read to its end."""

    records: int = 0
    digest: str = ""
    tag: str = ""


class Checkpoint:
    """What is done, in a file of JSON Lines that only grows: what it is of, then how far each piece is.

    about: source, times and destination; a file that is about something else is refused (SourceError). The last line
    may be cut by a crash: what it said is done again.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self._done: dict[str, Done] = {}
        body = path.read_bytes() if path.exists() else b""
        whole, _, _ = body.rpartition(b"\n")
        try:
            lines = [orjson.loads(line) for line in whole.splitlines()]
            if lines and lines[0] != {"replay": dict(about)}:
                raise SourceError(
                    f"{path} is about another replay ({orjson.dumps(lines[0]).decode()}): give the options and the "
                    "environment that it was made with, or another file"
                )
            for line in lines[1:]:
                self._done[line["piece"]] = Done(line["records"], line["digest"], line["tag"])
        except (orjson.JSONDecodeError, LookupError, TypeError) as error:
            raise SourceError(f"{path} is no checkpoint of a replay: {error!r}: give another file") from None
        self._file = path.open("r+b" if path.exists() else "w+b")
        self._file.truncate(len(whole) + 1 if lines else 0)
        self._file.seek(0, os.SEEK_END)
        if not lines:
            self._write({"replay": dict(about)})

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
