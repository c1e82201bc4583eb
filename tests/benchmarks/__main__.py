"""Run the benchmarks and print their tables.

    uv run --group bench python -m tests.benchmarks [decode] [writer] [handler] [--rounds 7]

README.md beside this file says what is compared with what, and what came out.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version

NAMES = ("decode", "writer", "handler")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="decode, writer, handler (default: all)")
    parser.add_argument("--rounds", type=int, default=7, help="turns that each contender gets (default: 7)")
    parser.add_argument("--count", type=int, default=1000, help="messages, readings, records (default: 1000)")
    options = parser.parse_args()
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}: there are {', '.join(NAMES)}")
    # Neither the user's AWS account nor a proxy takes part.
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ["no_proxy"] = "127.0.0.1"
    interpreter = f"{platform.python_implementation()} {platform.python_version()}"
    versions = ", ".join(f"{package} {version(package)}" for package in ("boto3", "orjson"))
    print(
        f"{interpreter}, {versions}, {os.cpu_count()} CPUs, {sys.platform}; "
        f"CPU time, medians of {options.rounds} rounds; ratios are of rounds, not of medians"
    )
    for name in options.names or NAMES:
        run: Callable[[int, int], None] = import_module(f"tests.benchmarks.{name}").run
        run(options.rounds, options.count)


if __name__ == "__main__":
    main()
