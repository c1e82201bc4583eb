"""The first thing a child process of `child.py` runs: it ties the child's life to its parent's.

Run as a script, never imported by us: `python lifeline.py FD TARGET [ARGUMENT …]`. FD is the read end of a pipe
whose write end only the parent holds; the kernel closes that end however the parent ends, SIGKILL included, and
the blocked read below returns. TARGET is a module's name or a script's path, run as `python -m` or `python` would.
It imports little: its time is part of every cold start.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading


def _die_with_parent(lifeline: int) -> None:
    os.read(lifeline, 1)  # nothing is ever written: this returns at end of file, when the parent is gone
    try:
        os.killpg(os.getpid(), signal.SIGKILL)  # its group is its own: what it started in turn ends with it
    finally:
        os.kill(os.getpid(), signal.SIGKILL)  # should it have left that group


def main() -> None:
    """Start the watch on the lifeline, then become the target."""
    lifeline, target, arguments = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    os.set_inheritable(lifeline, False)
    threading.Thread(target=_die_with_parent, args=(lifeline,), name="lifeline", daemon=True).start()
    sys.argv = [target, *arguments]
    # Where `python -m` starts to look; the folder of this script is nobody's business. (pathlib costs 5 ms to import.)
    sys.path[0] = os.getcwd()  # noqa: PTH109
    if target.endswith(".py"):
        runpy.run_path(target, run_name="__main__")
    else:
        runpy.run_module(target, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
