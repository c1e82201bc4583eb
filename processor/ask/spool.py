"""What a parallel scan brings, sorted on disk into days and buckets of devices, whatever order it came in.

A scan says nothing of the order of its items; which of them are copies can be told only with a device's neighbouring
slots at hand. So each item goes to the file of its day and bucket (a slot within the skew of midnight to both days'),
and each file, small enough for memory, is read back by device and time. A checkpoint says how far each segment of the
scan got and how long each file was by then: whatever an interrupted scan wrote behind that is cut off, and a file that
is shorter has lost something.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import orjson

from processor.errors import QueryError
from processor.store.rollups import RANGE_MS
from processor.store.tables import SKEW_MS, SLOT_MS, AttributeValue
from processor.store.wire import Client

DAY_MS = 86_400_000
SEGMENTS = 16
BUFFERED = 32 << 20
"""So many bytes wait in memory between two checkpoints."""

STATE = "state.json"

FORM = 2
"""Of the lines: an item's sort key, its device and itself, the latter two as JSON, which holds neither tab nor newline.

A device's name may hold anything that is printable: `acme:Cold room 1`.
"""


def bucket_of(device: str, buckets: int) -> int:
    """Return the bucket of a device: always the same one."""
    return zlib.crc32(device.encode()) % buckets


def days_of_slot(start: int) -> Iterator[int]:
    """Yield the days (numbered from 1970) whose readings or ranges need a slot (its start, epoch seconds).

    A range that a query cuts needs what comes before it, so a slot may count for a day up to a range after it.
    """
    margin = SKEW_MS + RANGE_MS
    first = (start * 1000 - margin) // DAY_MS
    last = (start * 1000 + SLOT_MS + margin) // DAY_MS
    yield from range(first, last + 1)


def days_of_range(start: int) -> Iterator[int]:
    """Yield the day of a roll-up (its start, epoch seconds)."""
    yield start * 1000 // DAY_MS


class Spool:
    """Files of items by day and bucket, in a folder of its own; what was there before is continued.

    Nothing is written before `scan`. Raises QueryError where a file lacks something that it had at the last checkpoint.
    """

    def __init__(self, folder: Path, buckets: int) -> None:
        self._folder = folder
        self._buckets = buckets
        self._waiting: dict[str, list[bytes]] = {}
        self._size = 0
        self._state: dict[str, Any] = {"form": FORM, "segments": {}, "lengths": {}, "items": 0}
        if (folder / STATE).exists():
            there = orjson.loads((folder / STATE).read_bytes())
            if there.get("form") == FORM:
                self._state = there
        for name in self._state["lengths"]:
            self._whole(name)

    @property
    def items(self) -> int:
        """How many items the scans have brought so far."""
        found: int = self._state["items"]
        return found

    def scan(
        self,
        client: Client,
        table: str,
        noun: str,
        *,
        sort_key: str,
        days: Callable[[int], Iterable[int]],
        wanted: Callable[[Mapping[str, AttributeValue]], bool],
        report: Callable[[int], None],
    ) -> None:
        """Bring a table's items here, by a parallel scan; an interrupted one goes on where it was.

        sort_key: the attribute by which a device's items are told apart. days: an item's, by its sort key. wanted:
        tells whether an item is to be kept. report: is told now and then how many items have come.
        """

        def page(segment: int, after: Any) -> dict[str, Any]:
            body: dict[str, Any] = {"TableName": table, "Segment": segment, "TotalSegments": SEGMENTS}
            return client.call("Scan", body | ({"ExclusiveStartKey": after} if after else {}))

        self._cut()
        done = self._state["segments"].setdefault(noun, {})
        pool = ThreadPoolExecutor(SEGMENTS, thread_name_prefix="scan")
        try:
            running: dict[Future[dict[str, Any]], int] = {
                pool.submit(page, segment, done.get(str(segment))): segment
                for segment in range(SEGMENTS)
                if done.get(str(segment), "") is not None
            }
            while running:
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    segment, answer = running.pop(future), future.result()
                    self._take(noun, answer, segment, sort_key, days, wanted)
                    if done[str(segment)] is not None:
                        running[pool.submit(page, segment, done[str(segment)])] = segment
                report(self.items)
                if self._size > BUFFERED:
                    self.checkpoint()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        self.checkpoint()

    def _cut(self) -> None:
        """Make the folder, and cut off what was written in it behind the last checkpoint."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for file in self._folder.glob("*.spool"):
            length = self._state["lengths"].get(file.name, 0)
            if file.stat().st_size > length:
                os.truncate(file, length)

    def _take(
        self,
        noun: str,
        answer: Mapping[str, Any],
        segment: int,
        sort_key: str,
        days: Callable[[int], Iterable[int]],
        wanted: Callable[[Mapping[str, AttributeValue]], bool],
    ) -> None:
        """Take a page's items, and note where its segment goes on (None: nowhere)."""
        for item in answer["Items"]:
            if wanted(item):
                self._add(noun, item, sort_key, days)
        self._state["items"] += len(answer["Items"])
        self._state["segments"][noun][str(segment)] = answer.get("LastEvaluatedKey")

    def _add(
        self, noun: str, item: Mapping[str, AttributeValue], sort_key: str, days: Callable[[int], Iterable[int]]
    ) -> None:
        device, key = item["device"]["S"], item[sort_key]["N"]
        line = b"%s\t%s\t%s" % (key.encode(), orjson.dumps(device), orjson.dumps(item))
        for day in days(int(key)):
            name = _name(noun, day, bucket_of(device, self._buckets))
            self._waiting.setdefault(name, []).append(line)
            self._size += len(line)

    def checkpoint(self) -> None:
        """Write what waits, and note how far everything is."""
        for name, lines in self._waiting.items():
            block = zlib.compress(b"\n".join(lines), 1)
            with (self._folder / name).open("ab") as file:
                file.write(len(block).to_bytes(4, "big") + block)
                file.flush()
                os.fsync(file.fileno())
                self._state["lengths"][name] = file.tell()
        self._waiting.clear()
        self._size = 0
        replace_file(self._folder / STATE, orjson.dumps(self._state))

    def days(self) -> list[int]:
        """Return the days of which there is something, in order."""
        return sorted({int(name.split("-")[1]) for name in self._state["lengths"]})

    def load(self, noun: str, day: int, bucket: int) -> dict[str, dict[int, bytes]]:
        """Return a file's items by device and sort key, as text, which takes a fifth of the memory: see `parsed`.

        An item that came twice counts as it came last.
        """
        found: dict[str, dict[int, bytes]] = {}
        for line in self._lines(_name(noun, day, bucket)):
            key, device, text = line.split(b"\t", 2)
            found.setdefault(orjson.loads(device), {})[int(key)] = text
        return found

    def _lines(self, name: str) -> Iterator[bytes]:
        if name not in self._state["lengths"]:
            return
        with self._whole(name).open("rb") as blocks:
            while size := blocks.read(4):
                yield from zlib.decompress(blocks.read(int.from_bytes(size, "big"))).split(b"\n")

    def _whole(self, name: str) -> Path:
        """Return a file, which has all that it had at the last checkpoint. Raises QueryError where it has not."""
        file, length = self._folder / name, self._state["lengths"][name]
        size = file.stat().st_size if file.exists() else None
        if size is None or size < length:
            found = "is missing" if size is None else f"has {size:,} bytes"
            raise QueryError(
                f"{file} {found}, and had {length:,} when that was noted: rows would be missing. Remove "
                f"{self._folder} and run the same command again: the scan begins anew, and what is exported stays"
            )
        return file

    def remove(self) -> None:
        """Delete the folder, whose items nobody needs any more."""
        self._state["lengths"] = {}  # else a removal that is interrupted would look like a loss
        replace_file(self._folder / STATE, orjson.dumps(self._state))
        for file in sorted(self._folder.iterdir(), key=lambda file: file.name == STATE):  # the state goes last
            file.unlink()
        self._folder.rmdir()


def parsed(items: Mapping[int, bytes]) -> Iterator[dict[str, AttributeValue]]:
    """Yield one device's items in the order of their sort key."""
    return (orjson.loads(items[key]) for key in sorted(items))


def _name(noun: str, day: int, bucket: int) -> str:
    return f"{noun}-{day}-{bucket}.spool"


def replace_file(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: beside it first, then in its place."""
    beside = path.with_name(path.name + ".tmp")
    with beside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
