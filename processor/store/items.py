"""Many items by their keys: BatchGetItem, with what it leaves unread asked for again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from processor.errors import TransientError
from processor.store.tables import AttributeValue
from processor.store.wire import Client

BATCH = 100
"""BatchGetItem takes at most so many keys."""

ROUNDS = 8


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
