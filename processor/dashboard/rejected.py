"""Rejected records as the page shows them, and their redrive."""

from __future__ import annotations

import threading
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

from processor.decode.gateways import ALL, Known
from processor.errors import DecodeError, SettingsError
from processor.quarantine import Quarantine, merged
from processor.reading import device_id
from processor.redrive import Redrive
from processor.selection import Selection, devices_of

OBJECTS = 200
"""The list is of so many of quarantine's objects, the latest ones; a redrive by filter takes all of them."""

RECORDS = 1000
SHOWN_BYTES = 400
THREADS = 16


class Busy(Exception):
    """A redrive is under way already."""


class Rejected:
    """Lists quarantine's records and redrives them, one redrive at a time."""

    def __init__(self, quarantine: Quarantine, redrive: Redrive, known: Known = ALL) -> None:
        self._quarantine = quarantine
        self._redrive = redrive
        self._known = known
        self._running = threading.Lock()
        self._lines: dict[tuple[str, int], int] = {}
        """How many lines an object (name, size) has: to count, none is read twice."""

    def count(self) -> tuple[int, int]:
        """Return how many records are listed, and how many objects there are in all."""
        objects = list(self._quarantine.objects())
        latest = objects[-OBJECTS:]
        missing = [each for each in latest if each not in self._lines]
        with ThreadPoolExecutor(THREADS) as pool:
            found = pool.map(lambda each: self._quarantine.read(each[0]), missing)
            for each, kept in zip(missing, found, strict=True):
                self._lines[each] = 0 if kept is None else len(kept.lines)
        self._lines = {each: self._lines[each] for each in latest}
        return sum(self._lines.values()), len(objects)

    def list(self) -> dict[str, Any]:
        """Return the latest records, newest first, with the reasons and how many records there are for each.

        `complete` tells whether these are all.
        """
        objects = list(self._quarantine.objects())
        with ThreadPoolExecutor(THREADS) as pool:
            found = [kept for kept in pool.map(self._quarantine.read, [key for key, _ in objects[-OBJECTS:]]) if kept]
        lines = merged(line for kept in found for line in kept.lines)
        lines.sort(key=lambda line: (-line["arrived_at"], line["sequence_number"]))
        reasons = Counter(reason for line in lines for reason in {each["reason"] for each in line["rejected"]})
        return {
            "records": [self._shown(line) for line in lines[:RECORDS]],
            "reasons": dict(reasons.most_common()),
            "objects": len(objects),
            "complete": len(objects) <= OBJECTS and len(lines) <= RECORDS,
        }

    def _shown(self, line: Mapping[str, Any]) -> dict[str, Any]:
        devices = frozenset().union(*devices_of(line["data"], line["arrived_at"], self._known))
        text, size = _payload(line["data"])
        return {
            "name": f"{line['shard']}:{line['sequence_number']}",
            "arrived": line["arrived_at"],
            "attempts": line["attempts"],
            "rejected": [
                {"index": each["index"], "reason": each["reason"], "message": each["message"]}
                for each in line["rejected"]
            ],
            "devices": sorted(devices)[:5],
            "payload": text,
            "bytes": size,
        }

    def redrive(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Redrive what is asked for, or (`dry_run`) say what that would come to.

        asked: any of records (SHARD:SEQUENCE), reasons, device, from, to (ms since 1970), dry_run; nothing else.
        Raises SettingsError for what makes no sense, Busy while another redrive is under way.
        """
        selection = _selection(asked)
        dry_run = asked.get("dry_run", False)
        if not isinstance(dry_run, bool):
            raise SettingsError("dry_run is true or false")
        if not self._running.acquire(blocking=False):
            raise Busy("a redrive is under way: try again when it is done")
        try:
            counts = self._redrive.redrive(selection, dry_run=dry_run)
            self._lines.clear()
        finally:
            self._running.release()
        return asdict(counts) | {"reasons": dict(counts.reasons), "dry_run": dry_run}


def _payload(data: str) -> tuple[str, int]:
    """Return a record's content to look at, as text or hex, shortened, and its length in bytes."""
    try:
        content = a2b_base64(data)
    except Base64Error:
        return data[:SHOWN_BYTES], len(data)
    part = content[:SHOWN_BYTES]
    try:
        text = part.decode("utf-8", "strict" if len(content) <= SHOWN_BYTES else "ignore")
    except UnicodeDecodeError:
        text = ""
    if not text or not text.isprintable():
        text = part.hex()
    return text + ("…" if len(content) > SHOWN_BYTES else ""), len(content)


FILTERS = frozenset(("records", "reasons", "device", "from", "to", "dry_run"))


def _selection(asked: Mapping[str, Any]) -> Selection:
    unknown = set(asked) - FILTERS
    if unknown:
        raise SettingsError(f"a redrive takes {', '.join(sorted(FILTERS))}, not {', '.join(sorted(unknown))}")
    names, reasons = _texts(asked, "records"), _texts(asked, "reasons")
    device = asked.get("device")
    if "records" in asked and not names:
        raise SettingsError("no record is named")
    try:
        found = None if device is None else device_id(str(device))
    except DecodeError as error:
        raise SettingsError(str(error)) from None
    times = [asked.get(name) for name in ("from", "to")]
    if any(each is not None and (isinstance(each, bool) or not isinstance(each, int)) for each in times):
        raise SettingsError("from and to are ms since 1970")
    return Selection.of_names(names, reasons=frozenset(reasons), device=found, start=times[0], end=times[1])


def _texts(asked: Mapping[str, Any], name: str) -> list[str]:
    found = asked.get(name, [])
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise SettingsError(f"{name} is a list of texts")
    return found
