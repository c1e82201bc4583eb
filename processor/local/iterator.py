"""Reading one shard: its iterator, how often to poll, and what to do when GetRecords fails.

Each call of MiniStack's Kinesis scans the stream, so the interval grows while nothing comes; Lambda itself polls a
shard once a second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

READ_LIMIT = 10_000
"""Records of a GetRecords call: the most that the API allows."""

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


class Start(NamedTuple):
    """Where to begin in a shard: a GetShardIterator type and what goes with it."""

    type: str
    sequence_number: str | None = None
    timestamp: float | None = None

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of GetShardIterator."""
        found: dict[str, Any] = {"ShardIteratorType": self.type}
        if self.sequence_number is not None:
            found["StartingSequenceNumber"] = self.sequence_number
        if self.timestamp is not None:
            found["Timestamp"] = datetime.fromtimestamp(self.timestamp, UTC)
        return found


class ShardIterator:
    """The position of one reader in one shard, kept through expired iterators and errors.

    `ended`: the shard is closed and read to its end. `missing`: the service says that it does not exist.
    `millis_behind_latest` is the last answer's figure, None before the first; `at_tip` says that it left nothing
    unread. `next_poll` is when to read again.
    """

    def __init__(
        self, kinesis: Any, stream: Mapping[str, str], shard_id: str, start: Start, *, clock: Callable[[], float]
    ) -> None:
        self._kinesis = kinesis
        self._where = {**stream, "ShardId": shard_id}
        self._start = start
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

    def read(self) -> list[Mapping[str, Any]]:
        """Return the next records; none where there are none, or where the read failed and is to be repeated."""
        try:
            if self._iterator is None:
                self._iterator = self._open()
            answer = self._kinesis.get_records(ShardIterator=self._iterator, Limit=READ_LIMIT)
        except (ClientError, BotoCoreError) as error:
            self._failed(error)
            return []
        self._errors_in_a_row = 0
        self.missing = False
        records: list[Mapping[str, Any]] = answer["Records"]
        if records:
            self._start = Start("AFTER_SEQUENCE_NUMBER", records[-1]["SequenceNumber"])
        self._iterator = answer.get("NextShardIterator")
        self.ended = self._iterator is None
        self.millis_behind_latest = 0 if self.ended else answer.get("MillisBehindLatest", 0)
        # A full answer may say 0 and still leave records of the same millisecond behind.
        self.at_tip = self.ended or (not self.millis_behind_latest and len(records) < READ_LIMIT)
        self._plan(bool(records))
        return records

    def _open(self) -> str:
        if self._start.type == "LATEST":
            now = self._clock()
            iterator = self._get_iterator()
            # Should it expire before the first record, the next one must not begin at a later tip.
            self._start = Start("AT_TIMESTAMP", timestamp=now)
            return iterator
        return self._get_iterator()

    def _get_iterator(self) -> str:
        answer = self._kinesis.get_shard_iterator(**self._where, **self._start.arguments())
        iterator: str = answer["ShardIterator"]
        return iterator

    def _plan(self, found: bool) -> None:
        if not self.at_tip:
            delay = 0.0
        elif found:
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
        if code == "ExpiredIteratorException" and not self._errors_in_a_row:
            delay = 0.0
        else:
            self.missing = code == "ResourceNotFoundException"
            self.errors += 1
            self.last_error = str(error)
            delay = min(BACKOFF_MAXIMUM, BACKOFF_FIRST * 2 ** min(self._errors_in_a_row, 10))
        self._errors_in_a_row += 1
        self.next_poll = self._clock() + delay
