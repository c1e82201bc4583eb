"""The DynamoDB Streams handler: what the table `readings` gained, rolled up into `rollups` and `devices`.

The stream says which items changed, no more. The touched ranges are read again, whole and consistently, and what they
come to is written: nothing is added up from event to event, so an event seen twice, late, out of order or by two
invocations at once changes nothing. See store/rollups.py and store/states.py for why that holds.

A batch is done slice by slice, in the order of its sequence numbers: roll-ups and states of one before the next. The
first is what the first record touched, the others are as large as surely fits into the time left. So however large a
batch is, and however slow the tables are, the checkpoint moves, and the rest comes again.

What DynamoDB deleted because it expired is passed over: it had been measured. What somebody else deleted makes its
ranges be built anew, from what is left; not where others of its readings may have expired, which that would lose.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from math import inf
from typing import Any, Self

from aws_lambda_powertools.metrics import MetricUnit

from processor.errors import InvalidWrite, StoreError
from processor.runs import GROWTH, Run, fitting, runs_of, take
from processor.settings import Settings
from processor.store.failures import DEADLINE
from processor.store.reader import Reader
from processor.store.rollups import Rollup, Rollups, rollup_of, window
from processor.store.states import Known, State, States, join, state_of
from processor.store.tables import SLOT_MS
from processor.store.unreadable import Unread
from processor.store.wire import Client
from processor.telemetry import Telemetry, ages, usage

MARGIN_SECONDS = 3.0
"""Kept free before the invocation's deadline, for the log and the answer."""

STATES_SHARE = 0.5
"""The part of the time left in which devices' states are read; the rest is for writing them, though reads be slow."""

NOT_BEGUN = f"{DEADLINE}: no time was left for all of the batch: the rest comes again"


@dataclass(frozen=True, slots=True)
class RolledUp:
    """What became of a batch: of its runs; how many devices' states changed; which of its items have no slot."""

    runs: list[Run]
    devices: int
    unread: Unread

    @property
    def errors(self) -> list[str]:
        """Why records have to come again, by run."""
        return [run.error for run in self.runs if run.error]

    @property
    def invalid(self) -> list[str]:
        """What was passed over, for no repetition can make it valid."""
        return [*map(str, self.unread), *(run.invalid for run in self.runs if run.invalid)]


class Aggregator:
    """The handler: `handle(event, context)`, with its clients passed in. pool: reads and writes many ranges at once.

    retention: seconds after which readings may have expired. clock: epoch seconds. monotonic: the deadlines' clock.
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
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader = reader
        self._rollups = rollups
        self._states = states
        self._telemetry = telemetry
        self._pool = pool
        self._retention = retention
        self._clock = clock
        self._monotonic = monotonic

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
        deadline = self._monotonic() + max(0.0, context.get_remaining_time_in_millis() / 1000 - MARGIN_SECONDS)
        records = event.get("Records") or []
        found = self.roll_up(records, deadline)
        numbers = [run.lowest for run in found.runs if run.error]
        failed = [record for record in records if numbers and _number(record) >= min(numbers)]
        self._report(records, found, len(failed), (time.perf_counter() - started) * 1000, context)
        lowest = min(failed, key=_number)["dynamodb"]["SequenceNumber"] if failed else None
        return {"batchItemFailures": [{"itemIdentifier": lowest}] if lowest is not None else []}

    def roll_up(self, records: Iterable[Mapping[str, Any]], deadline: float) -> RolledUp:
        """Roll up what these stream records touched; return what became of it. deadline: of the monotonic clock."""
        unread = Unread()
        runs = runs_of(records, unread.add)
        waiting, most, weight, changed = deque(runs), 1, inf, 0
        begun = self._monotonic()
        while part := take(waiting, most, weight):
            list(self._pool.map(lambda run: self._run(run, deadline), part))
            changed += self._join_states(part, deadline)
            now = self._monotonic()
            most, weight = GROWTH * len(part), fitting(part, now - begun, deadline - now)
            begun = now
        for run in waiting:
            run.error = NOT_BEGUN
        return RolledUp(runs, changed, unread)

    def _run(self, run: Run, deadline: float) -> None:
        """Read a run's ranges, and write what they come to."""
        try:
            span = window(run.starts[0], len(run.starts))
            unread = Unread()
            slots = list(self._reader.stored(run.device, *span, deadline=deadline, note=unread.add))
        except InvalidWrite as error:  # no repetition makes the question valid
            run.invalid = f"{run.device} {run.starts[0]}: {error}"
            return
        except StoreError as error:  # whatever else stops a read, the readings are still there: the records come again
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
        for run in runs:
            if run.state is not None:
                there = states.get(run.device)
                states[run.device] = run.state if there is None else join(there, run.state)
        known: dict[str, Known | None] = {}
        now = self._monotonic()
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
        found: RolledUp,
        failed: int,
        duration_ms: float,
        context: Any,
    ) -> None:
        memory, peak_mb = usage(context)
        invalid = found.invalid
        counts = {
            "records": len(records),
            "ranges": sum(len(run.starts) for run in found.runs),
            "written": sum(run.written for run in found.runs),
            "stale": sum(run.stale for run in found.runs),
            "devices": found.devices,
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
        errors = found.errors + invalid
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
