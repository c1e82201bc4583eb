"""Writing: readings to DynamoDB, against boto3's ways, on the stub with 4 ms of latency.

Everyone starts from the same Readings. Ours makes cells of them and groups of the cells, as the handler does; the
others make an item of each reading, with its quantities' full names, as one would write it down.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from typing import Any

import boto3
from botocore.config import Config

from processor.batch import Batch
from processor.decode import readings
from processor.decode.gateways import Advertisement
from processor.reading import Reading
from processor.rules import Rules
from processor.store.wire import connect
from processor.store.writer import Group, Writer
from tests.benchmarks.measure import Measured, paired, show, verdict
from tests.benchmarks.messages import vector
from tests.benchmarks.stub import Stub, running
from tests.benchmarks.table import CREDENTIALS, GATEWAY, LIMITS, REGION, RSSI, START, TABLE, arriving, fleet

THREADS = 16
BATCH = 25
"""Items that one BatchWriteItem takes."""

OURS, OVER_BOTO = "our writer", "our writer over boto3"
BATCHES = f"client, batch_write_item, {THREADS} threads"
TABLE_LOOP = "Table.batch_writer(), one thread"
SINGLES = f"client, put_item, {THREADS} threads"

TARGETS = {1: 0.75, 8: 0.15, 10: 0.15}
"""By readings a device in the batch: CPU per reading, as a share of the 16-thread client's."""

Write = Callable[[list[Reading]], object]


def run(rounds: int, count: int, *, least: float) -> None:
    """Measure each number of readings a device, and print the tables."""
    with running() as stub, contenders(stub.url) as writers:
        for each, target in TARGETS.items():
            told = [decoded(heard) for heard in fleet(count // each, each)]
            check(stub, writers, told)
            measured = paired({name: _work(write, told) for name, write in writers.items()}, rounds=rounds, least=least)
            show(
                f"Writer, {len(told)} readings, {each} a device: CPU per reading",
                ("", "µs", "of the client's", "at most"),
                (_row(name, measured, len(told), target) for name in writers),
            )


@contextmanager
def contenders(url: str) -> Iterator[dict[str, Write]]:
    """Make the clients, and yield what writes a list of readings to its end."""
    with ExitStack() as stack:

        def writer(implementation: str) -> Write:
            client = connect(region=REGION, endpoint=url, implementation=implementation, credentials=CREDENTIALS)
            stack.callback(client.close)
            ours = Writer(client, TABLE, threads=THREADS)
            stack.callback(ours.close)
            return lambda told: ours.write(groups(told), deadline=time.monotonic() + 600)

        settings = {
            "region_name": REGION,
            "endpoint_url": url,
            "aws_access_key_id": CREDENTIALS.access_key,
            "aws_secret_access_key": CREDENTIALS.secret_key,
            # The only setting changed: of ten connections, the default, six threads would drop theirs each time.
            "config": Config(max_pool_connections=THREADS),
        }
        client = boto3.client("dynamodb", **settings)
        stack.callback(client.close)
        table = boto3.resource("dynamodb", **settings).Table(TABLE)
        stack.callback(table.meta.client.close)
        pool = stack.enter_context(ThreadPoolExecutor(THREADS))
        yield {
            OURS: writer("wire"),
            BATCHES: lambda told: batches(client, pool, told),
            TABLE_LOOP: lambda told: table_loop(table, told),
            OVER_BOTO: writer("boto3"),
            SINGLES: lambda told: singles(client, pool, told),
        }


def decoded(heard: Advertisement) -> Reading:
    """Return the one Reading of an advertisement."""
    (reading,) = readings(heard.data, heard.address, heard.at, {}, heard.gateway, heard.rssi)
    return reading


def groups(told: list[Reading]) -> list[Group]:
    """Group readings by device and slot, as the handler does, with its own code."""
    batch = Batch([], Rules(LIMITS))
    for n, reading in enumerate(told):
        batch._group(reading, (n, 0), START)
    return list(batch.groups.values())


def item(reading: Reading) -> dict[str, dict[str, str]]:
    """Return a reading as an item for boto3's client."""
    return {
        "device": {"S": reading.device},
        "timestamp": {"N": str(reading.at)},
        "gateway": {"S": str(reading.gateway)},
        "rssi": {"N": str(reading.rssi)},
        **{name: {"N": str(value)} for name, value in reading.values.items()},
    }


def document(reading: Reading) -> dict[str, Any]:
    """Return the same item for boto3's Table, which takes decimals."""
    return {
        "device": reading.device,
        "timestamp": reading.at,
        "gateway": reading.gateway,
        "rssi": reading.rssi,
        **{name: Decimal(str(value)) for name, value in reading.values.items()},
    }


def batches(client: Any, pool: ThreadPoolExecutor, told: list[Reading]) -> None:
    """Write with BatchWriteItem, 25 items a call, in parallel."""

    def write(start: int) -> None:
        requests = [{"PutRequest": {"Item": item(reading)}} for reading in told[start : start + BATCH]]
        assert not client.batch_write_item(RequestItems={TABLE: requests})["UnprocessedItems"]

    list(pool.map(write, range(0, len(told), BATCH)))


def singles(client: Any, pool: ThreadPoolExecutor, told: list[Reading]) -> None:
    """Write with PutItem, an item a call, in parallel."""
    list(pool.map(lambda reading: client.put_item(TableName=TABLE, Item=item(reading)), told))


def table_loop(table: Any, told: list[Reading]) -> None:
    """Write with Table.batch_writer(), as its documentation shows."""
    with table.batch_writer() as batch:
        for reading in told:
            batch.put_item(Item=document(reading))


def check(stub: Stub, writers: Mapping[str, Write], told: list[Reading]) -> None:
    """See that everyone writes the values of the published vector, and every reading in the calls expected."""
    known = vector("ruuvi.5")
    reading = decoded(Advertisement(known.address, RSSI, START, known.data, GATEWAY))
    (ours,) = arriving(groups([reading]))
    assert ours.values == known.values
    theirs, full = item(reading), document(reading)
    for name, value in known.values.items():
        assert theirs[name] == {"N": str(value)}
        assert full[name] == Decimal(str(value))
    calls = -(-len(told) // BATCH)
    expected = {
        OURS: ("UpdateItem", len(groups(told)), len(groups(told))),
        OVER_BOTO: ("UpdateItem", len(groups(told)), len(groups(told))),
        BATCHES: ("BatchWriteItem", calls, len(told)),
        TABLE_LOOP: ("BatchWriteItem", calls, len(told)),
        SINGLES: ("PutItem", len(told), len(told)),
    }
    assert len(arriving(groups(told))) == len(told)
    for name, write in writers.items():
        before = stub.counts()
        write(told)
        after = stub.counts()
        operation = expected[name][0]
        made = after["operations"][operation] - before["operations"].get(operation, 0)
        assert (operation, made, after["items"] - before["items"]) == expected[name], f"{name}: {after}"


def _work(write: Write, told: list[Reading]) -> Callable[[], object]:
    return lambda: write(told)


def _row(name: str, measured: Measured, count: int, target: float) -> list[str]:
    share = measured.ratio(name, BATCHES)
    judged = verdict(share, most=target) if name == OURS else "–"
    return [name, f"{measured.seconds(name) / count * 1e6:.1f}", f"{share:.2f}", judged]
