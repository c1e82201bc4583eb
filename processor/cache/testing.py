"""A table in memory, to test code that uses a cache without AWS: `Cache("any", client=MemoryTable())`.

It knows the operations and the expressions that the cache uses, no more. Time stands still for it: it deletes nothing
by itself, and `expire(now)` deletes what DynamoDB may have deleted by then.
"""

from __future__ import annotations

import re
import threading
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from processor.errors import InvalidWrite, StoreError
from processor.store.units import item_size

Item = dict[str, Any]

ITEM_BYTES = 400 * 1024
TOKEN = re.compile(r"\s*([#:]\w+|\w+|<=|>=|[()=<>,+])")


class MemoryTable:
    """A DynamoDB client with one table in memory, whatever its name; safe to share between threads.

    `before` and `after` are called with each operation and its body, and may raise what the service should answer:
    before it is carried out, or after, so that only the answer is lost. `page` items make a page of a Scan.
    """

    def __init__(self, page: int = 100) -> None:
        self.items: dict[str, Item] = {}
        self.calls: list[str] = []
        self.before: Callable[[str, Mapping[str, Any]], object] = lambda *_: None
        self.after: Callable[[str, Mapping[str, Any]], object] = lambda *_: None
        self._page = page
        self._lock = threading.RLock()

    def call(self, operation: str, body: Mapping[str, Any], *, deadline: float | None = None) -> dict[str, Any]:  # noqa: ARG002
        """Carry out one request; see `processor.store.wire.Client`."""
        self.before(operation, body)
        with self._lock:
            self.calls.append(operation)
            answer: dict[str, Any] = getattr(self, f"_{operation}")(body)
        self.after(operation, body)
        return answer

    def close(self) -> None:
        """Do nothing: the items stay."""

    def expire(self, now: float) -> None:
        """Delete the items whose time to live is over, as DynamoDB does some time later."""
        with self._lock:
            expired = [key for key, item in self.items.items() if float(item.get("expires", {}).get("N", "inf")) <= now]
            for key in expired:
                del self.items[key]

    def _GetItem(self, body: Mapping[str, Any]) -> Item:  # noqa: N802 - AWS's names, here and below
        item = self.items.get(body["Key"]["key"]["S"])
        return {} if item is None else {"Item": dict(item)}

    def _PutItem(self, body: Mapping[str, Any]) -> Item:  # noqa: N802
        item = body["Item"]
        before = self.items.get(item["key"]["S"], {})
        self._check(body, before)
        self._store(item)
        return _old(body, before)

    def _DeleteItem(self, body: Mapping[str, Any]) -> Item:  # noqa: N802
        key = body["Key"]["key"]["S"]
        before = self.items.get(key, {})
        self._check(body, before)
        self.items.pop(key, None)
        return _old(body, before)

    def _UpdateItem(self, body: Mapping[str, Any]) -> Item:  # noqa: N802
        before = self.items.get(body["Key"]["key"]["S"], {})
        self._check(body, before)
        item = {**body["Key"], **before}
        setting, _, removing = body["UpdateExpression"].partition("REMOVE")
        assignments = [part.partition("=") for part in setting.removeprefix("SET").split(",") if part.strip()]
        for name, _, value in assignments:
            item[_name(body, name.strip())] = Evaluation(value, body, before).sum()
        for name in filter(None, map(str.strip, removing.split(","))):
            item.pop(_name(body, name), None)
        self._store(item)
        return {"Attributes": dict(item)} if body.get("ReturnValues") == "ALL_NEW" else {}

    def _BatchGetItem(self, body: Mapping[str, Any]) -> Item:  # noqa: N802
        ((table, asked),) = body["RequestItems"].items()
        keys = [key["key"]["S"] for key in asked["Keys"]]
        _valid(0 < len(set(keys)) == len(keys) <= 100, "1 to 100 keys, none twice")
        found = [dict(self.items[key]) for key in keys if key in self.items]
        return {"Responses": {table: found}, "UnprocessedKeys": {}}

    def _BatchWriteItem(self, body: Mapping[str, Any]) -> Item:  # noqa: N802
        ((_, requests),) = body["RequestItems"].items()
        puts = [each["PutRequest"]["Item"] for each in requests if "PutRequest" in each]
        deletes = [each["DeleteRequest"]["Key"]["key"]["S"] for each in requests if "DeleteRequest" in each]
        keys = {item["key"]["S"] for item in puts} | set(deletes)
        _valid(0 < len(keys) == len(requests) <= 25, "1 to 25 requests, no key twice")
        for item in puts:
            self._store(item)
        for key in deletes:
            self.items.pop(key, None)
        return {"UnprocessedItems": {}}

    def _Scan(self, body: Mapping[str, Any]) -> Item:  # noqa: N802
        keys = sorted(key for key in self.items if sum(key.encode()) % body["TotalSegments"] == body["Segment"])
        last = body.get("ExclusiveStartKey", {}).get("key", {}).get("S", "")
        keys = [key for key in keys if key > last]
        page = keys[: self._page]
        items = [self.items[key] for key in page if Evaluation(body["FilterExpression"], body, self.items[key]).holds()]
        answer: Item = {"Items": [{"key": item["key"]} for item in items]}
        return answer | ({"LastEvaluatedKey": {"key": {"S": page[-1]}}} if len(keys) > len(page) else {})

    def _check(self, body: Mapping[str, Any], item: Item) -> None:
        condition = body.get("ConditionExpression")
        if condition and not Evaluation(condition, body, item).holds():
            raise StoreError("ConditionalCheckFailedException", "The conditional request failed", status=400)

    def _store(self, item: Item) -> None:
        _valid(item_size(item) <= ITEM_BYTES, "Item size has exceeded the maximum allowed size")
        self.items[item["key"]["S"]] = dict(item)


class Evaluation:
    """Evaluates one expression, by recursive descent, on an item."""

    def __init__(self, expression: str, body: Mapping[str, Any], item: Item) -> None:
        self._tokens: Iterator[str] = iter([*TOKEN.findall(expression), ""])
        self._next = next(self._tokens)
        self._body = body
        self._item = item

    def holds(self) -> bool:
        """Return whether the condition holds."""
        result = self._any()
        _valid(self._next == "", f"unexpected {self._next}")
        return result

    def sum(self) -> Item:
        """Return the value of an operand, or of a sum of two, on the right of a SET."""
        left = self._operand()
        _valid(left is not None, "the expression refers to an attribute that does not exist")
        if self._next != "+":
            return dict(left or {})
        self._take()
        return {"N": str(int((left or {})["N"]) + int((self._operand() or {})["N"]))}

    def _take(self, expected: str | None = None) -> str:
        token = self._next
        _valid(expected in (None, token), f"{expected} expected, not {token}")
        self._next = next(self._tokens, "")
        return token

    def _any(self) -> bool:
        result = self._all()
        while self._next == "OR":
            self._take()
            result = self._all() or result
        return result

    def _all(self) -> bool:
        result = self._term()
        while self._next == "AND":
            self._take()
            result = self._term() and result
        return result

    def _term(self) -> bool:
        if self._next == "(":
            self._take()
            result = self._any()
            self._take(")")
            return result
        if self._next in ("attribute_exists", "attribute_not_exists"):
            wanted = self._take() == "attribute_exists"
            self._take("(")
            name = _name(self._body, self._take())
            self._take(")")
            return (name in self._item) is wanted
        if self._next == "begins_with":
            self._take()
            self._take("(")
            value = self._operand()
            self._take(",")
            prefix = self._operand()
            self._take(")")
            return value is not None and prefix is not None and value["S"].startswith(prefix["S"])
        left, operator, right = self._operand(), self._take(), self._operand()
        if left is None or right is None:
            return False  # what is not there compares with nothing
        if operator == "=":
            return left == right
        a, b = int(left["N"]), int(right["N"])
        return a <= b if operator == "<=" else a > b

    def _operand(self) -> Item | None:
        token = self._take()
        if token.startswith(":"):
            value: Item = self._body["ExpressionAttributeValues"][token]
            if "B" in value:
                b64decode(value["B"], validate=True)
            return value
        return self._item.get(_name(self._body, token))


def _old(body: Mapping[str, Any], before: Item) -> Item:
    return {"Attributes": dict(before)} if before and body.get("ReturnValues") == "ALL_OLD" else {}


def _name(body: Mapping[str, Any], alias: str) -> str:
    _valid(alias.startswith("#"), f"{alias} is no alias")
    name: str = body["ExpressionAttributeNames"][alias]
    return name


def _valid(condition: bool, message: str) -> None:
    if not condition:
        raise InvalidWrite("ValidationException", message, status=400)
