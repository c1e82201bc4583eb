"""The worker processes of a run's functions: what each does, whose a connection is, and how they are ended."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections import Counter

from processor.local.faults.ports import process_of
from processor.local.system import System


class Workers:
    """The workers of both functions of a system.

    kills: those that faults killed, by what they did: `at work`, `idle`, `starting`. replaced: those that ended because
    something else was deployed. hung: the one that its timeout is to end, and nothing else.
    """

    def __init__(self, system: System) -> None:
        self.kills: Counter[str] = Counter()
        self.replaced = 0
        self.hung: int | None = None
        self._functions = (system.function, system.rollup)
        self._lock = threading.Lock()

    def doing(self) -> dict[int, str]:
        """Return what each living worker does, by process id: `at work`, `idle` or `starting`."""
        found: dict[int, str] = {}
        for function in self._functions:
            found |= dict.fromkeys(function.busy_pids, "starting")
            found |= dict.fromkeys(function.idle_pids, "idle")
            found |= dict.fromkeys(function.at_work.values(), "at work")
        return found

    @property
    def invocations(self) -> dict[str, int]:
        """The worker of each invocation that is under way, by its request id."""
        return {found: pid for function in self._functions for found, pid in function.at_work.items()}

    def owner(self, port: int) -> int | None:
        """Return the worker that has that port; None where it cannot be told."""
        return process_of(port, self.doing())

    def at_work(self, port: int) -> tuple[int | None, str]:
        """Return the worker that has that port, and its invocation; an empty one where it is at work on none."""
        pid = self.owner(port)
        return pid, next((found for found, worker in self.invocations.items() if worker == pid), "")

    def kill(self, pid: int | None) -> bool:
        """SIGKILL a worker as a fault; tell whether it lived, and no timeout was to end it."""
        doing = self.doing().get(pid or 0)
        if pid is None or doing is None or pid == self.hung:
            return False
        _kill(pid)
        with self._lock:
            self.kills[doing] += 1
        return True

    def replace(self, pid: int) -> None:
        """SIGKILL a worker because something else is deployed, unless its timeout is to end it."""
        lived = pid in self.doing()
        if pid != self.hung:
            _kill(pid)
            with self._lock:
                self.replaced += lived


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
