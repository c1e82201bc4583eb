"""Which version of the functions is deployed in a run, and with which variables; and an older one beside them."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from processor.errors import LocalError
from processor.local.function import Function
from processor.local.system import System

PACKAGE = Path(__file__).resolve().parents[2]
LATER = "movement_counter"
LATER_FIELD = f'        Field("{LATER}", at=15, type="u8", invalid=0xFF),\n'
"""A quantity, and the line of today's Ruuvi decoder that reads it: an older one did not have it yet."""


class Versions:
    """The versions of a run's functions, a context manager. kill: ends a worker by its process id."""

    def __init__(self, system: System, kill: Callable[[int], object]) -> None:
        self._system = system
        self._kill = kill
        self._lock = threading.Lock()
        self._stack = contextlib.ExitStack()
        self.changed = False
        """Whether another version than the present one was ever deployed."""
        self._older = ""
        self._old: Function | None = None

    def __enter__(self) -> Versions:
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    def replace_workers(self, environment: Mapping[str, str] | None = None) -> None:
        """Give new workers these variables besides, or none any more, and kill the present ones."""
        for function in (self._system.function, self._system.rollup):
            variables = {**function.config.environment, **self._system.variables, **(environment or {})}
            function.configure(environment=variables)
            for pid in function.pids:
                self._kill(pid)

    def deploy(self, directory: Path | None) -> None:
        """Deploy ingest from that folder, or the present one."""
        self.changed = self.changed or directory is not None
        self._system.function.deploy(directory or self._system.functions / "ingest")

    @property
    def older(self) -> Path:
        """The folder of an older version of ingest."""
        with self._lock:
            if not self._older:
                self._older = self._stack.enter_context(older_version(self._system.functions / "ingest"))
            return Path(self._older) / "ingest"

    @property
    def old_function(self) -> Function:
        """The older version as a function of its own."""
        directory = self.older
        with self._lock:
            if self._old is None:
                variables = self._system.variables
                self._old = self._stack.enter_context(
                    Function(directory, environment=variables, sink=lambda _line: None, concurrency=1)
                )
            return self._old


def older_version(function: Path) -> tempfile.TemporaryDirectory[str]:
    """Return a folder with the function and, beside it, an older `processor`, as a package for Lambda has it.

    The older one reads one value less of a format: it stores readings that differ, under the same cells.
    """
    folder = tempfile.TemporaryDirectory(prefix="processor-older-")
    target = Path(folder.name) / function.name
    shutil.copytree(function, target)
    leave = shutil.ignore_patterns("__pycache__", "local", "cli", "dashboard", "ask", "audit", "deploy")
    shutil.copytree(PACKAGE, target / "processor", ignore=leave)
    ruuvi = target / "processor" / "decode" / "formats" / "ruuvi.py"
    text = ruuvi.read_text()
    if LATER_FIELD not in text:
        raise LocalError(f"{ruuvi}: the older version cannot be made: it has no line {LATER_FIELD.strip()}")
    ruuvi.write_text(text.replace(LATER_FIELD, ""))
    return folder
