"""What is watched while a run is under faults, by reading the tables alone.

Before the mapping learns of an answer, and so before any checkpoint moves, everything that the answer calls handled
must be in the table or in quarantine. And the states in `devices` must never go back.
"""

from __future__ import annotations

import threading
import time
from base64 import b64decode
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import orjson

from processor.local.check import Cell, Expected
from processor.local.system import System
from processor.quarantine import PREFIX
from processor.rules import known_gateways
from processor.store.items import get_items
from processor.store.states import State, join, state_from
from processor.store.wire import Client

if TYPE_CHECKING:
    from processor.local.faults.run import Run

LOOK_SECONDS = 0.5


class Witness:
    """Watches one system. `problems` says what was seen that must not be; counts say how often it was looked."""

    def __init__(self, system: System, client: Client, run: Run) -> None:
        self.problems: list[str] = []
        self.answers = 0
        self.looks = 0
        self.poison = 0
        self.poison_delay_ms = 0.0
        """How long the slowest undecodable record took from its arrival until its shard could go on."""
        self._system = system
        self._client = client
        self._run = run
        self._states: dict[str, State] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="witness", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()

    def answered(self, event: bytes, answer: Any) -> None:
        """Look whether all is kept of what an answer of ingest calls handled."""
        records = orjson.loads(event)["Records"]
        handled = records[: handled_of(records, answer)]
        now = time.time()
        rotated = set().union(*self._run.rotated.values())
        found = [each for each in map(_as_read, handled) if each["Data"] not in rotated]
        expected = self._expected(found)
        there = self._cells(expected)
        missing = expected.cells.keys() - there
        places = {(shard, number) for shard, number, _ in expected.rejected}
        for record in found:
            place = (record["ShardId"], record["SequenceNumber"])
            lacks = missing and missing & self._expected([record]).cells.keys()
            if (lacks or place in places) and not self._quarantined(record):
                what = f"{len(lacks)} readings" if lacks else "a rejected record"
                self._problem(f"{what} of {place[0]} {place[1]} called handled, and not kept anywhere")
        with self._lock:
            self.answers += 1
            for record in found:
                if (record["ShardId"], record["SequenceNumber"]) in places:
                    self.poison += 1
                    waited = (now - record["ApproximateArrivalTimestamp"].timestamp()) * 1000
                    self.poison_delay_ms = max(self.poison_delay_ms, waited)

    def _expected(self, records: list[dict[str, Any]]) -> Expected:
        settings = self._system.settings
        keys = {**settings.bindkeys, **self._run.registered.keys}
        return Expected.of(records, self._system.limits, keys, known_gateways(settings))

    def _cells(self, expected: Expected) -> set[Cell]:
        """Return which of the expected cells the table holds now."""
        slots = {(device, start) for device, start, _ in expected.cells}
        keys = [{"device": {"S": device}, "slot": {"N": str(start)}} for device, start in slots]
        items = get_items(self._client, self._system.settings.readings_table, keys, consistent=True)
        return {(item["device"]["S"], int(item["slot"]["N"]), name) for item in items for name in item}

    def _quarantined(self, record: Mapping[str, Any]) -> bool:
        """Tell whether quarantine keeps the record: the objects of its shard whose numbers include its own are read."""
        s3, bucket = self._system.aws.client("s3"), self._system.settings.quarantine_bucket
        number = int(record["SequenceNumber"])
        day = record["ApproximateArrivalTimestamp"]
        for prefix in (f"{PREFIX}{day:%Y/%m/%d}/{record['ShardId']}/", PREFIX):
            for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                for entry in page.get("Contents", ()):
                    *_, shard, name = entry["Key"].split("/")
                    first, _, last = name.removesuffix(".jsonl").partition("-")
                    if shard != record["ShardId"] or not int(first) <= number <= int(last):
                        continue
                    body = s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
                    if any(
                        orjson.loads(line)["sequence_number"] == record["SequenceNumber"] for line in body.splitlines()
                    ):
                        return True
        return False

    def _problem(self, text: str) -> None:
        with self._lock:
            self.problems.append(text)

    def _watch(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            try:
                self.look()
            except Exception as error:
                self._problem(f"`devices` cannot be watched: {type(error).__name__}: {error}")
                return

    def look(self) -> None:
        """Look once whether a device's state has gone back."""
        body: dict[str, Any] = {"TableName": self._system.settings.devices_table, "ConsistentRead": True}
        while True:
            page = self._client.call("Scan", body)
            for state in filter(None, map(state_from, page["Items"])):
                before = self._states.get(state.device)
                if before is not None and join(before, state) != state:
                    self._problem(f"{state.device}: its state went back, from {before} to {state}")
                self._states[state.device] = state
            if "LastEvaluatedKey" not in page:
                break
            body["ExclusiveStartKey"] = page["LastEvaluatedKey"]
        self.looks += 1


def handled_of(records: list[dict[str, Any]], answer: Any) -> int:
    """Return how many records at a batch's start an answer calls handled, by Lambda's rules for partial responses."""
    if isinstance(answer, bytes | str):
        try:
            answer = orjson.loads(answer)
        except orjson.JSONDecodeError:
            return 0
    failures = answer.get("batchItemFailures") if isinstance(answer, dict) else None
    if not failures:
        return len(records) if answer is None or (isinstance(answer, dict) and failures in (None, [])) else 0
    if not isinstance(failures, list):
        return 0
    numbers = [record["kinesis"]["sequenceNumber"] for record in records]
    named = [each.get("itemIdentifier") if isinstance(each, dict) else None for each in failures]
    return min(map(numbers.index, named)) if all(name in numbers for name in named) else 0


def _as_read(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return an event's record as GetRecords gives it, with its shard."""
    kinesis = record["kinesis"]
    return {
        "ShardId": record["eventID"].partition(":")[0],
        "SequenceNumber": kinesis["sequenceNumber"],
        "ApproximateArrivalTimestamp": datetime.fromtimestamp(kinesis["approximateArrivalTimestamp"], UTC),
        "Data": b64decode(kinesis["data"]),
    }
