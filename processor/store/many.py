"""Many requests over kept connections from one thread: the way of nearly every write.

Sixteen threads that get their answers at once spend more on handing the interpreter's lock around than on the requests.
Here one thread sends on every kept connection, then takes the answers as they come, for half the CPU of a call. What
does not go well at once is left to `Wire.call`, which repeats, and explains what cannot be repeated.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from processor.store.connection import Answer, Connection, Pool

Job = TypeVar("Job")


def exchange_many(
    pool: Pool, jobs: Iterable[Job], request: Callable[[Job], bytes | None], *, timeout: float, deadline: float
) -> Iterator[tuple[Job, Answer | None]]:
    """Send each job's request over the pool's kept connections, and yield the job with its answer as that comes.

    None where there is no kept connection, no request, no time before `deadline` (time.monotonic()) or no whole answer:
    the request may or may not have been carried out.
    """
    waiting = iter(jobs)
    kept: _Kept[Job] = _Kept(pool)
    try:
        while True:
            while kept.idle and time.monotonic() < deadline:
                try:
                    job = next(waiting)
                except StopIteration:
                    break
                payload = request(job)
                if payload is None or not kept.send(job, payload, min(time.monotonic() + timeout, deadline)):
                    yield job, None
            if not kept.busy:
                break
            yield from kept.answers()
    finally:
        kept.give_back()
    for job in waiting:
        yield job, None


class _Kept(Generic[Job]):
    """The pool's idle connections: some of them are at work by now, each with its job and its limit."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.idle: dict[int, Connection] = {}
        self.busy: dict[int, tuple[Connection, Job, float]] = {}
        self.poll = select.poll()
        while (connection := pool.take()) is not None:
            self.idle[connection.fileno()] = connection
            self.poll.register(connection.fileno(), select.POLLIN)

    def give_back(self) -> None:
        """Return the idle connections to the pool, and close those that still owe an answer."""
        for connection, _job, _limit in self.busy.values():
            connection.close()
        for connection in self.idle.values():
            self.pool.give(connection)

    def send(self, job: Job, request: bytes, limit: float) -> bool:
        """Send a request on an idle connection; return whether it is on its way."""
        number, connection = self.idle.popitem()
        try:
            connection.send(request, limit)
        except OSError:
            self.drop(number, connection)
            return False
        self.busy[number] = connection, job, limit
        return True

    def answers(self) -> Iterator[tuple[Job, Answer | None]]:
        """Wait for the next answers, or for the first limit, and yield what has come and what is late."""
        wait = min(limit for _, _, limit in self.busy.values()) - time.monotonic()
        ready = [number for number, _ in self.poll.poll(max(wait, 0) * 1000)]
        late = [] if ready else [n for n, (_, _, limit) in self.busy.items() if limit <= time.monotonic()]
        for number in ready or late:
            if number in self.idle:  # the other side has closed it
                self.drop(number, self.idle.pop(number))
                continue
            connection, job, limit = self.busy.pop(number)
            answer = self.receive(connection, limit) if ready else None
            if answer is not None and connection.reusable:
                self.idle[number] = connection
            else:
                self.drop(number, connection)
            yield job, answer

    def receive(self, connection: Connection, limit: float) -> Answer | None:
        """Return the answer that has begun to come, or None where it breaks off."""
        try:
            return connection.receive(limit)
        except OSError:
            return None

    def drop(self, number: int, connection: Connection) -> None:
        """Close a connection that cannot be used again."""
        self.poll.unregister(number)
        connection.close()
