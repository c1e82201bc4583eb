"""An event source mapping: polls every shard of a stream and invokes a function with batches of its records.

The stream is one of Kinesis or of a DynamoDB table (`stream`); what differs between the two is in their adapters.

MiniStack's own mapping honours little of what Lambda's does and takes a partial failure for success; this one keeps to
Lambda's documentation. `batch` has the event and what an answer means, `shard` the lanes, retries and checkpoint of a
shard, `iterator` the polling; a `consumer` joins them, and `shards` finds them. Here is what drives them: threads
(`start`), or a clock that is moved by hand (`step`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from threading import Event, Thread
from types import TracebackType
from typing import Any

from processor.errors import LocalError
from processor.local.batch import Batch, Throttled
from processor.local.consumer import SHARD_END, ShardConsumer
from processor.local.mapping_settings import MappingSettings
from processor.local.mapping_stats import MappingStats
from processor.local.shards import FROM, Shards
from processor.local.streams import stream_of

__all__ = ["FROM", "SHARD_END", "EventSourceMapping", "MappingSettings", "MappingStats", "Throttled"]

DISCOVER_SECONDS = 1.0
"""How often the shards are listed, besides whenever one has come to its end."""


class EventSourceMapping:
    """A mapping from a stream to `invoke`, a context manager.

    client: the boto3 client of the stream's service (`kinesis`, or `dynamodbstreams` for a table's stream), or what
    answers its calls alike. stream: its ARN, or the name of one of Kinesis. invoke: takes the event's JSON and returns
    the function's answer (its body, or the object it encodes); it raises where the function did, and `Throttled` where
    it could not be invoked. Up to the parallelisation factor times the number of shards are called at a time.
    on_failure: takes the failure record of a batch that was given up, `payload` included; where it raises, it is called
    again later, and the checkpoint waits. checkpoints: where another mapping of the stream ended (its `checkpoints`).
    clock: seconds since 1970.
    """

    def __init__(
        self,
        client: Any,
        stream: str,
        invoke: Callable[[bytes], Any],
        settings: MappingSettings | None = None,
        *,
        on_failure: Callable[[dict[str, Any]], None] | None = None,
        checkpoints: Mapping[str, str] | None = None,
        function_name: str = "ingest",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings or MappingSettings()
        self._clock = clock
        self._shards = Shards(
            stream_of(client, stream, function_name, self.settings),
            stream,
            self.settings,
            checkpoints or {},
            invoke=invoke,
            on_failure=on_failure,
            clock=clock,
        )
        self._discover_now = Event()
        self._next_discovery = 0.0
        self._stopping = Event()
        self._disabled = Event()
        self._threads: list[Thread] = []
        self._driven: set[str] = set()  # the shards that have their threads
        self._broken: BaseException | None = None

    def start(self) -> None:
        """Begin to poll and invoke, in threads. Raises LocalError where the stream cannot be read."""
        if self._shards.opened:
            raise LocalError("a mapping starts once: make a new one with checkpoints=this.checkpoints")
        self._shards.open()
        self._spawn("coordinator", self._coordinate)

    def stop(self) -> None:
        """Let running invocations finish, and end. `checkpoints` then says where to go on."""
        self._halt()
        for thread in self._threads:  # the coordinator first: after it, none is added
            thread.join()
        self._raise_if_broken()

    def disable(self) -> None:
        """Stop to read and to invoke; return when neither is under way. The checkpoints stay where they are.

        Raises LocalError if the mapping broke.
        """
        self._disabled.set()
        for consumer in self._consumers():
            with consumer.changed:
                while (consumer.polling or consumer.queue.running) and not self._stopping.is_set():
                    consumer.changed.wait()
        self._raise_if_broken()

    @property
    def disabled(self) -> bool:
        """Say whether it is switched off."""
        return self._disabled.is_set()

    def enable(self) -> None:
        """Go on where `disable` stopped."""
        self._disabled.clear()
        self._wake()

    def __enter__(self) -> EventSourceMapping:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def checkpoints(self) -> dict[str, str]:
        """Per shard, the sequence number up to which every record is finished, or `SHARD_END`, or `FROM` and a time."""
        now = {consumer.queue.shard_id: consumer.checkpoint for consumer in self._consumers()}
        return self._shards.resumed | {shard_id: found for shard_id, found in now.items() if found is not None}

    @property
    def stats(self) -> MappingStats:
        """What happened so far: a copy."""
        return MappingStats.of(self._consumers())

    def check(self) -> None:
        """Raise LocalError if the mapping broke."""
        self._raise_if_broken()

    def drain(self, timeout: float) -> None:
        """Wait until every record put before this call is finished.

        Raises LocalError, saying how far each shard is, after `timeout` seconds or where the mapping broke or stopped.
        """
        deadline = time.monotonic() + timeout
        begun = {consumer.queue.shard_id: consumer.polls for consumer in self._consumers()}
        goals: dict[str, int | None] | None = None
        while not self._stopping.is_set():
            if goals is None and (listed := self._shards.discover()) is not None:
                self._discover_now.set()
                goals = dict.fromkeys(listed)
            if goals is not None and not [shard_id for shard_id in goals if not self._reached(shard_id, goals, begun)]:
                return
            if time.monotonic() > deadline:
                raise LocalError(f"not drained after {timeout:g} s: {self._progress(goals)}")
            self._stopping.wait(0.01)
        self._raise_if_broken()
        raise LocalError(f"the mapping was stopped before it was drained: {self._progress(goals)}")

    @property
    def idle(self) -> bool:
        """Say whether all shards that were listed last are read to their tips or ends, and their records finished."""
        consumers = self._consumers()
        begun = {consumer.queue.shard_id for consumer in consumers}
        return self._shards.listed <= begun and all(consumer.idle for consumer in consumers)

    def step(self) -> float:
        """Do all that is due now, in this thread; return the time when there is something to do again.

        For a clock that only moves when told to; not together with `start`.
        """
        if self._threads:
            raise LocalError("step and start do not go together: the threads do all there is to do")
        if not self._shards.opened:
            self._shards.open()
        if self._disabled.is_set():
            return self._clock() + DISCOVER_SECONDS
        if self._discover_now.is_set() or self._clock() >= self._next_discovery:
            self._discover_now.clear()
            self._next_discovery = self._clock() + DISCOVER_SECONDS
            self._shards.discover()
        times = [self._next_discovery]
        for consumer in self._consumers():
            if consumer.wants_poll() and consumer.iterator.next_poll <= self._clock():
                self._poll(consumer)
            for lane in range(self.settings.parallelization_factor):
                while (batch := consumer.take(lane)) is not None:
                    self._send(consumer, batch)
                due = consumer.queue.due(lane)
                times += [] if due is None else [due]
            times += [consumer.iterator.next_poll] if consumer.wants_poll() else []
        return self._clock() if self._discover_now.is_set() else min(times)

    def _consumers(self) -> list[ShardConsumer]:
        return list(self._shards.consumers.values())

    def _poll(self, consumer: ShardConsumer) -> None:
        consumer.poll()
        if consumer.done:
            self._discover_now.set()  # its children may begin

    def _send(self, consumer: ShardConsumer, batch: Batch) -> None:
        consumer.send(batch)
        if consumer.done:
            self._discover_now.set()

    def _reached(self, shard_id: str, goals: dict[str, int | None], begun: Mapping[str, int]) -> bool:
        consumer = self._shards.consumers.get(shard_id)
        if consumer is None:
            return False
        goal = goals[shard_id]
        if goal is None:
            goal = goals[shard_id] = consumer.goal(begun.get(shard_id, 0))
        return goal is not None and consumer.reached(goal)

    def _progress(self, shard_ids: Mapping[str, Any] | None) -> str:
        if self._disabled.is_set():
            return "the mapping is disabled"
        if shard_ids is None:
            return "the shards could not be listed"
        found = [(shard_id, self._shards.consumers.get(shard_id)) for shard_id in sorted(shard_ids)]
        return "; ".join(
            f"{shard_id} waits for its parents" if one is None else one.progress() for shard_id, one in found
        )

    # Threads: a coordinator, and for each shard one that polls and one for each lane.

    def _coordinate(self) -> None:
        while True:
            self._discover_now.clear()
            if self._stopping.is_set():
                return
            self._shards.discover()
            for consumer in self._consumers():
                if consumer.queue.shard_id not in self._driven and not consumer.done:
                    self._driven.add(consumer.queue.shard_id)
                    self._drive(consumer)
            self._discover_now.wait(DISCOVER_SECONDS)

    def _drive(self, consumer: ShardConsumer) -> None:
        self._spawn(f"{consumer.queue.shard_id} poll", self._keep_polling, consumer)
        for lane in range(self.settings.parallelization_factor):
            self._spawn(f"{consumer.queue.shard_id} lane {lane}", self._keep_sending, consumer, lane)

    def _keep_polling(self, consumer: ShardConsumer) -> None:
        while self._may_poll(consumer):
            self._poll(consumer)

    def _may_poll(self, consumer: ShardConsumer) -> bool:
        """Wait until the shard is to be read, and say so to who disables; False where it is not to be any more."""
        with consumer.changed:
            while not self._stopping.is_set() and not consumer.iterator.ended:
                wait: float | None = None
                if not self._disabled.is_set() and consumer.queue.has_room():
                    wait = consumer.iterator.next_poll - self._clock()
                    if wait <= 0:
                        consumer.polling = True
                        return True
                consumer.changed.wait(wait)
        return False

    def _keep_sending(self, consumer: ShardConsumer, lane: int) -> None:
        while (batch := self._next(consumer, lane)) is not None:
            self._send(consumer, batch)

    def _next(self, consumer: ShardConsumer, lane: int) -> Batch | None:
        """Wait for the lane's next batch; None when there will be none any more."""
        with consumer.changed:
            while not self._stopping.is_set() and not consumer.done:
                if self._disabled.is_set():
                    consumer.changed.wait()
                    continue
                batch = consumer.take(lane)
                if batch is not None:
                    return batch
                due = consumer.queue.due(lane)
                consumer.changed.wait(None if due is None else max(0.0, due - self._clock()))
        return None

    def _spawn(self, name: str, job: Callable[..., None], *arguments: Any) -> None:
        def run() -> None:
            try:
                job(*arguments)
            except BaseException as error:  # a dead thread must not look like an idle shard
                self._broken = error
                self._halt()

        thread = Thread(target=run, name=f"mapping {name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _halt(self) -> None:
        self._stopping.set()
        self._discover_now.set()
        self._wake()

    def _wake(self) -> None:
        for consumer in self._consumers():
            with consumer.changed:
                consumer.changed.notify_all()

    def _raise_if_broken(self) -> None:
        if self._broken is not None:
            raise LocalError(f"the mapping broke: {self._broken!r}") from self._broken
