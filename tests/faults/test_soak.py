"""All faults at once, under a new seed each time: what `processor run --chaos all` says of itself, and its exit status.

uv run pytest tests/faults/test_soak.py --soak-seconds 600 [--soak-seed N] -s
"""

from __future__ import annotations

import random
import re
import subprocess
import sys

import pytest

SHORT = ("kill-before-write", "kill-amid-write", "throttled-table", "answer-lost", "poison-middle", "split", "disabled",
         "producer-retry", "late-by-days", "reboot", "unknown-identifier", "access-denied")  # fmt: skip


def soak(faults, seconds, seed):
    command = ["run", "--chaos", faults, "--devices", "30", "--seconds", str(seconds), "--seed", str(seed)]
    print("processor", *command)
    done = subprocess.run(
        [sys.executable, "-m", "processor.cli", *command], capture_output=True, text=True, timeout=seconds + 900
    )
    print(done.stdout[-6000:], done.stderr[-2000:])
    return done


def test_nothing_is_lost_and_nothing_doubled_by_all_faults_together(request):
    """A few kinds for a few seconds; all of them, with what takes its time, where --soak-seconds asks for it."""
    seconds = request.config.getoption("--soak-seconds")
    seed = request.config.getoption("--soak-seed") or random.SystemRandom().randrange(1_000_000)
    done = soak("all", seconds, seed) if seconds else soak(",".join(SHORT), 6, seed)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert re.search(r"^Check +lost 0, doubled 0: PASSED$", done.stdout, re.MULTILINE)
    assert int(re.search(r"seed \d+: ([\d,]+) injected", done.stdout)[1].replace(",", "")) > (seconds or 10)


@pytest.mark.parametrize("options", [("--keep",), ("--chaos", "split,nonsense")])
def test_what_makes_no_sense_is_refused_with_the_names_that_there_are(options):
    given = ["run", "--chaos", "split", *options]
    done = subprocess.run([sys.executable, "-m", "processor.cli", *given], capture_output=True, text=True)
    assert done.returncode == 2
    assert "--keep" in done.stderr or "kill-before-write" in done.stderr
