"""The Kinesis handler: every record of a batch decoded, grouped by device and slot, written in parallel.

Two failures, never mixed. What can never be stored (undecodable, or called invalid by DynamoDB) goes to quarantine
and counts as handled. What may be stored later (throttling, faults, time running out, quarantine itself failing)
makes the batch come back from the lowest sequence number concerned; writing the rest again changes nothing.
"""

from __future__ import annotations

import time
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from aws_lambda_powertools.metrics import MetricUnit

from processor.decode import NO_KEYS, readings
from processor.decode.formats import BETTER, SUPERSEDED, sample_of
from processor.decode.gateways import ALL, Advertisement, Known
from processor.decode.record import heard
from processor.errors import DecodeError, KeyMissing, SettingsError
from processor.quarantine import Quarantine, Rejection
from processor.reading import COUNTERS, Reading
from processor.settings import Settings
from processor.store.tables import SLOT_SECONDS, cell_name, slot_of
from processor.store.writer import Group, Outcome, Writer
from processor.telemetry import Telemetry, memory

MARGIN_SECONDS = 6.0
"""Kept free before the invocation's deadline: for quarantine (two tries of S3), the log and the answer."""

Source = tuple[int, int]
"""Where an advertisement came from: its record's place in the batch, its own place in the record."""


class Limits(NamedTuple):
    """Which times are believed, and how long readings are kept (DynamoDB's TTL).

    retention_seconds: readings older than this on arrival are rejected. future_seconds: so are those further ahead.
    expires_from_arrival: count retention from the record's arrival, and take readings of any age.
    """

    retention_seconds: int
    future_seconds: int = 3600
    expires_from_arrival: bool = False

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """Return the limits that the settings ask for."""
        return cls(settings.retention_days * 86400, settings.future_seconds, settings.expires_from == "arrival")

    def allowed(self, arrived: int) -> tuple[int, int]:
        """Return the earliest and the latest time believed of what arrived at `arrived`, all in ms since 1970."""
        earliest = 0 if self.expires_from_arrival else arrived - self.retention_seconds * 1000
        return earliest, arrived + self.future_seconds * 1000


class Batch:
    """One batch being handled: readings grouped for the table, rejections, and the ledger."""

    def __init__(
        self, records: list[Mapping[str, Any]], limits: Limits, keys: Mapping[str, bytes], known: Known = ALL
    ) -> None:
        self.records = records
        self.limits = limits
        self.keys = keys
        self.known = known
        self.groups: dict[tuple[str, int], Group] = {}
        self.sources: dict[tuple[str, int], dict[str, list[Source]]] = {}
        self.rejections: dict[int, list[Rejection]] = {}
        self.ignored: Counter[str] = Counter()
        self.samples: list[str] = []
        self.received = 0
        self.stored = 0
        self.duplicates = 0
        self.failed: Counter[int] = Counter()
        """How many advertisements failed, by their record's place in the batch."""

    @property
    def rejected(self) -> int:
        """How many advertisements (and records that cannot be opened) were rejected."""
        return sum(map(len, self.rejections.values()))

    def ledger(self) -> dict[str, int]:
        """Return the counts; received = stored + duplicates + rejected + ignored + failed."""
        return {
            "received": self.received,
            "stored": self.stored,
            "duplicates": self.duplicates,
            "rejected": self.rejected,
            "ignored": self.ignored.total(),
            "failed": self.failed.total(),
        }

    def decode(self, samples: int = 0) -> None:
        """Decode every record and group what is to be written; keep so many ignored advertisements as samples.

        A superseded format is ignored where the same record holds the better one, not the same batch: what is
        stored must not depend on how records fall into batches, or a replay would change the table.
        """
        for place, record in enumerate(self.records):
            kinesis = record["kinesis"]
            arrived = round(kinesis["approximateArrivalTimestamp"] * 1000)
            found: list[tuple[Reading, Source]] = []
            try:
                advertisements = heard(a2b_base64(kinesis["data"]), arrived, self.known)
                self.received += len(advertisements)
                for index, advertisement in enumerate(advertisements):
                    self._advertisement(advertisement, (place, index), arrived, found, samples)
            except DecodeError as error:
                self.received += 1
                self._reject(place, None, error.reason, str(error))
            except Base64Error as error:
                self.received += 1
                self._reject(place, None, "base64", f"the event's data is not Base64: {error}")
            better = {sample_of(reading) for reading, _ in found if reading.format in BETTER}
            for reading, source in found:
                if better and reading.format in SUPERSEDED and sample_of(reading) in better:
                    self._ignore("superseded")
                else:
                    self._group(reading, source, arrived)

    def _advertisement(
        self,
        advertisement: Advertisement | Reading | DecodeError,
        source: Source,
        arrived: int,
        found: list[tuple[Reading, Source]],
        samples: int,
    ) -> None:
        """Decode one advertisement (a Reading already is) into `found`, or count it as rejected or ignored."""
        if isinstance(advertisement, DecodeError):
            self._reject(*source, advertisement.reason, str(advertisement))
            return
        at = advertisement.at or 0
        try:
            decoded = self._readings(advertisement)
        except KeyMissing:
            self._ignore("no_key")
            return
        except DecodeError as error:
            self._reject(*source, error.reason, str(error))
            return
        kept = [reading for reading in decoded if len(reading.values) > 1 or measures(reading)]
        if not kept:
            self._ignore("no_value" if decoded else "unknown_format")
            if len(self.samples) < samples:
                self.samples.append(_sample(advertisement))
            return
        earliest, latest = self.limits.allowed(arrived)
        if not earliest <= at <= latest:
            self._reject(
                *source,
                "timestamp",
                f"measured at {at} ms, not in {earliest} … {latest}: is the gateway's clock right?",
            )
            return
        self.received += len(kept) - 1  # an advertisement with two readings has two outcomes
        found += [(reading, source) for reading in kept]

    def _readings(self, advertisement: Advertisement | Reading) -> list[Reading]:
        if isinstance(advertisement, Reading):
            return [advertisement]
        address, rssi, at, data, gateway = advertisement
        return readings(data, address, at, self.keys, gateway, rssi)

    def _group(self, reading: Reading, source: Source, arrived: int) -> None:
        """Add a reading to its device's and slot's group: the first copy of a cell stays."""
        at = reading.at or 0
        slot = slot_of(at)
        key = (reading.device, slot)
        group = self.groups.get(key)
        if group is None:
            start = max(slot, slot_of(arrived)) if self.limits.expires_from_arrival else slot
            group = Group(reading.device, slot, start + SLOT_SECONDS + self.limits.retention_seconds)
            self.groups[key] = group
            self.sources[key] = {}
        offset = at - slot * 1000
        name = cell_name(reading, offset)
        sources = self.sources[key]
        if name in sources:
            sources[name].append(source)
        else:
            sources[name] = [source]
            group.cells[name] = reading
        if reading.gateway is not None and reading.gateway not in group.gateways:
            group.gateways[reading.gateway] = reading.rssi

    def settle(self, outcome: Outcome) -> None:
        """Count what the table answered, cell by cell."""
        for sources, written in zip(self.sources.values(), outcome.written, strict=True):
            for name in written.stored:
                self.stored += 1
                self.duplicates += len(sources[name]) - 1
            for name in written.duplicates:
                self.duplicates += len(sources[name])
            for name in written.failed:
                self.failed.update(place for place, _ in sources[name])
            for name, message in written.invalid.items():
                for place, index in sources[name]:
                    self._reject(place, index, "invalid_write", message)

    def quarantine_failed(self) -> None:
        """Take every rejection back as failed: their records have to come again."""
        for place, rejections in self.rejections.items():
            self.failed[place] += len(rejections)
        self.rejections = {}

    def response(self) -> dict[str, Any]:
        """Return what Lambda's event source mapping is told: the lowest failed sequence number, or none."""
        if not self.failed:
            return {"batchItemFailures": []}
        numbers = [self.records[place]["kinesis"]["sequenceNumber"] for place in self.failed]
        return {"batchItemFailures": [{"itemIdentifier": min(numbers, key=int)}]}

    def _reject(self, place: int, index: int | None, reason: str, message: str) -> None:
        self.rejections.setdefault(place, []).append(Rejection(index, reason, message))

    def _ignore(self, kind: str) -> None:
        self.ignored[kind] += 1


def _sample(advertisement: Advertisement | Reading) -> str:
    if isinstance(advertisement, Reading):
        return f"{advertisement.device} {advertisement.format}"
    return f"{advertisement.address} {advertisement.data.hex()}"


def known_gateways(settings: Settings) -> Known:
    """Return what the settings say of the gateways. Raises SettingsError where they, or the file, make no sense."""
    path = settings.gateway_readings
    try:
        table = Path(path).read_bytes() if path else None
    except OSError as error:
        raise SettingsError(f"GATEWAY_READINGS: {error}") from None
    return Known.of(settings.gateway_families, table)


def measures(reading: Reading) -> bool:
    """Tell whether a reading says more than its own count."""
    return any(name not in COUNTERS for name in reading.values)


class Ingest:
    """The handler: `handle(event, context)`, with its clients passed in."""

    def __init__(
        self,
        writer: Writer,
        quarantine: Quarantine,
        telemetry: Telemetry,
        limits: Limits,
        *,
        keys: Mapping[str, bytes] = NO_KEYS,
        samples: int = 0,
        known: Known = ALL,
    ) -> None:
        self._writer = writer
        self._quarantine = quarantine
        self._telemetry = telemetry
        self._limits = limits
        self._keys = keys
        self._samples = samples
        self._known = known

    def handle(self, event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        """Handle one batch of Kinesis records; return the lowest failed sequence number in Lambda's terms."""
        started = time.perf_counter()
        deadline = time.monotonic() + max(0.0, context.get_remaining_time_in_millis() / 1000 - MARGIN_SECONDS)
        batch = Batch(event.get("Records") or [], self._limits, self._keys, self._known)
        batch.decode(self._samples)
        decoded = time.perf_counter()
        outcome = self._writer.write(batch.groups.values(), deadline=deadline)
        batch.settle(outcome)
        written = time.perf_counter()
        reasons = Counter(each.reason for rejections in batch.rejections.values() for each in rejections)
        error = "; ".join(filter(None, (outcome.error, self._keep(batch))))
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
        used, peak = memory()
        limit = int(context.memory_limit_in_mb) * 1024 * 1024
        ledger = batch.ledger()
        properties = {
            "Records": len(batch.records),
            "Ledger": ledger,
            "Reasons": dict(reasons),
            "Ignored": dict(batch.ignored),
            "WriteCalls": outcome.calls,
            "WriteUnits": outcome.units,
            "MemoryPeakMB": _megabytes(peak),
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
                "RecordAge": (MetricUnit.Milliseconds, ages(batch.records, time.time())),
                "MemoryUsed": (MetricUnit.Megabytes, [_megabytes(used)]),
                "MemoryUtilization": (MetricUnit.Percent, [round(100 * peak / limit, 2)]),
            },
            properties,
        )
        line = {"request_id": context.aws_request_id, **ledger, "duration_ms": round(duration_ms, 1)}
        if error:
            line["error"] = error
        if batch.samples:
            line["samples"] = batch.samples
        self._telemetry.log("batch", line, warning=bool(ledger["failed"]))


def ages(records: Iterable[Mapping[str, Any]], now: float, most: int = 50) -> list[float]:
    """Return the records' ages in ms since they arrived in the stream, at most so many, evenly picked."""
    arrivals = sorted([record["kinesis"]["approximateArrivalTimestamp"] for record in records])
    if not arrivals:
        return [0.0]
    step = max(1.0, len(arrivals) / most)
    picked = (arrivals[int(n * step)] for n in range(min(most, len(arrivals))))
    return [round(max(0.0, now - arrival) * 1000, 1) for arrival in picked]


def _megabytes(size: int) -> float:
    return round(size / (1024 * 1024), 1)
