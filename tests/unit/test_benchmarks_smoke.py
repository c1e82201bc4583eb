"""The benchmarks: that they run, and that what they time gives the right values (each checks that before it times)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("name", ["decode", "path", "writer", "handler", "queries"])
def test_a_benchmark_checks_what_it_times_and_prints_its_table(name):
    command = [sys.executable, "-m", "tests.benchmarks", name, "--quick"]
    run = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith(f"\n{name}: ")
    assert run.stdout.count("\n| ") > 3
