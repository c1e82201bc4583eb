"""The fan-out: every cell ends in exactly one of stored, duplicate, invalid and failed."""

from __future__ import annotations

import time

import pytest

from processor.errors import InvalidWrite, StoreError, TransientError
from processor.reading import Reading
from processor.store.writer import MAX_CLAUSES, Group, Writer


def cell(n=0):
    return Reading("D", n, "ruuvi.5", {"temperature": 24.3}, n, 0)


def long(length):
    return Reading("D", 0, "bthome.2", {"text": "x" * length}, 0, 0)


def group(device="D", slot=0, cells=1, gateways=1, first=0):
    return Group(
        device, slot, 1_800_000_000,
        {f"c{n}.AAAA": cell(n) for n in range(first, first + cells)},
        {f"G{n}": -60 - n for n in range(gateways)},
    )  # fmt: skip


@pytest.fixture
def writer(table):
    writer = Writer(table, "processor-readings", threads=4)
    yield writer
    writer.close()


def soon():
    return time.monotonic() + 60


def test_one_group_is_one_call_and_one_item(writer, table):
    outcome = writer.write([group(cells=10, gateways=2)], deadline=soon())
    assert outcome.calls == len(table.calls) == 1
    assert outcome.written[0].stored == {f"c{n}.AAAA" for n in range(10)}
    (item,) = table.items.values()
    assert item["gG1"] == {"N": "-61"}
    assert item["expires"] == {"N": "1800000000"}


def test_writing_again_changes_nothing_and_names_every_cell_a_duplicate(writer, table):
    writer.write([group(cells=3)], deadline=soon())
    before = {key: dict(item) for key, item in table.items.items()}
    changed = group(cells=4, gateways=1)
    changed.cells["c0.AAAA"] = cell(99)
    changed.gateways["G0"] = -1
    outcome = writer.write([changed], deadline=soon())
    assert outcome.written[0].duplicates == {"c0.AAAA", "c1.AAAA", "c2.AAAA"}
    assert outcome.written[0].stored == {"c3.AAAA"}
    after = table.items["D", 0]
    assert {name: after[name] for name in before["D", 0]} == before["D", 0]


def test_a_thousand_cells_of_one_slot_are_split_within_the_expressions_limits(writer, table):
    outcome = writer.write([group(cells=1000, gateways=20)], deadline=soon())
    assert len(outcome.written[0].stored) == 1000
    sizes = [len(body["ExpressionAttributeNames"]) for _, body in table.calls]
    assert max(sizes) <= MAX_CLAUSES
    assert len(sizes) == 8
    assert max(len(body["UpdateExpression"]) for _, body in table.calls) <= 4096


def test_an_invalid_cell_is_found_by_halving_and_the_others_are_stored(writer, table):
    def fail(operation, body):
        if "c5.AAAA" in body["ExpressionAttributeNames"].values():
            raise InvalidWrite("ValidationException", "no", status=400)

    table.fail = fail
    outcome = writer.write([group(cells=16)], deadline=soon())
    assert list(outcome.written[0].invalid) == ["c5.AAAA"]
    assert "ValidationException" in outcome.written[0].invalid["c5.AAAA"]
    assert len(outcome.written[0].stored) == 15
    assert outcome.calls == 4  # 16 → 8 stored, 8 → 4, 4 → 2, 2 → 1 stored and the culprit


def test_a_full_item_makes_the_whole_call_invalid_at_once(writer, table):
    big = long(100_000)
    writer.write([Group("D", 0, 1, {f"c{n}.AAAA": big for n in range(3)})], deadline=soon())
    table.calls.clear()
    outcome = writer.write([Group("D", 0, 1, {"c8.AAAA": big, "c9.AAAA": big})], deadline=soon())
    assert set(outcome.written[0].invalid) == {"c8.AAAA", "c9.AAAA"}
    assert len(table.calls) == 1


@pytest.mark.parametrize("error", [TransientError, StoreError])
def test_a_call_that_fails_makes_its_own_group_fail_and_no_other(writer, table, error):
    def fail(operation, body):
        if body["Key"]["device"]["S"] == "B":
            raise error("InternalServerError", "broken", status=500)

    table.fail = fail
    outcome = writer.write([group("A"), group("B"), group("C")], deadline=soon())
    assert [bool(written.failed) for written in outcome.written] == [False, True, False]
    assert "InternalServerError" in outcome.error


def test_nothing_is_started_after_the_deadline(writer, table):
    outcome = writer.write([group("A"), group("B")], deadline=time.monotonic() - 1)
    assert not table.calls
    assert all(written.failed == {"c0.AAAA"} for written in outcome.written)


def test_an_unforeseen_exception_is_not_swallowed(writer, table):
    def fail(operation, body):
        raise RuntimeError("a bug")

    table.fail = fail
    with pytest.raises(RuntimeError, match="a bug"):
        writer.write([group()], deadline=soon())


def test_measured_units_are_those_of_the_whole_item(table):
    writer = Writer(table, "processor-readings", threads=1, measure=True)
    big = long(880)
    assert writer.write([Group("D", 0, 1, {"c1.AAAA": big})], deadline=soon()).units == 1
    assert writer.write([Group("D", 0, 1, {"c2.AAAA": big})], deadline=soon()).units == 2
    again = writer.write([Group("D", 0, 1, {"c2.AAAA": big})], deadline=soon())
    assert again.units == 2
    assert again.written[0].duplicates == {"c2.AAAA"}
    writer.close()


def test_a_gateway_that_did_not_say_its_rssi_is_noted_all_the_same(writer, table):
    writer.write([Group("D", 0, 1, {"c1.AAAA": cell()}, {"G": None})], deadline=soon())
    assert table.items["D", 0]["gG"] == {"NULL": True}


def test_the_services_own_count_of_units_is_added_up(writer):
    assert writer.write([group("A"), group("B")], deadline=soon()).units == 2.0


def test_gateways_are_noted_even_where_the_first_half_of_the_cells_is_invalid(writer, table):
    def fail(operation, body):
        if "c0.AAAA" in body["ExpressionAttributeNames"].values():
            raise InvalidWrite("ValidationException", "no", status=400)

    table.fail = fail
    writer.write([group(cells=2)], deadline=soon())
    assert table.items["D", 0]["gG0"] == {"N": "-60"}


def test_the_deadline_is_passed_on_and_the_first_error_is_told(table):
    seen = []

    class Client:
        def call(self, operation, body, *, deadline):
            seen.append(deadline)
            raise TransientError("ThrottlingException", f"number {len(seen)}")

    writer = Writer(Client(), "t", threads=1)
    outcome = writer.write([group("A"), group("B")], deadline=(deadline := soon()))
    writer.close()
    assert seen == [deadline, deadline]
    assert "number 1" in outcome.error


def test_more_gateways_than_one_call_takes_leave_room_for_the_cells(writer, table):
    outcome = writer.write([group(cells=200, gateways=300)], deadline=soon())
    assert len(outcome.written[0].stored) == 200
    assert sum(name.startswith("gG") for name in table.items["D", 0]) == 100
