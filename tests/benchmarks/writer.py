"""Writing: readings to DynamoDB, against boto3's ways, on the stub with 4 ms of latency.

Everyone starts from the same Readings. Ours makes cells and groups of them, as the handler does; the others make one
item of each reading, with the names in full.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from typing import Any

import boto3
from botocore.config import Config

from processor.decode import readings
from processor.reading import Reading
from processor.store.tables import SLOT_MS, SLOT_SECONDS, cell_name, cell_value, slot, slot_of
from processor.store.wire import Credentials, connect
from processor.store.writer import Group, Writer
from tests.benchmarks.measure import Measured, paired, show, verdict
from tests.benchmarks.messages import messages, vector
from tests.benchmarks.stub import Stub, running

TABLE = "processor-readings"
REGION = "ap-northeast-1"
CREDENTIALS = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
START = 1_700_000_010_000
EXPIRES = START // 1000 + 400 * 86400
THREADS = 16
BATCH = 25
"""Items that one BatchWriteItem takes."""

OURS, OURS_BOTO = "our writer", "our writer over boto3"
CLIENT = f"client, batch_write_item, {THREADS} threads"
TABLE_WRITER = "Table.batch_writer(), a loop"
SINGLE = f"client, put_item, {THREADS} threads"

TARGETS = {1: 0.75, 8: 0.15, 10: 0.15}
"""By readings a device in the batch: CPU per reading, of the 16-thread client's."""

Write = Callable[[list[Reading]], object]


def run(rounds: int, count: int = 1000) -> None:
    """Measure each number of readings a device and print the tables."""
    with running() as stub:
        for each, target in TARGETS.items():
            told = fleet(count // each, each)
            with contenders(stub) as writers:
                check(stub, writers, told)
                measured = paired(
                    {name: _of(write, told) for name, write in writers.items()}, rounds=rounds
                )
            _show(measured, len(told), each, target)


def fleet(devices: int, each: int) -> list[Reading]:
    """Return `each` readings of every device within one slot, shuffled: randomised partition keys leave no order."""
    found = []
    told = messages("ruuvi.5", devices * each)
    for n, message in enumerate(told):
        turn, device = divmod(n, devices)
        at = START // SLOT_MS * SLOT_MS + turn * SLOT_MS // each + device % 1000
        address = f"C0:FF:EE:00:{device >> 8:02X}:{device & 255:02X}"
        found += readings(message.data, address, min(at, START + SLOT_MS - 1), {}, "C8:25:2D:8E:9C:2C", -60)
    random.Random(1).shuffle(found)
    return found
