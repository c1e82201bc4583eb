"""The local run's ledger: EMF blobs added up, troubles kept."""

from __future__ import annotations

import json

from processor.local.totals import KEPT_LINES, RollupTotals, Totals


def blob(**changes):
    return json.dumps(
        {
            "_aws": {}, "Records": 4, "Ledger": {"received": 5, "stored": 5}, "Reasons": {"json": 1}, "Ignored": {},
            "WriteCalls": 2, "WriteUnits": 3.0, "ColdStart": True, "MemoryPeakMB": 60.5, "BatchDuration": [12.5],
            "RecordAge": [100.0, 300.0], **changes,
        }
    )  # fmt: skip


def test_blobs_add_up():
    totals = Totals()
    totals.line(blob())
    totals.line(blob(MemoryPeakMB=70, ColdStart=False))
    assert (totals.batches, totals.records, totals.write_calls, totals.write_units) == (2, 8, 4, 6.0)
    assert totals.ledger == {"received": 10, "stored": 10}
    assert totals.reasons == {"json": 2}
    assert totals.cold_starts == 1
    assert totals.memory_mb == 70
    assert totals.troubles == []


def test_percentiles_weigh_each_age_by_the_records_it_stands_for():
    totals = Totals()
    assert totals.age(0.5) == 0
    totals.line(blob(Records=98, RecordAge=[10.0]))
    totals.line(blob(Records=2, RecordAge=[900.0, 1000.0]))
    assert [totals.age(share) for share in (0.5, 0.98, 0.99, 1.0)] == [10, 10, 900, 1000]


def test_warnings_and_what_is_no_json_are_kept_as_troubles_and_not_without_end():
    totals = Totals()
    quiet = ('{"level":"INFO","message":"batch"}', "[INFO]\t2026-11-20T00:00:00Z\tid\tFound credentials")
    for line in (*quiet, '{"level":"WARNING","message":"batch"}', "Traceback", "[1]"):
        totals.line(line)
    assert totals.troubles == ['{"level":"WARNING","message":"batch"}', "Traceback", "[1]"]
    for n in range(1000):
        totals.line(f"noise {n}")
    assert len(totals.troubles) == KEPT_LINES


def test_the_roll_ups_counts_add_up():
    totals = RollupTotals()
    for written in (2, 3):
        counts = {"records": 4, "written": written}
        line = {"_aws": {}, "Rollup": counts, "ColdStart": True, "MemoryPeakMB": 30.5, "BatchDuration": [12.5]}
        totals.line(json.dumps(line))
    assert totals.counts == {"records": 8, "written": 5}
    assert (totals.batches, totals.cold_starts, totals.memory_mb, totals.duration_ms) == (2, 2, 30.5, 25.0)
