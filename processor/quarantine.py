"""Rejected records: kept whole in S3, with the reason, and listed.

One object per batch and shard, JSON Lines, a line per record:

    {"shard": …, "sequence_number": …, "partition_key": …, "arrived_at": ms, "stream": ARN, "data": base64,
     "rejected": [{"index": n, "reason": …, "message": …}, …], "attempts": 1}

`index` counts the record's advertisements; null means that the record could not be opened at all. The object is
named by the first and the last rejected sequence number, so a batch that is retried writes the same object again;
readers count a (shard, sequence number) once, with all the indexes that were ever rejected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

PREFIX = "quarantine/"


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why one advertisement (or, where `index` is None, one whole record) cannot be stored."""

    index: int | None
    reason: str
    message: str


class Quarantine:
    """Where rejected records are kept: an S3 prefix.

    client: makes a boto3 S3 client; called once, at the first rejection, because nearly no batch needs one.
    """

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

    def put(self, records: Iterable[tuple[Mapping[str, Any], list[Rejection]]]) -> None:
        """Keep records of one invocation (as the event has them), each with its rejections.

        Raises whatever S3 answers: then nothing may be taken for handled.
        """
        shards: dict[str, list[dict[str, Any]]] = {}
        for record, rejections in records:
            line = _line(record, rejections)
            shards.setdefault(line["shard"], []).append(line)
        for shard, lines in shards.items():
            lines.sort(key=lambda line: int(line["sequence_number"]))
            day = datetime.fromtimestamp(lines[0]["arrived_at"] / 1000, UTC).strftime("%Y/%m/%d")
            first, last = lines[0]["sequence_number"], lines[-1]["sequence_number"]
            self._client.put_object(
                Bucket=self._bucket,
                Key=f"{self._prefix}{day}/{shard}/{first}-{last}.jsonl",
                Body=b"".join(orjson.dumps(line) + b"\n" for line in lines),
                ContentType="application/x-ndjson",
            )

    def entries(self, *, data: bool = True) -> Iterator[dict[str, Any]]:
        """Yield every quarantined record once, oldest day first, with all its rejections.

        data: with the records' own content, which needs as much memory as all of them have.
        """
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for line in self._lines():
            if not data:
                del line["data"]
            key = (line["shard"], line["sequence_number"])
            known = found.setdefault(key, line)
            if known is not line:
                indexes = {rejection["index"] for rejection in known["rejected"]}
                known["rejected"] += [each for each in line["rejected"] if each["index"] not in indexes]
                known["attempts"] = max(known["attempts"], line["attempts"])
        yield from found.values()

    def _lines(self) -> Iterator[dict[str, Any]]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix)
        for page in pages:
            for entry in page.get("Contents", ()):
                body = self._client.get_object(Bucket=self._bucket, Key=entry["Key"])["Body"].read()
                for line in body.splitlines():
                    yield orjson.loads(line)


def _line(record: Mapping[str, Any], rejections: list[Rejection]) -> dict[str, Any]:
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
        "attempts": 1,
    }
