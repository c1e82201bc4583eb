"""The whole handler on one batch, against the floor: the least that Python can do with each record.

Real sockets to the stub with 4 ms of latency for DynamoDB; log line and EMF blob go to memory. Every record is one
Funnel envelope with one advertisement; the same batch comes in four shapes.
"""

from __future__ import annotations

import io
import json
import random
import struct
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from operator import itemgetter
from types import SimpleNamespace
from typing import Any

import orjson

from processor.decode.envelope import seal
from processor.decode.gateways import Advertisement, binary, ruuvi
from processor.ingest import Batch, Ingest, Limits
from processor.quarantine import Quarantine
from processor.store.wire import Credentials, connect
from processor.store.writer import Writer
from processor.telemetry import Telemetry
from tests.benchmarks.measure import Measured, paired, show, verdict
from tests.benchmarks.messages import messages, vector
from tests.benchmarks.stub import Stub, running

START = 1_700_000_010_000
GATEWAY = "C8:25:2D:8E:9C:2C"
IMSI = "295050000000001"
LIMITS = Limits(400 * 86400)
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


class Shape:
    """A way for one advertisement to come: how a gateway sends it, and how the floor finds it again."""

    def __init__(self, name: str, sent: Callable[[Advertisement], Any], data: Callable[[Any], bytes]) -> None:
        self.name = name
        self.sent = sent
        self.data = data


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


def run(rounds: int, count: int = 1000) -> None:
    """Measure every shape and print the table."""
    rows = []
    with running() as stub:
        for shape in SHAPES:
            event = batch(shape, max(1, count // EACH), EACH)
            records = event["Records"]
            with ExitStack() as stack:
                handle, output = handler(stub.url, stack)
                check(shape, event, handle, output, stub)
                measured = paired(
                    {
                        "floor": lambda: floor(records, shape.data),
                        "handler": lambda: handle(event, CONTEXT),
                        "decode": lambda: Batch(records, LIMITS, {}).decode(),
                    },
                    rounds=rounds,
                )
            rows.append(_row(shape, measured, len(records)))
    show(
        f"Handler, {count} records, {EACH} a device, CPU per record: the floor is base64, orjson, hexadecimal, struct, "
        "item, orjson.dumps",
        ("record", "floor, µs", "handler, µs", "of it decode and group", "handler / floor", "at most"),
        rows,
    )


def batch(shape: Shape, devices: int, each: int) -> dict[str, Any]:
    """Return the event of `each` readings of every device, all in one slot, in no order, one a record."""
    chance = random.Random(1)
    sent = []
    for n, message in enumerate(messages("ruuvi.5", devices * each, sensors=devices)):
        at = START + n // devices * 1400 + chance.randrange(1000)
        payload = shape.sent(Advertisement(message.address, -60, at, message.data))
        sent.append((at, seal(payload, at=at, imsi=IMSI)))
    chance.shuffle(sent)
    return {"Records": [_record(n, at, data) for n, (at, data) in enumerate(sent)]}


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
        "awsRegion": "ap-northeast-1",
        "eventSourceARN": "arn:aws:kinesis:ap-northeast-1:000000000000:stream/processor",
    }


def handler(url: str, stack: ExitStack) -> tuple[Callable[[Any, Any], dict[str, Any]], io.StringIO]:
    """Return the function's handler, put together as its main.py does, and where it writes its lines."""
    client = connect(region="ap-northeast-1", endpoint=url, credentials=Credentials("AKIDEXAMPLE", "SECRETEXAMPLE"))
    stack.callback(client.close)
    writer = Writer(client, "processor-readings")
    stack.callback(writer.close)
    output = io.StringIO()
    return Ingest(writer, Quarantine("bucket", _no_s3), Telemetry("benchmark", stream=output), LIMITS).handle, output


def _no_s3() -> Any:
    raise AssertionError("nothing is to be rejected")


def floor(records: list[Mapping[str, Any]], find: Callable[[Any], bytes]) -> list[bytes]:
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
    one = [_record(0, START, seal(shape.sent(Advertisement(known.address, -60, START, known.data)), at=START, imsi=IMSI))]
    (item,) = map(orjson.loads, floor(one, shape.data))
    assert {name: item[name] for name in known.values} == known.values
    work = Batch(one, LIMITS, {})
    work.decode()
    (group,) = work.groups.values()
    (cell,) = group.cells.values()
    assert (group.device, cell["M"]["t"]) == (known.address, {"N": "24.3"})

    before = stub.counts()
    assert handle(event, CONTEXT) == {"batchItemFailures": []}
    after = stub.counts()
    (blob,) = (line for line in map(json.loads, output.getvalue().splitlines()) if "_aws" in line)
    count = len(event["Records"])
    assert itemgetter("received", "stored")(blob["Ledger"]) == (count, count), blob["Ledger"]
    assert after["operations"]["UpdateItem"] - before["operations"].get("UpdateItem", 0) == -(-count // EACH)


def _row(shape: Shape, measured: Measured, count: int) -> list[str]:
    micros = [f"{measured.seconds(name) / count * 1e6:.1f}" for name in ("floor", "handler", "decode")]
    ratio = measured.ratio("handler", "floor")
    return [shape.name, *micros, f"{ratio:.1f}", verdict(ratio, most=TARGET)]
