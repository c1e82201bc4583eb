"""A shard's records between being read and being finished: lanes, batches, retries and the checkpoint.

A state machine without threads, clock or AWS: the caller says what was read, what time it is and how an invocation
ended. The shard is split into as many lanes as the parallelisation factor, by a hash of the partition key, or of the
keys of DynamoDB's item; a lane has one batch under way at most. So no two invocations at a time hold records of one
key, and a key's order holds.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from zlib import crc32

from processor.local.batch import MAXIMUM_PAYLOAD, Batch, Condition, Outcome, payload_size
from processor.local.lane import Lane, held_by
from processor.local.mapping_settings import MappingSettings
from processor.local.stream import Record
from processor.local.window import FRESH, Windows

BACKOFF_FIRST, BACKOFF_MAXIMUM = 0.1, 10.0
"""Seconds before the first retry, doubled with each failure in a row, and their limit. Lambda's are not documented."""


@dataclass
class Counts:
    """What became of a shard's records and batches so far.

    `records`: handled by the function; `filtered`: left out by the filter criteria; `discarded`: given up, sent to the
    failure destination. `invocations` include `errors` (the whole batch failed) and `partials` (from some record on);
    `throttles` never reached the function. `retries` use up the limit, `bisects` do not. `destination_errors`: the
    failure destination could not be reached; it is tried again.
    """

    records: int = 0
    filtered: int = 0
    discarded: int = 0
    invocations: int = 0
    errors: int = 0
    partials: int = 0
    throttles: int = 0
    retries: int = 0
    bisects: int = 0
    destination_errors: int = 0


class ShardQueue:
    """The state of one shard.

    `add` what was read; `take` the batch that a lane has to send now; say by `complete` how that ended. `checkpoint`
    is the sequence number up to which every record is finished: handled, or delivered to the failure destination.
    """

    def __init__(
        self,
        shard_id: str,
        settings: MappingSettings,
        *,
        checkpoint: str | None = None,
        retention_seconds: float | None = None,
    ) -> None:
        self.shard_id = shard_id
        self.settings = settings
        self.checkpoint = checkpoint
        self.counts = Counts()
        self.lanes = [Lane() for _ in range(settings.parallelization_factor)]
        ages = (float(settings.maximum_record_age_seconds), retention_seconds)
        self._maximum_age = min((age for age in ages if age is not None and age >= 0), default=None)
        self._read_to = -1 if checkpoint is None else int(checkpoint)
        # The unfinished records by number, as read: when each arrived, and the number read before it. Of one that
        # is finished nothing is kept, however long one before it is blocked.
        self._unfinished: OrderedDict[str, tuple[float, str | None]] = OrderedDict()
        self._last = checkpoint  # the number read last
        self._size = 0  # bytes of the unfinished records' events
        self.windows = Windows(settings.tumbling_window_seconds) if settings.tumbling_window_seconds else None
        self.ended = False  # the shard is read to its end
        self.tip_at = 0.0  # when the last read began that left nothing unread
        self._added_at = 0.0  # when the last record came that is for the function

    def add(self, records: Iterable[Record], now: float) -> None:
        """Take in what was read from the shard, in its order. Records that were read before change nothing."""
        for record in records:
            sequence = record.sequence
            if sequence <= self._read_to:
                continue
            self._read_to = sequence
            self._unfinished[record.sequence_number] = (record.arrival, self._last)
            self._last = record.sequence_number
            self._size += len(record.event)
            if not record.matched:
                self.counts.filtered += 1
                self._finish((record,))
                continue
            lane = self.lanes[self.lane_of(record.order_key)]
            lane.waiting.append((now, record))
            self._added_at = now
            lane.size += len(record.event)

    def lane_of(self, order_key: str) -> int:
        """Return the lane of the records that share an order key."""
        return crc32(order_key.encode("utf-8", "surrogatepass")) % len(self.lanes)

    @property
    def unfinished(self) -> int:
        """Records read and not finished."""
        return len(self._unfinished)

    @property
    def running(self) -> bool:
        """Say whether any batch is under way."""
        return any(lane.running is not None for lane in self.lanes)

    @property
    def idle(self) -> bool:
        """Say whether nothing is left to do of what was read."""
        return not self.unfinished and (self.windows is None or self.windows.start is None)

    @property
    def read_to(self) -> int:
        """The highest sequence number read; −1 where nothing was."""
        return self._read_to

    @property
    def oldest_arrival(self) -> float | None:
        """When the lowest unfinished record arrived in the stream; None where all are finished."""
        return next(iter(self._unfinished.values()))[0] if self._unfinished else None

    def finished_to(self, sequence: int) -> bool:
        """Say whether every record up to that sequence number is finished, and its window closed."""
        if self.windows is not None and self.windows.start is not None:
            return sequence <= int(self.checkpoint or -1)
        return not self._unfinished or int(next(iter(self._unfinished))) > sequence

    def has_room(self) -> bool:
        """Say whether to read on: two full batches a lane at most are kept, so a blocked shard is not read whole."""
        lanes = len(self.lanes)
        return self.unfinished < 2 * lanes * self.settings.batch_size and self._size < 2 * lanes * MAXIMUM_PAYLOAD

    def due(self, lane_index: int) -> float | None:
        """Return from when on `take` has something for the lane; None where that takes records or a completion."""
        lane = self.lanes[lane_index]
        if lane.running is not None:
            return None
        if self._window_over(lane):
            return 0.0
        if lane.pending:
            return lane.not_before
        if not lane.waiting:
            return None
        received, first = lane.waiting[0]
        full = len(lane.waiting) >= self.settings.batch_size
        if self.windows is not None:  # those of a later window do not join this batch
            full = full or not self.windows.same(first.arrival, lane.waiting[-1][1].arrival)
        if full or payload_size(len(lane.waiting), lane.size) > MAXIMUM_PAYLOAD:
            return received
        return received + self.settings.batching_window_seconds

    def _window_over(self, lane: Lane) -> bool:
        """Say whether the open window's last invocation is to be sent."""
        windows = self.windows
        if windows is None or windows.start is None:
            return False
        if lane.pending:  # of this window, or its last invocation itself, which is repeated
            return windows.early and bool(lane.pending[-1].records)
        if lane.waiting and not windows.early:
            return not windows.holds(lane.waiting[0][1].arrival)
        quiet_from = max(windows.end, self._added_at)
        return windows.early or self.ended or self.tip_at >= quiet_from + self.settings.tumbling_window_grace_seconds

    def take(self, lane_index: int, now: float) -> Batch | None:
        """Return the batch that the lane is to send now, if any; the lane then waits for its `complete`.

        A batch with a `condition` goes to the failure destination instead of the function.
        """
        due = self.due(lane_index)
        if due is None or due > now:
            return None
        lane = self.lanes[lane_index]
        if self.windows is not None and self._window_over(lane):
            batch = Batch(self.shard_id, lane_index, (), window=self.windows.part(final=True))
        elif lane.pending:
            batch = lane.pending.pop()
        else:
            batch = Batch(self.shard_id, lane_index, lane.gather(self.settings.batch_size, self.windows))
        if batch.condition is None:
            batch = self._without_old(lane, batch, now)
        if batch.condition is None:
            batch = self._fitting(lane, batch)
        if self.windows is not None and batch.records and batch.condition is None:
            self.windows.open(batch.records[0].arrival)
            batch = replace(batch, window=self.windows.part(final=False))
        lane.running = batch
        return batch

    def _without_old(self, lane: Lane, batch: Batch, now: float) -> Batch:
        """Return what to do first: give up the records at the batch's start that are too old, or send it."""
        if self._maximum_age is None:
            return batch
        old = 0
        for record in batch.records:
            if record.arrival + self._maximum_age > now:
                break
            old += 1
        if not old:
            return batch
        if old < len(batch.records):
            lane.pending.append(replace(batch, records=batch.records[old:]))
        return replace(batch, records=batch.records[:old], condition="RecordAgeExceeded", failures=0)

    def _fitting(self, lane: Lane, batch: Batch) -> Batch:
        """Return what of the batch one invocation holds; a record that none can is given up.

        The state of a window may have grown since the batch was gathered. Where it leaves no room for a record that a
        fresh one does, the window ends before it, early.
        """
        windows = self.windows
        fitting = held_by(batch.records, None if windows is None else windows.state)
        if fitting == len(batch.records):
            return batch
        if windows is not None and not fitting and held_by(batch.records[:1], FRESH):
            windows.early = True
            lane.pending.append(batch)
            return Batch(self.shard_id, batch.lane, (), window=windows.part(final=True))
        most = max(fitting, 1)
        if most < len(batch.records):
            lane.pending.append(replace(batch, records=batch.records[most:]))
        condition: Condition | None = None if fitting else "PayloadTooLarge"
        return replace(batch, records=batch.records[:most], condition=condition)

    def complete(self, batch: Batch, outcome: Outcome, now: float) -> None:
        """Take in how sending the batch ended: finish its records, or schedule them to be tried again."""
        lane = self.lanes[batch.lane]
        if lane.running is not batch:
            raise ValueError(f"{self.shard_id}: lane {batch.lane} is not waiting for this batch")
        lane.running = None
        if batch.condition is not None:
            self._given_up(lane, batch, outcome, now)
        elif outcome.kind == "throttled":
            self.counts.throttles += 1
            self._again(lane, batch, now)
        else:
            self.counts.invocations += 1
            tried = replace(batch, invocations=batch.invocations + 1, unhandled=outcome.unhandled)
            if self.windows is not None and outcome.state is not None:
                self.windows.keep(outcome.state)
            if outcome.kind == "success":
                if self.windows is not None and not batch.records:
                    self.windows.close()
                self.counts.records += len(batch.records)
                self._finish(batch.records)
            else:
                self._failed(lane, tried, outcome, now)

    def _given_up(self, lane: Lane, batch: Batch, outcome: Outcome, now: float) -> None:
        if outcome.kind == "success":
            self.counts.discarded += len(batch.records)
            self._finish(batch.records)
        else:  # a record that reached neither the function nor the destination would be lost: try until it works
            self.counts.destination_errors += 1
            self._again(lane, batch, now)

    def _failed(self, lane: Lane, batch: Batch, outcome: Outcome, now: float) -> None:
        """Apply the rules of partial success, bisecting and retrying, in this order.

        What a partial success leaves, from the reported record on, is a batch of its own with all its retries before
        it: AWS documents that it is split there where bisecting is on, and does the same without. A report of the first
        record leaves nothing to split, so that batch is halved like any failed one: otherwise the limit would in the
        end discard the records behind it too.
        """
        bisect = self.settings.bisect_batch_on_function_error
        if outcome.kind == "partial":
            self.counts.partials += 1
        else:
            self.counts.errors += 1
        if outcome.at:
            self.counts.records += outcome.at
            self._finish(batch.records[: outcome.at])
            self.counts.bisects += bisect
            left = replace(batch, records=batch.records[outcome.at :], retries=0, invocations=0, failures=0)
            self._again(lane, left, now)
            return
        if bisect and len(batch.records) > 1:
            self.counts.bisects += 1
            half = len(batch.records) // 2
            for part in (batch.records[half:], batch.records[:half]):
                lane.pending.append(replace(batch, records=part, failures=0))
            lane.not_before = now  # halving ends after a few steps: no need to wait between them
            return
        limit = self.settings.maximum_retry_attempts if batch.records else -1  # a window's end: until it succeeds
        if limit != -1 and batch.retries >= limit:
            condition: Condition = "RetryAttemptsExhausted"
            lane.pending.append(replace(batch, condition=condition, failures=0))
            lane.not_before = now
        else:
            self.counts.retries += 1
            self._again(lane, replace(batch, retries=batch.retries + 1), now)

    @staticmethod
    def _again(lane: Lane, batch: Batch, now: float) -> None:
        """Put the batch before all others of its lane, to be sent after the back-off."""
        lane.pending.append(replace(batch, failures=batch.failures + 1))
        lane.not_before = now + min(BACKOFF_MAXIMUM, BACKOFF_FIRST * 2 ** min(batch.failures, 10))

    def _finish(self, records: Iterable[Record]) -> None:
        """Mark the records as done and move the checkpoint up to the lowest unfinished one, or to the open window."""
        for record in records:
            del self._unfinished[record.sequence_number]
            self._size -= len(record.event)
        if self.windows is None or self.windows.start is None:
            self.checkpoint = next(iter(self._unfinished.values()))[1] if self._unfinished else self._last
