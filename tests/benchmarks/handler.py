"""The whole handler on one batch, against the floor: the least that Python can do with each record.

Real sockets to the stub with 4 ms of latency for DynamoDB; log line and EMF blob go to memory. Every record is one
Funnel envelope with one advertisement; the same batch comes in four shapes.
"""

from __future__ import annotations

import io
import json
import struct
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from operator import itemgetter
from types import SimpleNamespace
from typing import Any, NamedTuple

import orjson

from processor.batch import Batch
from processor.decode.envelope import seal
from processor.decode.gateways import Advertisement, binary, ruuvi
from processor.ingest import Ingest
from processor.quarantine import Quarantine
from processor.rules import Rules
from processor.store.wire import connect
from processor.store.writer import Writer
from processor.telemetry import Telemetry
from tests.benchmarks.measure import paired, show, verdict
from tests.benchmarks.messages import vector
from tests.benchmarks.stub import Stub, running
from tests.benchmarks.table import CREDENTIALS, GATEWAY, LIMITS, REGION, RSSI, START, TABLE, arriving, fleet

IMSI = "295050000000001"
CONTEXT = SimpleNamespace(
    aws_request_id="benchmark", memory_limit_in_mb=256, get_remaining_time_in_millis=lambda: 600_000
)
EACH = 10
"""Readings a device in the batch."""
TARGET = 4.0
"""CPU per record, as a multiple of the floor's."""

FIXED = struct.Struct(">hHHhhhHBH")
"""The integers of Ruuvi's data format 5, after its first byte."""
AT = 8
"""Where they are in the advertisement: after the flags, the structure's head and that first byte."""


class Shape(NamedTuple):
    """A way for one advertisement to come: how a gateway sends it, and how the floor finds its data again."""

    name: str
    sent: Callable[[Advertisement], Any]
    data: Callable[[Any], bytes]


def _tag(payload: Any) -> bytes:
    (tag,) = payload["data"]["tags"].values()
    return bytes.fromhex(tag["data"])


SHAPES = (
    Shape(
        "Ruuvi Gateway, HTTP",
        lambda heard: json.loads(ruuvi.encode_post([heard], GATEWAY, heard.at)),
        _tag,
    ),
    Shape(
        "Ruuvi Gateway, MQTT",
        lambda heard: json.loads(ruuvi.encode_message(heard, GATEWAY, heard.at)),
        lambda payload: bytes.fromhex(payload["data"]),
    ),
    Shape(
        "plain JSON list",
        lambda heard: [{"address": heard.address, "rssi": heard.rssi, "timestamp": heard.at, "data": heard.data.hex()}],
        lambda payload: bytes.fromhex(payload[0]["data"]),
    ),
    Shape(
        "binary frame",
        lambda heard: binary.encode([heard], heard.at),
        lambda payload: b64decode(payload)[12:],
    ),
)


def run(rounds: int, count: int, *, least: float) -> None:
    """Measure every shape and print the table."""
    with running() as stub:
        rows = [_measure(shape, stub, rounds, count, least) for shape in SHAPES]
    show(
        f"Handler, {count} records, {EACH} a device: CPU per record. The floor is base64, orjson, hexadecimal, struct, "
        "item, orjson.dumps",
        ("record", "floor, µs", "handler, µs", "of it decode and group", "handler / floor", "at most"),
        rows,
    )


def _measure(shape: Shape, stub: Stub, rounds: int, count: int, least: float) -> list[str]:
    event = batch(shape, count // EACH, EACH)
    records = event["Records"]
    with ExitStack() as stack:
        handle, output = handler(stub.url, stack)
        check(shape, event, handle, output, stub)
        works: dict[str, Callable[[], object]] = {
            "floor": lambda: floor(records, shape.data),
            "handler": lambda: handle(event, CONTEXT),
            "decode": lambda: Batch(records, Rules(LIMITS)).decode(),
        }
        measured = paired(works, rounds=rounds, least=least, frozen=False)
    micros = [f"{measured.seconds(name) / len(records) * 1e6:.1f}" for name in works]
    ratio = measured.ratio("handler", "floor")
    return [shape.name, *micros, f"{ratio:.1f}", verdict(ratio, most=TARGET)]


def batch(shape: Shape, devices: int, each: int) -> dict[str, Any]:
    """Return the event of `each` readings of every device, one a record."""
    told = fleet(devices, each)
    return {"Records": [_record(n, heard.at, sealed(shape, heard)) for n, heard in enumerate(told)]}


def sealed(shape: Shape, heard: Advertisement) -> bytes:
    """Return the record that Funnel makes of an advertisement sent in this shape."""
    return seal(shape.sent(heard), at=heard.at, imsi=IMSI)


def _record(n: int, at: int, data: bytes) -> dict[str, Any]:
    """Return a record as Lambda's event has it."""
    return {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": f"key-{n}",
            "sequenceNumber": f"{n:056d}",
            "data": b64encode(data).decode(),
            "approximateArrivalTimestamp": at / 1000,
        },
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": f"shardId-000000000000:{n:056d}",
        "eventName": "aws:kinesis:record",
        "awsRegion": REGION,
        "eventSourceARN": f"arn:aws:kinesis:{REGION}:000000000000:stream/processor",
    }


def handler(url: str, stack: ExitStack) -> tuple[Callable[[Any, Any], dict[str, Any]], io.StringIO]:
    """Return the function's handler, put together as its main.py does, and where it writes its lines."""
    client = connect(region=REGION, endpoint=url, credentials=CREDENTIALS)
    stack.callback(client.close)
    writer = Writer(client, TABLE)
    stack.callback(writer.close)
    output = io.StringIO()
    return Ingest(
        writer, Quarantine("bucket", _no_s3), Telemetry("benchmark", stream=output), Rules(LIMITS)
    ).handle, output


def _no_s3() -> Any:
    raise AssertionError("nothing is to be rejected")


def floor(records: Iterable[Mapping[str, Any]], find: Callable[[Any], bytes]) -> list[bytes]:
    """Return the items of a batch, as short as it can be written: no checks, no sentinels, no identity, no write."""
    items = []
    for record in records:
        envelope = orjson.loads(b64decode(record["kinesis"]["data"]))
        data = find(envelope["payloads"])
        t, h, p, x, y, z, power, moved, sequence = FIXED.unpack_from(data, AT)
        item = {
            "device": data[-6:].hex(":").upper(),
            "timestamp": envelope["timestamp"],
            "temperature": t / 200,
            "humidity": h / 400,
            "pressure": p + 50000,
            "acceleration_x": x / 1000,
            "acceleration_y": y / 1000,
            "acceleration_z": z / 1000,
            "battery_voltage": ((power >> 5) + 1600) / 1000,
            "tx_power": (power & 31) * 2 - 40,
            "movement_counter": moved,
            "sequence": sequence,
        }
        items.append(orjson.dumps(item))
    return items


def check(shape: Shape, event: dict[str, Any], handle: Callable[..., Any], output: io.StringIO, stub: Stub) -> None:
    """See that floor and handler read the published vector, and that the handler stores the batch in the calls due."""
    known = vector("ruuvi.5")
    record = _record(0, START, sealed(shape, Advertisement(known.address, RSSI, START, known.data)))
    one: list[Mapping[str, Any]] = [record]
    (item,) = map(orjson.loads, floor(one, shape.data))
    assert {name: item[name] for name in known.values} == known.values
    work = Batch(one, Rules(LIMITS))
    work.decode()
    (stored,) = arriving(work.groups.values())
    assert (stored.device, stored.values) == (known.address, known.values)

    before = stub.counts()
    assert handle(event, CONTEXT) == {"batchItemFailures": []}
    after = stub.counts()
    (blob,) = (line for line in map(json.loads, output.getvalue().splitlines()) if "_aws" in line)
    count = len(event["Records"])
    assert itemgetter("received", "stored")(blob["Ledger"]) == (count, count), blob["Ledger"]
    assert after["operations"]["UpdateItem"] - before["operations"].get("UpdateItem", 0) == -(-count // EACH)
