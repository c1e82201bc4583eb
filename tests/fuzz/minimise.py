"""Make the corpus small: `python -m tests.fuzz.minimise FOLDER`, the folder that `python -m tests.fuzz --keep` filled.

Of all inputs (the corpus so far, the seeds, the folder's) the shortest are kept that together take every step from line
to line that any of them takes, in the part that the target is for. Past crashes (`crash-…`) always stay.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import Any

from tests.fuzz import corpus
from tests.fuzz.seeds import SEEDS
from tests.fuzz.targets import TARGETS, Target

LONGEST = 1500
"""Longer inputs take few steps that shorter ones do not, and the corpus is to be small."""

Step = tuple[str, int, int]


def steps(target: Target, data: bytes) -> set[Step]:
    """Return the steps from line to line that an input takes through the target's part of the decoders."""
    found: set[Step] = set()

    def called(frame: FrameType, event: str, argument: Any) -> Any:
        name = frame.f_code.co_filename
        if not any(part in name for part in target.parts):
            return None
        before = frame.f_code.co_firstlineno

        def line(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal before
            if event in ("line", "return"):
                found.add((name, before, frame.f_lineno if event == "line" else -1))
                before = frame.f_lineno
            elif event == "exception":
                found.add((name, before, -2))
            return line

        return line

    sys.settrace(called)
    try:
        target.check(data)
    except Exception:  # a finding; not for the corpus
        return set()
    finally:
        sys.settrace(None)
    return found


def smallest(target: Target, inputs: Iterable[bytes]) -> list[bytes]:
    """Return the shortest inputs that take all steps; the seeds too are only kept for a step of their own."""
    taken: set[Step] = set()
    kept = []
    for data in sorted(set(inputs), key=lambda data: (len(data), data)):
        new = steps(target, data) - taken
        if new and len(data) <= LONGEST:
            taken |= new
            kept.append(data)
    return kept


def main() -> None:
    for name, target in TARGETS.items():
        found = [path.read_bytes() for each in sys.argv[1:] for path in (Path(each) / name / "corpus").glob("*")]
        inputs = [*corpus.minimal(name), *found, *SEEDS[name]()]
        kept = smallest(target, inputs)
        corpus.keep(name, kept)
        print(f"{name}: {len(kept)} of {len(inputs)} inputs, {sum(map(len, kept)):,} bytes")


if __name__ == "__main__":
    main()
