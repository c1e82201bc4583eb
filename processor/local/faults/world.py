"""The whole main job in memory under a virtual clock: what takes a day there takes seconds here, and a seed repeats it.

The handlers, the mapping, the writer and the roll-up are the real ones; the stream, the table, its stream and the
bucket are those in memory. Everything happens in one thread, in the order of the clock.
"""

from __future__ import annotations

import random
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import orjson

from processor.decode.gateways import Advertisement
from processor.ingest import Ingest
from processor.local.check import Verdict, compare
from processor.local.expected import Cell, Expected
from processor.local.faults.balance import Balance
from processor.local.faults.checkpoints import Checkpoints, Record, indices_of, kept_by_quarantine
from processor.local.faults.fault import Scene
from processor.local.faults.firsts import Firsts
from processor.local.faults.input import post
from processor.local.faults.order import Order
from processor.local.faults.states import StatesSeen
from processor.local.inline import Inline
from processor.local.mapping import EventSourceMapping, MappingSettings
from processor.local.memory_dynamodb import MAXIMUM_ITEM, Item, MemoryDynamoDB
from processor.local.memory_kinesis import MemoryKinesis
from processor.local.memory_s3 import MemoryS3
from processor.local.memory_streams import MemoryStreams
from processor.local.sensors import Sensor
from processor.quarantine import Quarantine
from processor.rollup import Aggregator
from processor.rules import Limits, Rules
from processor.settings import Settings
from processor.store.reader import Reader
from processor.store.rollups import Rollups
from processor.store.states import States
from processor.store.units import item_size
from processor.store.writer import MAX_CLAUSES, Writer
from processor.telemetry import Telemetry
from processor.verify.plan import Plan
from processor.verify.verifier import Verifier

BEGIN = 1_800_000_000.0
POLL_SECONDS = 1.0
"""How often the mapping reads a stream that has nothing new."""

CONTEXT = SimpleNamespace(aws_request_id="scene", memory_limit_in_mb=256, get_remaining_time_in_millis=lambda: 60_000)


class Nowhere:
    """Takes what telemetry writes."""

    def write(self, _text: str) -> int:
        """Take it."""
        return 0

    def flush(self) -> None:
        """Have nothing to do."""


class World:
    """A stream of so many shards, the tables, both functions and their mappings, at `now` seconds since 1970.

    around: is asked in ingest's place, with the event and what invokes it. discard: gets what the mapping gives up
    before it is kept, and raises where the destination fails.
    """

    def __init__(
        self,
        seed: int,
        settings: MappingSettings,
        *,
        shards: int = 1,
        retention_days: int = 400,
        around: Callable[[bytes, Callable[[bytes], Any]], Any] = lambda event, invoke: invoke(event),
        discard: Callable[[dict[str, Any]], None] = lambda _failure: None,
    ) -> None:
        self.now = BEGIN
        self.random = random.Random(seed)  # noqa: S311 - a simulation
        self.seed = seed
        self.limits = Limits(retention_days * 86_400)
        self.kinesis = MemoryKinesis(shards, clock=self.clock)
        self.streams = MemoryStreams(clock=self.clock, table="processor-readings")
        self.dynamodb = MemoryDynamoDB(changed=self._changed)
        self.s3 = MemoryS3()
        self.failures: list[dict[str, Any]] = []
        self.sent: list[bytes] = []
        self.records: list[dict[str, Any]] = []
        self.truth: Counter[str] = Counter()
        self.problems: list[str] = []
        self.spared = 0
        """Readings that are in quarantine because their item had no room, once it was judged."""
        self.settled: dict[str, float] = {}
        """When each record's shard could go on behind it, by sequence number."""
        self._order = Order()
        self._firsts = Firsts()
        self._states = StatesSeen()
        self._discard = discard
        self._changes = 0
        self._sensors = 0
        self._quarantine = Quarantine("memory", lambda: self.s3)
        self._ingest = Ingest(
            Writer(self.dynamodb, "processor-readings", threads=1, measure=False),
            self._quarantine,
            Telemetry("scene", level="CRITICAL", stream=Nowhere()),  # type: ignore[arg-type]
            Rules(self.limits),
        )
        self.reader = Reader(self.dynamodb, "processor-readings", threads=1, clock=self.clock)
        self.rollups = Rollups(self.dynamodb, "processor-rollups")
        self.aggregator = Aggregator(
            self.reader,
            self.rollups,
            States(self.dynamodb, "processor-devices"),
            Telemetry("scene", level="CRITICAL", stream=Nowhere()),  # type: ignore[arg-type]
            Inline(),
            retention=self.limits.retention_seconds,
            clock=self.clock,
        )
        self.mapping = EventSourceMapping(
            self.kinesis,
            "stream",
            lambda event: self._deliver(event, around),
            settings,
            on_failure=self._given_up,
            clock=self.clock,
        )
        self._checkpoints = Checkpoints(
            self.mapping, records=self._behind, nowhere=self._nowhere, problem=self.problems.append
        )
        rolling = MappingSettings(batch_size=100, batching_window_seconds=1, report_batch_item_failures=True)
        self.rolling = EventSourceMapping(
            self.streams,
            self.streams.arn,
            lambda event: self.aggregator.handle(orjson.loads(event), CONTEXT),
            rolling,
            function_name="rollup",
            clock=self.clock,
        )

    def clock(self) -> float:
        """Return the time."""
        return self.now

    def sensor(self) -> Sensor:
        """Return a new sensor."""
        self._sensors += 1
        return Sensor(self._sensors, self.seed, "ruuvi.5")

    def measure(self, sensor: Sensor, at: float | None = None) -> Advertisement:
        """Measure once, now or at another time (seconds since 1970)."""
        sensor.drift()
        self.truth[sensor.address] += 1
        when = round((self.now if at is None else at) * 1000)
        return Advertisement(sensor.address, -60, when, sensor.advertisements()[0])

    def send(self, heard: Iterable[Advertisement], key: str | None = None) -> None:
        """Put a record into the stream."""
        self.put(post(heard, round(self.now * 1000)), key)

    def put(self, data: bytes, key: str | None = None) -> None:
        """Put a record's bytes into the stream."""
        key = key or f"{self.random.getrandbits(64):016x}"
        (taken,) = self.kinesis.put_records(Records=[{"Data": data, "PartitionKey": key}])["Records"]
        self.sent.append(data)
        shown = {"Data": data, "ApproximateArrivalTimestamp": _Time(self.now)}
        self.records.append({**shown, **taken})

    def until(self, end: float) -> None:
        """Let time pass: whatever is due happens when it is."""
        while True:
            due = min(self.mapping.step(), self.rolling.step())
            self._look()
            if max(due, self.now) >= end:
                break
            self.now = max(due, self.now)
        self.now = max(self.now, end)

    def leap(self, end: float) -> None:
        """Let time pass in which nothing happens but what is due at its end."""
        self.now = max(self.now, end)
        self.until(self.now + POLL_SECONDS)

    def redrive(self) -> None:
        """Handle once more what the mapping gave up, as somebody would who found it in the failure destination."""
        for failure in self.failures:
            answer = self._ingest.handle(orjson.loads(failure["payload"]), CONTEXT)
            if answer["batchItemFailures"]:
                self.problems.append(f"what was given up could not be handled later: {answer}")

    def judge(self, injected: int, figures: str = "", *, crashing: Iterable[bytes] = ()) -> Scene:
        """Judge what came of it. crashing: records that stay in the failure destination."""
        verdict = self._verdict()
        given_up = set(self._expected([record for record in self.records if record["Data"] in set(crashing)]).cells)
        full = self._full(verdict)
        self.spared = len(full.intersection(verdict.lost))
        kept = given_up | full
        scene = Scene(injected, problems=list(self.problems), figures=figures)
        scene.lost += [str(cell) for cell in verdict.lost if cell not in kept]
        scene.lost += [f"{place} is rejected, and not in quarantine" for place in verdict.not_quarantined]
        scene.doubled += [f"{cell} was never sent" for cell in verdict.foreign]
        scene.problems += [f"{cell} is not as it was sent" for cell in verdict.changed]
        scene.problems += [f"{each}" for each in verdict.unreadable] + self._order.problems
        if verdict.missing_records:
            scene.lost.append(f"{verdict.missing_records} records are not in the stream")
        # What stays in the failure destination is in none of the ledger's places.
        balance = Balance.of(verdict, ignored=len(given_up.intersection(verdict.lost)))
        if not balance.holds and not scene.lost:
            scene.problems.append(f"the ledger does not balance: {balance}")
        for device, measured in self.truth.items():
            spared = sum(cell[0] == device for cell in kept.intersection(verdict.lost))
            there = len(verdict.readings.get(device, ())) + spared
            if there != measured:
                (scene.lost if there < measured else scene.doubled).append(f"{device}: {measured}, {there} readings")
        settings = Settings(retention_days=self.limits.retention_seconds // 86_400)
        verifier = Verifier(self.dynamodb, settings, clock=self.clock, sleep=lambda _seconds: None)
        report = verifier.verify(Plan(wait=0, lag=0))
        scene.problems += [f"recomputed: {each.device} {each.start}: {each.kind}" for each in report.first]
        return scene

    def _verdict(self) -> Verdict:
        items = list(self.dynamodb.tables["readings"].values())
        return compare(self.sent, self.records, items, self._quarantine.entries(), self.limits)

    def _full(self, verdict: Verdict) -> set[Cell]:
        """Return the cells whose copies are in quarantine, all of them, though they can be decoded.

        Their item must have no room for a call more.
        """
        excess = set(verdict.wrongly_quarantined)
        reasons = {each["reason"] for entry in self._quarantine.entries() for each in entry["rejected"]}
        if excess and reasons != {"invalid_write"}:
            self.problems.append(f"what is fit to be stored is in quarantine for {reasons}")
        found = {cell for cell, places in verdict.expected.places.items() if excess.issuperset(places)}
        for device, start in {cell[:2] for cell in found.intersection(verdict.lost)}:
            item = self.dynamodb.tables["readings"].get((device, str(start)), {})
            size = item_size(item)
            if size + MAX_CLAUSES * size / max(len(item), 1) <= MAXIMUM_ITEM:
                self.problems.append(f"{device} {start} has room: {size:,} bytes in {len(item)} attributes")
        return found

    def _expected(self, records: Iterable[Record]) -> Expected:
        return Expected.of(records, self.limits)

    def _deliver(self, event: bytes, around: Callable[[bytes, Callable[[bytes], Any]], Any]) -> Any:
        with self._order.delivering(event):
            return around(event, self.handle)

    def handle(self, event: bytes) -> Any:
        """Have ingest handle an event."""
        return self._ingest.handle(orjson.loads(event), CONTEXT)

    def _given_up(self, failure: dict[str, Any]) -> None:
        self._discard(failure)
        self.failures.append(failure)

    def _changed(self, noun: str, event: str, key: Item) -> None:
        """Tell the table's stream; see that what was first stays, and that no device's state goes back."""
        there = self.dynamodb.tables[noun].get(tuple(next(iter(each.values())) for each in key.values()))
        items = [] if there is None else [there]
        if noun == "readings":
            self._changes += 1
            new = {**key, "change": {"N": str(self._changes)}}
            self.streams.append(None if event == "INSERT" else key, None if event == "REMOVE" else new)
            self.problems += self._firsts.see(items)
        elif noun == "devices":
            self.problems += self._states.see(items)

    def _look(self) -> None:
        """See that no checkpoint has passed what is kept nowhere."""
        for record in self._checkpoints.look():
            self.settled[record["SequenceNumber"]] = self.now

    def _behind(self, shard: str, last: str | None) -> Iterator[Record]:
        """Yield the records of a shard behind one; the stream itself forgets them where they expire."""
        for record in self.records:
            if record["ShardId"] == shard and (last is None or int(record["SequenceNumber"]) > int(last)):
                yield record

    def _nowhere(self, records: list[Record]) -> list[Record]:
        return [record for record in records if not self._kept(record)]

    def _kept(self, record: Record) -> bool:
        expected = self._expected([record])
        table = self.dynamodb.tables["readings"]
        there = {cell for cell in expected.cells if cell[2] in table.get((cell[0], str(cell[1])), ())}
        if len(there) == len(expected.cells) and not expected.rejected:
            return True
        if kept_by_quarantine(expected, there, indices_of(self._quarantine.entries(), record)):
            return True
        mark = b64encode(record["Data"]).decode()
        return any(mark in failure["payload"] for failure in self.failures)


class _Time(float):
    """Seconds since 1970 that answer as GetRecords' times do."""

    def timestamp(self) -> float:
        return float(self)
