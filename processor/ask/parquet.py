"""Parquet files of one part of an export: written beside their place, renamed into it when they are whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from processor.ask.columns import arrow

GROUP = 100_000
"""So many rows make a row group; as many wait in memory."""

TEMPORARY = ".tmp"


class Files:
    """The files of one part. A table with a column that those before it lack begins another file.

    Nothing is seen under its name before `finish`.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self._waiting: list[Any] = []
        self._rows = 0
        self._files = 0
        self._writer: Any = None
        self.rows = 0

    def add(self, table: Any) -> None:
        """Take the rows of an Arrow table."""
        if table.num_rows:
            self._waiting.append(table)
            self._rows += table.num_rows
            self.rows += table.num_rows
            if self._rows >= GROUP:
                self._flush()

    def finish(self) -> None:
        """Make the files whole, and give them their names."""
        self._flush()
        self._close()
        for number in range(self._files):
            _sync(self._path(number, TEMPORARY))
            self._path(number, TEMPORARY).replace(self._path(number))

    def abandon(self) -> None:
        """Give up what was written."""
        self._close()
        for number in range(self._files):
            self._path(number, TEMPORARY).unlink(missing_ok=True)

    def _path(self, number: int, ending: str = "") -> Path:
        return self._folder / f"{self._name}-{number}.parquet{ending}"

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _flush(self) -> None:
        """Write what waits as a row group."""
        if not self._waiting:
            return
        pa = arrow()
        from pyarrow import parquet

        table = pa.concat_tables(self._waiting, promote_options="default")
        if self._writer is None or not set(table.column_names) <= set(self._writer.schema.names):
            known = [] if self._writer is None else [self._writer.schema]
            self._close()
            schema = pa.unify_schemas([*known, table.schema])
            self._folder.mkdir(parents=True, exist_ok=True)
            self._writer = parquet.ParquetWriter(str(self._path(self._files, TEMPORARY)), schema, compression="zstd")
            self._files += 1
        empty = self._writer.schema.empty_table()
        self._writer.write_table(pa.concat_tables([empty, table], promote_options="default").select(empty.column_names))
        self._waiting.clear()
        self._rows = 0


def write_file(path: Path, table: Any) -> None:
    """Write one whole file, or none."""
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + TEMPORARY)
    parquet.write_table(table, str(beside), compression="zstd")
    _sync(beside)
    beside.replace(path)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
