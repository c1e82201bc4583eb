"""The embedded AWS: starts fast, listens on loopback alone, knows nothing of the user, and is always stopped."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from processor.errors import LocalError
from processor.local import aws as aws_module
from processor.local.aws import EmbeddedAws
from processor.local.child import Child


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedAws]:
    with EmbeddedAws(region="ap-northeast-1") as server:
        yield server


@pytest.fixture
def aws(server: EmbeddedAws) -> EmbeddedAws:
    """A server without resources."""
    server.reset()
    return server


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_the_clients_speak_to_it(aws: EmbeddedAws) -> None:
    aws.client("kinesis").create_stream(StreamName="sensors", ShardCount=2)
    assert aws.client("kinesis").list_streams()["StreamNames"] == ["sensors"]
    aws.client("s3").create_bucket(
        Bucket="quarantine", CreateBucketConfiguration={"LocationConstraint": "ap-northeast-1"}
    )
    aws.client("s3").put_object(Bucket="quarantine", Key="a/b", Body=b"payload")
    assert aws.client("s3").get_object(Bucket="quarantine", Key="a/b")["Body"].read() == b"payload"
    stream = aws.client("kinesis").describe_stream(StreamName="sensors")["StreamDescription"]
    assert stream["StreamARN"] == f"arn:aws:kinesis:ap-northeast-1:{aws_module.ACCOUNT}:stream/sensors"


def test_a_client_is_made_once(aws: EmbeddedAws) -> None:
    assert aws.client("dynamodb") is aws.client("dynamodb")


def test_its_environment_points_a_plain_boto3_at_it(aws: EmbeddedAws, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in aws.environment().items():
        monkeypatch.setenv(name, value)
    aws.client("kinesis").create_stream(StreamName="sensors", ShardCount=1)
    client = boto3.session.Session().client("kinesis")
    assert client.list_streams()["StreamNames"] == ["sensors"]
    client.close()


def test_the_users_profile_endpoints_and_proxies_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    monkeypatch.setenv("AWS_ENDPOINT_URL_KINESIS", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the user's own")
    monkeypatch.setenv("PERSIST_STATE", "1")
    with EmbeddedAws() as aws:
        assert aws.client("kinesis").list_streams()["StreamNames"] == []
        assert aws.environment()["AWS_SECRET_ACCESS_KEY"] == "local"
        if sys.platform == "linux":
            variables = Path(f"/proc/{aws.pid}/environ").read_bytes()
            assert not any(word in variables for word in (b"no-such-profile", b"the user's own", b"PERSIST_STATE"))


@pytest.mark.skipif(sys.platform != "linux", reason="who listens where is read from Linux's /proc/net")
def test_it_listens_on_one_port_of_the_loopback_interface_and_nowhere_else(aws: EmbeddedAws) -> None:
    aws.client("sqs").create_queue(QueueName="failures")
    aws.client("lambda").list_functions()
    aws.client("iot").list_things()
    links = [str(link.readlink()) for link in Path(f"/proc/{aws.pid}/fd").iterdir()]
    inodes = {link[len("socket:[") : -1] for link in links if link.startswith("socket:[")}
    listening = []
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for row in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = row.split()
            if fields[9] in inodes and (fields[3] == "0A" or table.startswith("udp")):
                listening.append((table, fields[1]))
    port = int(aws.endpoint.rpartition(":")[2])
    assert listening == [("tcp", f"0100007F:{port:04X}")]


def test_reset_drops_every_resource(aws: EmbeddedAws) -> None:
    aws.client("kinesis").create_stream(StreamName="sensors", ShardCount=1)
    aws.reset()
    assert aws.client("kinesis").list_streams()["StreamNames"] == []


def test_two_run_side_by_side_and_share_nothing(aws: EmbeddedAws) -> None:
    with EmbeddedAws() as other:
        assert other.endpoint != aws.endpoint
        other.client("kinesis").create_stream(StreamName="theirs", ShardCount=1)
        assert aws.client("kinesis").list_streams()["StreamNames"] == []


def test_an_exception_stops_it_and_leaves_nothing_behind() -> None:
    open_before = len(list(Path("/dev/fd").iterdir()))
    aws = EmbeddedAws()
    client = aws.client("kinesis")
    client.list_streams()
    pid, endpoint, folder = aws.pid, aws.endpoint, Path(aws._folder.name)
    assert folder.exists()
    with pytest.raises(ZeroDivisionError), aws:
        raise ZeroDivisionError
    assert is_gone(pid)
    assert not folder.exists()
    assert len(list(Path("/dev/fd").iterdir())) == open_before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(endpoint.rpartition(":")[2])))
    aws.stop()
    with pytest.raises(LocalError, match="is stopped"):
        aws.client("kinesis")


def test_a_server_that_dies_is_reported() -> None:
    with EmbeddedAws() as aws:
        aws.check()
        os.kill(aws.pid, signal.SIGKILL)
        with pytest.raises(LocalError, match="the embedded AWS was killed by SIGKILL"):
            aws.reset()
        with pytest.raises(LocalError, match="the embedded AWS was killed by SIGKILL"):
            aws.check()


def test_a_server_that_cannot_start_shows_the_end_of_its_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws_module, "APPLICATION", "ministack.nowhere:app")
    with pytest.raises(LocalError, match=r"exited with status \d+; the end of its log:\n(.|\n)*nowhere"):
        EmbeddedAws()


def test_a_server_that_hangs_is_given_up_and_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script, started = tmp_path / "hang.py", []
    script.write_text("import time\ntime.sleep(600)")

    def start(target: str, *arguments: str, **options: Any) -> Child:
        started.append(Child(str(script), **options))
        return started[0]

    monkeypatch.setattr(aws_module, "Child", start)
    monkeypatch.setattr(aws_module, "START_TIMEOUT_S", 0.2)
    with pytest.raises(LocalError, match="gave no answer to GET /_ministack/health"):
        EmbeddedAws()
    assert is_gone(started[0].pid)


def test_without_the_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LocalError, match=r"pip install 'processor\[local\]'"):
        EmbeddedAws()
