"""What a mapping needs of a stream, be it Kinesis' or DynamoDB's: its shards, positions in them, and their records.

Each kind of stream is an adapter over its boto3 client (`kinesis_stream`, `dynamodb_stream`): all that differs between
the two is in there, and what a mapping does with the records is the same for both.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from processor.errors import LocalError


class Record(NamedTuple):
    """One record of a shard.

    `order_key`: records that share it are delivered in order (the partition key, or the item's keys). `arrival`:
    seconds since 1970. `event`: the record's part of the invocation's JSON. `matched` is False for what the filter
    criteria leave out.
    """

    sequence_number: str
    order_key: str
    arrival: float
    event: bytes
    matched: bool = True

    @property
    def sequence(self) -> int:
        """The sequence number to compare by: as texts, those of unequal length would sort wrongly."""
        return int(self.sequence_number)


class Start(NamedTuple):
    """Where to begin in a shard: a GetShardIterator type and what goes with it (`timestamp`: seconds since 1970)."""

    type: str
    sequence_number: str | None = None
    timestamp: float | None = None


class Page(NamedTuple):
    """What one GetRecords call gave.

    `next_iterator` is None where a closed shard was read to its end. `more`: there is known to be more to read now;
    `at_tip`: there is known to be none. `millis_behind`: the time between the last record read and the tip.
    """

    records: list[Record]
    next_iterator: str | None
    more: bool
    at_tip: bool
    millis_behind: int


BATCH_INFO = {"kinesis": "KinesisBatchInfo", "dynamodb": "DDBStreamBatchInfo"}
"""What a failure record calls the part about the batch, by the service in the stream's ARN."""

_ARNS = {
    "kinesis": ("arn:aws:kinesis:REGION:ACCOUNT:stream/NAME", re.compile("stream/.+")),
    "dynamodb": ("arn:aws:dynamodb:REGION:ACCOUNT:table/NAME/stream/LABEL", re.compile("table/[^/]+/stream/.+")),
}


@dataclass(frozen=True)
class EventSource:
    """Where a mapping's records come from, and the function they go to."""

    stream_arn: str
    service: str
    region: str
    function_arn: str
    role_arn: str

    @classmethod
    def of(cls, stream_arn: str, function_name: str) -> EventSource:
        """Return the source of a stream whose function and role live in the stream's own account and region."""
        parts = stream_arn.split(":", 5)
        if len(parts) != 6 or parts[2] not in _ARNS or not _ARNS[parts[2]][1].fullmatch(parts[5]):
            known = " or ".join(shape for shape, _ in _ARNS.values())
            raise LocalError(f"a stream's ARN looks like {known}, not {stream_arn!r}")
        _, partition, service, region, account, _ = parts
        return cls(
            stream_arn,
            service,
            region,
            f"arn:{partition}:lambda:{region}:{account}:function:{function_name}",
            f"arn:{partition}:iam::{account}:role/{function_name}",
        )


class Stream(Protocol):
    """One stream. Its calls raise botocore's ClientError and BotoCoreError as they come; `open` is called first."""

    source: EventSource
    retention_seconds: float

    def open(self) -> None:
        """Learn the stream's ARN and retention. Raises LocalError for what is no stream's ARN."""

    def shards(self) -> dict[str, tuple[str, ...]]:
        """Return every shard that is listed, closed ones included, by its id, with the ids of its parents."""

    def iterator(self, shard_id: str, start: Start) -> str:
        """Return an iterator at that place of the shard."""

    def read(self, shard_id: str, iterator: str) -> Page:
        """Return what lies behind the iterator."""
