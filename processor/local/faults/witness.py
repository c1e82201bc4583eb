"""What is watched while a run is under faults, by reading the tables alone.

Before the mapping learns of an answer, and so before any checkpoint moves, everything that the answer calls handled
must be in the table or in quarantine. And the states in `devices` must never go back.
"""

from __future__ import annotations

import contextlib
import threading
from base64 import b64decode
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

from processor.background import Background
from processor.errors import StoreError
from processor.local.check import Cell, Expected
from processor.local.faults.firsts import Firsts
from processor.local.faults.poison import Poison
from processor.local.seams import Invoke
from processor.local.system import System
from processor.quarantine import PREFIX
from processor.store.items import get_items
from processor.store.states import State, join, state_from
from processor.store.wire import Client

if TYPE_CHECKING:
    from processor.local.faults.run import Run

LOOK_SECONDS = 0.5


class Witness(Background):
    """Watches one system. `problems` says what was seen that must not be; counts say how often it was looked."""

    def __init__(self, system: System, client: Client, run: Run) -> None:
        super().__init__("witness")
        self.problems: list[str] = []
        self.answers = 0
        self.looks = 0
        self.poison = Poison(self._problem)
        self.firsts = Firsts()
        self._system = system
        self._client = client
        self._run = run
        self._states: dict[str, State] = {}
        self._lock = threading.Lock()
        self._looking = threading.Lock()

    def invoked(self, event: bytes, invoke: Invoke, around: Callable[[Invoke], Invoke]) -> Any:
        """Invoke ingest for the mapping, and look at what comes of it before the mapping does.

        around: puts the faults around what invokes the function, which is watched from inside and from outside of them.
        """
        records = orjson.loads(event)["Records"]
        found = [(read, self._expected(read)) for read in map(_as_read, records)]
        poison = {
            read["SequenceNumber"]: read["ApproximateArrivalTimestamp"].timestamp()
            for read, expected in found
            if 0 < expected.rejected.total() == expected.advertisements
        }
        handled = 0
        try:
            answer = around(self.poison.watching([read["SequenceNumber"] for read, _ in found], poison, invoke))(event)
            kept = handled_of(records, answer)
            self._answered(found[:kept])
            handled = kept  # if nobody could look, the mapping is not told either
            return answer
        finally:
            self.poison.ended(poison, {read["SequenceNumber"] for read, _ in found[:handled]})

    def _answered(self, found: list[tuple[dict[str, Any], Expected]]) -> None:
        """See that all is kept of what an answer calls handled."""
        there = self._cells({cell for _, expected in found for cell in expected.cells})
        for record, expected in found:
            lacks = expected.cells.keys() - there
            if (lacks or expected.rejected) and not self._quarantined(record):
                what = f"{len(lacks)} readings" if lacks else "a rejected record"
                place = f"{record['ShardId']} {record['SequenceNumber']}"
                self._problem(f"{what} of {place} called handled, and not kept anywhere")
        with self._lock:
            self.answers += 1

    def _expected(self, record: dict[str, Any]) -> Expected:
        """Return what must become of a record; by the key that it was sealed with, where its sensor's was changed."""
        return self._run.expected([record], dict(filter(None, [self._run.rotated.get(record["Data"])])))

    def _cells(self, wanted: set[Cell]) -> set[Cell]:
        """Return the cells that the table holds now in the slots of those that are wanted."""
        slots = {(device, start) for device, start, _ in wanted}
        keys = [{"device": {"S": device}, "slot": {"N": str(start)}} for device, start in slots]
        items = list(get_items(self._client, self._system.settings.readings_table, keys, consistent=True))
        for changed in self.firsts.see(items):
            self._problem(changed)
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
                    first, last = name.removesuffix(".jsonl").split("-")[:2]
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

    def work(self) -> None:
        """Watch `devices`."""
        while not self.stopping.wait(LOOK_SECONDS):
            with contextlib.suppress(StoreError):  # the next look may be luckier
                self.look()

    def look(self) -> None:
        """Look once whether a device's state has gone back."""
        with self._looking:
            self._look()

    def _look(self) -> None:
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
