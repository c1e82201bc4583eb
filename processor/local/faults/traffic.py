"""What is sent all the time, whatever the fault: records of some sensors' measurements."""

from __future__ import annotations

from typing import TYPE_CHECKING

from processor.local.faults.fault import Injector
from processor.local.faults.input import Source

if TYPE_CHECKING:
    from processor.local.faults.run import Run

SENSORS, HEARD = 6, 3
AT_ONCE = 40
"""So many records at most wait to be handled: what a fault sends would wait behind all of them."""


class Traffic:
    """Sends one record at a time into a run's stream, as fast as the mapping takes them."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._sensors = [run.sensor("ruuvi.5") for _ in range(SENSORS)]

    def send(self, injector: Injector) -> None:
        """Send a record of some of the sensors, drawn by an injector's randomness; none where many wait already."""
        if self._run.system.unhandled >= AT_ONCE:
            return
        source = Source(injector)
        sensors = source.random.sample(self._sensors, HEARD)
        self._run.put(source.record([one for each in sensors for one in source.measure(each, [source.now])]))
