"""What the benchmarks of the writer and of the handler share: whose readings they write, and what arrives of them."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Mapping
from typing import Any

from processor.decode.gateways import Advertisement
from processor.reading import Reading
from processor.rules import Limits
from processor.store.tables import slot
from processor.store.wire import Credentials
from processor.store.writer import Group, Writer
from tests.benchmarks.messages import messages

TABLE = "processor-readings"
REGION = "ap-northeast-1"
CREDENTIALS = Credentials("AKIDEXAMPLE", "SECRETEXAMPLE")
LIMITS = Limits(400 * 86400)
GATEWAY = "C8:25:2D:8E:9C:2C"
RSSI = -60
START = 1_700_000_010_000
"""The start of a slot, in ms since 1970."""


def fleet(devices: int, each: int) -> list[Advertisement]:
    """Return `each` advertisements of every device, all in one slot, in no order: so do randomised partition keys."""
    chance = random.Random(1)
    found = []
    for n, message in enumerate(messages("ruuvi.5", devices * each, sensors=devices)):
        at = START + n // devices * 1400 + chance.randrange(1000)
        found.append(Advertisement(message.address, RSSI, at, message.data, GATEWAY))
    chance.shuffle(found)
    return found


class Recorder:
    """A client that keeps what it is asked to write."""

    def __init__(self) -> None:
        self.bodies: list[Mapping[str, Any]] = []

    def call(self, operation: str, body: Mapping[str, Any], *, deadline: float | None = None) -> dict[str, Any]:
        self.bodies.append(body)
        return {}

    def close(self) -> None:
        pass


def arriving(groups: Iterable[Group]) -> list[Reading]:
    """Return the readings that a reader would find once the writer has written these groups."""
    client = Recorder()
    writer = Writer(client, TABLE, threads=1)
    writer.write(groups, deadline=time.monotonic() + 600)
    writer.close()
    found: list[Reading] = []
    for body in client.bodies:
        names, values = body["ExpressionAttributeNames"], body["ExpressionAttributeValues"]
        item = {name: values[":" + mark[1:]] for mark, name in names.items()}
        found += slot(body["Key"] | item).cells.values()
    return found
