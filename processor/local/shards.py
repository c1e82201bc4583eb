"""The shards of a stream, and a consumer for each of them once its parents are finished."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from processor.errors import LocalError, SettingsError
from processor.local.consumer import SHARD_END, ShardConsumer
from processor.local.iterator import ShardIterator
from processor.local.mapping_settings import MappingSettings
from processor.local.shard import ShardQueue
from processor.local.stream import Start, Stream

FROM = "AT_TIMESTAMP "
"""Begins the checkpoint of a shard that is read from LATEST on, while none of its records is finished; then the time of
the mapping's start, in whole seconds since 1970. By it another mapping knows what has been put since, if the stream's
clock and this machine's agree."""


class Shards:
    """Finds the shards and begins with them. `consumers` has each begun one by its id, finished ones included.

    A reshard closes shards and makes children of them. A child's records come after its parents', so it begins when
    nothing is left of them.
    """

    def __init__(
        self,
        stream: Stream,
        name: str,
        settings: MappingSettings,
        checkpoints: Mapping[str, str],
        *,
        invoke: Callable[[bytes], Any],
        on_failure: Callable[[dict[str, Any]], None] | None,
        clock: Callable[[], float],
    ) -> None:
        self.consumers: dict[str, ShardConsumer] = {}
        self.resumed = dict(checkpoints)
        self.opened = False
        self.listed: set[str] = set()
        self._stream = stream
        self._name = name
        self._settings = settings
        self._invoke = invoke
        self._on_failure = on_failure
        self._clock = clock
        self._lock = Lock()
        self._at_start: set[str] | None = None  # the shards of the first listing: LATEST is meant for these
        self._waiting: set[str] = set()  # listed, but a parent is not finished

    def open(self) -> None:
        """Describe the stream and begin with its shards. Raises LocalError where that fails.

        And SettingsError where the timestamp to start at is in the future.
        """
        now = self._clock()
        at = self._settings.starting_position_timestamp
        if at is not None and at > now:
            raise SettingsError(f"starting_position_timestamp is not in the future: {at} is {at - now:.0f} s from now")
        try:
            self._stream.open()
            self._polls_from = self._clock() + self._settings.start_delay_seconds
            self._discover()
        except (ClientError, BotoCoreError) as error:
            raise LocalError(f"cannot read the stream {self._name}: {error}") from error
        self.opened = True
        if self._settings.starting_position == "LATEST" and not self._settings.start_delay_seconds:
            for consumer in self.consumers.values():
                if not consumer.done:
                    consumer.poll()  # so that nothing put from now on is missed; Lambda does not promise that

    def discover(self) -> set[str] | None:
        """List the shards, begin with those that may; return the ids of all, None where they could not be listed."""
        try:
            return self._discover()
        except (ClientError, BotoCoreError):
            return None

    def _discover(self) -> set[str]:
        with self._lock:
            listed = self._stream.shards()
            self.listed = set(listed)
            if self._at_start is None:
                # Where another mapping's checkpoints go on, it knew of what was there at its own start.
                self._at_start = set() if self.resumed else set(listed)
                if self._settings.starting_position == "LATEST":
                    self.resumed |= dict.fromkeys(self._at_start, f"{FROM}{math.floor(self._polls_from)}")
            for shard_id, consumer in self.consumers.items():
                if consumer.iterator.missing and shard_id not in listed:
                    consumer.end()  # deleted, with what was unread in it
            for shard_id, parents in listed.items():
                if shard_id in self.consumers:
                    continue
                if all(self._finished(parent, listed) for parent in parents):
                    self.consumers[shard_id] = self._consumer(shard_id)
                else:
                    self._waiting.add(shard_id)
            return set(listed)

    def _finished(self, parent: str, listed: Mapping[str, Any]) -> bool:
        consumer = self.consumers.get(parent)
        if consumer is None:  # a parent that is not listed any more has expired
            return parent not in listed or self.resumed.get(parent) == SHARD_END
        return consumer.done

    def _consumer(self, shard_id: str) -> ShardConsumer:
        checkpoint = self.resumed.get(shard_id)
        ended = checkpoint == SHARD_END
        queue = ShardQueue(
            shard_id,
            self._settings,
            checkpoint=None if checkpoint is None or not checkpoint.isdecimal() else checkpoint,
            retention_seconds=self._stream.retention_seconds,
        )
        start = self._start(shard_id, checkpoint)
        iterator = ShardIterator(self._stream, shard_id, start, clock=self._clock)
        iterator.next_poll = self._polls_from
        consumer = ShardConsumer(
            self._stream.source, iterator, queue, invoke=self._invoke, on_failure=self._on_failure, clock=self._clock
        )
        if ended:
            consumer.end()
        return consumer

    def _start(self, shard_id: str, checkpoint: str | None) -> Start:
        """Return where to begin: after the checkpoint, else where the settings say. Later shards are read whole."""
        if checkpoint is not None and checkpoint.startswith(FROM):
            # One that waited for its parents, while records came, is not read from its tip on.
            fresh = shard_id in (self._at_start or ()) and shard_id not in self._waiting
            return Start("LATEST") if fresh else Start("AT_TIMESTAMP", timestamp=float(checkpoint.removeprefix(FROM)))
        if checkpoint is not None:
            return Start("AFTER_SEQUENCE_NUMBER", checkpoint)
        if self._settings.starting_position == "AT_TIMESTAMP":
            return Start("AT_TIMESTAMP", timestamp=self._settings.starting_position_timestamp)
        return Start("TRIM_HORIZON")
