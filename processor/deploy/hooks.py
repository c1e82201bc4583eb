"""A function's package, made by apex's hooks in a copy of its folder."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from processor.apex import FunctionConfig
from processor.deploy.archive import Archive, archive
from processor.errors import DeployError

LARGEST = 50 * 1024 * 1024
"""Bytes of a zip that Lambda takes within a request."""


def package(
    config: FunctionConfig, *, deploying: bool = False, report: Callable[[str], object] | None = None
) -> Archive:
    """Build a function's package by its hooks, in a copy of its folder, and return the zip.

    The copy is as deep below the project as the folder is, so that a hook's `../../` means the same. `deploying` runs
    the deploy hook too, after the zip. `report` gets each line that a hook prints, which apex swallows. Raises
    DeployError with a hook's output when it fails.
    """
    root = config.directory.parent.parent
    with tempfile.TemporaryDirectory(prefix=".build-", dir=root) as folder:
        copy = Path(folder) / config.directory.name
        shutil.copytree(config.directory, copy, ignore=shutil.ignore_patterns("__pycache__"))
        _hook(config, "build", copy, report)
        zipped = archive(copy, config.ignored)
        if deploying:
            _hook(config, "deploy", copy, report)
        _hook(config, "clean", copy, report)
    if len(zipped.data) > LARGEST:
        raise DeployError(
            f"{config.name}: the package has {len(zipped.data):,} bytes; Lambda takes {LARGEST:,} at most"
        )
    return zipped


def _hook(config: FunctionConfig, name: str, folder: Path, report: Callable[[str], object] | None) -> None:
    command = config.hooks.get(name)
    if command:
        done = subprocess.run(  # noqa: S603 (the project's own command)
            ["sh", "-c", command],  # noqa: S607 (as apex runs it)
            cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise DeployError(f"{config.directory.name}: the {name} hook `{command}` failed:\n{done.stdout.strip()}")
        if report:
            for line in done.stdout.splitlines():
                report(line)
