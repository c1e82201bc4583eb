"""DynamoDB tables in memory, behind the store's client interface: for runs under a virtual clock, and for tests.

They know the operations, expressions and rules that this package leans on, and refuse whatever else they are asked:
SET of values and of `if_not_exists`; conditions of `=`, `<=`, `attribute_not_exists`, AND and OR; queries by device and
range; parallel scans; the limits of an item and of an expression. Pages are small, so that every reader has to follow
them.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import orjson

from processor.errors import InvalidWrite, StoreError, TransientError
from processor.store.tables import SPECIFICATIONS, AttributeValue
from processor.store.units import item_size, write_units

Item = dict[str, AttributeValue]
Key = tuple[str, ...]

MAXIMUM_ITEM = 400 * 1024
MAXIMUM_EXPRESSION = 4096
PAGE = 3

_SET = re.compile(r"(#\w+)\s*=\s*(?:(:\w+)|if_not_exists\((#\w+),\s*(:\w+)\))")
_CONDITION = re.compile(r"attribute_not_exists\((#\w+)\)|(#\w+)\s*(<=|=)\s*(:\w+)")


class MemoryDynamoDB:
    """Every table of tables.json, empty. Safe for threads.

    prefix: what the tables' names start with. changed: gets each change of a table as (noun, event name, key) while the
    tables are locked: as the stream would, nothing where an update left the item as it was. fault: is asked before each
    operation and raises what the service should answer. page: items of an answer, at most.
    """

    def __init__(
        self,
        prefix: str = "processor-",
        *,
        changed: Callable[[str, str, Item], None] | None = None,
        fault: Callable[[str, Mapping[str, Any]], None] | None = None,
        page: int = PAGE,
    ) -> None:
        self.tables: dict[str, dict[Key, Item]] = {noun: {} for noun in SPECIFICATIONS}
        self.changed = changed
        self.fault = fault
        self._prefix = prefix
        self._most = page
        self._lock = threading.RLock()

    def call(self, operation: str, body: Mapping[str, Any], *, deadline: float | None = None) -> dict[str, Any]:
        """Answer one request; see `store.wire.Client`."""
        del deadline
        if self.fault is not None:
            self.fault(operation, body)
        do: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
            "UpdateItem": self._update_item,
            "DeleteItem": self._delete_item,
            "Query": self._query,
            "Scan": self._scan,
            "BatchGetItem": self._batch_get_item,
        }
        if operation not in do:
            raise StoreError("UnknownOperationException", f"{operation} is not made here: {sorted(do)}")
        with self._lock:
            return do[operation](body)

    def close(self) -> None:
        """Close nothing."""

    def expire(self, noun: str, before: float) -> list[Item]:
        """Delete what expired before that time (epoch seconds), as DynamoDB does; return the keys."""
        with self._lock:
            table = self.tables[noun]
            gone = [key for key, item in table.items() if "expires" in item and int(item["expires"]["N"]) < before]
            return [self._key_of(noun, table.pop(key)) for key in gone]

    def _table(self, name: str) -> tuple[str, dict[Key, Item]]:
        noun = name.removeprefix(self._prefix)
        if noun not in self.tables or noun == name:
            raise TransientError("ResourceNotFoundException", f"there is no table {name}")
        return noun, self.tables[noun]

    def _key_of(self, noun: str, item: Mapping[str, AttributeValue]) -> Item:
        specification = SPECIFICATIONS[noun]
        names = [specification[kind]["name"] for kind in ("hash_key", "range_key") if kind in specification]
        return {name: item[name] for name in names}

    def _update_item(self, body: Mapping[str, Any]) -> dict[str, Any]:
        noun, table = self._table(body["TableName"])
        if len(body["UpdateExpression"]) > MAXIMUM_EXPRESSION:
            raise InvalidWrite("ValidationException", "Expression size has exceeded the maximum allowed size")
        key = _key(body["Key"])
        before = table.get(key)
        if not self._holds(body, before or {}):
            raise StoreError("ConditionalCheckFailedException", "The conditional request failed", status=400)
        after, touched = self._set(body, before or dict(body["Key"]))
        if item_size(after) > MAXIMUM_ITEM:
            raise InvalidWrite("ValidationException", "Item size to update has exceeded the maximum allowed size")
        table[key] = after
        if after != before and self.changed is not None:
            self.changed(noun, "INSERT" if before is None else "MODIFY", self._key_of(noun, after))
        old = before or {}
        wanted = {
            "ALL_OLD": old,
            "UPDATED_OLD": {name: old[name] for name in touched if name in old},
        }.get(body.get("ReturnValues", "NONE"), {})
        units = write_units(item_size(old) if old else 0, item_size(after))
        return {"Attributes": _copy(wanted), "ConsumedCapacity": {"CapacityUnits": float(units)}}

    def _set(self, body: Mapping[str, Any], before: Item) -> tuple[Item, list[str]]:
        expression = body["UpdateExpression"]
        if not expression.startswith("SET ") or _SET.sub("", expression[4:]).strip(" ,"):
            raise InvalidWrite("ValidationException", f"not understood here: {expression[:200]}")
        names, values = body["ExpressionAttributeNames"], body["ExpressionAttributeValues"]
        after, touched = dict(before), []
        for target, value, source, default in _SET.findall(expression):
            name = names[target]
            touched.append(name)
            if value:
                after[name] = values[value]
            else:
                after[name] = before.get(names[source], values[default])
        return after, touched

    def _holds(self, body: Mapping[str, Any], item: Mapping[str, AttributeValue]) -> bool:
        expression = body.get("ConditionExpression")
        if expression is None:
            return True
        if _CONDITION.sub("", expression).replace("OR", "").replace("AND", "").strip():
            raise InvalidWrite("ValidationException", f"not understood here: {expression}")
        names, values = body["ExpressionAttributeNames"], body.get("ExpressionAttributeValues", {})

        def true(absent: str, name: str, operator: str, value: str) -> bool:
            there = item.get(names[absent or name])
            if absent or there is None:
                return bool(absent) and there is None
            wanted = values[value]
            if "N" not in there or "N" not in wanted:  # what is of another type is neither equal nor less
                return bool(there == wanted)
            one, other = Decimal(there["N"]), Decimal(wanted["N"])
            return one == other or (operator == "<=" and one < other)

        return any(all(true(*each) for each in _CONDITION.findall(part)) for part in expression.split(" OR "))

    def _delete_item(self, body: Mapping[str, Any]) -> dict[str, Any]:
        noun, table = self._table(body["TableName"])
        if table.pop(_key(body["Key"]), None) is not None and self.changed is not None:
            self.changed(noun, "REMOVE", self._key_of(noun, body["Key"]))
        return {}

    def _batch_get_item(self, body: Mapping[str, Any]) -> dict[str, Any]:
        answer = {}
        for name, wanted in body["RequestItems"].items():
            _, table = self._table(name)
            keys = [_key(key) for key in wanted["Keys"]]
            if len(keys) > 100 or len(set(keys)) < len(keys):
                raise InvalidWrite("ValidationException", "Too many items requested, or one twice")
            answer[name] = [_copy(table[key]) for key in keys if key in table]
        return {"Responses": answer, "UnprocessedKeys": {}}

    def _query(self, body: Mapping[str, Any]) -> dict[str, Any]:
        noun, table = self._table(body["TableName"])
        values = body["ExpressionAttributeValues"]
        first, last = (int(values[mark]["N"]) if mark in values else None for mark in (":a", ":b"))
        place = SPECIFICATIONS[noun]["range_key"]["name"]
        sign = 1 if body.get("ScanIndexForward", True) else -1

        def rank(item: Item) -> int:
            return sign * int(item[place]["N"])

        found = [item for key, item in table.items() if key[0] == values[":d"]["S"]]
        found = [item for item in found if first is None or last is None or first <= int(item[place]["N"]) <= last]
        return self._page(noun, found, body, rank)

    def _scan(self, body: Mapping[str, Any]) -> dict[str, Any]:
        noun, table = self._table(body["TableName"])
        keys = sorted(table)[body.get("Segment", 0) :: body.get("TotalSegments", 1)]
        return self._page(noun, [table[key] for key in keys], body, lambda item: _key(self._key_of(noun, item)))

    def _page(
        self, noun: str, items: list[Item], body: Mapping[str, Any], rank: Callable[[Item], Any]
    ) -> dict[str, Any]:
        """Return the next page of the items, ordered by `rank`."""
        start = body.get("ExclusiveStartKey")
        left = sorted((item for item in items if start is None or rank(item) > rank(start)), key=rank)
        answer: dict[str, Any] = {"Items": _copy(left[: self._most])}
        if len(left) > self._most:
            answer["LastEvaluatedKey"] = self._key_of(noun, left[self._most - 1])
        return answer


def _copy(value: Any) -> Any:
    """Return a copy, by way of the JSON that the wire has: a tenth of deepcopy's time."""
    return orjson.loads(orjson.dumps(value))


def _key(key: Mapping[str, AttributeValue]) -> Key:
    return tuple(next(iter(value.values())) for value in key.values())
