"""The Kinesis handler: every record of a batch decoded, grouped by device and slot, written in parallel.

Two failures, never mixed. What can never be stored (undecodable, or called invalid by DynamoDB) goes to quarantine
and counts as handled. What may be stored later (throttling, faults, time running out, quarantine itself failing)
makes the batch come back from the lowest sequence number concerned; writing the rest again changes nothing.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from aws_lambda_powertools.metrics import MetricUnit

from processor.batch import Batch
from processor.quarantine import Quarantine
from processor.rules import Rules
from processor.store.writer import Outcome, Writer
from processor.telemetry import Telemetry, ages, usage

MARGIN_SECONDS = 10.0
"""Kept free before the invocation's deadline: for quarantine, the log and the answer.

Quarantine's two tries of S3 take 2 x 3 s (apex/functions/ingest/main.py) and botocore's pause between them up to 1 s;
before the first, boto3 is imported and a client made, 0.2 s of a CPU, of which 256 MB of memory have a seventh."""
MARGIN_SHARE = 0.75
"""No more of the time than this: a function of a few seconds must write, too."""


class Ingest:
    """The handler: `handle(event, context)`, with its clients passed in."""

    def __init__(self, writer: Writer, quarantine: Quarantine, telemetry: Telemetry, rules: Rules) -> None:
        self._writer = writer
        self._quarantine = quarantine
        self._telemetry = telemetry
        self._rules = rules

    def handle(self, event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        """Handle one batch of Kinesis records; return the lowest failed sequence number in Lambda's terms."""
        started = time.perf_counter()
        left = context.get_remaining_time_in_millis() / 1000
        deadline = time.monotonic() + max(0.0, left - min(MARGIN_SECONDS, left * MARGIN_SHARE))
        batch = Batch(event.get("Records") or [], self._rules)
        batch.decode(deadline)
        decoded = time.perf_counter()
        outcome = self._writer.write(batch.groups.values(), deadline=deadline)
        batch.settle(outcome)
        written = time.perf_counter()
        reasons = Counter(each.reason for rejections in batch.rejections.values() for each in rejections)
        error = "; ".join(filter(None, (batch.error, outcome.error, self._keep(batch))))
        finished = time.perf_counter()
        stages = {
            "DecodeMs": round((decoded - started) * 1000, 3),
            "WriteMs": round((written - decoded) * 1000, 3),
            "QuarantineMs": round((finished - written) * 1000, 3),
        }
        self._report(batch, outcome, reasons, stages, (finished - started) * 1000, error, context)
        return batch.response()

    def _keep(self, batch: Batch) -> str:
        """Quarantine the rejected records; return what went wrong, if anything did."""
        if not batch.rejections:
            return ""
        try:
            self._quarantine.put((batch.records[place], found) for place, found in batch.rejections.items())
        except Exception as error:  # whatever stops quarantine: these records must come again
            batch.quarantine_failed()
            return f"quarantine: {type(error).__name__}: {error}"
        return ""

    def _report(
        self,
        batch: Batch,
        outcome: Outcome,
        reasons: Counter[str],
        stages: dict[str, float],
        duration_ms: float,
        error: str,
        context: Any,
    ) -> None:
        memory, peak_mb = usage(context)
        arrivals = [record["kinesis"]["approximateArrivalTimestamp"] for record in batch.records]
        ledger = batch.ledger()
        properties = {
            "Records": len(batch.records),
            "Ledger": ledger,
            "Reasons": dict(reasons),
            "Ignored": dict(batch.ignored),
            "WriteCalls": outcome.calls,
            "WriteUnits": outcome.units,
            "MemoryPeakMB": peak_mb,
            "ColdStart": self._telemetry.cold_start(),
            "RequestId": context.aws_request_id,
            **stages,
        }
        count = MetricUnit.Count
        self._telemetry.metrics(
            {
                "ReadingsStored": (count, [ledger["stored"]]),
                "Duplicates": (count, [ledger["duplicates"]]),
                "RecordsRejected": (count, [ledger["rejected"]]),
                "RecordsFailed": (count, [ledger["failed"]]),
                "BatchDuration": (MetricUnit.Milliseconds, [round(duration_ms, 3)]),
                "RecordAge": (MetricUnit.Milliseconds, ages(arrivals, time.time())),
                **memory,
            },
            properties,
        )
        line = {"request_id": context.aws_request_id, **ledger, "duration_ms": round(duration_ms, 1)}
        if error:
            line["error"] = error
        if batch.samples:
            line["samples"] = batch.samples
        self._telemetry.log("batch", line, warning=bool(ledger["failed"]))
