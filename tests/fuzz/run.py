"""One target under atheris, in a process of its own: `python -m tests.fuzz.run TARGET SECONDS SEED FOLDER`.

FOLDER gets `corpus/` (inputs that reached something new), `findings/` (what broke the contract, each once) and
`result.json`; libFuzzer's own figures go to standard error. tests/fuzz/__main__.py starts it and reads them.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import random
import resource
import sys
import time
import traceback
from pathlib import Path
from types import FunctionType
from typing import Any

import atheris

with atheris.instrument_imports(include=["processor.decode", "processor.store.tables", "processor.reading"]):
    from tests.fuzz.seeds import SEEDS, tokens
    from tests.fuzz.targets import TARGETS, Target

from tests.fuzz import corpus as kept
from tests.fuzz.mutator import mutated

SLOW_SECONDS = 0.5
"""An input that takes more CPU time than this is a finding: it has a few kilobytes, where a record may have 1,000."""

HANGING_SECONDS = 20
"""So long, on the clock, may an input take at all; then libFuzzer ends the process."""

MOST_MEGABYTES = 700
"""The process's memory, libFuzzer's own included; an input that takes it beyond ends the process."""

LEAK_BLOCKS = 500
"""So many blocks of memory may stay allocated after the same inputs ten times over: caches still filling, no more."""

GROWTH_MEGABYTES = 64
"""So much may the process grow after the first quarter of its time: libFuzzer keeps its corpus, of a few megabytes."""

REMEMBERED = 300


class Session:
    """What is seen while the target runs."""

    def __init__(self, target: Target, seconds: float, folder: Path) -> None:
        self.check = target.check
        self.folder = folder
        self.started = time.monotonic()
        self.seconds = seconds
        self.executions = 0
        self.slowest: tuple[float, bytes] = (0.0, b"")
        self.findings: dict[str, dict[str, Any]] = {}
        self.warm: float | None = None
        self.remembered: list[bytes] = []
        self.chance = random.Random(1)

    def one_input(self, data: bytes) -> None:
        """Check one input; go on after a finding, for there may be others; end the process when time is up."""
        self.executions += 1
        took = self.timed(data)
        if took > self.slowest[0]:
            self.slowest = (took, data)
        if took > SLOW_SECONDS:
            took = min(took, self.timed(data))  # a garbage collection may have fallen into it
            if took > SLOW_SECONDS:
                self.found("slow", f"{took:.2f} s of CPU for {len(data)} bytes", data)
        self.remember(data)
        if self.executions % 64 == 0:
            passed = time.monotonic() - self.started
            if self.warm is None and passed > self.seconds / 4:
                self.warm = peak_megabytes()
            if passed > self.seconds:
                self.end()
            if self.executions % 4096 == 0:
                self.write()  # it may be the last that is heard of this process

    def timed(self, data: bytes) -> float:
        started = time.thread_time()
        try:
            self.check(data)
        except Exception as error:  # any at all is what is looked for
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{type(error).__name__} in {Path(last.filename).name}:{last.lineno}"
            self.found(where, "".join(traceback.format_exception(error)[-6:]), data)
        return time.thread_time() - started

    def found(self, what: str, detail: str, data: bytes) -> None:
        """Keep the shortest input of each kind of finding."""
        known = self.findings.get(what)
        if known is None or len(data) < known["bytes"]:
            name = "crash-" + hashlib.sha256(what.encode()).hexdigest()[:12]
            (self.folder / "findings" / name).write_bytes(data)
            self.findings[what] = {"what": what, "detail": detail, "bytes": len(data), "file": name}
            self.write()

    def remember(self, data: bytes) -> None:
        """Keep a fair sample of all inputs."""
        if len(self.remembered) < REMEMBERED:
            self.remembered.append(data)
        elif (place := self.chance.randrange(self.executions)) < REMEMBERED:
            self.remembered[place] = data

    def leaked(self) -> int:
        """Return how many blocks of memory stay when the same inputs come ten times more."""
        for _ in range(3):
            self.again()
        before = sys.getallocatedblocks()
        for _ in range(10):
            self.again()
        return sys.getallocatedblocks() - before

    def again(self) -> None:
        for data in self.remembered:
            self.timed(data)
        gc.collect()

    def grown(self) -> float:
        """Return by how many megabytes the process's greatest size grew since a quarter of its time."""
        peak = peak_megabytes()
        return peak - (self.warm or peak)

    def write(self, leaked: int | None = None) -> None:
        took, data = self.slowest
        result = {
            "executions": self.executions,
            "seconds": time.monotonic() - self.started,
            "slowest_ms": took * 1000,
            "slowest_hex": data[:200].hex(),
            "slowest_bytes": len(data),
            "peak_mb": peak_megabytes(),
            "growth_mb": self.grown(),
            "leaked_blocks": leaked,
            "findings": list(self.findings.values()),
        }
        (self.folder / "result.json").write_text(json.dumps(result))

    def end(self) -> None:
        leaked = self.leaked()
        if leaked > LEAK_BLOCKS:
            self.found("leak", f"{leaked} blocks of memory stay after {10 * len(self.remembered)} inputs", b"")
        if self.grown() > GROWTH_MEGABYTES:
            self.found("growth", f"{self.grown():.0f} MB more than after a quarter of the time", b"")
        self.write(leaked)
        sys.stderr.flush()
        os._exit(0)  # atheris would end the process by other ways, with other statuses


def peak_megabytes() -> float:
    """Return the greatest size that this process has had in memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def instrument_generated() -> None:
    """Instrument the decoders that tables compile to: they come by no import."""
    for each in gc.get_objects():
        if isinstance(each, FunctionType) and each.__code__.co_filename.startswith("<format "):
            atheris.instrument_func(each)


def dictionary(path: Path) -> Path:
    """Write libFuzzer's dictionary of words worth trying whole."""
    path.write_text("".join('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in tokens()))
    return path


def main() -> None:
    name, seconds, seed, folder = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    target = TARGETS[name]
    corpus, seeds = folder / "corpus", folder / "seeds"
    for each in (corpus, seeds, folder / "findings"):
        each.mkdir(parents=True, exist_ok=True)
    for data in (*SEEDS[name](), *kept.minimal(name), *kept.crashes(name).values()):
        (seeds / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    instrument_generated()
    session = Session(target, seconds, folder)
    options = {
        "seed": seed, "max_len": target.longest, "timeout": HANGING_SECONDS, "rss_limit_mb": MOST_MEGABYTES,
        "artifact_prefix": f"{folder}/findings/", "dict": dictionary(folder / "words"), "use_value_profile": 1,
    }  # fmt: skip
    arguments = [sys.argv[0], *(f"-{option}={value}" for option, value in options.items()), str(corpus), str(seeds)]
    skip = 1 if name == "gateways" else 0

    def mutate(data: bytes, longest: int, seed: int) -> bytes:
        return mutated(data, longest, seed, atheris.Mutate, skip)

    by_shape = {"custom_mutator": mutate} if name in ("envelope", "gateways") else {}
    atheris.Setup(arguments, session.one_input, **by_shape)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
