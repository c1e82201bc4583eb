"""What is watched of the checkpoints: none of them ever passes a record that is kept nowhere."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import Any

from processor.local.expected import Cell, Expected
from processor.local.mapping import FROM, SHARD_END, EventSourceMapping

Record = Mapping[str, Any]


class Checkpoints:
    """Watches the checkpoints of one mapping. `passed` counts the records that they have passed, each looked at once.

    records: yields a shard's records in their order, those behind a sequence number where one is given. nowhere:
    returns those of some records that are kept nowhere now. problem: takes what must not be.
    """

    def __init__(
        self,
        mapping: EventSourceMapping,
        *,
        records: Callable[[str, str | None], Iterable[Record]],
        nowhere: Callable[[list[Record]], list[Record]],
        problem: Callable[[str], None],
    ) -> None:
        self.passed = 0
        self._mapping = mapping
        self._records = records
        self._nowhere = nowhere
        self._problem = problem
        self._seen: dict[str, str] = {}
        self._last: dict[str, str] = {}

    def look(self) -> list[Record]:
        """See that all is kept of what they have passed since the last look, and return it."""
        found = []
        # They are read before anything that they are compared with: what is kept by then must have been kept before.
        for shard, checkpoint in self._mapping.checkpoints.items():
            if self._seen.get(shard) == checkpoint:
                continue
            some = list(_up_to(checkpoint, self._records(shard, self._last.get(shard))))
            for record in self._nowhere(some):
                self._problem(f"the checkpoint passed {shard} {record['SequenceNumber']}: kept nowhere")
            # Only now: where nobody could look, the next look has all of it before it.
            self._seen[shard] = checkpoint
            if some:
                self._last[shard] = some[-1]["SequenceNumber"]
            self.passed += len(some)
            found += some
        return found


def _up_to(checkpoint: str, records: Iterable[Record]) -> Iterator[Record]:
    if checkpoint.startswith(FROM):  # nothing is finished yet
        return
    for record in records:
        if checkpoint != SHARD_END and int(record["SequenceNumber"]) > int(checkpoint):
            return
        yield record


def indices_of(entries: Iterable[Mapping[str, Any]], record: Record) -> set[int | None]:
    """Return which of a record's advertisements quarantine's entries keep; None is the record as a whole."""
    own = (entry for entry in entries if entry["sequence_number"] == record["SequenceNumber"])
    return {each["index"] for entry in own for each in entry["rejected"]}


def kept_by_quarantine(expected: Expected, there: Container[Cell], kept: set[int | None]) -> bool:
    """Tell whether quarantine keeps all of a record that the table need not, or does not, have.

    expected: what must become of the record, of which `there` are the cells that the table has. kept: the indices of
    its advertisements that are in quarantine, None for the record as a whole.
    """
    wanted = {index for *_, index in expected.rejected}
    for cell, places in expected.places.items():
        if cell not in there:
            wanted.update(index for *_, index in places)
    return None in kept or wanted <= kept
