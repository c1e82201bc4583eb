"""The corpus kept in `corpus/<target>/`: `minimal.hex`, an input a line, and past crashes, each a file of bytes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

FOLDER = Path(__file__).parent / "corpus"
_MINIMAL = "minimal.hex"


def minimal(target: str) -> list[bytes]:
    """Return the inputs that together reach what any known input reaches."""
    path = FOLDER / target / _MINIMAL
    return [bytes.fromhex(line) for line in path.read_text().splitlines()] if path.exists() else []


def crashes(target: str) -> dict[str, bytes]:
    """Return every input that once broke the contract, by its file's name."""
    return {path.name: path.read_bytes() for path in sorted((FOLDER / target).glob("crash-*"))}


def keep(target: str, inputs: Iterable[bytes]) -> None:
    """Write the minimal inputs of a target."""
    (FOLDER / target).mkdir(parents=True, exist_ok=True)
    (FOLDER / target / _MINIMAL).write_text("".join(data.hex() + "\n" for data in inputs))
