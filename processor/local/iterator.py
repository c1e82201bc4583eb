"""Reading one shard: its iterator, how often to poll, and what to do when GetRecords fails.

Each call of MiniStack's Kinesis scans the stream, so the interval grows while nothing comes; Lambda itself polls a
shard once a second.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from botocore.exceptions import BotoCoreError, ClientError

from processor.local.stream import Page, Record, Start, Stream

POLL_FIRST, POLL_MAXIMUM = 0.05, 0.2
"""Seconds between polls at the shard's tip: the first after records came, then doubled up to the second."""

BACKOFF_FIRST, BACKOFF_MAXIMUM = 0.1, 5.0
"""Seconds before the next poll after an error, doubled with each in a row up to the limit."""

THROTTLES = frozenset(
    {
        "ProvisionedThroughputExceededException",
        "LimitExceededException",
        "KMSThrottlingException",
        "ThrottlingException",
    }
)


RENEWED = frozenset({"ExpiredIteratorException", "TrimmedDataAccessException"})
"""Errors that a new iterator mends: the first in a row is no trouble."""


class ShardIterator:
    """The position of one reader in one shard, kept through expired iterators and errors.

    `ended`: the shard is closed and read to its end. `missing`: the service says that it does not exist.
    `millis_behind_latest` is the last answer's figure, None before the first; `at_tip` says that it left nothing
    unread. `next_poll` is when to read again. `trimmed` counts the times that records expired unread, or may have: the
    streams pass over them, and Kinesis without a word.
    """

    def __init__(self, stream: Stream, shard_id: str, start: Start, *, clock: Callable[[], float]) -> None:
        self._stream = stream
        self._shard_id = shard_id
        self._start = start
        self._since: int | None = None  # what arrived before is passed over
        self._clock = clock
        self._iterator: str | None = None
        self._interval = POLL_FIRST
        self._errors_in_a_row = 0
        self.ended = False
        self.missing = False
        self.at_tip = False
        self.millis_behind_latest: int | None = None
        self.next_poll = 0.0
        self.errors = 0
        self.last_error = ""
        self.trimmed = 0
        self._read_at: float | None = None  # when the last read began
        self._left_at: float | None = None  # when it had left records unread, if it is known to have done so

    def read(self) -> list[Record]:
        """Return the next records; none where there are none, or where the read failed and is to be repeated."""
        begun = self._clock()
        try:
            if self._iterator is None:
                self._iterator = self._open()
            page = self._stream.read(self._shard_id, self._iterator)
        except (ClientError, BotoCoreError) as error:
            self._failed(error)
            return []
        self._errors_in_a_row = 0
        self.missing = False
        self._notice_trimmed(page, begun)
        if page.records:
            self._start = Start("AFTER_SEQUENCE_NUMBER", page.records[-1].sequence_number)
        self._iterator = page.next_iterator
        self.ended = self._iterator is None
        self.at_tip = page.at_tip
        self.millis_behind_latest = page.millis_behind
        self._plan(page)
        return self._young(page.records)

    def _open(self) -> str:
        start = self._start
        if start.type == "LATEST":
            # Should this call fail, or the iterator expire before the first record: no next one is to begin at a later
            # tip. What this one gives is not compared with any clock.
            self._start = Start("AT_TIMESTAMP", timestamp=math.floor(self._clock()))
        elif start.timestamp is not None:
            # The stream's clock may go in whole seconds, and its iterators may know no timestamps.
            self._since = math.floor(start.timestamp)
        return self._stream.iterator(self._shard_id, start)

    def _notice_trimmed(self, page: Page, begun: float) -> None:
        """Count where what the last read left is not in this one, or where it was longer ago than records are kept."""
        left = self._left_at
        gone = left is not None and (page.records[0].arrival > left if page.records else not page.millis_behind)
        late = self._read_at is not None and begun - self._read_at > self._stream.retention_seconds
        self.trimmed += gone or late
        self._left_at = self._clock() if page.millis_behind else None
        self._read_at = begun

    def _young(self, records: list[Record]) -> list[Record]:
        """Pass over what is older than the timestamp to start at, until something is not."""
        if self._since is None or not records:
            return records
        young = [record for record in records if record.arrival >= self._since]
        if young:
            self._since = None
        return young

    def _plan(self, page: Page) -> None:
        if page.more:
            delay = 0.0
        elif page.records:
            delay = self._interval = POLL_FIRST
        else:
            delay = self._interval
            self._interval = min(POLL_MAXIMUM, self._interval * 2)
        self.next_poll = self._clock() + delay

    def _failed(self, error: ClientError | BotoCoreError) -> None:
        code = error.response.get("Error", {}).get("Code", "") if isinstance(error, ClientError) else ""
        self.at_tip = False
        if code not in THROTTLES:
            self._iterator = None  # it may be of no use any more: taken anew, after the last record read
        if code == "TrimmedDataAccessException":  # what comes next has expired, unread: go on at the oldest there is
            self._start = Start("TRIM_HORIZON")
            self.trimmed += 1
        if code in RENEWED and not self._errors_in_a_row:
            delay = 0.0
        else:
            self.missing = code == "ResourceNotFoundException"
            self.errors += 1
            self.last_error = str(error)
            delay = min(BACKOFF_MAXIMUM, BACKOFF_FIRST * 2 ** min(self._errors_in_a_row, 10))
        self._errors_in_a_row += 1
        self.next_poll = self._clock() + delay
