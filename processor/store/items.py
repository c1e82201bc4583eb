"""Items: page by page; by their keys, with what is left unread asked for again; one set on a condition."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from processor.errors import StoreError, TransientError
from processor.store.failures import DEADLINE
from processor.store.retries import pause
from processor.store.tables import AttributeValue
from processor.store.wire import Client

BATCH = 100
"""BatchGetItem takes at most so many keys."""

ROUNDS = 8
"""So many answers of which none reads a key are taken where no deadline says how long to go on."""

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
    for _, items in answers(client, table, keys, consistent=consistent, deadline=deadline):
        yield from items


def answers(
    client: Client,
    table: str,
    keys: Iterable[dict[str, AttributeValue]],
    *,
    consistent: bool = False,
    deadline: float | None = None,
) -> Iterator[tuple[list[dict[str, AttributeValue]], list[dict[str, AttributeValue]]]]:
    """Yield, answer by answer, the keys that were read and those of their items that the table has.

    A table of provisioned capacity reads what it has units for, and leaves the rest unread: that is asked for again
    after a pause, until `deadline` (time.monotonic() seconds), or without one until ROUNDS answers in a row read
    nothing. Raises TransientError then: what was yielded before stays true.
    """
    waiting = iter(keys)
    while batch := list(islice(waiting, BATCH)):
        made = idle = 0
        while batch:
            if made:
                _wait(made, table, len(batch), deadline)
            made += 1
            wanted: dict[str, Any] = {"Keys": batch, "ConsistentRead": consistent}
            answer = client.call("BatchGetItem", {"RequestItems": {table: wanted}}, deadline=deadline)
            left = answer.get("UnprocessedKeys", {}).get(table, {}).get("Keys", [])
            read = [key for key in batch if key not in left] if left else batch
            if read:
                idle = 0
                yield read, answer["Responses"].get(table, [])
            else:
                idle += 1
                if deadline is None and idle >= ROUNDS:
                    raise TransientError(
                        "ThrottlingException", f"{table}: {len(batch)} keys left unread after {ROUNDS} tries"
                    )
            batch = left


def _wait(made: int, table: str, left: int, deadline: float | None) -> None:
    """Pause before keys that were left unread are asked for again. Raises TransientError where no time is left."""
    seconds = pause(made, random.random())  # noqa: S311 - a pause, no secret
    if deadline is not None and time.monotonic() + seconds >= deadline:
        raise TransientError(DEADLINE, f"{table}: {left} keys left unread: its read capacity did not suffice in time")
    time.sleep(seconds)


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
