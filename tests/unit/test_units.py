"""Item sizes by DynamoDB's published rules."""

from __future__ import annotations

import pytest

from processor.store.units import item_size, value_size, write_units


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ({"S": "héllo"}, 6),
        ({"N": "0"}, 1),
        ({"N": "1"}, 2),
        ({"N": "24.3"}, 3),
        ({"N": "-24.3"}, 4),
        ({"N": "100000"}, 2),
        ({"N": "0.00012"}, 2),
        ({"N": "1.5e-7"}, 2),
        ({"BOOL": True}, 1),
        ({"NULL": True}, 1),
        ({"B": "AAAA"}, 3),
        ({"M": {"ab": {"N": "1"}}}, 3 + 1 + 2 + 2),
        ({"L": [{"S": "x"}, {"S": "yz"}]}, 3 + 1 + 1 + 1 + 2),
        ({"SS": ["a", "bc"]}, 3),
    ],
)
def test_a_value_has_its_documented_size(value, size):
    assert value_size(value) == size


def test_an_item_counts_its_names_too():
    assert item_size({"device": {"S": "x" * 17}, "slot": {"N": "1700000010"}}) == 6 + 17 + 4 + 6


@pytest.mark.parametrize(
    ("before", "after", "units"), [(0, 1, 1), (0, 1024, 1), (0, 1025, 2), (3000, 10, 3), (10, 5000, 5)]
)
def test_a_write_is_billed_by_the_larger_of_the_two_items(before, after, units):
    assert write_units(before, after) == units
