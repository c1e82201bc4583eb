"""The DynamoDB Streams handler: what the table `readings` gained, rolled up into `rollups` and `devices`.

The stream says which items changed, no more. The touched ranges are read again, whole and consistently, and what they
come to is written: nothing is added up from event to event, so an event seen twice, late, out of order or by two
invocations at once changes nothing. See store/rollups.py and store/states.py for why that holds.

What DynamoDB deleted because it expired is passed over: it had been measured. What somebody else deleted makes its
ranges be built anew, from what is left; not where others of its readings may have expired, which that would lose.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, Self

from aws_lambda_powertools.metrics import MetricUnit

from processor.errors import InvalidWrite, StoreError
from processor.settings import Settings
from processor.store.reader import Reader
from processor.store.rollups import RANGE_SECONDS, Rollup, Rollups, ranges_of, rollup_of, window
from processor.store.states import Known, State, States, join, state_of
from processor.store.tables import SLOT_MS
from processor.store.unreadable import Unread
from processor.store.wire import Client
from processor.telemetry import Telemetry, ages, usage

MARGIN_SECONDS = 3.0
"""Kept free before the invocation's deadline, for the log and the answer."""

STATES_SHARE = 0.5
"""The part of the time left in which devices' states are read; the rest is for writing them, though reads be slow."""

RUN = 12
"""So many neighbouring ranges are read at once: an hour, which bounds the memory that a replay takes."""

TTL = "dynamodb.amazonaws.com"
"""Who deletes expired items, as the stream's records name it ("Working with expired items", Developer Guide)."""


@dataclass(slots=True)
class Run:
    """Neighbouring ranges of one device, to be read at once, and what became of them.

    starts: theirs, epoch seconds. lowest: the lowest sequence number of the records that touched them. rebuild: the
    starts of those that lost readings.
    """

    device: str
    starts: list[int]
    lowest: int
    rebuild: set[int] = field(default_factory=set)
    state: State | None = None
    written: int = 0
    stale: int = 0
    error: str = ""
    invalid: str = ""


def runs_of(records: Iterable[Mapping[str, Any]]) -> list[Run]:
    """Return what these stream records touched, by device and time. Expiries touch nothing."""
    lowest: dict[tuple[str, int], int] = {}
    rebuild = set()
    for record in records:
        if expired(record):
            continue
        change = record["dynamodb"]
        device, slot = change["Keys"]["device"]["S"], int(change["Keys"]["slot"]["N"])
        number = int(change["SequenceNumber"])
        for start in ranges_of(slot):
            place = device, start
            lowest[place] = min(number, lowest.get(place, number))
            if record["eventName"] == "REMOVE":
                rebuild.add(place)
    runs: list[Run] = []
    for (device, start), number in sorted(lowest.items()):
        last = runs[-1] if runs else None
        if last is None or last.device != device or last.starts[-1] + RANGE_SECONDS != start or len(last.starts) == RUN:
            last = Run(device, [], number)
            runs.append(last)
        last.starts.append(start)
        last.lowest = min(last.lowest, number)
        if (device, start) in rebuild:
            last.rebuild.add(start)
    return runs


def expired(record: Mapping[str, Any]) -> bool:
    """Tell whether the record is DynamoDB's own deletion of an expired item."""
    by = record.get("userIdentity") or {}
    return record["eventName"] == "REMOVE" and by.get("type") == "Service" and by.get("principalId") == TTL


class Aggregator:
    """The handler: `handle(event, context)`, with its clients passed in. pool: reads and writes many ranges at once.

    retention: seconds after which readings may have expired. clock: epoch seconds.
    """

    def __init__(
        self,
        reader: Reader,
        rollups: Rollups,
        states: States,
        telemetry: Telemetry,
        pool: Executor,
        *,
        retention: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._reader = reader
        self._rollups = rollups
        self._states = states
        self._telemetry = telemetry
        self._pool = pool
        self._retention = retention
        self._clock = clock

    @classmethod
    def of(
        cls,
        settings: Settings,
        client: Client,
        telemetry: Telemetry,
        pool: Executor,
        *,
        clock: Callable[[], float] = time.time,
    ) -> Self:
        """Return the handler of the tables that the settings name, through one client."""
        return cls(
            Reader(client, settings.readings_table),
            Rollups(client, settings.rollups_table),
            States(client, settings.devices_table),
            telemetry,
            pool,
            retention=settings.retention_days * 86_400,
            clock=clock,
        )

    def handle(self, event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        """Handle one batch of stream records; return the lowest failed sequence number in Lambda's terms."""
        started = time.perf_counter()
        deadline = time.monotonic() + max(0.0, context.get_remaining_time_in_millis() / 1000 - MARGIN_SECONDS)
        records = event.get("Records") or []
        runs, changed = self.roll_up(records, deadline)
        numbers = [run.lowest for run in runs if run.error]
        failed = [record for record in records if numbers and _number(record) >= min(numbers)]
        self._report(records, runs, changed, len(failed), (time.perf_counter() - started) * 1000, context)
        lowest = min(failed, key=_number)["dynamodb"]["SequenceNumber"] if failed else None
        return {"batchItemFailures": [{"itemIdentifier": lowest}] if lowest is not None else []}

    def roll_up(self, records: Iterable[Mapping[str, Any]], deadline: float) -> tuple[list[Run], int]:
        """Roll up what these stream records touched; return what became of it, and how many devices' states changed.

        deadline: of the monotonic clock. Where a run has an error, the records have to come again.
        """
        runs = runs_of(records)
        list(self._pool.map(lambda run: self._run(run, deadline), runs))
        return runs, self._join_states(runs, deadline)

    def _run(self, run: Run, deadline: float) -> None:
        """Read a run's ranges, and write what they come to."""
        try:
            span = window(run.starts[0], len(run.starts))
            unread = Unread()
            slots = list(self._reader.stored(run.device, *span, deadline=deadline, note=unread.add))
        except StoreError as error:  # whatever stops a read, the readings are still there: the records come again
            run.error = str(error)
            return
        run.invalid = next(map(str, unread), "")  # the others beside it are rolled up
        run.state = state_of(run.device, slots)
        for start in run.starts:
            rollup = rollup_of(run.device, start, slots)
            try:
                self._write(run, start, rollup, deadline)
            except InvalidWrite as error:  # a sum too large for DynamoDB, say: no repetition makes it valid
                run.invalid = f"{run.device} {start}: {error}"
            except StoreError as error:
                run.error = str(error)
                return

    def _write(self, run: Run, start: int, rollup: Rollup | None, deadline: float) -> None:
        worn = window(start)[0] - SLOT_MS < (self._clock() - self._retention) * 1000
        if start in run.rebuild and not worn:
            written = self._rebuilt(run.device, start, rollup, deadline)
        elif rollup is None:
            return
        else:
            written = self._rollups.put(rollup, worn=worn, deadline=deadline) or (
                not worn and self._rebuilt(run.device, start, rollup, deadline, marked=True)
            )
        if written:
            run.written += 1
        else:
            run.stale += 1

    def _rebuilt(
        self, device: str, start: int, rollup: Rollup | None, deadline: float, *, marked: bool = False
    ) -> bool:
        """Write a roll-up whatever is there, until the readings say the same afterwards; tell whether it was.

        marked: only where somebody rebuilt it before. Nothing guards such a write: it may undo what another invocation
        made of a reading that came since the read, or bring back what was deleted since.
        """
        while self._rollups.rebuild(rollup or Rollup(device, start, 0, 0, {}), marked=marked, deadline=deadline):
            now = rollup_of(device, start, self._reader.stored(device, *window(start), deadline=deadline))
            if now == rollup:
                return True
            rollup = now
        return False

    def _join_states(self, runs: Iterable[Run], deadline: float) -> int:
        """Join what the runs saw of each device into its state; return how many devices that changed."""
        states: dict[str, State] = {}
        for run in sorted(runs, key=lambda run: run.lowest):  # what is read first must be what the checkpoint passes
            if run.state is not None:
                there = states.get(run.device)
                states[run.device] = run.state if there is None else join(there, run.state)
        known: dict[str, Known | None] = {}
        now = time.monotonic()
        try:
            for answer in self._states.answers(states, deadline=now + (deadline - now) * STATES_SHARE):
                known |= answer
        except StoreError as error:  # the others go on: each invocation gets further
            _fail(runs, states.keys() - known.keys(), str(error))
        changed = 0
        jobs = {
            device: self._pool.submit(self._states.join, states[device], there or (None, None), deadline=deadline)
            for device, there in known.items()
        }
        for device, job in jobs.items():
            try:
                changed += job.result()
            except InvalidWrite as error:
                next(run for run in runs if run.device == device).invalid = f"{device}: {error}"
            except StoreError as error:
                _fail(runs, {device}, str(error))
        return changed

    def _report(
        self,
        records: list[Mapping[str, Any]],
        runs: list[Run],
        changed: int,
        failed: int,
        duration_ms: float,
        context: Any,
    ) -> None:
        memory, peak_mb = usage(context)
        invalid = [run.invalid for run in runs if run.invalid]
        counts = {
            "records": len(records),
            "ranges": sum(len(run.starts) for run in runs),
            "written": sum(run.written for run in runs),
            "stale": sum(run.stale for run in runs),
            "devices": changed,
            "invalid": len(invalid),
            "failed": failed,
        }
        arrivals = [float(record["dynamodb"]["ApproximateCreationDateTime"]) for record in records]
        count = MetricUnit.Count
        self._telemetry.metrics(
            {
                "RollupsWritten": (count, [counts["written"]]),
                "RollupsInvalid": (count, [counts["invalid"]]),
                "RecordsFailed": (count, [failed]),
                "BatchDuration": (MetricUnit.Milliseconds, [round(duration_ms, 3)]),
                "RecordAge": (MetricUnit.Milliseconds, ages(arrivals, time.time())),
                **memory,
            },
            {
                "Rollup": counts,
                "MemoryPeakMB": peak_mb,
                "ColdStart": self._telemetry.cold_start(),
                "RequestId": context.aws_request_id,
            },
        )
        line: dict[str, Any] = {"request_id": context.aws_request_id, **counts, "duration_ms": round(duration_ms, 1)}
        errors = [run.error for run in runs if run.error] + invalid
        if errors:
            line["error"] = "; ".join(dict.fromkeys(errors[:5]))
        self._telemetry.log("rollup", line, warning=bool(errors))


def _number(record: Mapping[str, Any]) -> int:
    """Return a record's sequence number to compare by: as texts, those of unequal length would sort wrongly."""
    return int(record["dynamodb"]["SequenceNumber"])


def _fail(runs: Iterable[Run], devices: Iterable[str], error: str) -> None:
    """Have the records of these devices come again."""
    concerned = set(devices)
    for run in runs:
        if run.device in concerned:
            run.error = run.error or error
