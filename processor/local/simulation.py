"""The whole main job under a virtual clock: an hour of traffic in seconds, from one seed, with whatever goes wrong.

The parts are the real ones: the fleet's bytes, the event source mappings, ingest's and the roll-up's handlers with
their decoders, writers and readers. Kinesis, the tables, their stream and the bucket are in memory, and the clock is
moved by hand. One thread at a time does anything, so that the same seed does the same again.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from types import SimpleNamespace
from typing import Any

import orjson

from processor.devices import Devices
from processor.errors import LocalError, TransientError
from processor.ingest import Ingest
from processor.local.check import Verdict, compare
from processor.local.fleet import Fleet
from processor.local.inline import Inline
from processor.local.mapping import EventSourceMapping, MappingSettings, Throttled
from processor.local.memory_dynamodb import Item, MemoryDynamoDB
from processor.local.memory_kinesis import MemoryKinesis, client_error
from processor.local.memory_streams import MemoryStreams
from processor.quarantine import Quarantine
from processor.rollup import Aggregator
from processor.rules import Rules
from processor.settings import Settings
from processor.store.reader import Reader
from processor.store.registry import Registry
from processor.store.rollups import Rollup, Rollups, ranges_of, rollup_of
from processor.store.tables import slot
from processor.store.writer import Writer
from processor.telemetry import Telemetry
from processor.vault import Vault

TICK = 1.0
"""Seconds between two steps: how often Lambda polls a shard."""

START = 1_700_000_000.0

SETTLING_TICKS = 900

MOST_SHARDS = 4

PAGE = 40
"""Items of a query's answer: enough to be quick, few enough that pages have to be followed."""


@dataclass(frozen=True)
class Odds:
    """What may go wrong, each as a chance from 0 to 1.

    Of an invocation: `crash_before` it does anything, `crash_after` all is written and before it answers, `throttled`
    before it begins. Of a call: `write` of a table, `read` of a stream. Of a second: `reshard` of either stream,
    `disabled` (a mapping switched off, on again with the same chance). Of a record: `duplicate`, sent twice.
    """

    crash_before: float = 0.0
    crash_after: float = 0.0
    throttled: float = 0.0
    write: float = 0.0
    read: float = 0.0
    reshard: float = 0.0
    disabled: float = 0.0
    duplicate: float = 0.0


class Simulation:
    """A fleet, its stream, both functions and the tables. `run` lets time pass, `settle` lets all be handled.

    The bucket is a boto3 client of S3, or what answers its calls alike.
    """

    def __init__(
        self,
        bucket: Any,
        *,
        seed: int = 0,
        shards: int = 2,
        devices: int = 16,
        gateways: int = 4,
        rate: float = 2.0,
        odds: Odds | None = None,
        ingest: MappingSettings | None = None,
        rollup: MappingSettings | None = None,
    ) -> None:
        self.now = START
        self.sent: list[bytes] = []
        self.struck: dict[str, int] = {field.name: 0 for field in fields(Odds)}
        self.odds = Odds()
        self._dice = {name: random.Random(f"{seed}.{name}") for name in (*self.struck, "keys")}  # noqa: S311
        self.fleet = Fleet(devices=devices, gateways=gateways, rate=rate, seed=seed, start=round(START * 1000))
        self.settings = Settings.read(
            {"BINDKEYS": ",".join(f"{device}={key.hex()}" for device, key in self.fleet.keys.items())}
        )
        self.kinesis = MemoryKinesis(shards, clock=self.clock, retention_hours=168, fault=self._read_fault)
        self.streams = MemoryStreams(shards, clock=self.clock, fault=self._read_fault)
        self.dynamodb = MemoryDynamoDB(
            self.settings.table_prefix, changed=self._changed, fault=self._write_fault, page=PAGE
        )
        self.quarantine = Quarantine(self.settings.quarantine_bucket, lambda: bucket)
        self.reader = Reader(self.dynamodb, self.settings.readings_table, clock=self.clock)
        self.rollups = Rollups(self.dynamodb, self.settings.rollups_table)
        self._records: list[dict[str, Any]] = []
        self.rules = Rules.of(self.settings, *self._devices())
        usual = MappingSettings(
            batch_size=500,
            batching_window_seconds=2,
            parallelization_factor=2,
            bisect_batch_on_function_error=True,
            report_batch_item_failures=True,
        )
        self.mapping = EventSourceMapping(
            self.kinesis, self.kinesis.arn, self._function(self._ingest()), ingest or usual, clock=self.clock
        )
        self.rollup_mapping = EventSourceMapping(
            self.streams,
            self.streams.arn,
            self._function(self._aggregator()),
            rollup or replace(usual, batching_window_seconds=10),
            function_name="rollup",
            clock=self.clock,
        )

        for mapping in (self.mapping, self.rollup_mapping):
            mapping.step()  # a mapping that cannot read its stream at the start says so
        self.odds = odds or Odds()

    def clock(self) -> float:
        """Return the time, in seconds since 1970."""
        return self.now

    def run(self, seconds: float) -> None:
        """Let so much time pass while the fleet sends; what it still holds at the end is sent too."""
        for record in self.fleet.records(duration_ms=round(seconds * 1000)):
            while self.now < START + record.at / 1000:
                self.tick()
            self.put(record.data)
            if self._happens("duplicate"):
                self.put(record.data)

    def put(self, data: bytes) -> None:
        """Put one record into the stream under a random partition key, as Funnel does."""
        key = f"{self._dice['keys'].getrandbits(64):016x}"
        answer = self.kinesis.put_records(Records=[{"Data": data, "PartitionKey": key}])["Records"][0]
        arrival = {"ApproximateArrivalTimestamp": _Timestamp(self.now)}
        self._records.append({**answer, **arrival, "Data": data})
        self.sent.append(data)

    def tick(self) -> None:
        """Let a second pass, and let both mappings do what is due."""
        self.now += TICK
        if self._happens("reshard"):
            self._reshard()
        for mapping in (self.mapping, self.rollup_mapping):
            if mapping.disabled and not self._happens("disabled"):
                mapping.enable()
            elif not mapping.disabled and self._happens("disabled"):
                mapping.disable()
            mapping.step()

    def settle(self) -> None:
        """Let nothing go wrong any more until all is handled. Raises LocalError where that does not come about."""
        self.odds = Odds()
        quiet = 0
        for _ in range(SETTLING_TICKS):
            self.tick()
            quiet = quiet + 1 if self.mapping.idle and self.rollup_mapping.idle else 0
            if quiet > 2:  # what a closed shard's children hold is seen a second later
                return
        raise LocalError(f"not settled after {SETTLING_TICKS} s: {self.mapping.stats} {self.rollup_mapping.stats}")

    def check(self) -> Verdict:
        """Compare what was sent with what the table and the quarantine hold."""
        entries = self.quarantine.entries()
        items = self.dynamodb.tables["readings"].values()
        keys = self.settings.bindkeys
        return compare(self.sent, self._records, items, entries, self.rules.limits, keys, self.rules.known)

    def recomputed(self) -> dict[tuple[str, int], Rollup]:
        """Return, by device and start, what every roll-up must be by the readings in the table."""
        slots = [slot(item) for item in self.dynamodb.tables["readings"].values()]
        found = {}
        for device in {each.device for each in slots}:
            own = sorted((each for each in slots if each.device == device), key=lambda each: each.start)
            for start in {start for each in own for start in ranges_of(each.start)}:
                rollup = rollup_of(device, start, own)
                if rollup is not None:
                    found[device, start] = rollup
        return found

    def _devices(self) -> tuple[Devices, Mapping[str, bytes]]:
        devices = Devices(
            Registry(self.dynamodb, self.settings.devices_table),
            Vault(lambda: None, lambda: None),
            fixed=self.settings.bindkeys,
            clock=self.clock,
        )
        return devices, devices

    def _ingest(self) -> Callable[[Mapping[str, Any], Any], Any]:
        writer = Writer(self.dynamodb, self.settings.readings_table, threads=1, measure=True)
        return Ingest(writer, self.quarantine, _quiet("ingest"), self.rules).handle

    def _aggregator(self) -> Callable[[Mapping[str, Any], Any], Any]:
        return Aggregator.of(self.settings, self.dynamodb, _quiet("rollup"), Inline(), clock=self.clock).handle

    def _function(self, handle: Callable[[Mapping[str, Any], Any], Any]) -> Callable[[bytes], Any]:
        context = SimpleNamespace(
            aws_request_id="simulated", memory_limit_in_mb=512, get_remaining_time_in_millis=lambda: 900_000
        )

        def invoke(event: bytes) -> Any:
            if self._happens("throttled"):
                raise Throttled("no worker is free")
            if self._happens("crash_before"):
                raise RuntimeError("killed before the write")
            answer = handle(orjson.loads(event), context)
            if self._happens("crash_after"):
                raise RuntimeError("killed after the write")
            return answer

        return invoke

    def _happens(self, what: str) -> bool:
        chance: float = getattr(self.odds, what)
        if not chance or self._dice[what].random() >= chance:
            return False
        self.struck[what] += 1
        return True

    def _reshard(self) -> None:
        dice = self._dice["reshard"]
        shards = self.kinesis.open_shards
        if len(shards) > 1 and (len(shards) >= MOST_SHARDS or dice.random() < 0.5):
            place = dice.randrange(len(shards) - 1)
            self.kinesis.merge_shards(ShardToMerge=shards[place], AdjacentShardToMerge=shards[place + 1])
        else:
            self.kinesis.split_shard(ShardToSplit=dice.choice(shards))
        shards = self.streams.open_shards
        if len(shards) < MOST_SHARDS and dice.random() < 0.5:
            self.streams.split_shard(dice.choice(shards))
        else:
            self.streams.roll_shard(dice.choice(shards))

    def _changed(self, noun: str, event_name: str, key: Item) -> None:
        if noun == "readings":
            self.streams.change(event_name, key)

    def _write_fault(self, operation: str, body: Mapping[str, Any]) -> None:
        if self._happens("write"):
            raise TransientError("ThrottlingException", f"{operation} of {body.get('TableName')}", status=400)

    def _read_fault(self, operation: str, arguments: Mapping[str, Any]) -> Exception | None:
        if operation in ("PutRecords", "SplitShard", "MergeShards") or not self._happens("read"):
            return None
        token = "ShardIterator" in arguments and self._dice["read"].random() < 0.5
        error: Exception = client_error("ExpiredIteratorException" if token else "LimitExceededException", operation)
        return error


class _Timestamp(float):
    """A time as the check asks for it."""

    def timestamp(self) -> float:
        """Return seconds since 1970."""
        return float(self)


def _quiet(name: str) -> Telemetry:
    return Telemetry(name, level="CRITICAL", stream=io.StringIO())
