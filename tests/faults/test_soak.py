"""All faults at once, under a new seed each time: what `processor run --chaos all` says of itself, and its exit status.

uv run pytest tests/faults/test_soak.py --soak-seconds 600 [--soak-seed N] -s
"""

from __future__ import annotations

import random
import re
import subprocess
import sys

import pytest

from processor.local.faults.registry import FAULTS

SHORT = ("kill-before-write", "kill-amid-write", "throttled-table", "answer-lost", "poison-middle", "split", "disabled",
         "producer-retry", "late-by-days", "reboot", "unknown-identifier", "access-denied")  # fmt: skip


def soak(faults, seconds, seed):
    command = ["run", "--chaos", faults, "--devices", "30", "--seconds", str(seconds), "--seed", str(seed)]
    print("processor", *command)
    done = subprocess.run(
        [sys.executable, "-m", "processor.cli", *command], capture_output=True, text=True, timeout=seconds + 1800
    )
    print(done.stdout[-6000:], done.stderr[-2000:])
    return done


def test_nothing_is_lost_and_nothing_doubled_by_all_faults_together(request):
    """A few kinds for a few seconds; all of them where --soak-seconds asks for it. Each strikes."""
    seconds = request.config.getoption("--soak-seconds")
    seed = request.config.getoption("--soak-seed") or random.SystemRandom().randrange(1_000_000)
    done = soak("all", seconds, seed) if seconds else soak(",".join(SHORT), 6, seed)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert re.search(r"^Check +lost 0, doubled 0: PASSED$", done.stdout, re.MULTILINE)
    injected, kinds = re.search(r"seed \d+: ([\d,]+) injected, of (\d+) kinds: ", done.stdout).groups()
    assert int(kinds) == (len(FAULTS) if seconds else len(SHORT))
    assert int(injected.replace(",", "")) >= max(seconds, int(kinds))
    assert "never struck" not in done.stdout


@pytest.mark.parametrize("options", [("--keep",), ("--chaos", "split,nonsense")])
def test_what_makes_no_sense_is_refused_with_the_names_that_there_are(options):
    given = ["run", "--chaos", "split", *options]
    done = subprocess.run([sys.executable, "-m", "processor.cli", *given], capture_output=True, text=True)
    assert done.returncode == 2
    assert "--keep" in done.stderr or "kill-before-write" in done.stderr
