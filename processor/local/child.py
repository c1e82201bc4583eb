"""A child process that cannot outlive this one, however this one ends.

The child inherits a pipe, its lifeline, and a thread in it (`lifeline.py`) waits for the pipe's end of file, which the
kernel delivers when this process is gone: normal exit, exception, SIGTERM or SIGKILL alike. There is no moment in
which the child runs without it. `prctl(PR_SET_PDEATHSIG)` would not do: it is Linux only, and fires when the *thread*
that started the child ends. A supervisor process would do, but is one more process to start and to lose.

The child leads its own session: Ctrl-C in the terminal reaches the parent alone, which then stops its children in
order, and one signal to the group ends a child with all that it started.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

LIFELINE = Path(__file__).with_name("lifeline.py")
# What an interpreter needs to find itself and a place for temporary files; credentials and profiles stay behind.
INHERITED = ("PATH", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


class Child:
    """A Python process that runs `target` (a module's name or a script's path) in its own session.

    `variables` are its whole environment but for `INHERITED`; `output` is the file descriptor of both its stdout
    and its stderr, still the caller's to close; `inherit` are further descriptors that it keeps under their numbers.
    """

    def __init__(
        self,
        target: str,
        *arguments: str,
        cwd: Path,
        variables: Mapping[str, str],
        output: int,
        inherit: Iterable[int] = (),
    ) -> None:
        self._killed = False
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        read_end, self._lifeline = os.pipe()  # neither end is inherited unless named: no sibling holds it open
        try:
            self._process = subprocess.Popen(  # noqa: S603 (our own interpreter and script)
                [sys.executable, str(LIFELINE), str(read_end), target, *arguments],
                cwd=cwd,
                env=inherited | dict(variables),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(read_end, *inherit),
                start_new_session=True,
            )
        except BaseException:
            os.close(self._lifeline)
            raise
        finally:
            os.close(read_end)

    @property
    def pid(self) -> int:
        """The process id, which is its process group's too."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; then its exit status, or minus the signal that ended it."""
        return self._process.poll()

    def wait(self, timeout_s: float) -> int | None:
        """Give the exit code as soon as there is one, or None after `timeout_s`."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        """SIGKILL it and all that it started, and wait until it is gone; safe from any thread, and twice."""
        if self._killed:  # the number may be another group's by now
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):  # gone; macOS says EPERM of a zombie's group
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._killed = True

    def close(self) -> None:
        """Kill it if it still runs, and give the lifeline back."""
        self.kill()
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1


def describe_exit(exit_code: int) -> str:
    """Say an exit code in words: `exited with status 1`, `was killed by SIGKILL`."""
    if exit_code >= 0:
        return f"exited with status {exit_code}"
    try:
        return f"was killed by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"was killed by signal {-exit_code}"
