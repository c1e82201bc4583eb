"""Faults of the worker process: killed at a chosen moment, frozen, timed out, out of memory. All signals are real."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import orjson

from processor.local.environment import Crashed, InvocationError, OutOfMemory, TimedOut
from processor.local.faults.fault import Injector
from processor.local.faults.wire import Match, writes
from processor.local.proxy import Call, Reply, answer

ZERO_BYTES = 24
"""What each number of an array takes while it is parsed: 16 bytes in yyjson's document, 8 in the list."""


class Kill(Injector):
    """SIGKILL for the very process that sends a write, before that is carried out."""

    def __init__(self, *, every: float = 1.0) -> None:
        self.every = every

    def call(self, call: Call) -> Reply | None:
        """Kill the sender of a write that is due."""
        if not writes(call) or not self.due():
            return None
        pid = self.run.workers.owner(call.port)
        if pid is None:
            self.again()
            return None
        if self.run.workers.kill(pid):
            self.count()
        else:
            self.again()
        return Reply(then="close")


class KillAmid(Injector):
    """SIGKILL for a worker of which one write has been carried out, and another of the same invocation never is.

    The others are held back from the first one's arrival on: a worker may send all of them at once. Where no other
    comes, nobody is killed.
    """

    def __init__(self, match: Match = writes, *, every: float = 1.0) -> None:
        self.every = every
        self._match = match
        self._deciding = threading.Lock()
        self._victim = ""
        self._killed = False
        self._carried_out = threading.Event()

    def call(self, call: Call) -> Reply | None:
        """Carry out one write of an invocation, where it is due, and kill its worker at the next one."""
        if not self._match(call):
            return None
        with self._deciding:  # so that no other write of it slips by while it is found out whose this one is
            victim = self._still_at_work()
            if not victim and not self.due():
                return None
            pid, request_id = self.run.workers.at_work(call.port)
            if not victim:
                self._begin(request_id)
            carried_out = self._carried_out
        if not request_id or request_id != (victim or request_id):
            return None
        if not victim:
            try:
                return Reply(call.forward())
            finally:
                carried_out.set()
        carried_out.wait()
        self._kill_once(pid, victim)
        return Reply(then="close")

    def _still_at_work(self) -> str:
        """Return the invocation that was begun with; none where it is over."""
        if self._victim and self._victim not in self.run.workers.invocations:
            if not self._killed:  # it had no other write
                self.again()
            self._victim = ""
        return self._victim

    def _begin(self, request_id: str) -> None:
        self._victim, self._killed = request_id, False
        self._carried_out = threading.Event()
        if not request_id:
            self.again()

    def _kill_once(self, pid: int | None, request_id: str) -> None:
        """Kill the worker, unless it was at another of its writes."""
        with self._deciding:
            if self._killed or self._victim != request_id:
                return
            self._killed = self.run.workers.kill(pid)
        if self._killed:
            self.count()


class KillAfter(Injector):
    """SIGKILL when all has been written and said, and before the response is: the batch comes again, whole.

    The worker is the one that wrote the line, by its invocation. Where its response was faster it is not counted.
    """

    def __init__(self, *, every: float = 1.0) -> None:
        self.every = every
        self._killed: set[str] = set()

    def line(self, name: str, line: str) -> None:
        """Kill the worker whose metrics these are: they come when all is written."""
        if name == "ingest" and '"_aws"' in line and self.due():
            request_id = orjson.loads(line)["RequestId"]
            if self.run.workers.kill(self.run.system.function.at_work.get(request_id)):
                self._killed.add(request_id)

    def invoke(self, _name: str, event: bytes, following: Callable[[bytes], Any]) -> Any:
        """Count the invocations that ended by it."""
        try:
            return following(event)
        except Crashed as error:
            if error.request_id in self._killed:
                self.count()
            raise


class KillAny(Injector):
    """SIGKILL for any worker at any moment: idle, starting, or at work."""

    def __init__(self, *, every: float = 1.0) -> None:
        self.every = every

    def tick(self) -> None:
        """Kill one where it is due."""
        pids = list(self.run.workers.doing())
        if pids and self.due() and self.run.workers.kill(self.random.choice(pids)):
            self.count()


class Freeze(Injector):
    """SIGSTOP for the process that sends a write, which it finds carried out or not when it goes on."""

    def __init__(self, seconds: float, *, every: float = 1.0) -> None:
        self.every = every
        self._seconds = seconds

    def call(self, call: Call) -> Reply | None:
        """Stop the sender of a write that is due."""
        if not writes(call) or not self.due():
            return None
        pid = self.run.workers.owner(call.port)
        if pid is None or pid == self.run.workers.hung or not _signal(pid, signal.SIGSTOP):
            self.again()
            return None
        self.count()
        self.run.later(self._seconds, lambda: pid != self.run.workers.hung and _signal(pid, signal.SIGCONT))
        return None


class Hang(Injector):
    """SIGSTOP amid a write, until the function's timeout ends the worker; no other fault may before."""

    def __init__(self, *, every: float = 1.0) -> None:
        self.every = every
        self._request_id = ""

    def call(self, call: Call) -> Reply | None:
        """Stop the sender of a write that is due, one at a time."""
        at_work = self.run.system.function.at_work
        if not writes(call) or self._request_id in at_work or not self.due():
            return None
        pid, self._request_id = self.run.workers.at_work(call.port)
        self.run.workers.hung = pid if self._request_id else None
        if pid is None or not self._request_id or not _signal(pid, signal.SIGSTOP):
            self.again()
        return None

    def invoke(self, _name: str, event: bytes, following: Callable[[bytes], Any]) -> Any:
        """Count the invocations that ended by it."""
        try:
            return following(event)
        except InvocationError as error:
            if error.request_id == self._request_id:
                self.run.workers.hung = None
                if isinstance(error, TimedOut):
                    self.count()
                else:
                    self.again()
            raise


class Glut(Injector):
    """Answers a write with so much that the worker passes its memory, and its environment ends it."""

    def __init__(self, *, every: float = 1.0) -> None:
        self.every = every
        self._fed: set[str] = set()

    def call(self, call: Call) -> Reply | None:
        """Do what is asked where it is due, and answer with more than there is memory for."""
        if not writes(call) or not self.due():
            return None
        _, request_id = self.run.workers.at_work(call.port)
        if not request_id:
            self.again()
            return None
        found = call.forward()
        head, _, body = found.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            self.again()
            return Reply(found)
        self._fed.add(request_id)
        if not self.injected:  # the client may give up before it has read all of it
            self.again()
        return Reply(answer(glutted(body, self.run.system.function.config.memory_mb)))

    def invoke(self, _name: str, event: bytes, following: Callable[[bytes], Any]) -> Any:
        """Count the invocations that ended by it."""
        try:
            return following(event)
        except InvocationError as error:
            if error.request_id in self._fed:
                self._fed.discard(error.request_id)
                if isinstance(error, OutOfMemory):
                    self.count()
                else:
                    self.again()
            raise


def glutted(body: bytes, memory_mb: int) -> bytes:
    """Return a JSON object with a value more that takes at least so much memory once it is parsed."""
    zeros = orjson.Fragment(b"[" + b"0," * (memory_mb * 2**20 // ZERO_BYTES) + b"0]")
    return orjson.dumps({**orjson.loads(body), "Glut": zeros})


def _signal(pid: int, number: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
        return True
    return False
