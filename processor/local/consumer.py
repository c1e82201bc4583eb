"""The consumer of one shard: reads it, sends its batches to the function, and what was given up to the destination.

It carries out what `ShardQueue` decides; any number of threads may call it. Reads and invocations happen outside its
lock.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Condition
from typing import Any

from processor.local.batch import SUCCESS, Batch, Outcome, Throttled, failure_record, outcome_of
from processor.local.filters import FilterCriteria
from processor.local.iterator import ShardIterator
from processor.local.shard import ShardQueue
from processor.local.stream import EventSource
from processor.local.window import state_in

SHARD_END = "SHARD_END"
"""The checkpoint of a closed shard whose last record is finished; the Kinesis Client Library's word for it."""


class ShardConsumer:
    """One shard being consumed. `changed` is notified of every change; `done` says that nothing is left of it."""

    def __init__(
        self,
        source: EventSource,
        iterator: ShardIterator,
        queue: ShardQueue,
        *,
        invoke: Callable[[bytes], Any],
        on_failure: Callable[[dict[str, Any]], None] | None,
        clock: Callable[[], float],
    ) -> None:
        self.iterator = iterator
        self.queue = queue
        self.changed = Condition()
        self.done = False
        self.polls = 0  # reads begun
        self.polling = False  # a read is under way
        self._source = source
        self._filters = FilterCriteria(queue.settings.filters)
        self._invoke_function = invoke
        self._on_failure = on_failure
        self._clock = clock
        self._tip = (0, -1)  # the last read that left nothing unread, and the highest sequence number by then
        self._iterator_age_ms = 0.0
        self._last_error = ""

    @property
    def checkpoint(self) -> str | None:
        """The sequence number up to which every record is finished, or `SHARD_END`; None where there is none yet."""
        with self.changed:
            return SHARD_END if self.done else self.queue.checkpoint

    @property
    def iterator_age_ms(self) -> float:
        """The age of the last record of the last batch when it was sent, as Lambda measures it; 0 where all is done."""
        with self.changed:
            return 0.0 if not self.queue.unfinished and self.iterator.at_tip else self._iterator_age_ms

    @property
    def idle(self) -> bool:
        """Say whether the last read left nothing unread, and nothing read is unfinished."""
        with self.changed:
            return self.done or (self.iterator.at_tip and self.queue.idle)

    def wants_poll(self) -> bool:
        """Say whether there is anything left to read, and room for it."""
        with self.changed:
            return not self.iterator.ended and self.queue.has_room()

    def poll(self) -> None:
        """Read once, and take in what came. From one thread at a time; `polling` says that it does."""
        with self.changed:
            self.polls += 1
            self.polling = True
        try:
            begun = self._clock()
            records = self.iterator.read()
            if self._filters:
                records = [record._replace(matched=self._filters.match(record.event)) for record in records]
            with self.changed:
                self.queue.add(records, self._clock())
                if self.iterator.at_tip:
                    self.queue.tip_at = begun
                    self._tip = (self.polls, self.queue.read_to)
                self._changed()
        finally:
            with self.changed:
                self.polling = False
                self.changed.notify_all()

    def end(self) -> None:
        """Take the shard for read to its end: it does not exist any more."""
        with self.changed:
            self.iterator.ended = True
            self._changed()

    def take(self, lane: int) -> Batch | None:
        """Return the batch that the lane is to `send` now, if any."""
        with self.changed:
            return self.queue.take(lane, self._clock())

    def send(self, batch: Batch) -> None:
        """Invoke the function with a batch, or deliver a given-up one; let the queue decide what follows."""
        outcome = self._invoke(batch) if batch.condition is None else self._give_up(batch)
        with self.changed:
            self.queue.complete(batch, outcome, self._clock())
            self._last_error = outcome.error
            self._changed()

    def _invoke(self, batch: Batch) -> Outcome:
        if batch.records:
            self._iterator_age_ms = max(0.0, (self._clock() - batch.records[-1].arrival) * 1000)
        try:
            return self._outcome(batch, self._invoke_function(batch.event(self._source.stream_arn)))
        except Throttled as error:
            return Outcome("throttled", error=str(error))
        except Exception as error:  # whatever it is, the function did not take the batch
            return Outcome("failed", error=f"{type(error).__name__}: {error}", unhandled=True)

    def _outcome(self, batch: Batch, response: object) -> Outcome:
        """Return what the function's answer means."""
        outcome = outcome_of(batch, response) if self.queue.settings.report_batch_item_failures else SUCCESS
        if batch.window is None or outcome.kind == "failed":
            return outcome
        state = state_in(response)
        if state is None:
            return Outcome("failed", error="the response has no state, which a tumbling window needs")
        # What a function returns beside a first record that failed is of nothing that counts as handled.
        return outcome if outcome.kind == "partial" and not outcome.at else outcome._replace(state=state)

    def _give_up(self, batch: Batch) -> Outcome:
        if self._on_failure is not None:
            try:
                self._on_failure(failure_record(batch, self._source, self._clock()))
            except Exception as error:  # the records would be lost: it is tried again
                return Outcome("failed", error=f"failure destination: {type(error).__name__}: {error}")
        return SUCCESS

    def _changed(self) -> None:
        self.queue.ended = self.iterator.ended
        self.done = self.done or (self.iterator.ended and self.queue.idle)
        self.changed.notify_all()

    def goal(self, after_poll: int) -> int | None:
        """Return how far the shard reached when a read begun after that one left nothing unread; None until then."""
        with self.changed:
            poll, read_to = self._tip
            return read_to if poll > after_poll or self.done else None

    def reached(self, goal: int) -> bool:
        """Say whether every record up to that sequence number is finished."""
        with self.changed:
            return self.queue.finished_to(goal)

    def progress(self) -> str:
        """Say for people how far the shard is."""
        with self.changed:
            arrival = self.queue.oldest_arrival
            age = "" if arrival is None else f", the oldest {self._clock() - arrival:.1f} s old"
            behind = self.iterator.millis_behind_latest
            error = self._last_error or self.iterator.last_error
            return (
                f"{self.queue.shard_id} has {self.queue.unfinished} unfinished records{age}, its checkpoint is"
                f" {self.queue.checkpoint}, it is {'not read yet' if behind is None else f'{behind} ms behind the tip'}"
                + (f" (last error: {error})" if error else "")
            )
