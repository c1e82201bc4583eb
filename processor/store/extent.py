"""From when to when a device has items: two reads of one item each, before a long time is read piece by piece."""

from __future__ import annotations

from typing import Any

from processor.store.wire import Client


def extent(client: Client, table: str, sort_key: str, device: str, low: int, high: int) -> tuple[int, int] | None:
    """Return the least and the greatest sort key of a device in [low, high]; None where it has none there."""
    body: dict[str, Any] = {
        "TableName": table,
        "KeyConditionExpression": "#d = :d AND #s BETWEEN :a AND :b",
        "ExpressionAttributeNames": {"#d": "device", "#s": sort_key},
        "ExpressionAttributeValues": {":d": {"S": device}, ":a": {"N": str(low)}, ":b": {"N": str(high)}},
        "Limit": 1,
    }
    ends = []
    for forward in (True, False):
        items = client.call("Query", body | {"ScanIndexForward": forward})["Items"]
        if not items:
            return None
        ends.append(int(items[0][sort_key]["N"]))
    return ends[0], ends[1]
