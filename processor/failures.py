"""What the event source mapping gave up: whole batches in S3, listed, and handled once more.

Lambda names an object aws/lambda/MAPPING/SHARD/YYYY/MM/DD/TIME-UUID and writes into it why it gave the batch up and, as
`payload`, the event itself: the text of its JSON. Source: AWS Lambda Developer Guide, "Retain discarded batch records
for a Kinesis Data Streams event source".

A redrive does to a batch what ingest does: it stores what can be stored, quarantines what never can, with the reason,
and only then removes the object. Where anything could not be written just now, the object stays.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple

import orjson

from processor.batch import Batch
from processor.decode.gateways import ALL, Known
from processor.errors import SourceError
from processor.objects import whole
from processor.quarantine import Quarantine
from processor.redrive import EVERYTHING, Counts
from processor.rules import Rules
from processor.selection import Selection, devices_of
from processor.store.writer import Writer

PREFIX = "aws/lambda/"
THREADS = 8
AHEAD = 8
"""So many objects, of up to 6 MB each, are read ahead."""


def key_of(failure: Mapping[str, Any], mapping: str) -> str:
    """Return the name that Lambda gives to the object of what a mapping gave up."""
    info = failure.get("KinesisBatchInfo") or failure["DDBStreamBatchInfo"]
    at = datetime.fromisoformat(failure["timestamp"])
    return (
        f"{PREFIX}{mapping}/{info['shardId']}/{at:%Y/%m/%d}/{at:%Y-%m-%dT%H.%M.%S}-"
        f"{failure['requestContext']['requestId']}"
    )


class Failure(NamedTuple):
    """One batch that was given up.

    condition: why (`RetryAttemptsExhausted`, `RecordAgeExceeded`). first, last: sequence numbers. arrived: when its
    first record arrived, ms since 1970. invocations: how often the function was tried. records: those of the event;
    None where the batch came from another source than Kinesis.
    """

    key: str
    condition: str
    shard: str
    first: str
    last: str
    size: int
    arrived: int
    invocations: int
    records: list[Mapping[str, Any]] | None


class Failures:
    """The mapping's failure destination: an S3 prefix. client: makes a boto3 S3 client; called once, when needed."""

    def __init__(self, bucket: str, client: Callable[[], Any], prefix: str = PREFIX) -> None:
        self._bucket = bucket
        self._prefix = prefix
        self._make = client
        self._made: Any = None

    @property
    def _client(self) -> Any:
        if self._made is None:
            self._made = self._make()
        return self._made

    def keys(self) -> Iterator[str]:
        """Yield every object's name."""
        for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix):
            for entry in page.get("Contents", ()):
                yield entry["Key"]

    def read(self, key: str) -> Failure | None:
        """Return one object; None where it is gone. Raises SourceError for one that Lambda did not write."""
        try:
            body = whole(self._client.get_object(Bucket=self._bucket, Key=key)["Body"], key)
        except self._client.exceptions.NoSuchKey:
            return None
        try:
            return _failure(key, orjson.loads(body))
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

    def remove(self, failure: Failure) -> None:
        """Remove a batch that has been handled."""
        self._client.delete_object(Bucket=self._bucket, Key=failure.key)


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
        selection.device in devices
        for record in failure.records or ()
        for devices in devices_of(record["kinesis"]["data"], failure.arrived, known)
    )


class FailuresRedrive:
    """Handles batches that were given up once more. The clients are passed in; clock: epoch seconds."""

    def __init__(
        self,
        failures: Failures,
        quarantine: Quarantine,
        writer: Writer,
        rules: Rules,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._failures = failures
        self._quarantine = quarantine
        self._writer = writer
        self._rules = rules
        self._clock = clock

    def redrive(
        self,
        selection: Selection = EVERYTHING,
        *,
        dry_run: bool = False,
        progress: Callable[[Counts], None] = lambda _: None,
    ) -> tuple[Counts, list[str]]:
        """Handle the batches that are meant; return what became of them, and the objects that stay.

        What can never be stored is counted as failed again, and is in quarantine. A batch of another source than
        Kinesis (the roll-ups', say) stays. Raises whatever S3 answers, and SourceError for an object that Lambda did
        not write: what was done until then is done.
        """
        counts, stay = Counts(), []
        rules = self._rules.historic(learn=not dry_run)
        for failure in self._failures.all(selection, rules.known):
            if failure.records is None:
                stay.append(failure.key)
                continue
            batch = Batch(failure.records, rules)
            if dry_run:
                batch.decode()
                batch.expire(self._clock())
            else:
                batch.store(self._writer, now=self._clock())
                self._quarantine.put((batch.records[place], found) for place, found in batch.rejections.items())
            if batch.failed or dry_run:
                stay.append(failure.key)
            else:
                self._failures.remove(failure)
            counts.add(Counts.of(batch))
            progress(counts)
        return counts, stay


def _failure(key: str, found: Mapping[str, Any]) -> Failure:
    context = found["requestContext"]
    kinesis = "KinesisBatchInfo" in found
    info = found["KinesisBatchInfo" if kinesis else "DDBStreamBatchInfo"]
    records = orjson.loads(found["payload"])["Records"] if kinesis else None
    for record in records or ():
        _ = record["eventID"], record["kinesis"]["data"], record["kinesis"]["sequenceNumber"]
        _ = record["kinesis"]["approximateArrivalTimestamp"] * 1000
    return Failure(
        key,
        context["condition"],
        info["shardId"],
        info["startSequenceNumber"],
        info["endSequenceNumber"],
        info["batchSize"],
        round(datetime.fromisoformat(info["approximateArrivalOfFirstRecord"]).timestamp() * 1000),
        context["approximateInvokeCount"],
        records,
    )
