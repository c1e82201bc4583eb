"""A tap on the stream of a table: which items it said were changed, from the moment the tap was made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

PAGES = 1000
"""So many pages of a shard are read before the others have their turn."""


class Tap:
    """Listens to one stream of DynamoDB. streams: a boto3 client of `dynamodbstreams`; it needs to be polled often.

    `items` is how often each item of our devices was in the stream: by device and slot.
    """

    def __init__(self, streams: Any, arn: str, prefix: str) -> None:
        self.items: Counter[tuple[str, int]] = Counter()
        self._streams = streams
        self._arn = arn
        self._prefix = prefix
        # Only what comes from now on, of the shards there are; of those to come, everything.
        self._iterators: dict[str, str | None] = {shard: self._iterator(shard, "LATEST") for shard in self._shards()}

    def poll(self) -> None:
        """Read what has come since."""
        for shard in self._shards():
            if shard not in self._iterators:
                self._iterators[shard] = self._iterator(shard, "TRIM_HORIZON")
        for shard, iterator in self._iterators.items():
            self._iterators[shard] = self._read(iterator)

    def _shards(self) -> Iterator[str]:
        arguments = {"StreamArn": self._arn}
        while True:
            description = self._streams.describe_stream(**arguments)["StreamDescription"]
            for shard in description["Shards"]:
                yield shard["ShardId"]
            if "LastEvaluatedShardId" not in description:
                return
            arguments["ExclusiveStartShardId"] = description["LastEvaluatedShardId"]

    def _iterator(self, shard: str, kind: str) -> str:
        answer = self._streams.get_shard_iterator(StreamArn=self._arn, ShardId=shard, ShardIteratorType=kind)
        found: str = answer["ShardIterator"]
        return found

    def _read(self, iterator: str | None) -> str | None:
        """Read on until there is nothing for now; return where to go on, None at the end of the shard."""
        for _ in range(PAGES):
            if iterator is None:
                return None
            answer = self._streams.get_records(ShardIterator=iterator)
            iterator = answer.get("NextShardIterator")
            if not answer["Records"]:
                break
            for record in answer["Records"]:
                keys = record["dynamodb"]["Keys"]
                device = keys["device"]["S"]
                if record["eventName"] != "REMOVE" and device.startswith(self._prefix):
                    self.items[device, int(keys["slot"]["N"])] += 1
        return iterator
