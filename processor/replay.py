"""Replay: raw records of the past, from the archive or a file, into the table once more, or into a stream.

Replaying everything changes no stored value: cells are only ever added, and a reading that is there is a duplicate. For
that a record must get the same times again. The archive does not say when a record arrived, so the time that Funnel
wrote into its envelope stands for it; a record without one is left out and counted as undated, unless the user says
when it arrived. What has expired meanwhile is not written again.
"""

from __future__ import annotations

import math
import time
from binascii import b2a_base64
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol

from processor.archive import Piece, records
from processor.batch import Batch
from processor.checkpoint import Checkpoint, Done
from processor.decode.record import sent_at
from processor.errors import DecodeError, SourceError, TransientError
from processor.rules import Rules
from processor.store.writer import Writer

CHUNK_RECORDS = 1000
CHUNK_BYTES = 4 * 1024 * 1024
CHUNK_SECONDS = 0.5
"""So many records are written at once: fewer of them, where a rate makes them last longer than this."""

DIGEST_BYTES = 16

TRIES = 8
BACKOFF_FIRST, BACKOFF_MAXIMUM = 0.5, 30.0


class Dated(NamedTuple):
    """A record's data, and when it arrived, ms since 1970."""

    data: bytes
    arrived: int


class Sink(Protocol):
    """Where replayed records go."""

    def take(self, records: list[Dated]) -> Mapping[str, int]:
        """Take records, all of them, and return the ledger's counts. Raises ProcessorError where it cannot."""


@dataclass
class Progress:
    """How far a replay is.

    records: read = sent + outside + undated + unreadable. sent: taken by the sink. outside: of another time than was
    asked for. undated: without a time of their own. unreadable: and so of no known time, where one was asked for.
    resumed: done before, as the checkpoint says; in none of the others. pieces: read to their ends. size: stored bytes
    read, of the pieces that are done and the one under way. ledger: what became of the advertisements.
    """

    records: int = 0
    sent: int = 0
    outside: int = 0
    undated: int = 0
    unreadable: int = 0
    resumed: int = 0
    pieces: int = 0
    size: int = 0
    ledger: Counter[str] = field(default_factory=Counter)


class Table:
    """The sink that stores: records go the way that ingest sends them. What can never be stored is counted, no more.

    clock: epoch seconds, for what has expired meanwhile.
    """

    def __init__(
        self,
        writer: Writer,
        rules: Rules,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._writer = writer
        self._rules = rules.historic()
        self._clock = clock
        self._sleep = sleep

    def take(self, records: list[Dated]) -> Mapping[str, int]:
        """Store records; wait, and try again, while the table or the registry cannot be had.

        Raises TransientError where it cannot be had for minutes.
        """
        events: list[Mapping[str, Any]] = [_event(number, each) for number, each in enumerate(records)]
        stored = 0
        for attempt in range(TRIES):
            if attempt:
                self._sleep(min(BACKOFF_MAXIMUM, BACKOFF_FIRST * 2 ** (attempt - 1)))
            batch = Batch(events, self._rules)
            batch.store(self._writer, now=self._clock())
            stored += batch.stored
            if not batch.failed:
                ledger = batch.ledger()
                before = stored - batch.stored  # by earlier attempts: this one called them duplicates
                return ledger | {"stored": stored, "duplicates": ledger["duplicates"] - before}
        raise TransientError(
            "Unavailable", f"{batch.failed.total()} readings could not be written, {TRIES} times over: {batch.error}"
        )


def _event(number: int, record: Dated) -> dict[str, Any]:
    return {
        "kinesis": {
            "sequenceNumber": str(number),
            "approximateArrivalTimestamp": record.arrived / 1000,
            "data": b2a_base64(record.data, newline=False),
        }
    }


def _another(piece: Piece, done: int) -> SourceError:
    return SourceError(
        f"{piece.name} is another one now: it does not begin with the {done:,} records that were done. Replay it by "
        "--resume with a new file: what is stored already stays as it is"
    )


class Replay:
    """Replays pieces of records into a sink.

    start, end: leave out records of other times (ms since 1970, the end not included), and those that cannot be read.
    arrived: when all of them arrived, ms since 1970, instead of what their envelopes say; start and end look at it only
    where an envelope says nothing. rate: records a second at most. checkpoint: what is
    done already, and where to note what is. clock: monotonic seconds.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        start: int | None = None,
        end: int | None = None,
        arrived: int | None = None,
        rate: float | None = None,
        checkpoint: Checkpoint | None = None,
        progress: Callable[[Progress], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._sink = sink
        self._start = start
        self._end = end
        self._arrived = arrived
        self._rate = rate
        self._checkpoint = checkpoint
        self._report = progress
        self._clock = clock
        self._sleep = sleep
        self._most = CHUNK_RECORDS if rate is None else max(1, min(CHUNK_RECORDS, int(rate * CHUNK_SECONDS)))
        self._due = -math.inf
        """When the next records may be sent, by the clock."""
        self.progress = Progress()

    def run(self, pieces: Iterable[Piece]) -> Progress:
        """Replay the pieces, in order.

        Raises SourceError for one that cannot be read, TransientError for one that S3 does not give, and what the sink
        raises.
        """
        for piece in pieces:
            if self._checkpoint is not None and self._checkpoint.whole(piece):
                self.progress.resumed += self._checkpoint.done(piece).records
            else:
                self._piece(piece)
                self.progress.pieces += 1
            self._report(self.progress)
        return self.progress

    def _piece(self, piece: Piece) -> None:
        progress, before, done = self.progress, self.progress.size, Done()
        for done, chunk in self._chunks(piece, before):
            left_out: Counter[str] = Counter()
            meant = [dated for data in chunk if (dated := self._dated(data, left_out)) is not None]
            if meant:
                self._take(meant)
            progress.sent += len(meant)
            progress.records += len(chunk)
            progress.outside += left_out["outside"]
            progress.undated += left_out["undated"]
            progress.unreadable += left_out["unreadable"]
            self._note(piece, done)
            self._report(progress)
            if self._rate is not None:
                self._sleep(max(0.0, self._due - self._clock()))
        self._note(piece, done._replace(tag=piece.tag))
        progress.size = before + piece.size

    def _take(self, meant: list[Dated]) -> None:
        if self._rate is not None:  # from now, not from the beginning: what a stall held up must not come all at once
            self._due = max(self._due, self._clock()) + len(meant) / self._rate
        self.progress.ledger.update(self._sink.take(meant))

    def _note(self, piece: Piece, done: Done) -> None:
        if self._checkpoint is not None:
            self._checkpoint.note(piece, done)

    def _chunks(self, piece: Piece, before: int) -> Iterator[tuple[Done, list[bytes]]]:
        """Yield records that are not done yet, with how far the piece is once they are.

        Raises SourceError where the records that were done are not those with which the piece begins.
        """

        def position(at: int) -> None:
            self.progress.size = before + at

        skip, known, _ = Done() if self._checkpoint is None else self._checkpoint.done(piece)
        digest = blake2b(digest_size=DIGEST_BYTES)
        chunk: list[bytes] = []
        size = number = 0
        for number, data in enumerate(records(piece, position), 1):
            digest.update(b"%d\n" % len(data) + data)
            if number <= skip:
                if number == skip and digest.hexdigest() != known:
                    raise _another(piece, skip)
                self.progress.resumed += 1
                continue
            chunk.append(data)
            size += len(data)
            if len(chunk) == self._most or size >= CHUNK_BYTES:
                yield Done(number, digest.hexdigest()), chunk
                chunk, size = [], 0
        if number < skip:
            raise _another(piece, skip)
        yield Done(number, digest.hexdigest()), chunk

    def _dated(self, data: bytes, left_out: Counter[str]) -> Dated | None:
        """Return a record with its time of arrival; count one that is left out, with the reason."""
        try:
            said, without = sent_at(data), "undated"
        except DecodeError:
            said, without = None, "unreadable"
        at = self._arrived if said is None else said
        if at is None:
            if without == "unreadable" and self._start is None and self._end is None:
                return Dated(data, 0)  # counted as rejected, whenever it came
            left_out[without] += 1
            return None
        if (self._start is not None and at < self._start) or (self._end is not None and self._end <= at):
            left_out["outside"] += 1
            return None
        return Dated(data, at if self._arrived is None else self._arrived)
