"""What reads cost, and a budget of them: no more read units a second than somebody allows.

DynamoDB says what a read took (`ReturnConsumedCapacity`) once it is done, so each waits for those before it to be paid:
a page is at most 1 MB, 256 units where it is read consistently, and one may be under way in each thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from processor.errors import StoreError
from processor.store.units import item_size, read_units
from processor.store.wire import Client

READS = frozenset(("Query", "Scan", "BatchGetItem"))


class Budget:
    """So many read units a second; None for no limit. Safe for threads. clock: seconds.

    What is not used is not saved up for later.
    """

    def __init__(
        self,
        rate: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self.units = 0.0
        """Read units taken so far."""
        self._rate = rate
        self._clock = clock
        self._closed = threading.Event()
        self._sleep = sleep or self._closed.wait
        self._lock = threading.Lock()
        self._paid_until = clock()

    def wait(self) -> None:
        """Wait until what was taken so far is paid for. Raises StoreError once the budget is closed."""
        with self._lock:
            seconds = self._paid_until - self._clock()
        if seconds > 0:
            self._sleep(seconds)
            if self._closed.is_set():
                raise StoreError("Closed", "the client was closed while a read waited for its read units")

    def pay(self, units: float) -> None:
        """Count units that were taken."""
        with self._lock:
            self.units += units
            if self._rate is not None:
                self._paid_until = max(self._paid_until, self._clock()) + units / self._rate

    def close(self) -> None:
        """End the waits of other threads."""
        self._closed.set()


class Metered:
    """A `Client` over another whose reads are counted, and paced, by a budget.

    measure: compute the units from the items' sizes, for servers that do not count them.
    """

    def __init__(self, client: Client, budget: Budget, *, measure: bool = False) -> None:
        self._client = client
        self._budget = budget
        self._measure = measure

    def call(self, operation: str, body: Mapping[str, Any], *, deadline: float | None = None) -> dict[str, Any]:
        """Send one request, a read when the budget allows it; see `Client.call`."""
        if operation not in READS:
            return self._client.call(operation, body, deadline=deadline)
        self._budget.wait()
        answer = self._client.call(operation, {**body, "ReturnConsumedCapacity": "TOTAL"}, deadline=deadline)
        self._budget.pay(_measured(body, answer) if self._measure else _said(answer))
        return answer

    def close(self) -> None:
        """Close the client below, and end the waits of other threads."""
        self._budget.close()
        self._client.close()


def _said(answer: Mapping[str, Any]) -> float:
    """Return the units that DynamoDB says a read took: of one table, or of each."""
    consumed = answer.get("ConsumedCapacity") or ()
    each = [consumed] if isinstance(consumed, dict) else consumed
    return sum(float(one["CapacityUnits"]) for one in each)


def _measured(body: Mapping[str, Any], answer: Mapping[str, Any]) -> float:
    """Return the units of what was read: of a page's items together, of a batch's each by itself."""
    if "Responses" not in answer:
        size = sum(map(item_size, answer["Items"]))
        return read_units(size, consistent=bool(body.get("ConsistentRead")))
    return sum(
        read_units(item_size(item), consistent=bool(body["RequestItems"][table].get("ConsistentRead")))
        for table, items in answer["Responses"].items()
        for item in items
    )
