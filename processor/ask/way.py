"""Which way readings come for an export, by one scan of the table or by queries: what takes fewer read units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from processor.ask.choice import Choice, Member
from processor.ask.spool import DAY_MS, SEGMENTS
from processor.ask.store import Store
from processor.errors import StoreError

DEVICES_EACH = 100
BYTES_EACH = 32 << 20
"""A part holds about so many devices, and so many bytes of the table: that is what is done again after a kill."""

MOST_BUCKETS = 256

PROBES = 2
"""Read units that it takes to see from when to when a device has anything."""

UNIT_BYTES = 8192
"""So many bytes a read unit buys, where they may be a moment old."""


class Way(NamedTuple):
    """How the readings are to come, `scan` or `query`, and why."""

    by: str
    why: str


def described(store: Store) -> dict[str, Any]:
    """Return what DynamoDB says of the table of readings; nothing where we may not ask."""
    try:
        answer = store.client.call("DescribeTable", {"TableName": store.settings.readings_table})
    except StoreError:
        return {}
    found: dict[str, Any] = answer["Table"]
    return found


def buckets(table: Mapping[str, Any], members: Sequence[Member]) -> int:
    """Return into how many groups the devices go: a part is a day of one of them."""
    lives = [(member.state.first_seen, member.state.last_seen) for member in members if member.state]
    days = (max(last for _, last in lives) - min(first for first, _ in lives)) / DAY_MS if lives else 1
    size = int(table.get("TableSizeBytes", 0)) / max(1.0, days)
    return min(MOST_BUCKETS, max(1, -(-len(members) // DEVICES_EACH), round(size / BYTES_EACH)))


def cheaper(table: Mapping[str, Any], choice: Choice, members: Sequence[Member], start: int, end: int) -> Way:
    """Return the way that takes fewer read units."""
    if not choice.whole:
        return Way("query", "these devices only")
    states = [member.state for member in members if member.state]
    if not states:
        return Way("scan", "nothing is rolled up yet, so that only a scan tells who is there")
    size = int(table.get("TableSizeBytes", 0))
    if not size:
        return Way("query", "the table's size is not known")
    scan = size / UNIT_BYTES + SEGMENTS / 4
    lived = sum(state.last_seen - state.first_seen + 1 for state in states)
    asked = sum(max(0, min(state.last_seen, end) - max(state.first_seen, start) + 1) for state in states)
    first = max(start, min(state.first_seen for state in states))
    query = size * asked / lived / UNIT_BYTES + len(states) * (PROBES + max(1, (end - first) / DAY_MS) / 2)
    why = f"about {query:,.0f} read units by queries, {scan:,.0f} by a scan"
    return Way("scan" if scan < query else "query", why)
