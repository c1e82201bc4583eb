"""What is watched of order and of first copies under faults: it says what must not be, and nothing else."""

from __future__ import annotations

from contextlib import suppress

import orjson
import pytest

from processor.local.faults.firsts import Firsts
from processor.local.faults.order import Order


def batch(*records):
    kinesis = [{"kinesis": {"partitionKey": key, "sequenceNumber": f"{number:056d}"}} for key, number in records]
    return orjson.dumps({"Records": kinesis})


@pytest.mark.parametrize(
    "batches",
    [
        [batch(("a", 1), ("b", 2)), batch(("a", 3))],
        [batch(("a", 1), ("a", 3)), batch(("a", 1), ("a", 3)), batch(("a", 1)), batch(("a", 3), ("a", 4))],
        [batch(("a", 9)), batch(("b", 1))],
    ],
    ids=["in order", "a batch again, and its halves", "another key"],
)
def test_records_in_their_keys_order_are_no_problem(batches):
    order = Order()
    for event in batches:
        with order.delivering(event):
            pass
    assert not order.problems


def test_a_record_that_comes_first_after_a_later_one_of_its_key_is_a_problem():
    order = Order()
    for event in (batch(("a", 2)), batch(("a", 1))):
        with order.delivering(event):
            pass
    assert order.problems == ["record 1 of the key a is first delivered after 2"]


def test_two_batches_of_one_key_at_a_time_are_a_problem_until_the_first_has_ended():
    order = Order()
    with suppress(OSError), order.delivering(batch(("a", 1))):
        with order.delivering(batch(("a", 2), ("b", 3))):
            pass
        raise OSError
    assert order.problems == ["records of the key a are delivered while others of it are under way"]
    with order.delivering(batch(("a", 4), ("b", 5))):
        pass
    assert len(order.problems) == 1


def test_a_cell_that_is_not_as_it_was_first_seen_is_told_once_and_what_is_no_cell_may_change():
    def item(celsius, expires):
        cell = {"M": {"t": {"N": celsius}}}
        return {"device": {"S": "d"}, "slot": {"N": "15"}, "expires": {"N": expires}, "c1.AAAA": cell}

    firsts = Firsts()
    assert not firsts.see([item("1", "5")])
    assert not firsts.see([item("1", "6")])
    assert firsts.see([item("2", "6")]) == ["('d', 15, 'c1.AAAA') has changed since it was first seen"]
    assert not firsts.see([item("2", "6")])
    assert firsts.of("d") == 1
    assert not firsts.of("e")
