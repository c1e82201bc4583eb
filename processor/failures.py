"""What the event source mappings gave up: whole batches in S3, listed, and handled once more.

Lambda names an object aws/lambda/MAPPING/SHARD/YYYY/MM/DD/TIME-UUID and writes into it why it gave the batch up and, as
`payload`, the event itself: the text of its JSON. Source: AWS Lambda Developer Guide, "Retain discarded batch records
for a Kinesis Data Streams event source", and its counterpart for DynamoDB.

A redrive does to a batch what its function does, and only then removes the object. Of a Kinesis stream's it stores what
can be stored, and quarantines what never can, with the reason; of a table's stream it rolls up anew what the changes
touched, from what is stored now, so that neither their age nor their order matters. Where anything could not be written
just now, the object stays, with one more of our `attempts` beside what Lambda wrote.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple

import orjson

from processor.batch import Batch
from processor.decode.gateways import ALL, Known
from processor.errors import SourceError
from processor.objects import Objects
from processor.quarantine import Quarantine
from processor.redrive import EVERYTHING, Counts
from processor.rollup import Aggregator
from processor.rules import Rules
from processor.selection import Selection, devices_of
from processor.store.writer import Writer

PREFIX = "aws/lambda/"
CONTENT_TYPE = "application/json"
THREADS = 8
AHEAD = 8
"""So many objects, of up to 6 MB each, are read ahead."""

INFO = {"Kinesis": "KinesisBatchInfo", "DynamoDB": "DDBStreamBatchInfo"}
"""What Lambda calls its description of a batch, by where that came from."""

PATIENCE_SECONDS = 900.0
"""How long a batch's roll-ups may take: as long as any function."""


def key_of(failure: Mapping[str, Any], mapping: str) -> str:
    """Return the name that Lambda gives to the object of what a mapping gave up."""
    info = failure[INFO[_source(failure)]]
    at = datetime.fromisoformat(failure["timestamp"])
    return (
        f"{PREFIX}{mapping}/{info['shardId']}/{at:%Y/%m/%d}/{at:%Y-%m-%dT%H.%M.%S}-"
        f"{failure['requestContext']['requestId']}"
    )


class Failure(NamedTuple):
    """One batch that was given up.

    tag: tells whether the object changed since. source: `Kinesis` or `DynamoDB`. condition: why
    (`RetryAttemptsExhausted`, `RecordAgeExceeded`). first, last: sequence numbers. arrived: when its first record
    arrived, ms since 1970. invocations: how often the function was tried. attempts: 1, and one for each redrive that
    failed. records: those of the event; None where the object has them not, as what SQS and SNS get. changed: somebody
    else wrote the object, or removed it, while it was handled.
    """

    key: str
    tag: str
    source: str
    condition: str
    shard: str
    first: str
    last: str
    size: int
    arrived: int
    invocations: int
    attempts: int
    records: list[Mapping[str, Any]] | None
    changed: bool = False

    @property
    def advice(self) -> str:
        """What to do where a redrive cannot do it; nothing where running it again may."""
        if self.changed:
            return "it was written or removed meanwhile, by another redrive perhaps; what was stored is: run it again"
        if self.records is not None:
            return ""
        return "it holds no records, only their sequence numbers: " + (
            "`processor replay` stores them from the archive"
            if self.source == "Kinesis"
            else "`processor verify --fix` computes the roll-ups from what is stored"
        )


class Failures:
    """The mappings' failure destination: an S3 prefix. client: makes a boto3 S3 client; called once, when needed."""

    def __init__(self, bucket: str, client: Callable[[], Any], prefix: str = PREFIX) -> None:
        self._objects = Objects(bucket, client, prefix)

    def keys(self) -> Iterator[str]:
        """Yield every object's name."""
        return (key for key, _ in self._objects.listed())

    def read(self, key: str) -> Failure | None:
        """Return one object; None where it is gone. Raises SourceError for one that Lambda did not write."""
        stored = self._objects.read(key)
        if stored is None:
            return None
        try:
            return _failure(key, stored.tag, orjson.loads(stored.body))
        except (orjson.JSONDecodeError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise SourceError(
                f"{key} is no batch that Lambda gave up: {type(error).__name__}: {error}. "
                "Somebody else wrote it: move the object elsewhere"
            ) from None

    def all(self, selection: Selection = EVERYTHING, known: Known = ALL) -> Iterator[Failure]:
        """Yield the batches that are meant, in the order of their objects' names. known: of the gateways."""
        with ThreadPoolExecutor(THREADS, thread_name_prefix="failures") as pool:
            keys = self.keys()
            while ahead := list(islice(keys, AHEAD)):
                for found in pool.map(self.read, ahead):
                    if found is not None and meant(found, selection, known):
                        yield found

    def remove(self, failure: Failure) -> bool:
        """Remove a batch that has been handled.

        Return False, and do nothing, where its object is not any more what was read.
        """
        return self._objects.replace(failure.key, failure.tag, b"", CONTENT_TYPE)

    def failed_again(self, failure: Failure) -> bool:
        """Note one more attempt in a batch's object.

        Return False, and do nothing, where that is not any more what was read.
        """
        stored = self._objects.read(failure.key)
        if stored is None or stored.tag != failure.tag:
            return False
        body = orjson.dumps(orjson.loads(stored.body) | {"attempts": failure.attempts + 1})
        return self._objects.replace(failure.key, failure.tag, body, CONTENT_TYPE)


def meant(failure: Failure, selection: Selection, known: Known = ALL) -> bool:
    """Tell whether a batch is selected: its condition is the reason, its first record's arrival the time.

    A device or a record is meant where any of the batch's records is of it.
    """
    if (selection.reasons and failure.condition not in selection.reasons) or not selection.around(failure.arrived):
        return False
    numbers = (int(failure.first), int(failure.last))
    if selection.records and not any(
        shard == failure.shard and numbers[0] <= number <= numbers[1] for shard, number in selection.records
    ):
        return False
    return selection.device is None or any(
        selection.device in devices for record in failure.records or () for devices in _devices(record, failure, known)
    )


def _devices(record: Mapping[str, Any], failure: Failure, known: Known) -> Collection[Collection[str]]:
    if failure.source == "DynamoDB":
        return [[record["dynamodb"]["Keys"]["device"]["S"]]]
    return devices_of(record["kinesis"]["data"], failure.arrived, known)


@dataclass(frozen=True)
class FailuresRedrive:
    """Handles batches that were given up once more. The clients are passed in; clock: epoch seconds."""

    failures: Failures
    quarantine: Quarantine
    writer: Writer
    rules: Rules
    aggregator: Aggregator
    clock: Callable[[], float] = field(default=time.time, kw_only=True)

    def redrive(
        self,
        selection: Selection = EVERYTHING,
        *,
        dry_run: bool = False,
        progress: Callable[[Counts], None] = lambda _: None,
    ) -> tuple[Counts, list[Failure]]:
        """Handle the batches that are meant; return what became of them, and those that stay or that somebody changed.

        What can never be stored is counted as failed again, and is in quarantine. dry_run: decode only, and change
        nothing. Raises whatever S3 answers, and SourceError for an object that Lambda did not write: what was done
        until then is done.
        """
        counts, stay = Counts(), []
        rules = self.rules.historic(learn=not dry_run)
        handle = {"Kinesis": self._stored, "DynamoDB": self._rolled_up}
        for failure in self.failures.all(selection, rules.known):
            if failure.records is None:
                stay.append(failure)
                continue
            found = handle[failure.source](failure.records, failure.attempts + 1, rules, dry_run)
            if dry_run:
                stay.append(failure)
            elif not (self.failures.failed_again if found.left else self.failures.remove)(failure):
                found.changed = 1
                stay.append(failure._replace(changed=True))
            elif found.left:
                stay.append(failure)
            counts.add(found)
            progress(counts)
        return counts, stay

    def _stored(self, records: list[Mapping[str, Any]], attempts: int, rules: Rules, dry_run: bool) -> Counts:
        """Do what ingest does. attempts: with this one; what is rejected has failed with its batch each time."""
        batch = Batch(records, rules)
        if dry_run:
            batch.decode()
            batch.expire(self.clock())
        else:
            batch.store(self.writer, now=self.clock())
            rejected = ((batch.records[place], found) for place, found in batch.rejections.items())
            self.quarantine.put(rejected, attempts)
        return Counts.of(batch)

    def _rolled_up(self, records: list[Mapping[str, Any]], _attempts: int, _rules: Rules, dry_run: bool) -> Counts:
        """Do what the roll-up function does. A batch of which anything failed is left as a whole."""
        size = len(records)
        if dry_run:
            return Counts(redriven=size, records=size, ready=size)
        found = self.aggregator.roll_up(records, time.monotonic() + PATIENCE_SECONDS)
        never = dict(Counter(f"no roll-up: {each} (then run `processor verify --fix`)" for each in found.invalid))
        if found.errors:
            return Counts(redriven=size, records=size, left=size, error=found.errors[0])
        return Counts(redriven=size, records=size, rolled_up=size, reasons=never)


def _source(failure: Mapping[str, Any]) -> str:
    return next(source for source, info in INFO.items() if info in failure)


def _failure(key: str, tag: str, found: Mapping[str, Any]) -> Failure:
    context, source = found["requestContext"], _source(found)
    info = found[INFO[source]]
    records = orjson.loads(found["payload"])["Records"] if "payload" in found else None
    for record in records or ():
        _CHECKS[source](record)
    return Failure(
        key,
        tag,
        source,
        context["condition"],
        info["shardId"],
        info["startSequenceNumber"],
        info["endSequenceNumber"],
        info["batchSize"],
        round(datetime.fromisoformat(info["approximateArrivalOfFirstRecord"]).timestamp() * 1000),
        context["approximateInvokeCount"],
        found.get("attempts", 1),
        records,
    )


def _check_kinesis(record: Mapping[str, Any]) -> None:
    _ = record["eventID"], record["kinesis"]["data"], record["kinesis"]["sequenceNumber"]
    _ = record["kinesis"]["approximateArrivalTimestamp"] * 1000


def _check_dynamodb(record: Mapping[str, Any]) -> None:
    _ = record["eventName"], record["dynamodb"]["Keys"]["device"]["S"], record["dynamodb"]["SequenceNumber"]
    _ = record["dynamodb"]["Keys"]["slot"]["N"].isdigit()  # a text, at least: what it says is the roll-up's to judge


_CHECKS: Mapping[str, Callable[[Mapping[str, Any]], None]] = {"Kinesis": _check_kinesis, "DynamoDB": _check_dynamodb}
