"""A Lambda function on this machine: `apex/functions/<name>` run by worker processes as Lambda runs it.

Each worker is an execution environment (`environment.py`): one invocation at a time, reused while it lives, replaced
after a crash, a timeout or too much memory. The workers run AWS's own runtime client, `awslambdaric`; where that or
its compiled part is missing (macOS), the same loop in plain Python (`bootstrap.py`).

Not modelled: Lambda's limits on payloads (6 MB), `/tmp`, and CPU in proportion to memory.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sysconfig
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from processor.apex import FunctionConfig, read_function
from processor.errors import LocalError
from processor.local.aws import ACCOUNT
from processor.local.environment import Crashed, Environment, HandlerError, InvocationError, OutOfMemory, TimedOut
from processor.package import MANIFEST

__all__ = ["Crashed", "Function", "HandlerError", "InvocationError", "OutOfMemory", "TimedOut"]

VERSION = "$LATEST"
PACKAGE_ROOT = Path(__file__).resolve().parents[2]


class Function:
    """A function with up to `concurrency` workers, each started when an invocation finds none idle.

    `directory` is `apex/functions/<name>`; its `function.json` says memory, timeout, handler and environment, which
    `name`, `memory_mb`, `timeout_s` (seconds) and `environment` (variables, the AWS to talk to among them) override.
    `sink` gets every line the workers write, without its end of line, one call at a time; it must not invoke.
    `plain` forces one of the two runtimes; None takes AWS's own where it is complete.

    Raises SettingsError when the configuration cannot be read, LocalError where apex left a package in the folder.
    """

    def __init__(
        self,
        directory: Path,
        *,
        environment: Mapping[str, str],
        sink: Callable[[str], None],
        concurrency: int = 2,
        name: str | None = None,
        memory_mb: int | None = None,
        timeout_s: float | None = None,
        plain: bool | None = None,
    ) -> None:
        if (directory / MANIFEST).exists():  # wheels for Lambda, which would be imported instead of ours
            raise LocalError(
                f"{directory} holds a package that apex built and has not cleaned away: in that folder, run "
                "`python3 ../../../processor/package.py clean`"
            )
        config = read_function(directory)
        self.config = replace(
            config,
            name=name or config.name,
            memory_mb=memory_mb or config.memory_mb,
            timeout_s=timeout_s or config.timeout_s,
            environment={**config.environment, **environment},
        )
        self.concurrency = concurrency
        self.cold_starts = 0
        self.plain = not native_runtime() if plain is None else plain
        self._sink = sink
        self._sink_lock = threading.Lock()
        self._changed = threading.Condition()
        self._environments: list[Environment] = []
        self._idle: list[Environment] = []
        self._at_work: dict[str, Environment] = {}
        self._outdated: set[Environment] = set()
        self._taken = 0
        self._closed = False

    @property
    def arn(self) -> str:
        """The function's ARN, in the region it was given."""
        return f"arn:aws:lambda:{region(self.config)}:{ACCOUNT}:function:{self.config.name}"

    @property
    def pids(self) -> list[int]:
        """The process ids of the workers that have been started and not replaced, oldest first."""
        with self._changed:
            return [environment.pid for environment in self._environments]

    @property
    def busy_pids(self) -> list[int]:
        """The process ids of the workers that are starting or have an invocation under way."""
        with self._changed:
            return [environment.pid for environment in self._environments if environment not in self._idle]

    @property
    def at_work(self) -> dict[str, int]:
        """The process ids of the workers that have an invocation under way, by its request id."""
        with self._changed:
            return {request_id: environment.pid for request_id, environment in self._at_work.items()}

    @property
    def idle_pids(self) -> list[int]:
        """The process ids of the workers that live and wait for an invocation."""
        with self._changed:
            return [environment.pid for environment in self._idle if environment.usable]

    def invoke(self, event: bytes | Mapping[str, Any]) -> Any:
        """Invoke the function and give its decoded response; from any thread, waiting while all workers are busy.

        An event in bytes is sent as it is. The response is decoded JSON; bytes if the handler returned bytes. Raises
        HandlerError, TimedOut, Crashed or OutOfMemory, and LocalError when the function is closed.
        """
        body = event if isinstance(event, bytes) else orjson.dumps(event)
        request_id = str(uuid.uuid4())
        environment = self._prepared(request_id)
        with self._changed:
            self._at_work[request_id] = environment
        try:
            answer = environment.invoke(request_id, body, self.config.timeout_s, self.arn)
        finally:
            with self._changed:
                del self._at_work[request_id]
            self._give_back(environment)
        return json.loads(answer.body) if answer.content_type == "application/json" else answer.body

    def configure(self, **changes: Any) -> None:
        """Start workers with these changes of the configuration from now on; those that live stay as they are."""
        with self._changed:
            self.config = replace(self.config, **changes)

    def deploy(self, directory: Path) -> None:
        """Run what is in that folder from now on: idle workers end, and those at work when they are done with it."""
        self.configure(directory=directory)
        with self._changed:
            idle, self._idle = self._idle, []
            self._outdated = set(self._environments) - set(idle)
        for environment in idle:
            self._discard(environment)

    def kill(self, pid: int | None = None) -> list[int]:
        """SIGKILL one worker, or all of them; give the process ids, once they are gone.

        An invocation under way there raises Crashed; the next one gets another worker.
        """
        with self._changed:
            targets = [environment for environment in self._environments if pid in (None, environment.pid)]
        for environment in targets:
            environment.kill()
        return [environment.pid for environment in targets]

    def close(self) -> None:
        """Kill every worker, wait for the threads that were invoking, and give everything back."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self.kill()
        with self._changed:
            self._changed.wait_for(lambda: not self._taken)
            idle, self._idle = self._idle, []
        for environment in idle:
            self._discard(environment)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _prepared(self, request_id: str) -> Environment:
        """Take an environment that is ready for an invocation."""
        while True:
            environment, cold = self._take()
            try:
                environment.prepare(request_id)
            except BaseException as error:
                self._give_back(environment)
                if isinstance(error, Crashed) and not cold:
                    continue  # it ended between two invocations, so nothing of this one has happened yet
                raise
            return environment

    def _take(self) -> tuple[Environment, bool]:
        """Take an idle environment, or start one; the flag says which."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._idle or self._taken < self.concurrency)
            if self._closed:
                raise LocalError(f"{self.config.name}: the function is closed")
            self._taken += 1
            if self._idle:
                return self._idle.pop(), False
            self.cold_starts += 1
            config = self.config
        try:
            environment = Environment(config, variables=worker_variables(config), sink=self._deliver, plain=self.plain)
        except BaseException:
            with self._changed:
                self._taken -= 1
                self._changed.notify_all()
            raise
        with self._changed:
            self._environments.append(environment)
            stale = self._closed or self.config is not config
        if stale:  # while it was started: unseen by `close`, or by who deploys another configuration
            environment.kill()
        return environment, True

    def _give_back(self, environment: Environment) -> None:
        usable = environment.usable and environment not in self._outdated
        try:
            if not usable:
                self._discard(environment)
        finally:
            with self._changed:
                if usable:
                    self._idle.append(environment)
                self._taken -= 1
                self._changed.notify_all()

    def _discard(self, environment: Environment) -> None:
        with self._changed:
            self._environments.remove(environment)
        environment.close()

    def _deliver(self, line: str) -> None:
        with self._sink_lock:
            self._sink(line)


def native_runtime() -> bool:
    """Tell whether AWS's runtime client is installed with its compiled part."""
    return all(importlib.util.find_spec(name) is not None for name in ("awslambdaric", "runtime_client"))


def region(config: FunctionConfig) -> str:
    """Give the region the function is told it runs in."""
    return config.environment.get("AWS_REGION") or config.environment.get("AWS_DEFAULT_REGION") or "us-east-1"


def worker_variables(config: FunctionConfig) -> dict[str, str]:
    """Give a worker's environment variables as Lambda defines them (Developer Guide, "Defined runtime variables")."""
    date = time.strftime("%Y/%m/%d", time.gmtime())
    variables = {
        "LANG": "en_US.UTF-8",
        "TZ": ":UTC",
        "PYTHONUTF8": "1",  # the locale above need not exist here
        # boto3 in a function must not find the user's own account.
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        **config.environment,
        "_HANDLER": config.handler,
        "AWS_REGION": region(config),
        "AWS_DEFAULT_REGION": region(config),
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{config.runtime}",
        "AWS_LAMBDA_FUNCTION_NAME": config.name,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(config.memory_mb),
        "AWS_LAMBDA_FUNCTION_VERSION": VERSION,
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{config.name}",
        "AWS_LAMBDA_LOG_STREAM_NAME": f"{date}/[{VERSION}]{uuid.uuid4().hex}",
        "LAMBDA_TASK_ROOT": str(config.directory),
    }
    if Path(sysconfig.get_path("purelib")).resolve() != PACKAGE_ROOT:
        # Run from a checkout: the worker imports the very `processor` that this is.
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, (str(PACKAGE_ROOT), variables.get("PYTHONPATH"))))
    return variables
