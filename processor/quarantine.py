"""Rejected records: kept whole in S3, with the reason, listed, and taken out when they are redriven.

One object per batch and shard, JSON Lines, a line per record:

    {"shard": …, "sequence_number": …, "partition_key": …, "arrived_at": ms, "stream": ARN, "data": base64,
     "rejected": [{"index": n, "reason": …, "message": …}, …], "attempts": 1}

`index` counts the record's advertisements; null means that the record could not be opened at all. The object is
named by the first and the last rejected sequence number and by a hash of its content, and put only where there is none
of that name. So a batch that is retried adds nothing: what it rejects is there, or (with more attempts) what is left of
it, or it is stored, and comes in once more to be found a duplicate. A batch that is retried otherwise adds an object
beside; readers count a (shard, sequence number) once, with all the indexes ever rejected and the most attempts. What
`processor failures redrive` rejects again has one attempt more, so another name: once it is there, the objects of the
same records that say less are removed.

An object changes only whole and only if it is still what was read (If-Match): whoever redrives and dies leaves it as it
was or as it shall be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, NamedTuple

import orjson

from processor.errors import SourceError
from processor.objects import Objects

PREFIX = "quarantine/"
CONTENT_TYPE = "application/x-ndjson"
HASH_BYTES = 8

FIELDS = frozenset(
    ("shard", "sequence_number", "partition_key", "arrived_at", "stream", "data", "rejected", "attempts")
)


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why one advertisement (or, where `index` is None, one whole record) cannot be stored."""

    index: int | None
    reason: str
    message: str


class Kept(NamedTuple):
    """An object of quarantine as it was read: its name, what tells whether it changed since, and its lines."""

    key: str
    tag: str
    lines: list[dict[str, Any]]


class Quarantine:
    """Where rejected records are kept: an S3 prefix.

    client: makes a boto3 S3 client; called once, at the first rejection, because nearly no batch needs one.
    """

    def __init__(self, bucket: str, client: Callable[[], Any], prefix: str = PREFIX) -> None:
        self._objects = Objects(bucket, client, prefix)

    def put(self, records: Iterable[tuple[Mapping[str, Any], list[Rejection]]], attempts: int = 1) -> None:
        """Keep records of one batch (as the event has them), each with its rejections.

        attempts: how often they have been tried. Where that is more than once, objects of the same records that say
        nothing else are then removed. Raises whatever S3 answers: then nothing may be taken for handled.
        """
        shards: dict[str, list[dict[str, Any]]] = {}
        for record, rejections in records:
            line = _line(record, rejections, attempts)
            shards.setdefault(line["shard"], []).append(line)
        for shard, lines in shards.items():
            lines.sort(key=lambda line: int(line["sequence_number"]))
            day = datetime.fromtimestamp(lines[0]["arrived_at"] / 1000, UTC).strftime("%Y/%m/%d")
            first, last = lines[0]["sequence_number"], lines[-1]["sequence_number"]
            body = _body(lines)
            beginning = f"{self._objects.prefix}{day}/{shard}/{first}-{last}-"
            key = f"{beginning}{blake2b(body, digest_size=HASH_BYTES).hexdigest()}.jsonl"
            self._objects.create(key, body, CONTENT_TYPE)
            if attempts > 1:
                self._remove_older(beginning, key, lines)

    def entries(self, *, data: bool = True) -> Iterator[dict[str, Any]]:
        """Yield every quarantined record once, oldest day first, with all its rejections.

        data: with the records' own content, which needs as much memory as all of them have.
        """
        yield from merged(self._lines(data))

    def objects(self) -> Iterator[tuple[str, int]]:
        """Yield every object's name and size in bytes, oldest day first."""
        yield from self._objects.listed()

    def read(self, key: str) -> Kept | None:
        """Return an object; None where it is gone. Raises SourceError for one that is not quarantine's."""
        found = self._objects.read(key)
        if found is None:
            return None
        return Kept(key, found.tag, [_parsed(line, key, at) for at, line in _numbered(found.body)])

    def replace(self, kept: Kept, lines: list[dict[str, Any]]) -> bool:
        """Put other lines in an object's place, or remove it where there are none; whole, in one call.

        Return False, and do nothing, where it is not any more what was read.
        """
        return self._objects.replace(kept.key, kept.tag, _body(lines), CONTENT_TYPE)

    def _remove_older(self, beginning: str, key: str, lines: list[dict[str, Any]]) -> None:
        """Remove objects whose names begin so, other than that of the key, where these lines say all that they say.

        Each attempt has an object of its own, or there would be one more at each.
        """
        said = {line["sequence_number"]: line for line in lines}
        for other in [name for name, _ in self._objects.listed(beginning) if name != key]:
            kept = self.read(other)
            if kept is not None and all(_older(line, said.get(line["sequence_number"])) for line in kept.lines):
                self.replace(kept, [])

    def _lines(self, data: bool) -> Iterator[dict[str, Any]]:
        for key, _ in self.objects():
            kept = self.read(key)
            for line in () if kept is None else kept.lines:
                if not data:
                    del line["data"]
                yield line


def merged(lines: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return every record of these lines once, with all its rejections and the most attempts."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for line in lines:
        known = found.setdefault((line["shard"], line["sequence_number"]), line)
        if known is not line:
            indexes = {rejection["index"] for rejection in known["rejected"]}
            known["rejected"] += [each for each in line["rejected"] if each["index"] not in indexes]
            known["attempts"] = max(known["attempts"], line["attempts"])
    return list(found.values())


def record_of(line: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record of a line as the event had it, with its own time of arrival."""
    return {
        "kinesis": {
            "sequenceNumber": line["sequence_number"],
            "partitionKey": line["partition_key"],
            "approximateArrivalTimestamp": line["arrived_at"] / 1000,
            "data": line["data"],
        },
        "eventID": f"{line['shard']}:{line['sequence_number']}",
        "eventSourceARN": line["stream"],
    }


def _older(line: Mapping[str, Any], other: Mapping[str, Any] | None) -> bool:
    """Tell whether another line of the same record has more attempts, and all of the rejections."""
    if other is None or line["attempts"] >= other["attempts"]:
        return False
    return {each["index"] for each in line["rejected"]} <= {each["index"] for each in other["rejected"]}


def _numbered(body: bytes) -> Iterator[tuple[int, bytes]]:
    return ((number, line) for number, line in enumerate(body.split(b"\n"), 1) if line)


def _parsed(line: bytes, key: str, number: int) -> dict[str, Any]:
    try:
        found = orjson.loads(line)
        if type(found) is dict and found.keys() >= FIELDS:
            return found
    except orjson.JSONDecodeError:
        pass
    raise SourceError(
        f"{key}, line {number} is no quarantined record: it takes a JSON object with {', '.join(sorted(FIELDS))}. "
        "Somebody else wrote it: move the object out of quarantine"
    )


def _body(lines: Iterable[Mapping[str, Any]]) -> bytes:
    return b"".join(orjson.dumps(line) + b"\n" for line in lines)


def _line(record: Mapping[str, Any], rejections: list[Rejection], attempts: int) -> dict[str, Any]:
    kinesis = record["kinesis"]
    shard, _, _ = str(record.get("eventID", "")).partition(":")
    return {
        "shard": shard or "unknown",
        "sequence_number": kinesis["sequenceNumber"],
        "partition_key": kinesis.get("partitionKey"),
        "arrived_at": round(kinesis["approximateArrivalTimestamp"] * 1000),
        "stream": record.get("eventSourceARN"),
        "data": kinesis["data"],
        "rejected": [asdict(each) for each in rejections],
        "attempts": attempts,
    }
