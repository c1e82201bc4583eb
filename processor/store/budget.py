"""Read units, counted and held to so many a second: a token bucket, and a client that asks it before each read.

What a read took, DynamoDB says once it is done (`ReturnConsumedCapacity`). So each takes beforehand what reads like it
came to so far, waits until all that was taken before it is paid for, and puts the difference right afterwards: two
hundred reads may begin at once, and none of them makes a debt that those after it do not wait for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from processor.errors import StoreError
from processor.store.failures import THROTTLING
from processor.store.units import item_size, read_units
from processor.store.wire import Client

EXPECTED = 4.0
"""Read units that a first read is taken to need; the later ones by what they came to."""

SAVED = 0.5
"""Seconds of the rate that may be made up for."""

PATIENCE, PAUSE = 120, 1.0
"""A read that is throttled, after the client's own retries, is tried so often again, after so many seconds."""

READS = ("Query", "Scan", "BatchGetItem", "GetItem")


class Budget:
    """So many read units a second, for all threads together; None for no limit. clock: seconds.

    Of what is not used, half a second's worth is saved up: threads wake late. `units` is what was taken so far,
    `reads` in how many requests.
    """

    def __init__(
        self,
        rate: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self.units = 0.0
        self.reads = 0
        self._rate = rate
        self._clock = clock
        self._closed = threading.Event()
        self._sleep = sleep or self._closed.wait
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        self._paid_until = clock()

    def take(self, expected: float) -> None:
        """Wait until what was taken so far is paid for, and take so many units more. Raises StoreError once closed."""
        with self._turn:  # one waits for units, the others for it: hundreds would wake each other for nothing
            while (seconds := self._wait(expected)) > 0:
                if self._closed.is_set():
                    raise StoreError("Closed", "the client was closed while a read waited for its read units")
                self._sleep(seconds)

    def _wait(self, expected: float) -> float:
        """Take the units, or return the seconds until they may be taken."""
        with self._lock:
            now = self._clock()
            if self._paid_until - now > 1e-9:
                return self._paid_until - now
            if self._rate is not None:
                self._paid_until = max(self._paid_until, now - SAVED) + expected / self._rate
            return 0.0

    def hold(self, seconds: float) -> None:
        """Let nobody read for so long: the table has had enough."""
        with self._lock:
            self._paid_until = max(self._paid_until, self._clock() + seconds)

    def settle(self, expected: float, units: float) -> None:
        """Put right what was taken for a read that came to `units`."""
        with self._lock:
            self.units += units
            self.reads += 1
            if self._rate is not None:
                self._paid_until += (units - expected) / self._rate

    def close(self) -> None:
        """End the waits of other threads."""
        self._closed.set()


class Metered:
    """A `Client` over another whose reads are counted, and paced, by a budget.

    measure: compute the units from the items' sizes, for servers that do not count them. Writes pass through.
    """

    def __init__(self, client: Client, budget: Budget, *, measure: bool = False) -> None:
        self._budget = budget
        self._client = client
        self._measure = measure
        self._expected = dict.fromkeys(READS, EXPECTED)

    def call(self, operation: str, body: Mapping[str, Any], *, deadline: float | None = None) -> dict[str, Any]:
        """Send one request; see `Client.call`. Where the table throttles, all reads pause, and go on."""
        if operation not in READS:
            return self._client.call(operation, body, deadline=deadline)
        for _ in range(PATIENCE):
            try:
                return self._read(operation, body, deadline)
            except StoreError as error:
                if error.code not in THROTTLING or deadline is not None:
                    raise
                self._budget.hold(PAUSE)
        return self._read(operation, body, deadline)

    def _read(self, operation: str, body: Mapping[str, Any], deadline: float | None) -> dict[str, Any]:
        """Read once, within the budget."""
        expected, units = self._expected[operation], 0.0
        self._budget.take(expected)
        try:
            answer = self._client.call(operation, {**body, "ReturnConsumedCapacity": "TOTAL"}, deadline=deadline)
            units = measured(operation, body, answer) if self._measure else _counted(answer)
        finally:
            self._budget.settle(expected, units)
        self._expected[operation] = (3 * expected + units) / 4
        return answer

    def close(self) -> None:
        """Let waiting reads go, and close the connections."""
        self._budget.close()
        self._client.close()


def _counted(answer: Mapping[str, Any]) -> float:
    """Return what the service says; BatchGetItem says it by table."""
    said = answer.get("ConsumedCapacity", {})
    return sum(float(each.get("CapacityUnits", 0)) for each in (said if isinstance(said, list) else [said]))


def measured(operation: str, body: Mapping[str, Any], answer: Mapping[str, Any]) -> float:
    """Return a read's units by AWS's rules, from the sizes of what it returned.

    A page of a Query or Scan is rounded up as a whole, items read by their keys one by one, those not there included.
    What a projection leaves out is billed all the same, and cannot be seen here.
    """
    if operation in ("Query", "Scan"):
        return read_units(sum(map(item_size, answer["Items"])), consistent=body.get("ConsistentRead", False))
    if operation == "GetItem":
        return read_units(item_size(answer.get("Item", {})), consistent=body.get("ConsistentRead", False))
    units = 0.0
    for table, wanted in body["RequestItems"].items():
        found = answer["Responses"].get(table, [])
        left = len(answer.get("UnprocessedKeys", {}).get(table, {}).get("Keys", []))
        sizes = [item_size(item) for item in found] + [0] * (len(wanted["Keys"]) - len(found) - left)
        units += sum(read_units(size, consistent=wanted.get("ConsistentRead", False)) for size in sizes)
    return units
