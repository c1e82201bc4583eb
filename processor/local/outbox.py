"""Records on their way into a stream: put in batches from one thread, each with an answer of its own.

Whoever puts a record waits for a future, as many at a time as they like: one PutRecords call carries what has come in
the meantime. What the stream refuses is sent again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from processor.errors import LocalError

MAXIMUM_RECORD = 1024 * 1024
"""Bytes of one record with its partition key (Kinesis' default limit)."""

MAXIMUM_RECORDS, MAXIMUM_BYTES = 500, 5 * 1024 * 1024
"""Records and bytes of one PutRecords call."""

GATHER_SECONDS = 0.02
ATTEMPTS = 8
BACKOFF_FIRST, BACKOFF_MAXIMUM = 0.05, 1.0


class _Entry(NamedTuple):
    partition_key: str
    data: bytes
    taken: Future[None]

    @property
    def size(self) -> int:
        return len(self.partition_key.encode()) + len(self.data)


class Outbox:
    """Puts records into one stream. `on_record` is called with the data of each that the stream took.

    From any thread; the calls to the stream come from one (moto loses records under concurrent puts).
    """

    def __init__(self, kinesis: Any, stream: str, *, on_record: Callable[[bytes], None] | None = None) -> None:
        self._kinesis = kinesis
        self._stream = stream
        self._on_record = on_record
        self._queue: SimpleQueue[_Entry | None] = SimpleQueue()
        self._closing = Event()
        self._outstanding: set[Future[None]] = set()
        self._broken: BaseException | None = None
        self._thread = Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()

    def put(self, partition_key: str, data: bytes) -> Future[None]:
        """Queue a record; the future is done when the stream has taken it, and fails with LocalError where it did not.

        Raises ValueError for a record that no stream takes.
        """
        entry = _Entry(partition_key, data, Future())
        if entry.size > MAXIMUM_RECORD:
            raise ValueError(f"a record with its partition key has at most {MAXIMUM_RECORD} bytes, not {entry.size}")
        self._outstanding.add(entry.taken)
        entry.taken.add_done_callback(self._outstanding.discard)
        self._queue.put(entry)
        return entry.taken

    @property
    def waiting(self) -> int:
        """How many records the stream has neither taken nor refused yet."""
        return len(self._outstanding)

    def flush(self, timeout: float) -> None:
        """Wait until the stream has taken, or refused for good, all that was put before. Raises LocalError."""
        if left := wait(list(self._outstanding), timeout).not_done:
            raise LocalError(f"the stream {self._stream} has not taken {len(left)} records after {timeout:g} s")

    def close(self) -> None:
        """Send what is queued, once more at most, and end. Raises what `on_record` raised."""
        self._closing.set()
        self._queue.put(None)
        self._thread.join()
        if self._broken is not None:
            raise self._broken

    def _run(self) -> None:
        kept: _Entry | None = None
        while True:
            entry = kept or self._queue.get()
            if entry is None:
                return
            entries, kept, last = self._gather(entry)
            self._send([each for each in entries if each.taken.set_running_or_notify_cancel()])
            if last:
                return

    def _gather(self, entry: _Entry) -> tuple[list[_Entry], _Entry | None, bool]:
        """Return the entries of the next call, one that did not fit any more, and whether they are the last."""
        entries, size = [entry], entry.size
        deadline = time.monotonic() + GATHER_SECONDS
        while len(entries) < MAXIMUM_RECORDS:
            try:
                following = self._queue.get(timeout=max(0.0, deadline - time.monotonic()))
            except Empty:
                break
            if following is None:
                return entries, None, True
            size += following.size
            if size > MAXIMUM_BYTES:
                return entries, following, False
            entries.append(following)
        return entries, None, False

    def _send(self, entries: list[_Entry]) -> None:
        error = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                if self._closing.is_set():
                    break
                self._closing.wait(min(BACKOFF_MAXIMUM, BACKOFF_FIRST * 2 ** (attempt - 1)))
            entries, error = self._put(entries)
            if not entries:
                return
        for entry in entries:
            entry.taken.set_exception(LocalError(f"the stream {self._stream} does not take the record: {error}"))

    def _put(self, entries: list[_Entry]) -> tuple[list[_Entry], str]:
        """Put the entries; return those that the stream did not take, and why."""
        if not entries:
            return [], ""
        records = [{"Data": entry.data, "PartitionKey": entry.partition_key} for entry in entries]
        try:
            answer = self._kinesis.put_records(StreamName=self._stream, Records=records)
        except (ClientError, BotoCoreError) as error:
            return entries, str(error)
        refused, error_message = [], ""
        for entry, result in zip(entries, answer["Records"], strict=True):
            if "ErrorCode" in result:
                refused.append(entry)
                error_message = f"{result['ErrorCode']}: {result.get('ErrorMessage', '')}"
            else:
                self._tell(entry)
        return refused, error_message

    def _tell(self, entry: _Entry) -> None:
        try:
            if self._on_record is not None:
                self._on_record(entry.data)
        except BaseException as error:  # the record was taken all the same
            self._broken = self._broken or error
        entry.taken.set_result(None)
