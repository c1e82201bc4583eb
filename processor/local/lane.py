"""A lane of a shard: its own queue, of which one batch at a time is under way."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from processor.local.batch import MAXIMUM_PAYLOAD, WINDOW_ROOM, Batch, payload_size
from processor.local.stream import Record
from processor.local.window import Windows


class Lane:
    """A sub-queue of a shard: what waits for a batch, what is to be tried again, what is under way."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[float, Record]] = (
            deque()
        )  # with the time each was received: the window counts from it
        self.size = 0  # bytes of the waiting records' events
        self.pending: list[Batch] = []  # to be sent before what waits; the next one last
        self.running: Batch | None = None
        self.not_before = 0.0

    def gather(self, batch_size: int, windows: Windows | None) -> tuple[Record, ...]:
        """Take the records of the next batch from the waiting ones: as many as an invocation holds, one at least."""
        records: list[Record] = []
        size = 0
        room = room_beside(None if windows is None else windows.state)
        while self.waiting and len(records) < batch_size:
            record = self.waiting[0][1]
            if records and payload_size(len(records) + 1, size + len(record.event)) > room:
                break
            if records and windows is not None and not windows.same(records[0].arrival, record.arrival):
                break
            self.waiting.popleft()
            records.append(record)
            size += len(record.event)
        self.size -= size
        return tuple(records)


def room_beside(state: bytes | None) -> int:
    """Return how many bytes of an invocation are left for records beside the state of their window, if there is one."""
    return MAXIMUM_PAYLOAD - (0 if state is None else len(state) + WINDOW_ROOM)


def held_by(records: Sequence[Record], state: bytes | None) -> int:
    """Return how many of the records, from the first on, one invocation holds beside the state of their window."""
    size, room = 0, room_beside(state)
    for number, record in enumerate(records):
        size += len(record.event)
        if payload_size(number + 1, size) > room:
            return number
    return len(records)
