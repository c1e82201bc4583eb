"""The ledger of a judgement: it balances where every advertisement is in one place, and only there."""

from __future__ import annotations

from collections import Counter

import pytest

from processor.local.check import Verdict
from processor.local.expected import Expected
from processor.local.faults.balance import Balance

CELL = ("a", 0, "c1")
PLACES = [("shard", "1", 0), ("shard", "2", 0), ("shard", "2", 3)]


def expected():
    """A reading that came three times, one that is ignored, one that is rejected."""
    return Expected(
        advertisements=5,
        places={CELL: PLACES},
        copies=2,
        rejected=Counter([("shard", "1", 1)]),
        ignored=Counter(no_value=1),
    )


@pytest.mark.parametrize(
    ("found", "holds"),
    [
        ({"found": 1, "quarantined": 1}, True),
        ({"found": 0, "quarantined": 1}, False),
        ({"found": 2, "quarantined": 1}, False),
        ({"found": 1, "quarantined": 2}, False),
        # It had no room: all of its copies are in quarantine, or one is not.
        ({"found": 0, "quarantined": 4, "wrongly_quarantined": PLACES}, True),
        ({"found": 0, "quarantined": 3, "wrongly_quarantined": PLACES[:2]}, False),
    ],
)
def test_it_balances_where_each_advertisement_is_in_one_place(found, holds):
    assert Balance.of(Verdict(sent=4, expected=expected(), **found)).holds is holds
