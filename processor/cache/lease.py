"""Leases: the right to compute a key's value, held by one process at a time and lost by itself.

A lease is an item beside the value's, with its holder and an expiry. Who dies holding it loses it when it expires;
clocks of the processes are taken to agree within a fraction of the lease's length, as Lambda's do.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

from processor.cache.items import Items
from processor.cache.memory import Entry
from processor.cache.request import Item, number

KEPT = 3600
"""Seconds after which DynamoDB may delete the item of a lease that nobody gave back."""


class Leases:
    """Takes and gives back leases on the keys of one namespace."""

    def __init__(self, items: Items, clock: Callable[[], float] = time.time) -> None:
        self._items = items
        self._clock = clock

    def acquire(self, key: str, seconds: float) -> str | None:
        """Take the lease, and return the holder's token; None while another has it."""
        owner = secrets.token_urlsafe(12)
        now = self._clock()
        item: Item = {
            "key": {"S": self._id(key)},
            "owner": {"S": owner},
            "until": number(round((now + seconds) * 1000)),
            "expires": number(int(now + seconds) + KEPT),
        }
        taken = self._items.table.conditionally(
            "PutItem",
            Item=item,
            # The last: ours already, if the first answer was lost and the request sent again.
            ConditionExpression="attribute_not_exists(#key) OR #until <= :now OR #owner = :owner",
            values={"now": number(int(now * 1000)), "owner": item["owner"]},
        )
        return owner if taken else None

    def release(self, key: str, owner: str) -> None:
        """Give the lease back, unless it expired and is another's by now."""
        self._items.table.conditionally(
            "DeleteItem",
            Key={"key": {"S": self._id(key)}},
            ConditionExpression="#owner = :owner",
            values={"owner": {"S": owner}},
        )

    def look(self, key: str) -> tuple[Entry | None, bool]:
        """Return the key's entry, and whether somebody holds the lease: one consistent request for both."""
        identity, lease = self._items.id_of(key), self._id(key)
        found = self._items.table.get_batch((identity, lease), consistent=True)
        held = lease in found and int(found[lease]["until"]["N"]) > self._clock() * 1000
        return (self._items.entry(identity, found[identity]) if identity in found else None), held

    def _id(self, key: str) -> str:
        return f"{self._items.id_of(key)}.lease"
