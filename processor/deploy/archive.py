"""The zip of a function's folder, as apex makes it, and always the same bytes for the same files."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path


@dataclass(frozen=True)
class Archive:
    """A zip, and its SHA-256 as Lambda shows it (`CodeSha256`): in base64."""

    data: bytes
    sha256: str


def archive(folder: Path, ignored: Iterable[str]) -> Archive:
    """Zip a function's folder as apex does, links followed: every file in it that no line of .apexignore names."""
    patterns = [line.strip() for line in ignored if line.strip() and not line.startswith("#")]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as target:
        for path in sorted(_walk(folder), key=lambda path: path.relative_to(folder).as_posix()):
            name = path.relative_to(folder).as_posix()
            if path.is_dir() or any(_ignores(pattern, name) for pattern in patterns):
                continue
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, whatever this is: the mode below counts
            entry.external_attr = 0o100644 << 16
            target.writestr(entry, path.read_bytes())
    data = buffer.getvalue()
    return Archive(data, base64.b64encode(hashlib.sha256(data).digest()).decode())


def _ignores(pattern: str, name: str) -> bool:
    """Tell whether a pattern of .apexignore leaves a file out: by its name anywhere, or by its path from the top."""
    pattern = pattern.rstrip("/")
    parts = name.split("/")
    if "/" in pattern:
        return any(fnmatch("/".join(parts[:n]), pattern.lstrip("/")) for n in range(1, len(parts) + 1))
    return any(fnmatch(part, pattern) for part in parts)


def _walk(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        yield path
        if path.is_dir():
            yield from _walk(path)
