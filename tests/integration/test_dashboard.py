"""The page's command and its figures from CloudWatch, over real sockets: moto answers as CloudWatch does."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime

import boto3
import pytest
from botocore.config import Config

from processor.dashboard.cloudwatch import CloudWatchHealth, Names
from processor.local.aws import EmbeddedAws
from processor.store import tables

NAMES = Names.of("processor-prod-")
STREAM = {"StreamName": "processor-prod"}
INGEST = {"service": "processor-prod-ingest"}
FUNCTION = {"FunctionName": "processor-prod-ingest"}


@pytest.fixture(scope="module")
def cloudwatch(tmp_path_factory):
    """A client of moto's CloudWatch."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with (tmp_path_factory.mktemp("moto") / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            deadline = time.monotonic() + 60
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                assert server.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
            made = client("cloudwatch", f"http://127.0.0.1:{port}")
            yield made
            made.close()
        finally:
            server.terminate()
            server.wait(30)


def client(service, endpoint):
    return boto3.client(
        service, "us-east-1", endpoint_url=endpoint, aws_access_key_id="x", aws_secret_access_key="x",
        config=Config(proxies={}, retries={"total_max_attempts": 1}, connect_timeout=2),
    )  # fmt: skip


def put(cloudwatch, namespace, name, dimensions, values, at):
    """Put values, one a minute up to `at`."""
    cloudwatch.put_metric_data(
        Namespace=namespace,
        MetricData=[
            {
                "MetricName": name,
                "Dimensions": [{"Name": key, "Value": value} for key, value in dimensions.items()],
                "Timestamp": datetime.fromtimestamp(at - 60 * n, UTC),
                "Value": value,
            }
            for n, value in enumerate(reversed(values))
        ],
    )


def test_cloudwatchs_metrics_become_the_pages_figures(cloudwatch):
    """Each by the name, dimensions and statistic that it has there; another environment's are left out."""
    at = time.time() // 60 * 60 - 120
    put(cloudwatch, "AWS/Kinesis", "IncomingRecords", STREAM, [600, 1200], at)
    put(cloudwatch, "AWS/Kinesis", "IncomingRecords", {"StreamName": "processor-test"}, [9e9], at)
    put(cloudwatch, "AWS/Kinesis", "GetRecords.IteratorAgeMilliseconds", STREAM, [5000, 7000], at)
    put(cloudwatch, "Processor", "ReadingsStored", INGEST, [3000, 6000], at)
    put(cloudwatch, "Processor", "RecordsRejected", INGEST, [1, 2], at)
    put(cloudwatch, "Processor", "MemoryUsed", INGEST, [64, 80], at)
    put(cloudwatch, "Processor", "MemoryUtilization", INGEST, [25, 31.25], at)
    put(cloudwatch, "AWS/Lambda", "Invocations", FUNCTION, [10, 20], at)
    put(cloudwatch, "AWS/Lambda", "Duration", FUNCTION, [100, 300], at)
    put(
        cloudwatch,
        "AWS/DynamoDB",
        "ConsumedWriteCapacityUnits",
        {"TableName": "processor-prod-readings"},
        [900, 1800],
        at,
    )
    found = CloudWatchHealth(lambda: cloudwatch, NAMES).snapshot()
    assert (found["source"], found["note"]) == ("CloudWatch", "")
    assert found["history"]["t"] == [at - 60, at]
    assert found["history"]["records"] == [10.0, 20.0]
    assert found["history"]["stored"] == [50.0, 100.0]
    assert found["history"]["age_ms"] == [5000, 7000]
    assert found["history"]["write_units"] == [15.0, 30.0]
    assert found["ledger"]["stored"] == 9000
    assert found["ledger"]["rejected"] == 3
    assert found["ledger"]["received"] is None
    assert found["shards"] == [{"shard": "stream", "age_ms": 7000}]
    (ingest,) = found["functions"]
    assert (ingest["invocations"], ingest["slowest_ms"]) == (30, 300)
    assert (ingest["memory_mb"], ingest["limit_mb"]) == (80, 256)
    assert found["costs"]["units_per_reading"] == pytest.approx(0.3)
    assert found["costs"]["writes_per_million_readings"] == pytest.approx(0.1875)


def test_shards_that_have_metrics_of_their_own_are_shown_one_by_one(cloudwatch):
    """Kinesis' enhanced monitoring."""
    at = time.time() // 60 * 60 - 120
    names = Names.of("processor-enhanced-")
    for n in range(2):
        dimensions = {"StreamName": "processor-enhanced", "ShardId": f"shardId-00000000000{n}"}
        put(cloudwatch, "AWS/Kinesis", "IteratorAgeMilliseconds", dimensions, [1000 * n + 5], at)
    found = CloudWatchHealth(lambda: cloudwatch, names).snapshot()
    assert found["shards"] == [
        {"shard": "shardId-000000000000", "age_ms": 5},
        {"shard": "shardId-000000000001", "age_ms": 1005},
    ]


def test_an_answer_is_kept_for_a_minute(cloudwatch):
    """CloudWatch asks money for each metric read; pages look every few seconds."""
    made, now = [], [time.time()]
    health = CloudWatchHealth(lambda: made.append(1) or cloudwatch, NAMES, clock=lambda: now[0])
    first = health.snapshot()
    now[0] += 59
    assert health.snapshot() is first
    now[0] += 2
    assert health.snapshot() is not first
    assert made == [1]


def test_a_cloudwatch_that_does_not_answer_is_said():
    found = CloudWatchHealth(lambda: client("cloudwatch", "http://127.0.0.1:9"), NAMES).snapshot()
    assert found["note"].startswith("CloudWatch gives no figures: Could not connect")
    assert found["history"]["t"] == []


def test_the_command_serves_what_the_environment_names_until_ctrl_c():
    """Against an AWS of this machine whose CloudWatch knows nothing: the page is there, and says that."""
    with EmbeddedAws() as aws:
        tables.create(aws.client("dynamodb"), "processor-")
        aws.client("s3").create_bucket(Bucket="processor-quarantine")
        command = [sys.executable, "-m", "processor.cli", "dashboard", "--port", "0"]
        environment = {"PATH": "/usr/bin:/bin", **aws.environment()}
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        ) as process:
            try:
                line = process.stdout.readline()
                port = int(re.match(r"The page is at http://127\.0\.0\.1:(\d+)/ ", line)[1])
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                connection.request("GET", "/api/pipeline")
                note = json.loads(connection.getresponse().read())["note"]
                assert "CloudWatch has no figures of the stream processor" in note
                connection.request("GET", "/api/devices")
                assert json.loads(connection.getresponse().read())["rows"] == []
                connection.request("GET", "/api/rejected")
                assert json.loads(connection.getresponse().read())["records"] == []
                connection.close()
                process.send_signal(signal.SIGINT)
                assert process.wait(30) == 0
            finally:
                process.kill()


def test_another_host_means_a_token_which_is_printed_once():
    command = [sys.executable, "-m", "processor.cli", "dashboard", "--host", "0.0.0.0", "--port", "0"]
    environment = {"PATH": "/usr/bin:/bin", "AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    environment |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        try:
            found = re.match(r"The page is at http://[^:]+:(\d+)/\?token=([\w-]{32,}) ", process.stdout.readline())
            connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=60)
            connection.request("GET", "/")
            assert connection.getresponse().status == 401
            connection.close()
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
            assert found[2] not in process.stdout.read()
        finally:
            process.kill()
