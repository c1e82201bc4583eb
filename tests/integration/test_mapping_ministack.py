"""From a post to the function, end to end over a real local server: Funnel's stand-in, MiniStack, the mapping."""

from __future__ import annotations

import base64
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from processor.local.funnel import Funnel
from processor.local.mapping import EventSourceMapping, MappingSettings

NAMES = (f"processor-{number}" for number in itertools.count())


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="module")
def kinesis(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ministack")
    port = free_port()
    variables = {"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "MINISTACK_HOST": "127.0.0.1"}
    quiet = {"IOT_MTLS_ENABLED": "0", "SFTP_ENABLED": "0", "LOG_LEVEL": "WARNING"}
    server = subprocess.Popen(
        [sys.executable, "-m", "ministack"],
        env=os.environ | variables | quiet | {"HOME": str(folder), "TMPDIR": str(folder), "STATE_DIR": str(folder)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    client = boto3.client(
        "kinesis",
        "us-east-1",
        endpoint_url=f"http://127.0.0.1:{port}",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(proxies={}, max_pool_connections=20, retries={"total_max_attempts": 1}),
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                client.list_streams()
                break
            except BotoCoreError:
                assert server.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield client
    finally:
        client.close()
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


@pytest.fixture
def stream(kinesis):
    name = next(NAMES)
    kinesis.create_stream(StreamName=name, ShardCount=3)
    yield name
    kinesis.delete_stream(StreamName=name)


def payloads_of(event):
    records = json.loads(event)["Records"]
    return [json.loads(base64.b64decode(record["kinesis"]["data"]))["payloads"] for record in records]


def post(url, body):
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
        return answer.status


def test_what_is_posted_reaches_the_function_through_real_shards_exactly_as_often_as_it_was_taken(kinesis, stream):
    seen, shards, sent = [], set(), []
    failed = threading.Event()

    def invoke(event):
        if not failed.is_set():
            failed.set()
            raise RuntimeError("the first invocation fails")
        seen.extend(payload["n"] for payload in payloads_of(event))
        shards.update(record["eventID"].partition(":")[0] for record in json.loads(event)["Records"])
        return {"batchItemFailures": []}

    settings = MappingSettings(
        batch_size=10, batching_window_seconds=0.1, parallelization_factor=2, report_batch_item_failures=True
    )
    with Funnel(kinesis, stream, on_record=sent.append) as funnel:
        clients = [
            threading.Thread(target=post, args=(funnel.http_url, json.dumps({"n": number}).encode()))
            for number in range(60)
        ]
        with EventSourceMapping(kinesis, stream, invoke, settings) as mapping:
            for client in clients:
                client.start()
            for client in clients:
                client.join()
            mapping.drain(60)
    assert sorted(seen) == list(range(60))
    assert len(sent) == 60
    assert len(shards) == 3
    assert mapping.stats.errors == 1
    assert mapping.stats.records == 60


def test_a_mapping_goes_on_from_the_checkpoints_of_the_one_before(kinesis, stream):
    def put(first, last):
        entries = [{"Data": b'{"payloads":%d}' % n, "PartitionKey": str(n)} for n in range(first, last)]
        kinesis.put_records(StreamName=stream, Records=entries)

    seen = []
    settings = MappingSettings(batching_window_seconds=0)
    put(0, 100)
    with EventSourceMapping(kinesis, stream, lambda event: seen.extend(payloads_of(event)), settings) as first:
        first.drain(60)
    put(100, 200)
    checkpoints = first.checkpoints
    assert all(number.startswith("0") for number in checkpoints.values())
    with EventSourceMapping(
        kinesis, stream, lambda event: seen.extend(payloads_of(event)), settings, checkpoints=checkpoints
    ) as second:
        second.drain(60)
    assert sorted(seen) == list(range(200))
