"""Raw records kept in files: the archive in S3 as Firehose writes it, or a capture; one record a line, gzipped or not.

Firehose names its objects archive/YYYY/MM/DD/HH/STREAM-VERSION-TIME-UUID.gz, by the hour (UTC) in which the oldest
record of each arrived. It keeps a record's data and nothing else: not its time of arrival, and not where its line feeds
were, so that a record with line feeds in it (no envelope of Funnel's has any) comes back as several.
Source: Amazon Data Firehose Developer Guide, "Configure Amazon S3 object name format".
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from io import BufferedReader, BytesIO, RawIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from processor.errors import SourceError, TransientError
from processor.objects import fetched
from processor.store.failures import CONNECTION

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

PREFIX = "archive/"
MAXIMUM_RECORD = 10 * 1024 * 1024
"""Bytes of one record: what Kinesis takes at most."""

MAX_GATHERED = 128 * 1024 * 1024
"""Bytes of one object of the archive: Firehose gathers at most so many ("Configure buffering hints")."""

MAX_RATIO = 100
"""What is gzipped holds so many times as much at most, beyond MAX_GATHERED: gateways' posts shrink to a tenth, deflate
makes a thousandth of what is all the same."""

CHUNK_BYTES = 64 * 1024

AGAIN = "Nothing of this object was taken, and what was done before stays done: run the command again"

GZIP = b"\x1f\x8b"
SLACK = timedelta(hours=1)
"""So far around the times that are asked for, objects are read: one holds what came after its oldest record, and
Firehose may be late. Of what they hold, each record's own time decides."""

_HOUR = re.compile(r"(\d{4}/\d{2}/\d{2}/\d{2})/[^/]*$")


class Piece(NamedTuple):
    """One object or file of records.

    size: in bytes as it is stored, 0 where nobody knows. tag: another one where the content is; empty where nobody
    knows.
    """

    name: str
    size: int
    open: Callable[[], BufferedReader]
    tag: str = ""


def archived(s3: Any, bucket: str, prefix: str, start: int | None, end: int | None) -> Iterator[Piece]:
    """Yield the archive's objects in the order of their hours. s3: a boto3 client.

    start, end: the records' times that are meant, ms since 1970: objects of other hours, but SLACK, are left out.
    """
    first = "" if start is None else f"{datetime.fromtimestamp(start / 1000, UTC) - SLACK:%Y/%m/%d/%H}"
    last = "9" if end is None else f"{datetime.fromtimestamp(end / 1000, UTC) + SLACK:%Y/%m/%d/%H}"
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for entry in page.get("Contents", ()):
            key = entry["Key"]
            hour = _HOUR.search(key)
            if entry["Size"] and (hour is None or first <= hour[1] <= last):
                yield Piece(f"s3://{bucket}/{key}", entry["Size"], _reader(s3, bucket, key), entry["ETag"])


def _reader(s3: Any, bucket: str, key: str) -> Callable[[], BufferedReader]:
    # Whole: a connection would not outlive a slow replay.
    return lambda: BufferedReader(BytesIO(_given(s3, bucket, key)))


def _given(s3: Any, bucket: str, key: str) -> bytes:
    """Return an object's content. Raises SourceError where it is too large, TransientError where S3 does not give it.

    The listing is of the replay's beginning, and a replay may take days.
    """
    from botocore.exceptions import BotoCoreError, ClientError  # a file needs no S3

    name = f"s3://{bucket}/{key}"
    try:
        return fetched(s3, bucket, key, MAX_GATHERED).body
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code == "NoSuchKey":
            what = (
                f"{name} is gone since it was listed: the archive's lifecycle removes what is older than "
                "`archive.days`. Run the command again: it lists anew what is there"
            )
            raise TransientError(code, what) from error
        raise TransientError(code, f"{name}: {error}. {AGAIN}") from error
    except BotoCoreError as error:
        raise TransientError(CONNECTION, f"{name}: {error}. {AGAIN}") from error


def capture(path: Path) -> Piece:
    """Return a file of records: JSON Lines of Funnel's envelopes or payloads, or an object of the archive.

    Its name is its whole path, whichever it is called by.
    """
    path = path.resolve()
    found = path.stat()
    return Piece(str(path), found.st_size, lambda: path.open("rb"), f"{found.st_size}-{found.st_mtime_ns}")


def records(piece: Piece, position: Callable[[int], None] = lambda _: None) -> Iterator[bytes]:
    """Yield a piece's records; blank lines are none. position is called with how many stored bytes were read so far.

    Raises SourceError for a gzip file that is broken or cut, or holds much more than files of records do, and for a
    line that is longer than any record.
    """
    with closing(piece.open()) as stored:
        first = b""
        # One read of a pipe may give a single byte, and `peek` reads no more where it has that.
        while len(first) < len(GZIP) and (more := stored.read1(len(GZIP) - len(first))):
            first += more
        zipped, whole = first == GZIP, BufferedReader(_Whole(first, stored))
        most = max(MAX_GATHERED, MAX_RATIO * piece.size) if zipped and piece.size else None
        number = 0

        def read() -> Iterator[bytes]:
            file, taken = gzip.GzipFile(fileobj=whole) if zipped else whole, 0
            while chunk := file.read1(CHUNK_BYTES):
                taken += len(chunk)
                if most is not None and taken > most:
                    raise SourceError(
                        f"{piece.name}, after line {number}: {piece.size:,} bytes of gzip hold more than {most:,}, and "
                        f"records hardly more than {MAX_RATIO} times as much: if that is meant, replay it unzipped"
                    )
                if piece.size:
                    position(stored.tell())
                yield chunk

        try:
            for number, line in enumerate(_lines(read()), 1):
                if len(line) > MAXIMUM_RECORD and len(line.rstrip(b"\r")) > MAXIMUM_RECORD:
                    raise SourceError(
                        f"{piece.name}, line {number}: longer than {MAXIMUM_RECORD:,} bytes, the most a record has: it "
                        "takes one Funnel envelope or payload a line (JSON Lines), gzipped or not"
                    )
                if line and line.strip():
                    yield line.rstrip(b"\r")
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise SourceError(f"{piece.name}, after line {number}: the gzip file is broken: {error}") from None


class _Whole(RawIOBase):
    """A stream from its beginning, of which `first` was read already."""

    def __init__(self, first: bytes, rest: BufferedReader) -> None:
        self._first = first
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)
        count = min(len(self._first), len(view))
        if not count:
            return self._rest.readinto1(view)
        view[:count], self._first = self._first[:count], self._first[count:]
        return count


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines without their line feeds; of one that is longer than any record, no more than shows it."""
    parts: list[bytes] = []
    size = 0
    for chunk in chunks:
        first, *others = chunk.split(b"\n")
        parts.append(first)
        size += len(first)
        if others or size > MAXIMUM_RECORD + 1:
            yield b"".join(parts)
            yield from others[:-1]
            parts = others[-1:]
            size = len(others[-1]) if others else 0
    if size:
        yield b"".join(parts)
