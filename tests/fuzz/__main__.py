"""Fuzz the decoders, guided by coverage, and print what was tried and found.

    uv run --group fuzz python -m tests.fuzz [TARGET…] [--seconds 60] [--seed N] [--jobs 2] [--keep FOLDER]

README.md beside this file says what is fuzzed, what counts as a finding, and what to do with one. The exit status is 1
if there is any.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.fuzz.targets import TARGETS

_PROGRESS = re.compile(r"cov: (\d+) ft: (\d+) corp: (\d+)/(\S+)")
_AFTER_SECONDS = 120
"""So long may a target still take after its time: to start, and to look for leaks at its end."""


class Run:
    """One target in a process of its own."""

    def __init__(self, name: str, seconds: float, seed: int, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.until = time.monotonic() + seconds + _AFTER_SECONDS
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "log"
        command = [sys.executable, "-m", "tests.fuzz.run", name, str(seconds), str(seed), str(folder)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=Path(__file__).parents[2])

    def ended(self) -> bool:
        """Tell whether it has; one that does not come to its end is ended."""
        if self.process.poll() is None and time.monotonic() > self.until:
            self.process.kill()
            self.process.wait()
        return self.process.returncode is not None

    def result(self) -> dict[str, Any]:
        """Return what it wrote; a process that ended otherwise is a finding of its own."""
        path = self.folder / "result.json"
        found: dict[str, Any] = {"findings": []}
        if path.exists():
            found = json.loads(path.read_text())
        text = self.log.read_text(errors="replace")
        if self.process.returncode != 0:
            kept = sorted(
                each.name for each in (self.folder / "findings").glob("*") if not each.name.startswith("crash-")
            )
            found["findings"].append(
                {
                    "what": f"the process ended with {self.process.returncode}: a hang, its memory, or worse",
                    "detail": "\n".join(text.splitlines()[-15:]),
                    "file": kept[-1] if kept else "log",
                    "bytes": 0,
                }
            )
        progress = _PROGRESS.findall(text)
        return found | dict(
            zip(("edges", "features", "corpus", "size"), progress[-1] if progress else "----", strict=True)
        )


def run(names: list[str], seconds: float, seed: int, jobs: int, folder: Path) -> dict[str, dict[str, Any]]:
    """Run targets, so many at a time; return what each found."""
    waiting, running, results = list(names), [], {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(Run(waiting[0], seconds, seed, folder / waiting.pop(0)))
            time.sleep(0.2)
            for each in [each for each in running if each.ended()]:
                running.remove(each)
                results[each.name] = each.result()
    finally:
        for each in running:
            each.process.kill()
            each.process.wait()
    return {name: results[name] for name in names}


def show(results: dict[str, dict[str, Any]], folder: Path) -> bool:
    """Print the table and what was found; tell whether anything was."""
    print(
        "| target | executions | a second | edges | features | corpus | slowest input | peak memory | grew | findings |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name, each in results.items():
        executions, took = each.get("executions", 0), each.get("seconds", 0.0)
        cells = (
            name,
            f"{executions:,}",
            f"{executions / took if took else 0:,.0f}",
            each["edges"],
            each["features"],
            f"{each['corpus']} ({each['size']})",
            f"{each.get('slowest_ms', 0):.1f} ms, {each.get('slowest_bytes', 0)} bytes",
            f"{each.get('peak_mb', 0):.0f} MB",
            f"{each.get('growth_mb', 0):.1f} MB, {each.get('leaked_blocks')} blocks",
            str(len(each["findings"])),
        )
        print(f"| {' | '.join(cells)} |")
    found = [(name, finding) for name, each in results.items() for finding in each["findings"]]
    for name, finding in found:
        path = folder / name / ("" if finding["file"] == "log" else "findings") / finding["file"]
        print(f"\n{name}: {finding['what']}\n{finding['detail']}\n  input of {finding['bytes']} bytes: {path}")
        if path.parent.name == "findings" and path.stat().st_size <= 200:
            print(f"  {path.read_bytes().hex()}")
    return bool(found)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="TARGET", help=f"{', '.join(TARGETS)} (default: all)")
    parser.add_argument("--seconds", type=float, default=60, help="for each target (default: 60)")
    parser.add_argument("--seed", type=int, help="of libFuzzer (default: a new one, which is printed)")
    parser.add_argument("--jobs", type=int, default=2, help="targets at a time (default: 2)")
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="where inputs and findings stay, for a next run too"
    )
    options = parser.parse_args()
    if unknown := set(options.names) - set(TARGETS):
        parser.error(f"no target is called {', '.join(sorted(unknown))}: there are {', '.join(TARGETS)}")
    if importlib.util.find_spec("atheris") is None:
        parser.error("atheris is not installed: uv run --group fuzz python -m tests.fuzz")
    seed = options.seed or random.SystemRandom().randrange(1, 2**31)
    folder = options.keep or Path(tempfile.mkdtemp(prefix="fuzz-"))
    print(f"seed {seed}, {options.seconds:g} s for each target, in {folder}", flush=True)
    if show(run(options.names or list(TARGETS), options.seconds, seed, options.jobs, folder.resolve()), folder):
        sys.exit(1)


if __name__ == "__main__":
    main()
