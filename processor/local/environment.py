"""One execution environment of a Lambda function: a worker process, its Runtime API and the lines it writes.

The thread that invokes does all the work: it serves the Runtime API, reads the worker's output, watches its memory
and the clock. So when the response is here, reading the output until it is momentarily empty gives every line that
the invocation wrote before it responded: the worker's `write` had returned, hence the bytes are in the pipe.

Memory is limited as Lambda does it, by killing: when the worker's peak resident set (VmHWM of /proc/PID/status, which
misses no burst between two looks) passes `memory_mb`, it is killed, even if the response is already here. RLIMIT_AS
would limit address space instead, and turn a kill into a MemoryError. Memory of processes that the worker starts
is not counted. Where there is no /proc (macOS), memory is not limited.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from processor.apex import FunctionConfig
from processor.errors import LocalError
from processor.local.child import Child, describe_exit
from processor.local.runtime import Answer, RuntimeApi

T = TypeVar("T")

BOOTSTRAP = Path(__file__).with_name("bootstrap.py")
# How often memory and the worker's life are looked at while nothing happens on its sockets and pipe.
LOOK_S = 0.02
# Lambda gives 10 s; a laptop that also runs everything else may need more, and nothing here depends on the number.
INIT_TIMEOUT_S = 30.0
READ_BYTES = 1 << 16
# More than a pipe holds, so that a worker which never stops writing cannot keep us reading.
PIPE_BYTES = 1 << 20
LAST_ROUNDS = 1000
TAIL_LINES = 40


class InvocationError(LocalError):
    """An invocation that gave no result. `function` and `request_id` name it."""

    def __init__(self, message: str, *, function: str, request_id: str) -> None:
        self.function = function
        self.request_id = request_id
        super().__init__(f"{function}: {message} (request {request_id})")


class HandlerError(InvocationError):
    """The handler raised, or could not be imported: `error_type`, `error_message` and `trace`, as Lambda reports them.

    An `error_type` that starts with `Runtime.` is the runtime's own: `Runtime.ImportModuleError`, and so on.
    """

    def __init__(self, report: Mapping[str, Any], *, trace: list[str], function: str, request_id: str) -> None:
        self.error_type = str(report.get("errorType", ""))
        self.error_message = str(report.get("errorMessage", ""))
        self.trace = trace
        shown = "".join(f"\n{line.rstrip()}" for line in trace)
        super().__init__(f"{self.error_type}: {self.error_message}{shown}", function=function, request_id=request_id)


class TimedOut(InvocationError):
    """The worker was killed at the function's timeout, or had not initialised in time."""


class Crashed(InvocationError):
    """The worker's process ended: `exit_code` is its status, or minus the signal's number."""

    def __init__(self, message: str, *, exit_code: int, function: str, request_id: str) -> None:
        self.exit_code = exit_code
        super().__init__(message, function=function, request_id=request_id)


class OutOfMemory(Crashed):
    """The worker was killed because it had used more memory than the function has."""


class Environment:
    """A worker process that takes one invocation at a time; all but `kill` belong to the thread that invokes.

    `variables` are the worker's environment variables but for the Runtime API's address; `sink` gets its lines.
    `plain` chooses the runtime of `bootstrap.py`; AWS's own otherwise.
    """

    def __init__(
        self, config: FunctionConfig, *, variables: Mapping[str, str], sink: Callable[[str], None], plain: bool
    ) -> None:
        self._config = config
        self._busy = True  # until the worker waits for its first invocation
        self._selector = selectors.DefaultSelector()
        self._api = RuntimeApi(self._selector)
        read_end, write_end = os.pipe()
        self._lines = _Lines(read_end, sink, self._selector)
        try:
            self._child = Child(
                str(BOOTSTRAP),
                config.handler,
                "plain" if plain else "awslambdaric",
                cwd=config.directory,
                variables={**variables, "AWS_LAMBDA_RUNTIME_API": self._api.address},
                output=write_end,
            )
        except BaseException:
            self._close_files()
            raise
        finally:
            os.close(write_end)

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._child.pid

    @property
    def usable(self) -> bool:
        """True if the worker lives and is not in the middle of something, so that it can be invoked again."""
        return not self._busy and self._child.exit_code is None

    def prepare(self, request_id: str) -> None:
        """Wait until the worker is ready for an invocation: initialised, or done with the one before.

        Raises HandlerError when the handler cannot be imported, Crashed, OutOfMemory or TimedOut.
        """
        self._busy = True
        self._wait(self._initialised, request_id, INIT_TIMEOUT_S)
        if self._api.failed_init:
            self._child.wait(2)  # it still says on stderr where the import failed
            self._lines.drain()
            raise self._handler_error(self._api.answer, request_id)
        self._busy = False

    def invoke(self, request_id: str, event: bytes, timeout_s: float, function_arn: str) -> Answer:
        """Run the handler on an event, after `prepare`; every line it wrote before responding is in the sink by then.

        Raises HandlerError (the worker can be invoked again), Crashed, OutOfMemory or TimedOut (it cannot).
        """
        self._busy = True
        now = time.time()
        self._api.offer(
            request_id,
            event,
            {
                "Lambda-Runtime-Deadline-Ms": str(int((now + timeout_s) * 1000)),
                "Lambda-Runtime-Invoked-Function-Arn": function_arn,
                "Lambda-Runtime-Trace-Id": f"Root=1-{int(now):08x}-{uuid.uuid4().hex[:24]};Sampled=0",
            },
        )
        answer = self._wait(lambda: self._api.answer, request_id, timeout_s)
        self._lines.drain()
        self._busy = False
        if answer.kind != "response":
            raise self._handler_error(answer, request_id)
        return answer

    def kill(self) -> None:
        """SIGKILL the worker, from any thread, and wait until it is gone."""
        self._child.kill()

    def close(self) -> None:
        """Kill the worker and give back everything; its last line is delivered even without an end of line."""
        self._child.close()
        try:
            self._lines.drain()
            self._lines.finish()
        finally:
            self._close_files()

    def _wait(self, outcome: Callable[[], T | None], request_id: str, timeout_s: float) -> T:
        """Serve the worker until there is an outcome; kill it at the timeout or above its memory, and raise."""
        deadline = time.monotonic() + timeout_s
        told = {"function": self._config.name, "request_id": request_id}
        while True:
            self._serve(0 if outcome() is not None else min(LOOK_S, max(0.0, deadline - time.monotonic())))
            peak_mb, limit_mb = _peak_mb(self._child.pid), self._config.memory_mb
            if peak_mb > limit_mb:
                self._end()
                message = f"the worker was killed: it has used {peak_mb:.0f} MiB of memory and has {limit_mb} MiB"
                raise OutOfMemory(message, exit_code=-signal.SIGKILL, **told)
            if (result := outcome()) is not None:
                return result
            exit_code = self._child.exit_code
            if exit_code is not None:
                self._end()
                if (result := outcome()) is not None:
                    return result
                raise Crashed(f"the worker {describe_exit(exit_code)}{self._lines.told()}", exit_code=exit_code, **told)
            if time.monotonic() >= deadline:
                self._end()
                raise TimedOut(f"timed out after {timeout_s:.2f} seconds{self._lines.told()}", **told)

    def _initialised(self) -> bool | None:
        # A worker that died idle may have left its request for the next invocation in the socket.
        return self._api.failed_init or (self._api.waiting and self._child.exit_code is None) or None

    def _serve(self, wait_s: float) -> bool:
        events = self._selector.select(wait_s)
        for key, mask in events:
            key.data(mask)
        return bool(events)

    def _end(self) -> None:
        """Kill the worker and what it started, and take what it has posted and written until then."""
        self._child.kill()
        for _ in range(LAST_ROUNDS):
            if not self._serve(0):
                break

    def _handler_error(self, answer: Answer | None, request_id: str) -> HandlerError:
        body = answer.body if answer else b""
        try:
            report = json.loads(body)
        except ValueError:
            report = {"errorType": "Runtime.Unknown", "errorMessage": body.decode(errors="replace")}
        trace = report.get("stackTrace") or self._lines.traceback()
        return HandlerError(report, trace=trace, function=self._config.name, request_id=request_id)

    def _close_files(self) -> None:
        self._api.close()
        self._lines.close()
        self._selector.close()


class _Lines:
    """The worker's output, cut into lines: each goes to the sink when it is complete."""

    def __init__(self, read_end: int, sink: Callable[[str], None], selector: selectors.BaseSelector) -> None:
        os.set_blocking(read_end, False)
        self._read_end = read_end
        self._sink = sink
        self._selector = selector
        self._pieces: list[bytes] = []
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        selector.register(read_end, selectors.EVENT_READ, self._on_ready)

    def drain(self) -> None:
        """Take all that is in the pipe by now."""
        taken = 0
        while taken < PIPE_BYTES:
            count = self._take()
            if not count:
                return
            taken += count

    def finish(self) -> None:
        """Deliver what has no end of line, since none will come."""
        if any(self._pieces):
            self._deliver(b"")

    def close(self) -> None:
        with contextlib.suppress(KeyError):
            self._selector.unregister(self._read_end)
        os.close(self._read_end)

    def told(self) -> str:
        """Give the last lines, for a message."""
        return "; its last lines:\n" + "\n".join(self._tail) if self._tail else "; it wrote nothing"

    def traceback(self) -> list[str]:
        """Give the last traceback among the last lines, if there is one."""
        lines = list(self._tail)
        starts = [at for at, line in enumerate(lines) if line.startswith("Traceback ")]
        return lines[starts[-1] :] if starts else []

    def _on_ready(self, _mask: int) -> None:
        self._take()

    def _take(self) -> int:
        try:
            received = os.read(self._read_end, READ_BYTES)
        except BlockingIOError:
            return 0
        if not received:
            with contextlib.suppress(KeyError):  # at its end a pipe is ready for ever
                self._selector.unregister(self._read_end)
            return 0
        first, *others = received.split(b"\n")
        for piece in others:
            self._deliver(first)
            first = piece
        self._pieces.append(first)
        return len(received)

    def _deliver(self, end: bytes) -> None:
        line = b"".join((*self._pieces, end)).decode(errors="backslashreplace")
        self._pieces.clear()
        self._tail.append(line)
        self._sink(line)


def _peak_mb(pid: int) -> float:
    """Give the process's peak resident set in MiB; 0 where it cannot be told."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    _, _, after = status.partition("VmHWM:")
    return int(after.split(maxsplit=1)[0]) / 1024 if after else 0  # a zombie has none
