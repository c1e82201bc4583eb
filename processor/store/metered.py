"""Read units, counted and held to so many a second: a token bucket, and a client that asks it before each read.

What a read costs is known only when it is answered. So each takes what reads like it came to before, waits until the
bucket has that much, and puts the difference right afterwards; a debt delays the reads that follow.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from processor.errors import TransientError
from processor.store.units import item_size, read_units
from processor.store.wire import Client

EXPECTED = 4.0
"""Read units that a first read is taken to need; the later ones by what they came to."""

READS = ("Query", "Scan", "BatchGetItem", "GetItem")


class Allowance:
    """Read units for all threads together: `per_second` of them, at most one second's worth saved up. None: any number.

    `units` is what was spent so far, `reads` in how many requests.
    """

    def __init__(
        self,
        per_second: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self.units = 0.0
        self.reads = 0
        self._per_second = per_second
        self._level = per_second or 0.0
        self._clock = clock
        self._at = clock()
        self._stopped = threading.Event()
        self._sleep = sleep or self._stopped.wait
        self._lock = threading.Lock()

    def take(self, expected: float) -> None:
        """Wait until there are so many units (or as many as can be saved up), and take them."""
        while (wait := self._wait(expected)) > 0:
            if self._stopped.is_set():
                raise TransientError("Stopped", "the read was given up")
            self._sleep(wait)

    def _wait(self, expected: float) -> float:
        """Take the units, or return the seconds until they may be there."""
        if self._per_second is None:
            return 0.0
        with self._lock:
            now = self._clock()
            self._level = min(self._per_second, self._level + (now - self._at) * self._per_second)
            self._at = now
            missing = min(expected, self._per_second) - self._level
            if missing > 1e-9:
                return missing / self._per_second
            self._level -= expected
            return 0.0

    def settle(self, expected: float, units: float) -> None:
        """Put right what was taken for a read that came to `units`."""
        with self._lock:
            self.units += units
            self.reads += 1
            self._level += expected - units

    def stop(self) -> None:
        """Let nobody wait any longer: who does gets a TransientError."""
        self._stopped.set()


class Metered:
    """A `Client` whose reads stay within an allowance.

    measure: compute units from the items' sizes, for a server that does not count them; otherwise they are the
    service's own ConsumedCapacity. Writes pass through.
    """

    def __init__(self, client: Client, allowance: Allowance, *, measure: bool = False) -> None:
        self._allowance = allowance
        self._client = client
        self._measure = measure
        self._expected = dict.fromkeys(READS, EXPECTED)

    def call(self, operation: str, body: Mapping[str, Any], *, deadline: float | None = None) -> dict[str, Any]:
        """Send one request; see `Client.call`."""
        if operation not in READS:
            return self._client.call(operation, body, deadline=deadline)
        expected, units = self._expected[operation], 0.0
        self._allowance.take(expected)
        try:
            answer = self._client.call(operation, {**body, "ReturnConsumedCapacity": "TOTAL"}, deadline=deadline)
            units = measured(operation, body, answer) if self._measure else _counted(answer)
        finally:
            self._allowance.settle(expected, units)
        self._expected[operation] = (3 * expected + units) / 4
        return answer

    def close(self) -> None:
        """Let waiting reads go, and close the connections."""
        self._allowance.stop()
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
