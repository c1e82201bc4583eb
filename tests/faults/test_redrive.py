"""Nothing lost, nothing doubled: redrive and replay killed at every call they make, each run going on from the last.

And where S3's answers break off: what came of an object is not the object.
"""

from __future__ import annotations

import gzip
import http.client
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import orjson
import pytest

from processor.decode.advertisement import manufacturer_data, service_data
from processor.decode.formats import bthome, ruuvi
from processor.local.batch import _iso
from processor.quarantine import Quarantine, Rejection
from processor.settings import Settings
from processor.store import client, tables
from processor.store.reader import Reader
from processor.store.tables import slot_of

KEY = bytes(range(16))
DEVICE, OTHER = "CB:B8:33:4C:88:4F", "AA:00:00:00:00:02"
BUCKET = "processor-quarantine"
RECORDS = 6
COMMANDS = {
    "quarantine": ["quarantine", "redrive"],
    "failures": ["failures", "redrive"],
    "replay": ["replay", f"s3://{BUCKET}", "--resume", "state"],
}


def record(n, now):
    """An open advertisement, one that only its key opens, and one that is cut."""
    opened = manufacturer_data(0x0499, ruuvi.RAWV2.encode({"temperature": 20, "sequence": n}, address=DEVICE))
    sealed = service_data(bthome.UUID, bthome.encode({"temperature": 21}, key=KEY, address=OTHER, counter=n + 1))
    pairs = ((DEVICE, opened), (OTHER, sealed), (DEVICE, opened[:-1]))
    entries = [{"address": device, "timestamp": now + n * 1000, "data": data.hex()} for device, data in pairs]
    return orjson.dumps({"payloads": entries, "timestamp": now + n * 1000, "imsi": "295050000000001"})


def prepare(aws, kinesis_event, now):
    """Fill quarantine, failure destination and archive with the same records, each in an object of its own."""
    aws.reset()
    s3 = aws.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    tables.create(aws.client("dynamodb"), "processor-")
    quarantine = Quarantine(BUCKET, lambda: s3)
    for n in range(RECORDS):
        event = kinesis_event(record(n, now), first=n, arrived_at=now)
        rejections = [
            Rejection(0, "shape", "?"),
            Rejection(1, "key_missing", "no key"),
            Rejection(2, "truncated", "cut"),
        ]
        quarantine.put([(event["Records"][0], rejections)])
        number = event["Records"][0]["kinesis"]["sequenceNumber"]
        info = {
            "shardId": "shardId-000000000000", "startSequenceNumber": number, "endSequenceNumber": number,
            "batchSize": 1, "approximateArrivalOfFirstRecord": _iso(now / 1000),
        }  # fmt: skip
        failure = {
            "requestContext": {"condition": "RetryAttemptsExhausted", "approximateInvokeCount": 1},
            "KinesisBatchInfo": info,
            "payload": orjson.dumps(event).decode(),
        }
        s3.put_object(Bucket=BUCKET, Key=f"aws/lambda/mapping/shard/{n}", Body=orjson.dumps(failure))
        s3.put_object(Bucket=BUCKET, Key=f"aws/lambda/mapping/table/{n}", Body=orjson.dumps(changes(info, n, now)))
        body = gzip.compress(record(n, now) + b"\n")
        s3.put_object(Bucket=BUCKET, Key=f"archive/2026/11/20/0{n}/x-{n}.gz", Body=body)


def changes(info, n, now):
    """What the roll-ups' mapping gave up: the table's changes that a record makes."""
    slot = {"N": str(slot_of(now + n * 1000))}
    records = [
        {
            "eventName": "MODIFY",
            "dynamodb": {"Keys": {"device": {"S": device}, "slot": slot}, "SequenceNumber": info["endSequenceNumber"]},
        }
        for device in (DEVICE, OTHER)
    ]
    return {
        "requestContext": {"condition": "RecordAgeExceeded", "approximateInvokeCount": 1},
        "DDBStreamBatchInfo": info,
        "payload": orjson.dumps({"Records": records}).decode(),
    }


def start(arguments, endpoint, aws, folder):
    environment = aws.environment() | {
        "AWS_ENDPOINT_URL": endpoint, "BINDKEYS": f"{OTHER}={KEY.hex()}", "PATH": os.environ["PATH"],
        "AWS_EC2_METADATA_DISABLED": "true",
    }  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-m", "processor.cli", *arguments],
        cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def outcome(aws):
    """What an independent look finds: every item of the tables, the rejections but for their attempts, the failures."""
    s3 = aws.client("s3")
    with closing(client(Settings.read(aws.environment()))) as dynamodb:
        items = sorted(
            orjson.dumps(item, option=orjson.OPT_SORT_KEYS)
            for table in ("readings", "rollups")
            for item in Reader(dynamodb, f"processor-{table}").scan()
        )
    rejected = {
        (entry["sequence_number"], each["index"]): each["reason"]
        for entry in Quarantine(BUCKET, lambda: s3).entries()
        for each in entry["rejected"]
    }
    return items, rejected, s3.list_objects_v2(Bucket=BUCKET, Prefix="aws/lambda/").get("KeyCount")


class Killer(ThreadingHTTPServer):
    """Forwards calls, and kills a process at its nth: before it goes on to AWS, or when it was carried out.

    It can cut the objects that S3 sends, too.
    """

    def __init__(self, endpoint):
        super().__init__(("127.0.0.1", 0), Forward)
        self.target = endpoint.removeprefix("http://")
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.lock = threading.Lock()
        self.process = self.killed = None
        self.calls = self.at = self.kills = 0
        self.after = False
        self.cuts = lambda path: False
        """Tells whether the object of a path is cut this time."""

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.killed = self.process
        self.kills += 1


class Forward(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        self.process = self.server.process

    def forward(self):
        killer = self.server
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with killer.lock:  # one call at a time: the nth is the nth
            if self.process is not killer.process or killer.killed is killer.process:
                raise ConnectionAbortedError  # its sender was killed while it waited for its turn
            killer.calls += 1
            strikes = killer.calls == killer.at
            if strikes and not killer.after:
                killer.kill()
                raise ConnectionAbortedError
            with closing(http.client.HTTPConnection(killer.target)) as server:
                server.request(self.command, self.path, body, dict(self.headers))
                answer = server.getresponse()
                content = answer.read()
            if strikes:
                killer.kill()
                raise ConnectionAbortedError
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET" and "list-type" not in self.path and killer.cuts(self.path):
            content = content[: len(content) // 2]
            self.close_connection = True
        self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_DELETE = forward  # noqa: N815 - http.server's names

    def handle(self):
        with suppress(OSError):  # the killed process hung up
            super().handle()

    def log_message(self, *_):
        pass


@pytest.fixture
def killer(aws):
    made = Killer(aws.endpoint)
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


@pytest.mark.parametrize("name", COMMANDS)
def test_a_job_killed_at_each_call_in_turn_ends_as_one_that_was_not(aws, killer, kinesis_event, tmp_path, name):
    now = round(time.time() * 1000) - 60_000
    prepare(aws, kinesis_event, now)

    def go():
        killer.process = start(COMMANDS[name], killer.url, aws, tmp_path)
        said, _ = killer.process.communicate(timeout=60)
        assert killer.process.returncode in (0, -signal.SIGKILL), said
        return killer.process.returncode

    assert go() == 0
    expected, calls = outcome(aws), killer.calls
    assert len(expected[0]) >= 2
    assert calls > RECORDS

    (tmp_path / "state").unlink(missing_ok=True)
    prepare(aws, kinesis_event, now)
    for number in range(1, calls + 1):
        killer.calls, killer.at, killer.after = 0, number, number % 2 == 0
        if go() == 0:
            break  # what was left took fewer calls than that
    assert killer.kills >= 4
    killer.at = 0
    assert go() == 0
    assert outcome(aws) == expected


@pytest.mark.parametrize("name", COMMANDS)
def test_a_job_whose_objects_come_cut_does_nothing_by_them_and_ends_as_with_whole_ones(
    aws, killer, kinesis_event, tmp_path, name
):
    now = round(time.time() * 1000) - 60_000
    prepare(aws, kinesis_event, now)

    def go():
        killer.process = start(COMMANDS[name], killer.url, aws, tmp_path)
        said, _ = killer.process.communicate(timeout=60)
        return killer.process.returncode, said

    before = outcome(aws)
    killer.cuts = lambda path: True
    status, said = go()
    assert status == 1
    assert re.search(rf"s3://{BUCKET}/\S+: S3's answer broke off .*run the command again", said), said
    assert outcome(aws) == before

    cut = set()
    killer.cuts = lambda path: path not in cut and not cut.add(path)
    assert go()[0] == 0
    assert len(cut) >= RECORDS
    found = outcome(aws)

    (tmp_path / "state").unlink(missing_ok=True)
    prepare(aws, kinesis_event, now)
    killer.cuts = lambda path: False
    assert go()[0] == 0
    assert found == outcome(aws)
    assert found != before
