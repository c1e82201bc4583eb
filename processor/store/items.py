"""Items: page by page; by their keys, with what is left unread asked for again; one set on a condition."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from processor.errors import StoreError, TransientError
from processor.store.tables import AttributeValue
from processor.store.wire import Client

BATCH = 100
"""BatchGetItem takes at most so many keys."""

ROUNDS = 8

REFUSED = "ConditionalCheckFailedException"
NAME = re.compile(r"#(\w+)")


def pages(
    client: Client, operation: str, body: Mapping[str, Any], *, deadline: float | None = None
) -> Iterator[list[dict[str, AttributeValue]]]:
    """Yield the items of a Query or Scan, page by page, to its end."""
    while True:
        page = client.call(operation, body, deadline=deadline)
        yield page["Items"]
        if "LastEvaluatedKey" not in page:
            return
        body = {**body, "ExclusiveStartKey": page["LastEvaluatedKey"]}


def get_items(
    client: Client,
    table: str,
    keys: Iterable[dict[str, AttributeValue]],
    *,
    consistent: bool = False,
    deadline: float | None = None,
) -> Iterator[dict[str, AttributeValue]]:
    """Yield those of the items that the table has, in no order. No key may come twice."""
    waiting = iter(keys)
    while batch := list(islice(waiting, BATCH)):
        for _ in range(ROUNDS):
            wanted: dict[str, Any] = {"Keys": batch, "ConsistentRead": consistent}
            answer = client.call("BatchGetItem", {"RequestItems": {table: wanted}}, deadline=deadline)
            yield from answer["Responses"].get(table, ())
            batch = answer.get("UnprocessedKeys", {}).get(table, {}).get("Keys", [])
            if not batch:
                break
        else:
            raise TransientError("ThrottlingException", f"{table}: {len(batch)} keys left unread after {ROUNDS} tries")


def set_item(
    client: Client,
    table: str,
    key: Mapping[str, AttributeValue],
    values: Mapping[str, AttributeValue],
    condition: str | None = None,
    operands: Mapping[str, AttributeValue] | None = None,
    *,
    deadline: float | None = None,
) -> bool:
    """Set these attributes of an item where the condition holds; tell whether it did.

    condition: names attributes by #name, what they are set to by :name, and the operands by their own keys.
    """
    body: dict[str, Any] = {
        "TableName": table,
        "Key": dict(key),
        "UpdateExpression": "SET " + ",".join(f"#{name}=:{name}" for name in values),
        "ExpressionAttributeNames": {f"#{name}": name for name in (*values, *NAME.findall(condition or ""))},
        "ExpressionAttributeValues": {f":{name}": value for name, value in values.items()} | dict(operands or {}),
    }
    if condition is not None:
        body["ConditionExpression"] = condition
    try:
        client.call("UpdateItem", body, deadline=deadline)
    except StoreError as error:
        if error.code != REFUSED:
            raise
        return False
    return True
