"""Increments that are exact even when an answer is lost and the request is sent again.

Each increment leaves, in the same UpdateItem, a receipt in the counter's item: an attribute of its own random name
whose value is the count that it made. The condition is that there is no such receipt yet. So a request that is carried
out a second time changes nothing, and its receipt still says what the first time returned. (A transaction with a
client token would be as exact, but costs twice as much, returns no count, and conflicts with others on the same item.)

A receipt is removed by the next increment of the same cache, or at once where many have gathered, or by whoever sees
it after RECEIPT_SECONDS. Setting or deleting the counter removes them all: an increment whose answer is lost just then
may count twice, once before and once after.
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterable

from processor.cache.codec import INT
from processor.cache.items import Items, new_write
from processor.cache.memory import NEVER
from processor.cache.request import CONDITION_FAILED, Item, number
from processor.errors import StoreError, TransientError

RECEIPT_SECONDS = 900
"""No request is retried for so long."""
GATHERED = 16
"""Receipts beyond which each increment removes its own at once: they cost write units, as all of an item's bytes do."""
REMEMBERED = 1000
"""Counters whose last receipt is remembered, to be removed with the next increment."""
ATTEMPTS = 8


class Counters:
    """Increments whole numbers in the table; safe to share between threads."""

    def __init__(self, items: Items) -> None:
        self._items = items
        self._done: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, key: str, by: int, until: int, now: int) -> int:
        """Add to a counter and return its new value; where there is none, or an expired one, start it at `by`.

        until: when a counter that is started here expires; a running one keeps its own expiry. Both in epoch
        milliseconds. Raises TypeError where there is something else than a whole number.
        """
        identity = self._items.id_of(key)
        receipt = f"+{now // 1000:x}.{secrets.token_urlsafe(6)}"
        with self._lock:
            done = self._done.pop(identity, None)
        for _ in range(ATTEMPTS):
            found = self._increment(identity, receipt, by, now, done)
            done = None
            if found is None:
                there = self._items.table.get(identity, consistent=True)
                if there is not None and receipt in there:
                    found = there
                elif there is None or int(there.get("until", {}).get("N", NEVER)) <= now:
                    found = self._start(key, receipt, by, until, now)
                elif there.get("form") != {"S": INT}:
                    raise TypeError(f"{key!r} is not a whole number: only those can be counted on")
            if found is not None:
                self._settle(identity, receipt, found, now)
                return int(found[receipt]["N"])
        raise TransientError("Contention", f"incr: the counter changed {ATTEMPTS} times meanwhile; try again")

    def _increment(self, identity: str, receipt: str, by: int, now: int, done: str | None) -> Item | None:
        """Add to a running counter, and return its item; None if it is not running, or has the receipt already."""
        try:
            answer = self._items.table.call(
                "UpdateItem",
                Key={"key": {"S": identity}},
                # What is on the right of a SET is the item before: both become the same number.
                UpdateExpression="SET #data = #data + :by, #receipt = #data + :by" + (" REMOVE #done" if done else ""),
                ConditionExpression="attribute_not_exists(#receipt) AND #form = :int"
                " AND (attribute_not_exists(#until) OR #until > :now)",
                values={"by": number(by), "int": {"S": INT}, "now": number(now)},
                names={"receipt": receipt} | ({"done": done} if done else {}),
                ReturnValues="ALL_NEW",
            )
        except StoreError as error:
            if error.code != CONDITION_FAILED:
                raise
            return None
        attributes: Item = answer["Attributes"]
        return attributes

    def _start(self, key: str, receipt: str, by: int, until: int, now: int) -> Item | None:
        item = self._items.marks(key, until) | {
            "form": {"S": INT},
            "written": {"S": new_write()},
            "data": number(by),
            receipt: number(by),
        }
        started = self._items.table.conditionally(
            "PutItem",
            Item=item,
            ConditionExpression="attribute_not_exists(#key) OR (#until <= :now AND attribute_not_exists(#receipt))",
            values={"now": number(now)},
            names={"receipt": receipt},
        )
        return item if started else None

    def _settle(self, identity: str, receipt: str, item: Item, now: int) -> None:
        """See to it that the receipt goes: the increment is known to be done."""
        receipts = [name for name in item if name.startswith("+")]
        if len(receipts) <= GATHERED:
            with self._lock:
                self._done[identity] = receipt
                if len(self._done) > REMEMBERED:
                    self._done.popitem(last=False)
            return
        old = (name for name in receipts if int(name[1:].partition(".")[0], 16) < now // 1000 - RECEIPT_SECONDS)
        self._remove(identity, {receipt, *list(old)[:100]})

    def _remove(self, identity: str, receipts: Iterable[str]) -> None:
        names = {f"r{n}": receipt for n, receipt in enumerate(receipts)}
        try:
            self._items.table.conditionally(
                "UpdateItem",
                Key={"key": {"S": identity}},
                UpdateExpression="REMOVE " + ", ".join(f"#{alias}" for alias in names),
                ConditionExpression="attribute_exists(#key)",
                names=names,
            )
        except StoreError:
            return  # whoever sees it next, when it is old, removes it
