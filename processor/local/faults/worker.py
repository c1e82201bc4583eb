"""Faults of the worker process: killed at a chosen moment, frozen, timed out, out of memory. All signals are real."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

import orjson

from processor.local.environment import Crashed, InvocationError, TimedOut
from processor.local.faults.fault import Injector
from processor.local.faults.wire import Match, writes
from processor.local.proxy import Call, Reply


class Kill(Injector):
    """SIGKILL for the very process that sends a call: before the call is carried out, or when it has been."""

    def __init__(self, moment: Literal["before", "amid"], match: Match = writes, *, every: float = 1.0) -> None:
        self.every = every
        self._moment = moment
        self._match = match

    def call(self, call: Call) -> Reply | None:
        """Kill the sender of a call that is due."""
        if not self._match(call) or not self.due():
            return None
        pid = self.run.workers.owner(call.port)
        if pid is None:
            self.again()
            return None
        if self._moment == "amid":
            call.forward()
        if self.run.workers.kill(pid):
            self.count()
        else:
            self.again()
        return Reply(then="close")


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
        pid = self.run.workers.owner(call.port)
        self._request_id = next((found for found, worker in at_work.items() if worker == pid), "")
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


def _signal(pid: int, number: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
        return True
    return False
