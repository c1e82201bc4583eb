"""How a test has a fault strike amid traffic."""

from __future__ import annotations

import time

from processor.local.faults.registry import named
from processor.local.faults.traffic import Traffic

PATIENCE = 180.0
"""So long may it take where the machine has much else to do."""


def strike(run, fault):
    """Have a fault strike three times amid traffic; return how often it did when all is handled."""
    run.begin(named([fault]), 0.2)
    injector, traffic = run.injectors[fault], Traffic(run)
    deadline = time.monotonic() + PATIENCE
    while injector.injected < 3 and time.monotonic() < deadline:
        traffic.send(injector)
        time.sleep(0.03)
    run.finish()
    run.drain(PATIENCE)
    return injector.injected
