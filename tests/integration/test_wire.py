"""The client and boto3 against the same servers: equal answers, equal errors."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from base64 import b64encode
from pathlib import Path

import pytest

from processor.errors import InvalidWrite, StoreError, TransientError
from processor.store.retries import Retries
from processor.store.wire import Boto, Credentials, Wire, connect

STUB = Path(__file__).parents[1] / "benchmarks" / "stub.py"


@pytest.fixture(scope="module")
def ministack(tmp_path_factory):
    """Start an AWS on a free port of the loopback interface; returns its URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path_factory.mktemp("ministack")),
        "BIND_HOST": "127.0.0.1",
        "MINISTACK_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "IOT_MTLS_ENABLED": "0",
    }
    command = [sys.executable, "-m", "ministack"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env=environment, start_new_session=True, **quiet) as server:
        try:
            until = time.monotonic() + 60
            while True:
                try:
                    with urllib.request.urlopen(f"{url}/_ministack/health", timeout=5):
                        break
                except OSError:
                    assert server.poll() is None, "MiniStack ended"
                    assert time.monotonic() < until, "MiniStack did not start"
                    time.sleep(0.05)
            yield url
        finally:
            os.killpg(server.pid, signal.SIGKILL)


TABLE = {
    "TableName": "readings",
    "KeySchema": [{"AttributeName": "device", "KeyType": "HASH"}, {"AttributeName": "slot", "KeyType": "RANGE"}],
    "AttributeDefinitions": [
        {"AttributeName": "device", "AttributeType": "S"},
        {"AttributeName": "slot", "AttributeType": "N"},
    ],
    "BillingMode": "PAY_PER_REQUEST",
}


@pytest.fixture
def clients(ministack):
    """A client of each kind, in an account of its own with an empty table."""
    common = {"region": "eu-west-1", "endpoint": ministack, "retries": Retries(attempts=2, sleep=lambda _: None)}
    wire = Wire(credentials=lambda: Credentials("111111111111", "secret"), **common)
    boto = Boto(credentials=Credentials("222222222222", "secret"), **common)
    for client in (wire, boto):
        client.call("CreateTable", TABLE)
    yield {"wire": wire, "boto3": boto}
    for client in (wire, boto):
        client.call("DeleteTable", {"TableName": "readings"})
        client.close()


@pytest.fixture(params=["wire", "boto3"])
def client(request, clients):
    return clients[request.param]


def key(slot=1_700_000_000, device="CB:B8:33:4C:88:4F"):
    return {"device": {"S": device}, "slot": {"N": str(slot)}}


def write(cells, slot=1_700_000_000):
    """Return the writer's own kind of UpdateItem."""
    return {
        "TableName": "readings",
        "Key": key(slot),
        "UpdateExpression": "SET " + ",".join(f"#{n}=if_not_exists(#{n},:{n})" for n in range(len(cells))),
        "ExpressionAttributeNames": {f"#{n}": name for n, name in enumerate(cells)},
        "ExpressionAttributeValues": {f":{n}": value for n, value in enumerate(cells.values())},
        "ReturnValues": "UPDATED_OLD",
    }


def cell(offset, text=None):
    return {"M": {"o": {"N": str(offset)}, "t": {"N": "-24.35"}} | ({"x": {"S": text}} if text else {})}


BY_DEVICE = {"TableName": "readings", "KeyConditionExpression": "device = :d", "ConsistentRead": True}


def query(**more):
    return BY_DEVICE | {"ExpressionAttributeValues": {":d": key()["device"]}} | more


def test_cells_are_written_once_and_read_back(client):
    first, second = {"1.aaaa": cell(0), "2.bbbb": cell(900, '温度 ☀ \u2028 " \\ \x7f')}, {"3.cccc": cell(1800)}
    assert client.call("UpdateItem", write(first)) == {}
    assert client.call("UpdateItem", write({"1.aaaa": cell(7), **second})) == {"Attributes": {"1.aaaa": cell(0)}}
    item = {**key(), **first, **second}
    got = client.call("GetItem", {"TableName": "readings", "Key": key(), "ConsistentRead": True})
    assert got == {"Item": item}
    assert client.call("Query", query()) == {"Items": [item], "Count": 1, "ScannedCount": 1}


def test_what_is_not_there_is_an_empty_answer(client):
    assert client.call("GetItem", {"TableName": "readings", "Key": key()}) == {}
    assert client.call("Query", query()) == {"Items": [], "Count": 0, "ScannedCount": 0}


def test_pages_are_followed_by_their_key(client):
    for n in range(3):
        client.call("UpdateItem", write({"1.aaaa": cell(n)}, slot=n))
    page = client.call("Query", query(Limit=2))
    assert page["LastEvaluatedKey"] == key(1)
    rest = client.call("Query", query(Limit=2, ExclusiveStartKey=page["LastEvaluatedKey"]))
    assert [item["slot"]["N"] for item in page["Items"] + rest["Items"]] == ["0", "1", "2"]


def test_binary_values_are_base64_text_both_ways(client):
    """Attributes called B and BS too, which are no binary values."""
    binary = b64encode(bytes(range(256))).decode()
    item = {**key(), "b": {"B": binary}, "s": {"BS": ["/w==", "AAE="]}, "l": {"L": [{"B": "AA=="}, {"S": "AA=="}]}}
    item |= {"B": {"S": "text"}, "BS": {"M": {"B": {"B": "AQ=="}}}}
    put = {"PutRequest": {"Item": item}}
    assert client.call("BatchWriteItem", {"RequestItems": {"readings": [put]}})["UnprocessedItems"] == {}
    stored = client.call("GetItem", {"TableName": "readings", "Key": key()})["Item"]
    stored["s"]["BS"].sort()
    assert stored == item


NOWHERE = {"TableName": "nowhere"}
ERRORS = {
    "a missing table": ("UpdateItem", write({"a": cell(0)}) | NOWHERE, TransientError, "ResourceNotFoundException"),
    "a missing table read": ("Query", query() | NOWHERE, TransientError, "ResourceNotFoundException"),
    "a broken expression": (
        "UpdateItem", write({"a": cell(0)}) | {"UpdateExpression": "SET #0 = "}, InvalidWrite, "ValidationException",
    ),
    "a key of the wrong type": (
        "UpdateItem", write({"a": cell(0)}) | {"Key": key() | {"slot": {"S": "x"}}},
        InvalidWrite, "ValidationException",
    ),
    "a number that is none": ("UpdateItem", write({"a": {"N": "warm"}}), InvalidWrite, "ValidationException"),
    "a failed condition": (
        "UpdateItem", write({"a": cell(0)}) | {"ConditionExpression": "attribute_exists(device)"},
        StoreError, "ConditionalCheckFailedException",
    ),
    "a parameter left out": ("GetItem", {"TableName": "readings"}, InvalidWrite, "ValidationException"),
    "no such operation": ("Frobnicate", {}, StoreError, "UnknownOperationException"),
}  # fmt: skip
FOUND_BY_BOTO3_ITSELF = ("a parameter left out", "no such operation")


@pytest.mark.parametrize("case", ERRORS)
def test_a_refusal_is_the_same_exception_from_both(clients, case):
    operation, body, kind, code = ERRORS[case]
    raised = {}
    for name, client in clients.items():
        with pytest.raises(StoreError) as caught:
            client.call(operation, body)
        raised[name] = caught.value
    wire, boto = raised["wire"], raised["boto3"]
    assert (type(wire), wire.code) == (type(boto), boto.code) == (kind, code)
    if case not in FOUND_BY_BOTO3_ITSELF:
        assert (str(wire), wire.status) == (str(boto), boto.status)


@pytest.fixture
def stub():
    """The benchmarks' stand-in, without latency; returns its URL."""
    command = [sys.executable, str(STUB), "--latency-ms", "0", "--leashed", "--body", '{"Items":[]}']
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
        server.stdin.close()
        assert server.wait(20) == 0


@pytest.mark.parametrize("implementation", ["wire", "boto3"])
def test_the_stub_answers_and_counts_what_either_client_sends(stub, implementation):
    client = connect(
        region="eu-west-1", endpoint=stub, implementation=implementation, credentials=Credentials("AKID", "secret")
    )
    puts = [{"PutRequest": {"Item": key(n)}} for n in range(25)]
    assert client.call("UpdateItem", write({"a": cell(0)})) == {}
    assert client.call("BatchWriteItem", {"RequestItems": {"readings": puts}}) == {"UnprocessedItems": {}}
    assert client.call("Query", query()) == {"Items": []}
    client.close()
    with urllib.request.urlopen(f"{stub}/counts", timeout=20) as answer:
        counts = json.load(answer)
    assert counts.pop("bytes") > 1000
    operations = {"UpdateItem": 1, "BatchWriteItem": 1, "Query": 1}
    assert counts == {"calls": 3, "items": 26, "connections": 1, "operations": operations}
