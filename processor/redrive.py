"""Redrive: quarantined records decoded once more, with today's decoder, keys and registry, and stored.

An object of quarantine is read, what was rejected in it is decoded and written to the table, and only then is the
object replaced by what still fails (or removed), in one conditional call. So it may die anywhere and be run again: a
reading that is stored already is a duplicate, and nothing is out of quarantine before it is in the table.

Every record keeps its own time of arrival. What fails again comes back with its new reason and one more attempt; what
the table or the registry could not take just now stays as it is. An advertisement that was rejected, and that today's
rules would ignore, stays too; in a record that could not be opened and now can, ingest's rules hold.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from processor.batch import Batch
from processor.ledger import Source
from processor.quarantine import Kept, Quarantine, record_of
from processor.rules import Rules
from processor.selection import Selection
from processor.store.writer import Outcome, Writer

CHUNK_OBJECTS = 200
CHUNK_BYTES = 8 * 1024 * 1024
"""So many objects, or bytes of them, are read, decoded and written at once."""

THREADS = 16
EVERYTHING = Selection()


@dataclass
class Counts:
    """What became of a redrive, in advertisements (a record that cannot be opened is one), and changes of the table.

    redriven = stored + duplicates + failed_again + ignored + rolled_up + left + ready.
    """

    redriven: int = 0
    stored: int = 0
    duplicates: int = 0
    failed_again: int = 0
    ignored: int = 0
    rolled_up: int = 0
    """Changes of the table whose ranges were rolled up anew."""
    left: int = 0
    """The table, the registry or a key could not be had: they are where they were."""
    ready: int = 0
    """In a dry run, readings that would be written, or changes that would be rolled up."""
    records: int = 0
    """Records that were taken; one that is in two objects may count twice."""
    changed: int = 0
    """Objects that somebody wrote or removed meanwhile: that holds, and what was stored of them is stored."""
    reasons: dict[str, int] = field(default_factory=dict)
    """Why those failed that failed again."""
    error: str = ""
    """Why the first of those left was left."""

    def add(self, other: Counts) -> None:
        """Add another's counts to these."""
        for each in fields(self):
            if each.name not in ("reasons", "error"):
                setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))
        self.reasons = dict(Counter(self.reasons) + Counter(other.reasons))
        self.error = self.error or other.error

    @classmethod
    def of(cls, batch: Batch) -> Counts:
        """Return the counts of one batch."""
        ledger = batch.ledger()
        counts = cls(
            redriven=ledger["received"],
            stored=ledger["stored"],
            duplicates=ledger["duplicates"],
            failed_again=ledger["rejected"],
            ignored=ledger["ignored"],
            left=ledger["failed"],
            records=len(batch.records),
            reasons=dict(Counter(each.reason for found in batch.rejections.values() for each in found)),
            error=batch.error,
        )
        counts.ready = counts.redriven - sum(ledger[name] for name in ledger if name != "received")
        return counts


@dataclass(frozen=True)
class Redrive:
    """Redrives quarantine. The clients are passed in; clock: epoch seconds, for what has expired meanwhile."""

    quarantine: Quarantine
    writer: Writer
    rules: Rules
    clock: Callable[[], float] = field(default=time.time, kw_only=True)

    def redrive(
        self,
        selection: Selection = EVERYTHING,
        *,
        dry_run: bool = False,
        progress: Callable[[Counts], None] = lambda _: None,
    ) -> Counts:
        """Decode and store the rejections that are meant; return what became of them.

        dry_run: decode only, and change nothing. progress is called with the counts so far. Raises whatever S3
        answers, and SourceError for an object that is not quarantine's: what was done until then is done.
        """
        counts = Counts()
        rules = self.rules.historic(learn=not dry_run)
        with ThreadPoolExecutor(THREADS, thread_name_prefix="redrive") as pool:
            for keys in _chunks(self.quarantine.objects(), selection):
                found = [kept for kept in pool.map(self.quarantine.read, keys) if kept is not None]
                chunk = _Chunk(found, selection, rules)
                if not chunk.batch.records:
                    continue
                if dry_run:
                    chunk.dry_run(self.clock())
                else:
                    chunk.store(self.writer, self.clock())
                    replaced = pool.map(lambda pair: self.quarantine.replace(*pair), chunk.remaining())
                    counts.changed += sum(not done for done in replaced)
                counts.add(Counts.of(chunk.batch))
                progress(counts)
        return counts


def _chunks(objects: Iterable[tuple[str, int]], selection: Selection) -> Iterator[list[str]]:
    chunk: list[str] = []
    size = 0
    for key, length in objects:
        if not _may_hold(key, selection):
            continue
        chunk.append(key)
        size += length
        if len(chunk) == CHUNK_OBJECTS or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _may_hold(key: str, selection: Selection) -> bool:
    """Tell whether an object can hold a record that is named: its own name says from which to which it goes."""
    if not selection.records:
        return True
    *_, shard, name = key.split("/")
    first, last, *_ = *name.removesuffix(".jsonl").split("-"), "", ""
    if not (first.isdecimal() and last.isdecimal()):
        return True
    return any(shard == of and int(first) <= number <= int(last) for of, number in selection.records)


class _Chunk:
    """Some objects of quarantine, their rejections that are meant as one batch, and what remains of them."""

    def __init__(self, found: list[Kept], selection: Selection, rules: Rules) -> None:
        self._found = [
            (kept, [(line, selection.rejections(line, rules.known)) for line in kept.lines]) for kept in found
        ]
        self._places: dict[tuple[str, int], int] = {}
        self._attempts: dict[int, int] = {}
        """How often each record was tried: the most that any of the objects says."""
        self._done: set[Source] = set()
        records: list[Mapping[str, Any]] = []
        only: dict[int, set[int | None]] = {}
        for _, pairs in self._found:
            for line, chosen in pairs:
                if chosen:
                    place = self._places.setdefault(_name(line), len(records))
                    if place == len(records):
                        records.append(record_of(line))
                    self._attempts[place] = max(line["attempts"], self._attempts.get(place, 0))
                    only.setdefault(place, set()).update(each["index"] for each in chosen)
        self._whole = {place for place, indexes in only.items() if None in indexes}
        self.batch = Batch(
            records,
            rules,
            {
                place: {each for each in indexes if each is not None}
                for place, indexes in only.items()
                if place not in self._whole
            },
        )

    def dry_run(self, now: float) -> None:
        """Decode, and no more. now: epoch seconds."""
        self.batch.decode()
        self.batch.expire(now)

    def store(self, writer: Writer, now: float) -> None:
        """Decode and write. now: epoch seconds."""
        outcome = self.batch.store(writer, now=now)
        self._done = stored(self.batch, outcome)
        self._whole |= self.batch.renumbered

    def remaining(self) -> list[tuple[Kept, list[dict[str, Any]]]]:
        """Return the objects that change, each with the lines that stay in it."""
        found = []
        for kept, pairs in self._found:
            lines = [left for line, chosen in pairs if (left := self._left(line, chosen)) is not None]
            if lines != kept.lines:
                found.append((kept, lines))
        return found

    def _left(self, line: dict[str, Any], chosen: list[dict[str, Any]]) -> dict[str, Any] | None:
        """Return what stays of a line; None where nothing does."""
        if not chosen:
            return line
        place = self._places[_name(line)]
        again: dict[int | None, dict[str, Any]] = {}
        attempts = self._attempts[place]
        for rejection in line["rejected"]:
            after = self._after(rejection, place) if rejection in chosen else None
            again |= {each["index"]: each for each in ([rejection] if after is None else after)}
            if after:
                attempts = self._attempts[place] + 1
        return line | {"rejected": list(again.values()), "attempts": attempts} if again else None

    def _after(self, rejection: dict[str, Any], place: int) -> list[dict[str, Any]] | None:
        """Return what a rejection has become: none, one or (of a whole record) several; None where it was not tried."""
        batch, index = self.batch, rejection["index"]
        anew = [asdict(each) for each in batch.rejections.get(place, ())]
        if place in self._whole:
            return None if place in batch.failed else anew
        same = [each for each in anew if each["index"] in (index, None)]
        if same:
            return same
        if (place, index) in self._done:
            return []
        return None if place in batch.failed else [rejection]


def stored(batch: Batch, outcome: Outcome) -> set[Source]:
    """Return the advertisements of which every reading is in the table now."""
    written: set[Source] = set()
    unwritten: set[Source] = set()
    for sources, each in zip(batch.sources.values(), outcome.written, strict=True):
        for name, found in sources.items():
            (unwritten if name in each.failed or name in each.invalid else written).update(found)
    return written - unwritten


def _name(line: Mapping[str, Any]) -> tuple[str, int]:
    return line["shard"], int(line["sequence_number"])
