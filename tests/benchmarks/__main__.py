"""Run the benchmarks and print their tables.

    uv run --group bench python -m tests.benchmarks [decode] [path] [writer] [handler] [--rounds 9]

README.md beside this file says what is compared with what, and what came out.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from importlib import import_module
from importlib.metadata import version

from tests.benchmarks.measure import LEAST

NAMES = ("decode", "path", "writer", "handler", "cache", "queries", "package")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(NAMES)} (default: all)")
    parser.add_argument("--rounds", type=int, default=9, help="turns that each contender gets (default: 9)")
    parser.add_argument("--count", type=int, default=1000, help="messages, readings or records (default: 1000)")
    parser.add_argument(
        "--quick", action="store_true", help="one short turn each, to see that they run; no measurement"
    )
    options = parser.parse_args()
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}: there are {', '.join(NAMES)}")
    names = options.names or NAMES
    if len(names) == 1:
        run(names[0], options.rounds, options.count, options.quick)
        return
    for name in names:
        # Each in a process of its own: what one imports must not weigh on the next one's garbage collection.
        sizes = ["--rounds", str(options.rounds), "--count", str(options.count), *["--quick"] * options.quick]
        if status := subprocess.run([sys.executable, "-m", "tests.benchmarks", name, *sizes]).returncode:
            sys.exit(status)


def run(name: str, rounds: int, count: int, quick: bool) -> None:
    """Run one benchmark."""
    # Neither the user's AWS account nor a proxy takes part.
    for each in [each for each in os.environ if each.startswith("AWS_")]:
        del os.environ[each]
    os.environ["no_proxy"] = "127.0.0.1"
    if quick:
        rounds, count = 1, 20
    versions = ", ".join(f"{package} {version(package)}" for package in ("boto3", "orjson"))
    print(
        f"\n{name}: {platform.python_implementation()} {platform.python_version()}, {versions}, {os.cpu_count()} CPUs, "
        f"{sys.platform}; CPU time, medians of {rounds} rounds; ratios are medians of the rounds' own",
        flush=True,
    )
    import_module(f"tests.benchmarks.{name}").run(rounds, count, least=0 if quick else LEAST)


if __name__ == "__main__":
    main()
