"""What is watched while a run is under faults, by reading the tables alone.

Before the mapping learns of an answer, and so before any checkpoint should move, everything that the answer calls
handled must be in the table or in quarantine. What a checkpoint has passed must be there too, or in the failure
destination. And the states in `devices` must never go back.
"""

from __future__ import annotations

import threading
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
from botocore.exceptions import BotoCoreError, ClientError

from processor.background import Background
from processor.errors import StoreError
from processor.failures import Failures
from processor.local.check import shard_records
from processor.local.expected import Cell, Expected
from processor.local.faults.checkpoints import Checkpoints, Record, indices_of, kept_by_quarantine
from processor.local.faults.firsts import Firsts
from processor.local.faults.poison import Poison
from processor.local.faults.states import StatesSeen
from processor.local.seams import Invoke
from processor.local.system import STREAM, System
from processor.quarantine import PREFIX
from processor.store.items import get_items
from processor.store.wire import Client

if TYPE_CHECKING:
    from processor.local.faults.run import Run

LOOK_SECONDS = 0.5

Place = tuple[str, str]
"""Shard and sequence number of a record."""


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
        self.checkpoints = Checkpoints(
            system.mapping, records=self._behind, nowhere=self._nowhere, problem=self._problem
        )
        self._failures = Failures(system.settings.quarantine_bucket, lambda: system.aws.client("s3"))
        self._read: set[str] = set()
        self._kept: set[Place] = set()
        """Records that were once found kept: nothing that is stored goes away while the faults are at work."""
        self._states = StatesSeen()
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
        for record, what in self._lacking(found):
            place = f"{record['ShardId']} {record['SequenceNumber']}"
            self._problem(f"{what} of {place} called handled, and not kept anywhere")
        with self._lock:
            self.answers += 1

    def _lacking(self, found: list[tuple[Any, Expected]]) -> list[tuple[Record, str]]:
        """Return the records that neither the table nor quarantine keeps whole, with what is missing of each."""
        there = self._cells({cell for _, expected in found for cell in expected.cells})
        lacking: list[tuple[Record, str]] = []
        for record, expected in found:
            lacks = expected.cells.keys() - there
            if (lacks or expected.rejected) and not kept_by_quarantine(expected, there, self._quarantined(record)):
                lacking.append((record, f"{len(lacks)} readings" if lacks else "a rejected record"))
            else:
                with self._lock:
                    self._kept.add(_place(record))
        return lacking

    def _behind(self, shard: str, last: str | None) -> Iterator[Record]:
        """Yield the stream's records of a shard behind one."""
        return shard_records(self._system.kinesis, STREAM, shard, last)

    def _nowhere(self, records: list[Record]) -> list[Record]:
        """Return those of some records that are kept nowhere: most were found kept before the mapping was told."""
        lacking = self._lacking([(record, self._expected(record)) for record in self._unknown(records)])
        if lacking:
            self._read_given_up()
        return self._unknown([record for record, _ in lacking])

    def _unknown(self, records: list[Record]) -> list[Record]:
        """Return those of some records that were never found kept."""
        with self._lock:
            return [record for record in records if _place(record) not in self._kept]

    def _read_given_up(self) -> None:
        """Take the records that the failure destination has for kept; each of its objects is read once."""
        for key in sorted(set(self._failures.keys()) - self._read):
            failure = self._failures.read(key)
            places = [each["eventID"].partition(":") for each in (failure and failure.records) or ()]
            with self._lock:
                self._kept |= {(shard, number) for shard, _, number in places}
            self._read.add(key)

    def _expected(self, record: Record) -> Expected:
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

    def _quarantined(self, record: Mapping[str, Any]) -> set[int | None]:
        """Return what quarantine keeps of the record; the objects of its shard whose numbers include its own are read.

        Its advertisements' indices, None for the record as a whole.
        """
        kept: set[int | None] = set()
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
                    kept |= indices_of(map(orjson.loads, body.splitlines()), record)
            if kept:
                break
        return kept

    def _problem(self, text: str) -> None:
        with self._lock:
            self.problems.append(text)

    def work(self) -> None:
        """Watch the checkpoints and `devices`."""
        while not self.stopping.wait(LOOK_SECONDS):
            try:
                self.look()
            except (StoreError, ClientError, BotoCoreError):
                continue  # the next look may be luckier
            except Exception as error:  # nobody watches any more: that must not pass for nothing seen
                self._problem(f"the witness has seen no more: {type(error).__name__}: {error}")
                return

    def look(self) -> None:
        """Look once whether a checkpoint has passed what is kept nowhere, or a device's state has gone back."""
        with self._looking:
            self.checkpoints.look()
            self._look()

    def _look(self) -> None:
        body: dict[str, Any] = {"TableName": self._system.settings.devices_table, "ConsistentRead": True}
        while True:
            page = self._client.call("Scan", body)
            for gone_back in self._states.see(page["Items"]):
                self._problem(gone_back)
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


def _place(record: Record) -> Place:
    return record["ShardId"], record["SequenceNumber"]


def _as_read(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return an event's record as GetRecords gives it, with its shard."""
    kinesis = record["kinesis"]
    return {
        "ShardId": record["eventID"].partition(":")[0],
        "SequenceNumber": kinesis["sequenceNumber"],
        "ApproximateArrivalTimestamp": datetime.fromtimestamp(kinesis["approximateArrivalTimestamp"], UTC),
        "Data": b64decode(kinesis["data"]),
    }
