"""However the process of a local run ends, nothing that it started lives on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

# A run with a server, an idle worker, a busy worker that never gives up the interpreter for long, and a grandchild.
PARENT = """
import json, sys, threading
from pathlib import Path
from processor.local.aws import EmbeddedAws
from processor.local.function import Function

aws = EmbeddedAws()
started = threading.Event()
lines = []
def sink(line):
    lines.append(line)
    started.set()
directory, plain = Path(sys.argv[1]), sys.argv[2] == "1"
function = Function(directory, environment=aws.environment(), sink=sink, timeout_s=600, plain=plain)
busy = threading.Thread(target=function.invoke, args=({"busy": True},), daemon=True)
busy.start()
started.wait()
function.invoke({"busy": False})
print(json.dumps([aws.pid, *function.pids, int(lines[0])]), flush=True)
ENDING
"""

HANDLER = """
import subprocess
def handle(event, context):
    if event["busy"]:
        print(subprocess.Popen(["sleep", "600"]).pid)
        while True:
            pass
"""

ENDINGS = {
    "SIGKILL": ("sys.stdin.read()", signal.SIGKILL),
    "SIGTERM": ("sys.stdin.read()", signal.SIGTERM),
    "Ctrl-C": ("sys.stdin.read()", signal.SIGINT),
    "an exception": ("1 / 0", None),
    "its normal end": ("", None),
}


def is_alive(pid: int) -> bool:
    """Tell a process from none and from a zombie that nobody has reaped yet."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return not Path("/proc/self").exists()


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("plain", ["0", "1"], ids=["awslambdaric", "plain"])
def test_no_process_outlives_the_run(tmp_path: Path, ending: str, plain: str) -> None:
    directory = tmp_path / "functions" / "stubborn"
    directory.mkdir(parents=True)
    (directory / "main.py").write_text(HANDLER)
    (directory / "function.json").write_text("{}")
    statement, number = ENDINGS[ending]
    source = PARENT.replace("ENDING", statement)
    with subprocess.Popen(
        [sys.executable, "-c", source, str(directory), plain],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as parent:
        assert parent.stdout is not None
        pids = json.loads(parent.stdout.readline())
        assert len(pids) == 4
        if number is not None:
            assert all(map(is_alive, pids))
            parent.send_signal(number)
        parent.wait(60)
        deadline = time.monotonic() + 60
        while (left := [pid for pid in pids if is_alive(pid)]) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert left == []
