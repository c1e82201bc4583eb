"""What several tests share."""

from __future__ import annotations

import base64
import os
import signal
import threading
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, settings

from processor.errors import InvalidWrite, TransientError
from processor.local.aws import EmbeddedAws
from processor.local.memory_s3 import MemoryS3
from processor.store.units import item_size

# These machines are shared: how long an example takes says nothing.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")

# A script's `&` has Ctrl-C ignored, and children inherit it: tests end theirs by it however pytest was started.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    parser.addoption("--soak-seconds", type=int, default=0, help="All faults together for so long (tests/faults)")
    parser.addoption("--soak-seed", type=int, default=None, help="Their seed; a new one by default")


def pytest_xdist_auto_num_workers(config):
    """All tests run in a process for each core, up to four; a part of them in pytest's own."""
    whole = config.args_source is config.ArgsSource.TESTPATHS
    return min(os.cpu_count() or 1, 4) if whole else 0


class MemoryTable:
    """The table `readings` in memory, behind the client's interface, with the rules that the writer leans on."""

    def __init__(self):
        self.items = {}
        self.sizes = {}
        self.calls = []
        self.fail = lambda operation, body: None
        """Called before each operation; raises what the service should answer."""
        self._lock = threading.Lock()

    def call(self, operation, body, *, deadline=None):
        self.calls.append((operation, body))
        self.fail(operation, body)
        with self._lock:
            return getattr(self, operation)(body)

    def close(self):
        pass

    def UpdateItem(self, body):  # noqa: N802 - AWS's name
        key = (body["Key"]["device"]["S"], int(body["Key"]["slot"]["N"]))
        names, values = body["ExpressionAttributeNames"], body["ExpressionAttributeValues"]
        if len(body["UpdateExpression"]) > 4096:
            raise InvalidWrite("ValidationException", "Expression size has exceeded the maximum allowed size")
        assert body["UpdateExpression"] == "SET " + ",".join(
            f"#{n}=if_not_exists(#{n},:{n})" for n in range(len(names))
        )
        before = self.items.get(key, {})
        new = {} if before else dict(body["Key"])
        new |= {name: values[":" + mark[1:]] for mark, name in names.items() if name not in before}
        size = self.sizes.get(key, 0) + item_size(new)
        if size > 400 * 1024:
            raise InvalidWrite("ValidationException", "Item size to update has exceeded the maximum allowed size")
        whole = body["ReturnValues"] == "ALL_OLD"
        old = dict(before) if whole else {name: before[name] for name in names.values() if name in before}
        self.items.setdefault(key, {}).update(new)
        self.sizes[key] = size
        return {"Attributes": old, "ConsumedCapacity": {"CapacityUnits": 1.0}}

    def Query(self, body):  # noqa: N802
        values = body["ExpressionAttributeValues"]
        first, last = (int(values[k]["N"]) if k in values else None for k in (":a", ":b"))
        keys = sorted(key for key in self.items if key[0] == values[":d"]["S"])
        keys = [key for key in keys if first is None or first <= key[1] <= last]
        if not body["ScanIndexForward"]:
            keys.reverse()
        return self._page(keys, body)

    def Scan(self, body):  # noqa: N802
        keys = sorted(self.items)[body["Segment"] :: body["TotalSegments"]]
        return self._page(keys, body)

    def _page(self, keys, body, most=3):
        """Small pages, so that every reader has to follow them."""
        start = body.get("ExclusiveStartKey")
        if start is not None:
            keys = keys[keys.index((start["device"]["S"], int(start["slot"]["N"]))) + 1 :]
        page, rest = keys[:most], keys[most:]
        answer = {"Items": [self.items[key] for key in page]}
        if rest:
            device, slot = page[-1]
            answer["LastEvaluatedKey"] = {"device": {"S": device}, "slot": {"N": str(slot)}}
        return answer


class MemoryBucket(MemoryS3):
    """S3 in memory, whose calls can be lost, or their answers."""

    def __init__(self):
        super().__init__()
        self.before = lambda operation, key: None
        """Called before each operation, …"""
        self.after = lambda operation, key: None
        """… and after it: each may raise, as a lost call or a lost answer does."""

    def put_object(self, **arguments):
        return self._call("PutObject", super().put_object, arguments)

    def delete_object(self, **arguments):
        return self._call("DeleteObject", super().delete_object, arguments)

    def get_object(self, **arguments):
        return self._call("GetObject", super().get_object, arguments)

    def paginate(self, **arguments):
        return self._call("ListObjectsV2", lambda **_: list(super(MemoryBucket, self).paginate(**_)), arguments)

    def _call(self, operation, method, arguments):
        key = arguments.get("Key", arguments.get("Prefix"))
        self.before(operation, key)
        answer = method(**arguments)
        self.after(operation, key)
        return answer


@pytest.fixture
def bucket():
    return MemoryBucket()


@pytest.fixture(scope="session")
def new_bucket():
    """Makes buckets in memory, for tests that need one for each example."""
    return MemoryBucket


@pytest.fixture
def table():
    return MemoryTable()


@pytest.fixture(scope="session")
def new_table():
    """Makes tables in memory, for tests that need one for each example."""
    return MemoryTable


@pytest.fixture
def throttled():
    def fail(operation, body):
        raise TransientError("ThrottlingException", "Rate exceeded", status=400)

    return fail


@pytest.fixture
def context():
    """A Lambda context with a minute left."""
    return SimpleNamespace(
        aws_request_id="request-1", memory_limit_in_mb=256, get_remaining_time_in_millis=lambda: 60_000
    )


@pytest.fixture(scope="session")
def kinesis_event():
    """Makes the event that Lambda sends, from record data (bytes), arrivals in ms and a first sequence number."""

    def make(*data, arrived_at=1_700_000_000_000, first=1, shard="shardId-000000000000"):
        return {
            "Records": [
                {
                    "kinesis": {
                        "kinesisSchemaVersion": "1.0",
                        "partitionKey": f"key-{n}",
                        "sequenceNumber": f"{first + n:056d}",
                        "data": each if isinstance(each, str) else base64.b64encode(each).decode(),
                        "approximateArrivalTimestamp": arrived_at / 1000,
                    },
                    "eventSource": "aws:kinesis",
                    "eventVersion": "1.0",
                    "eventID": f"{shard}:{first + n:056d}",
                    "eventName": "aws:kinesis:record",
                    "awsRegion": "us-east-1",
                    "eventSourceARN": "arn:aws:kinesis:us-east-1:000000000000:stream/processor",
                }
                for n, each in enumerate(data)
            ]
        }

    return make


@pytest.fixture(scope="module")
def embedded():
    """An embedded AWS."""
    with EmbeddedAws() as found:
        yield found


@pytest.fixture
def configured(embedded, monkeypatch):
    """The same with nothing in it, and as the environment names it."""
    embedded.reset()
    for name, value in embedded.environment().items():
        monkeypatch.setenv(name, value)
    return embedded
