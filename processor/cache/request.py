"""Requests to one table: expressions with their names filled in, batches until nothing is left unprocessed."""

from __future__ import annotations

import random
import re
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

from processor.errors import StoreError, TransientError
from processor.store.wire import Client

T = TypeVar("T")
Item = dict[str, Any]
"""An item in DynamoDB's JSON, `{"key": {"S": "…"}}`."""

GET_BATCH, WRITE_BATCH = 100, 25
"""Keys that one BatchGetItem takes, and requests that one BatchWriteItem takes; 25 items stay below its 16 MB."""
FRUITLESS = 8
"""Batches in a row without any progress after which it is an error."""
BASE, CAP = 0.025, 1.0
"""Seconds: limits of the pause after a fruitless batch, drawn with full jitter."""
CONDITION_FAILED = "ConditionalCheckFailedException"

_NAME = re.compile(r"#(\w+)")
_EXPRESSIONS = ("ConditionExpression", "UpdateExpression", "FilterExpression", "ProjectionExpression")


class Table:
    """One table behind a client; `timeout` is in seconds, for one request with its retries."""

    def __init__(self, client: Client, name: str, timeout: float, sleep: Callable[[float], object]) -> None:
        self.name = name
        self._client = client
        self._timeout = timeout
        self._sleep = sleep

    def call(
        self,
        operation: str,
        *,
        values: Mapping[str, Any] | None = None,
        names: Mapping[str, str] | None = None,
        **body: Any,
    ) -> dict[str, Any]:
        """Send a request to the table. In expressions `#x` is the attribute x, or `names["x"]`; `:x` is `values["x"]`.

        Raises StoreError.
        """
        expressions = [body[name] for name in _EXPRESSIONS if name in body]
        used = {found for each in expressions for found in _NAME.findall(each)}
        if used:
            body["ExpressionAttributeNames"] = {f"#{name}": (names or {}).get(name, name) for name in used}
        if values:
            body["ExpressionAttributeValues"] = {f":{name}": value for name, value in values.items()}
        return self._send(operation, {"TableName": self.name, **body})

    def conditionally(self, operation: str, **body: Any) -> bool:
        """Send a request with a condition, and tell whether the condition held."""
        try:
            self.call(operation, **body)
        except StoreError as error:
            if error.code != CONDITION_FAILED:
                raise
            return False
        return True

    def get(self, key: str, *, consistent: bool) -> Item | None:
        """Return an item, or None."""
        return self.call("GetItem", Key={"key": {"S": key}}, ConsistentRead=consistent).get("Item")

    def get_batch(self, keys: Iterable[str], *, consistent: bool) -> dict[str, Item]:
        """Return the items there are, by key: at most GET_BATCH keys, each asked for once."""
        asked: dict[str, Any] = {"Keys": [{"key": {"S": key}} for key in dict.fromkeys(keys)]}
        asked["ConsistentRead"] = consistent
        found = {}

        def round_(asked: dict[str, Any]) -> tuple[dict[str, Any] | None, int]:
            answer = self._send("BatchGetItem", {"RequestItems": {self.name: asked}})
            items = answer.get("Responses", {}).get(self.name, ())
            found.update({item["key"]["S"]: item for item in items})
            return answer.get("UnprocessedKeys", {}).get(self.name), len(items)

        if asked["Keys"]:
            self._until_processed("BatchGetItem", asked, round_)
        return found

    def write_batch(self, requests: Sequence[Item]) -> None:
        """Carry out put and delete requests: at most WRITE_BATCH, no key twice."""

        def round_(asked: Sequence[Item]) -> tuple[Sequence[Item] | None, int]:
            answer = self._send("BatchWriteItem", {"RequestItems": {self.name: asked}})
            left = answer.get("UnprocessedItems", {}).get(self.name)
            return left, len(asked) - len(left or ())

        if requests:
            self._until_processed("BatchWriteItem", requests, round_)

    def write_all(self, requests: Iterable[Item]) -> None:
        """Carry out any number of put and delete requests, batch after batch."""
        for batch in sliced(requests, WRITE_BATCH):
            self.write_batch(batch)

    def _send(self, operation: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return self._client.call(operation, body, deadline=time.monotonic() + self._timeout)

    def _until_processed(self, operation: str, asked: T, round_: Callable[[T], tuple[T | None, int]]) -> None:
        """Send what is left again, pausing when nothing of it was processed. DynamoDB leaves some when it is busy."""
        left: T | None = asked
        fruitless = 0
        while left:
            left, progress = round_(left)
            fruitless = 0 if progress else fruitless + 1
            if left and fruitless >= FRUITLESS:
                raise TransientError("UnprocessedKeys", f"{operation}: {fruitless} times nothing was processed")
            if left and fruitless:
                self._sleep(random.random() * min(CAP, BASE * 2**fruitless))  # noqa: S311 - no secret


def sliced(things: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield things in lists of at most `size`."""
    iterator = iter(things)
    while part := list(islice(iterator, size)):
        yield part


def number(value: int) -> dict[str, str]:
    """Return a whole number as an attribute value."""
    return {"N": str(value)}


def binary(value: bytes) -> dict[str, str]:
    """Return bytes as an attribute value."""
    return {"B": b64encode(value).decode()}


def unbinary(value: Mapping[str, str]) -> bytes:
    """Return the bytes of an attribute value."""
    return b64decode(value["B"])


def put(item: Item) -> Item:
    """Return BatchWriteItem's request to put an item."""
    return {"PutRequest": {"Item": item}}


def delete(key: str) -> Item:
    """Return BatchWriteItem's request to delete an item."""
    return {"DeleteRequest": {"Key": {"key": {"S": key}}}}
