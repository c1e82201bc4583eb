"""Faults of the worker process: killed at a chosen moment, frozen, timed out, out of memory. All signals are real."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import Literal

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
        if self._moment == "amid":
            call.forward()
        if self.run.kill(self.run.owner(call.port)):
            self.count()
        return Reply(then="close")


class KillAfter(Injector):
    """SIGKILL when all has been written and said, and before the response is: the batch comes again, whole."""

    def __init__(self, *, every: float = 1.0) -> None:
        self.every = every

    def line(self, name: str, line: str) -> None:
        """Kill the workers that are at work when a batch's last line comes."""
        if name == "ingest" and '"_aws"' in line and self.due():
            for pid in self.run.system.function.busy_pids:
                if self.run.kill(pid):
                    self.count()


class KillAny(Injector):
    """SIGKILL for any worker at any moment: idle, starting, or at work."""

    def __init__(self, *, every: float = 1.0) -> None:
        self.every = every

    def tick(self) -> None:
        """Kill one where it is due."""
        pids = self.run.system.function.pids + self.run.system.rollup.pids
        if pids and self.due() and self.run.kill(self.random.choice(pids)):
            self.count()


class Freeze(Injector):
    """SIGSTOP for the process that sends a write, which it finds carried out or not when it goes on: if it does.

    seconds: how long; None leaves it stopped until the function's timeout has it killed.
    """

    def __init__(self, seconds: float | None, *, every: float = 1.0) -> None:
        self.every = every
        self._seconds = seconds

    def call(self, call: Call) -> Reply | None:
        """Stop the sender of a write that is due."""
        if not writes(call) or not self.due():
            return None
        pid = self.run.owner(call.port)
        if pid is None or not _signal(pid, signal.SIGSTOP):
            return None
        self.count()
        if self._seconds is not None:
            self.run.later(self._seconds, lambda: _signal(pid, signal.SIGCONT))
        return None


def _signal(pid: int, number: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
        return True
    return False
