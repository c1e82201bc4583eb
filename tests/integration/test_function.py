"""A function run by real worker processes, under AWS's runtime client and under the plain loop alike."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import processor
from processor.errors import LocalError
from processor.local import environment as environment_module
from processor.local.function import (
    Crashed,
    Function,
    HandlerError,
    InvocationError,
    OutOfMemory,
    TimedOut,
    native_runtime,
)

# One handler that does what the event says, so that most tests share warm workers.
HANDLER = """
import json, logging, os, subprocess, sys, threading, time

def echo(event, context):
    return event["value"]

def pid(event, context):
    return os.getpid()

def about(event, context):
    own = ["function_name", "function_version", "memory_limit_in_mb", "invoked_function_arn", "aws_request_id",
           "log_group_name"]
    return {name: getattr(context, name) for name in own} | {
        "left": context.get_remaining_time_in_millis(), "variables": dict(os.environ), "path0": sys.path[0]}

def package(event, context):
    import processor
    return processor.__file__

def size(event, context):
    return len(event["value"])

def large(event, context):
    return "x" * event["value"]

def fail(event, context):
    print("about to fail")
    raise ValueError("no good")

def unserialisable(event, context):
    return {1, 2}

def raw(event, context):
    return b"\\x00\\x01"

def leave(event, context):
    print("leaving")
    os._exit(event["value"])

def sys_exit(event, context):
    sys.exit(4)

def stay(event, context):
    print("staying")
    time.sleep(600)

def stay_with_child(event, context):
    child = subprocess.Popen(["sleep", "600"])
    print("child", child.pid)
    time.sleep(600)

def lines(event, context):
    for n in range(event["value"]):
        print("out", n)
        print("err", n, file=sys.stderr, flush=True)
    os.write(1, b"raw\\n")
    subprocess.run(["echo", "from a child"])
    print("x" * 300_000)
    return "done"

def half_a_line(event, context):
    print("no end", end="")

def log(event, context):
    logging.getLogger().warning("look here")
    return context.aws_request_id

def babble(event, context):
    def forever():
        while True:
            os.write(1, b"babble\\n" * 1000)
    threading.Thread(target=forever, daemon=True).start()
    return "done"

def allocate(event, context):
    data = bytearray(event["value"])
    data[::4096] = b"x" * len(data[::4096])
    del data
    return "done"

def count(event, context):
    global running
    running = globals().get("running", 0) + 1
    assert running == 1, "two invocations at once"
    time.sleep(0.005)
    for n in range(20):
        print("line", n)
    running -= 1
    return [event["value"], os.getpid()]

def handle(event, context):
    return globals()[event["do"]](event, context)
"""

RUNTIMES = {"awslambdaric": False, "plain": True} if native_runtime() else {"plain": True}


class Lines(list[str]):
    """A sink that can be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = threading.Condition()

    def __call__(self, line: str) -> None:
        with self._changed:
            self.append(line)
            self._changed.notify_all()

    def wait_for(self, line: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: line in self, 60), f"{line!r} never came"


@pytest.fixture(scope="module", params=RUNTIMES.values(), ids=RUNTIMES.keys())
def plain(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_function(tmp_path_factory.mktemp("project") / "functions" / "example", HANDLER)


def write_function(directory: Path, source: str) -> Path:
    directory.mkdir(parents=True)
    (directory / "main.py").write_text(source)
    config = {"runtime": "python3.13", "memory": 256, "timeout": 60, "handler": "main.handle"}
    (directory / "function.json").write_text(json.dumps(config))
    return directory


@pytest.fixture(scope="module")
def shared(directory: Path, plain: bool) -> Iterator[Function]:
    with Function(directory, environment={"AWS_REGION": "eu-west-1"}, sink=Lines(), plain=plain) as function:
        yield function


@pytest.fixture
def function(shared: Function) -> Function:
    """A warm function, whose sink is empty."""
    shared._sink.clear()
    return shared


def sink(function: Function) -> Lines:
    return function._sink  # type: ignore[return-value]


def is_alive(pid: int) -> bool:
    """Tell a process from none and from a zombie that nobody has reaped yet."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] in "ZX")


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


@pytest.mark.parametrize("value", [None, True, 0, -1.5, "", "日本\n\0", [], {"a": [1, {"b": None}]}, "x" * 100_000])
def test_an_event_goes_in_and_its_response_comes_out(function: Function, value: Any) -> None:
    assert function.invoke({"do": "echo", "value": value}) == value


def test_the_handler_sees_what_lambda_shows(
    function: Function, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = function.invoke({"do": "about"})
    assert about["function_name"] == "example"
    assert about["function_version"] == "$LATEST"
    assert about["memory_limit_in_mb"] == "256"
    assert about["invoked_function_arn"] == "arn:aws:lambda:eu-west-1:000000000000:function:example"
    assert about["log_group_name"] == "/aws/lambda/example"
    assert len(about["aws_request_id"]) == 36
    assert 0 < about["left"] <= 60_000
    assert about["path0"] == str(directory.resolve())
    assert about["variables"]["AWS_EXECUTION_ENV"] == "AWS_Lambda_python3.13"
    assert about["variables"]["_X_AMZN_TRACE_ID"].startswith("Root=1-")


def test_the_users_own_account_stays_out_of_the_worker(
    directory: Path, plain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "production")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with Function(directory, environment={}, sink=Lines(), plain=plain) as function:
        variables = function.invoke({"do": "about"})["variables"]
    assert not {"AWS_PROFILE", "AWS_SECRET_ACCESS_KEY", "HOME"} & set(variables)
    assert variables["AWS_CONFIG_FILE"] == os.devnull


def test_the_worker_imports_this_very_package(function: Function) -> None:
    assert function.invoke({"do": "package"}) == processor.__file__


def test_an_event_of_10_mib_and_a_response_of_6_mb_pass(function: Function) -> None:
    assert function.invoke({"do": "size", "value": "x" * (10 << 20)}) == 10 << 20
    assert len(function.invoke(json.dumps({"do": "large", "value": 6_000_000}).encode())) == 6_000_000


def test_bytes_from_the_handler_stay_bytes(function: Function) -> None:
    assert function.invoke({"do": "raw"}) == b"\x00\x01"


def test_what_the_handler_raises_comes_with_its_trace_and_the_worker_stays(function: Function) -> None:
    pid = function.invoke({"do": "pid"})
    with pytest.raises(HandlerError, match="no good") as caught:
        function.invoke({"do": "fail"})
    error = caught.value
    assert (error.error_type, error.error_message, error.function) == ("ValueError", "no good", "example")
    assert len(error.request_id) == 36
    assert 'raise ValueError("no good")' in "".join(error.trace)
    assert "main.py" in error.trace[0]
    assert sink(function)[0] == "about to fail"
    assert sink(function)[1].startswith("[ERROR] ValueError: no good")
    assert function.invoke({"do": "pid"}) == pid


def test_a_response_that_is_no_json_is_the_handlers_error(function: Function) -> None:
    with pytest.raises(HandlerError, match="set"):
        function.invoke({"do": "unserialisable"})


def test_a_worker_that_exits_is_a_crash_and_is_replaced(function: Function) -> None:
    pid, cold_starts = function.invoke({"do": "pid"}), function.cold_starts
    with pytest.raises(Crashed, match=r"exited with status 3; its last lines:\n(.|\n)*leaving") as caught:
        function.invoke({"do": "leave", "value": 3})
    assert caught.value.exit_code == 3
    assert function.pids == []
    assert function.invoke({"do": "pid"}) != pid
    assert function.cold_starts == cold_starts + 1


def test_a_handler_that_calls_sys_exit_is_a_crash(function: Function) -> None:
    with pytest.raises(Crashed, match="exited with status 4"):
        function.invoke({"do": "sys_exit"})


def test_a_worker_killed_amid_an_invocation_is_a_crash(function: Function) -> None:
    with ThreadPoolExecutor(1) as pool:
        invocation = pool.submit(function.invoke, {"do": "stay"})
        sink(function).wait_for("staying")
        assert function.busy_pids == function.kill() == function.busy_pids or not function.pids
        with pytest.raises(Crashed, match="was killed by SIGKILL") as caught:
            invocation.result(60)
    assert caught.value.exit_code == -9
    assert function.invoke({"do": "echo", "value": 1}) == 1


def test_a_worker_killed_between_invocations_is_replaced_unseen(function: Function) -> None:
    pid = function.invoke({"do": "pid"})
    # Its request for the next invocation, which it leaves behind in the socket, must not pass for a live worker.
    selector = function._idle[0]._selector
    assert eventually(lambda: bool(selector.select(0)))
    assert function.kill(pid) == [pid]
    assert not is_alive(pid)
    assert function.invoke({"do": "pid"}) != pid


def test_the_timeout_kills_the_worker_and_all_that_it_started(directory: Path, plain: bool) -> None:
    lines = Lines()
    with Function(directory, environment={}, sink=lines, timeout_s=0.4, plain=plain) as function:
        with pytest.raises(TimedOut, match=r"timed out after 0\.40 seconds; its last lines:\nchild"):
            function.invoke({"do": "stay_with_child"})
        child = int(lines[0].removeprefix("child "))
        assert eventually(lambda: not is_alive(child))
        assert function.pids == []
        assert function.invoke({"do": "echo", "value": 1}) == 1


@pytest.mark.parametrize("read_bytes", [1 << 16, 512])
def test_every_line_is_in_the_sink_when_invoke_returns(
    function: Function, monkeypatch: pytest.MonkeyPatch, read_bytes: int
) -> None:
    """Small reads fall behind the worker, so that much is still in the pipe when its response comes."""
    monkeypatch.setattr(environment_module, "READ_BYTES", read_bytes)
    for _ in range(3):
        sink(function).clear()
        assert function.invoke({"do": "lines", "value": 2000}) == "done"
        numbered = [f"{kind} {n}" for n in range(2000) for kind in ("out", "err")]
        assert sink(function) == [*numbered, "raw", "from a child", "x" * 300_000]


def test_a_last_line_without_an_end_is_delivered_when_the_worker_ends(directory: Path, plain: bool) -> None:
    lines = Lines()
    with Function(directory, environment={}, sink=lines, plain=plain) as function:
        function.invoke({"do": "half_a_line"})
        assert lines == []
    assert lines == ["no end"]


def test_a_worker_that_never_stops_writing_does_not_hold_the_invocation(directory: Path, plain: bool) -> None:
    lines = Lines()
    with Function(directory, environment={}, sink=lines, plain=plain) as function:
        assert function.invoke({"do": "babble"}) == "done"
        assert function.invoke({"do": "echo", "value": 2}) == 2
    assert "babble" in lines


def test_the_root_logger_writes_lambdas_format(function: Function) -> None:
    request_id = function.invoke({"do": "log"})
    level, at, logged_id, message = sink(function)[0].split("\t")
    assert (level, logged_id, message) == ("[WARNING]", request_id, "look here")
    assert at.endswith("Z")


def test_a_sink_that_raises_ends_the_invocation_with_its_error(directory: Path, plain: bool) -> None:
    def refuse(line: str) -> None:
        if line == "staying":
            raise KeyError(line)

    with Function(directory, environment={}, sink=refuse, plain=plain) as function:
        with pytest.raises(KeyError, match="staying"):
            function.invoke({"do": "stay"})
        assert function.invoke({"do": "echo", "value": 1}) == 1


def test_many_threads_share_two_workers_and_no_worker_takes_two_invocations(directory: Path, plain: bool) -> None:
    with Function(directory, environment={}, sink=Lines(), concurrency=2, plain=plain) as function:
        with ThreadPoolExecutor(12) as pool:
            results = list(pool.map(lambda n: function.invoke({"do": "count", "value": n}), range(60)))
        assert [value for value, _ in results] == list(range(60))
        assert {pid for _, pid in results} == set(function.pids)
        assert len(function.pids) == function.cold_starts == 2


def test_the_sink_gets_one_line_at_a_time(directory: Path, plain: bool) -> None:
    lines: list[str] = []
    in_use = threading.Lock()

    def sink(line: str) -> None:
        assert in_use.acquire(blocking=False)
        time.sleep(0)  # lets another thread run, if one can
        lines.append(line)
        in_use.release()

    function = Function(directory, environment={}, sink=sink, concurrency=2, plain=plain)
    with function, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: function.invoke({"do": "count", "value": n}), range(40)))
    assert sorted(lines) == sorted(f"line {n}" for n in range(20) for _ in range(40))


def test_a_worker_is_started_only_when_none_is_idle(directory: Path, plain: bool) -> None:
    with Function(directory, environment={}, sink=Lines(), concurrency=4, plain=plain) as function:
        assert len({function.invoke({"do": "pid"}) for _ in range(3)}) == 1
        assert function.cold_starts == 1


@pytest.mark.skipif(
    sys.platform != "linux",
    reason="memory is limited by Linux's /proc; without it (macOS) a function's memory has no limit",
)
def test_a_worker_above_its_memory_is_killed_even_if_it_gave_the_memory_back(directory: Path, plain: bool) -> None:
    with Function(directory, environment={}, sink=Lines(), memory_mb=96, plain=plain) as function:
        assert function.invoke({"do": "allocate", "value": 1 << 20}) == "done"
        with pytest.raises(OutOfMemory, match="of memory and has 96 MiB"):
            function.invoke({"do": "allocate", "value": 200 << 20})
        assert function.pids == []
        assert function.invoke({"do": "echo", "value": 1}) == 1


@pytest.mark.parametrize(
    ("source", "error_type", "message", "trace"),
    [
        ("import nowhere_at_all", "Runtime.ImportModuleError", "nowhere_at_all", "import nowhere_at_all"),
        ("def handle(:", "Runtime.UserCodeSyntaxError", "invalid syntax", "def handle(:"),
        ("1 / 0", "ZeroDivisionError", "division by zero", "1 / 0"),
        ("x = 1", "Runtime.HandlerNotFound", "handle", ""),
    ],
)
def test_a_handler_that_cannot_be_imported_says_where(
    tmp_path: Path, plain: bool, source: str, error_type: str, message: str, trace: str
) -> None:
    lines = Lines()
    with Function(write_function(tmp_path / "broken", source), environment={}, sink=lines, plain=plain) as function:
        for _ in range(2):
            with pytest.raises(HandlerError) as caught:
                function.invoke({})
            error = caught.value
            assert error.error_type == error_type
            assert message in error.error_message
            assert trace in str(error)
            assert function.pids == []
        assert any(error_type in line for line in lines)


def test_a_worker_that_dies_while_importing_is_a_crash(tmp_path: Path, plain: bool) -> None:
    directory = write_function(tmp_path / "broken", "import os\nprint('bye')\nos._exit(5)")
    function = Function(directory, environment={}, sink=Lines(), plain=plain)
    with function, pytest.raises(Crashed, match=r"exited with status 5; its last lines:\nbye"):
        function.invoke({})


def test_an_import_that_never_ends_is_given_up(tmp_path: Path, plain: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment_module, "INIT_TIMEOUT_S", 0.3)
    directory = write_function(tmp_path / "slow", "import time\ntime.sleep(600)")
    with Function(directory, environment={}, sink=Lines(), plain=plain) as function:
        with pytest.raises(TimedOut, match=r"timed out after 0\.30 seconds"):
            function.invoke({})
        assert function.pids == []


def test_a_failed_start_frees_its_place(tmp_path: Path, plain: bool) -> None:
    """Otherwise the next invocation would wait for ever."""
    directory = write_function(tmp_path / "mended", "1 / 0")
    with Function(directory, environment={}, sink=Lines(), concurrency=1, plain=plain) as function:
        with pytest.raises(HandlerError):
            function.invoke({})
        (directory / "main.py").write_text("def handle(event, context):\n    return 'mended'")
        assert function.invoke({}) == "mended"


def test_close_ends_what_is_under_way_and_refuses_what_comes_after(directory: Path, plain: bool) -> None:
    lines = Lines()
    function = Function(directory, environment={}, sink=lines, concurrency=1, plain=plain)
    with ThreadPoolExecutor(2) as pool:
        under_way = pool.submit(function.invoke, {"do": "stay"})
        lines.wait_for("staying")
        waiting = pool.submit(function.invoke, {"do": "stay"})
        pids = function.pids
        function.close()
        with pytest.raises(InvocationError):
            under_way.result(60)
        with pytest.raises(LocalError):
            waiting.result(60)
    assert not any(map(is_alive, pids))
    with pytest.raises(LocalError, match="is closed"):
        function.invoke({})
    function.close()


def test_nothing_stays_open_after_close(directory: Path, plain: bool) -> None:
    descriptors = Path("/dev/fd")
    before = len(list(descriptors.iterdir()))
    with Function(directory, environment={}, sink=Lines(), plain=plain) as function:
        function.invoke({"do": "echo", "value": 1})
        with pytest.raises(Crashed):
            function.invoke({"do": "leave", "value": 1})
        function.invoke({"do": "echo", "value": 1})
    assert len(list(descriptors.iterdir())) == before


def test_what_is_deployed_is_run_by_the_next_invocation_and_one_under_way_ends_as_it_began(tmp_path: Path) -> None:
    source = "import time\ndef handle(event, context):\n    time.sleep(event)\n    return {!r}\n"
    first, second = (write_function(tmp_path / name, source.format(name)) for name in ("first", "second"))
    with Function(first, environment={}, sink=Lines(), plain=True) as function, ThreadPoolExecutor(1) as pool:
        function.invoke(b"0")
        running = pool.submit(function.invoke, b"0.5")
        assert eventually(lambda: bool(function.at_work))
        function.deploy(second)
        assert function.invoke(b"0") == "second"
        assert running.result() == "first"
        assert [function.invoke(b"0") for _ in range(3)] == ["second"] * 3
        assert len(function.pids) == 1
