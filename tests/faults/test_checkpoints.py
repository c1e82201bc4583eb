"""Checkpoints are watched: all that one passes is looked for, each record once."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest

from processor.errors import TransientError
from processor.local.expected import Expected
from processor.local.faults.checkpoints import Checkpoints, indices_of, kept_by_quarantine
from processor.local.mapping import FROM, SHARD_END


class Watched:
    """Checkpoints of a mapping with a shard `a` of five records; `nowhere` says which are kept nowhere."""

    def __init__(self):
        self.mapping = SimpleNamespace(checkpoints={})
        self.problems = []
        self.nowhere = set()
        self.asked = []
        self.watch = Checkpoints(self.mapping, records=self.records, nowhere=self.lacking, problem=self.problems.append)

    def records(self, shard, last):
        assert shard == "a"
        return [{"SequenceNumber": f"{n:03d}"} for n in range(1, 6) if last is None or n > int(last)]

    def lacking(self, records):
        numbers = [int(record["SequenceNumber"]) for record in records]
        self.asked += numbers
        return [record for record, number in zip(records, numbers, strict=True) if number in self.nowhere]

    def look(self, checkpoint):
        self.mapping.checkpoints = {"a": checkpoint}
        return [int(record["SequenceNumber"]) for record in self.watch.look()]


@pytest.fixture
def watched():
    return Watched()


def test_each_record_is_looked_for_once_when_the_checkpoint_has_passed_it(watched):
    assert watched.watch.look() == []
    assert [watched.look(checkpoint) for checkpoint in (f"{FROM}1.5", "2", "002", "3", SHARD_END, SHARD_END)] == [
        [], [1, 2], [], [3], [4, 5], [],
    ]  # fmt: skip
    assert (watched.asked, watched.watch.passed, watched.problems) == ([1, 2, 3, 4, 5], 5, [])


def test_what_is_kept_nowhere_when_the_checkpoint_has_passed_it_is_said_once_though_it_is_kept_later(watched):
    watched.nowhere = {2, 4}
    watched.look("3")
    watched.nowhere = set()
    watched.look("5")
    assert watched.problems == ["the checkpoint passed a 002: kept nowhere"]


def test_what_nobody_could_look_for_is_looked_for_the_next_time(watched, monkeypatch):
    def refused(_records):
        raise TransientError("ThrottlingException", "not now")

    with monkeypatch.context() as patch:
        patch.setattr(watched.watch, "_nowhere", refused)
        with pytest.raises(TransientError):
            watched.look("3")
    watched.nowhere = {2}
    assert watched.look("3") == [1, 2, 3]
    assert len(watched.problems) == 1


def test_checkpoints_are_read_before_anything_that_they_are_compared_with(watched):
    """What is stored and passed while somebody looks is not taken for passed before it was stored."""
    watched.nowhere = {4}
    listed = watched.records

    def records(shard, last):
        watched.mapping.checkpoints = {"a": "4"}
        return listed(shard, last)

    watched.watch._records = records
    assert watched.look("3") == [1, 2, 3]
    assert not watched.problems


@pytest.mark.parametrize(
    ("rejected", "lacking", "kept", "whole"),
    [
        ({1}, set(), {1}, True),
        ({1}, set(), set(), False),
        ({1, 2}, set(), {1}, False),
        ({1}, {0}, {1}, False),  # the reading that is not in the table is not there either
        (set(), {0}, {0}, True),
        (set(), {0, 2}, {0}, False),  # nor is one of two
        (set(), {0, 2}, {0, 3}, False),
        ({1}, {0}, {0, 1}, True),
        ({1}, {0}, {None}, True),
        ({None}, set(), {1}, False),
    ],
)
def test_quarantine_keeps_a_record_only_where_it_has_what_was_rejected_and_what_the_table_lacks(
    rejected, lacking, kept, whole
):
    record = {"SequenceNumber": "2"}
    entries = [
        {"sequence_number": "1", "rejected": [{"index": 7}]},
        *({"sequence_number": "2", "rejected": [{"index": index}]} for index in kept),
    ]
    assert indices_of(entries, record) == kept
    cells = {index: ("a", 0, f"cell {index}") for index in {*lacking, 9}}
    expected = Expected(
        rejected=Counter(("shard", "2", index) for index in rejected),
        places={cell: [("shard", "2", index)] for index, cell in cells.items()},
    )
    assert kept_by_quarantine(expected, {cells[9]}, kept) == whole
