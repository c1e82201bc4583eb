"""An answer of S3 that breaks off is no object: nothing is removed or noted as done by it, and it is read again."""

from __future__ import annotations

import gzip
import hashlib
import threading
import zlib
from base64 import b64encode
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import boto3
import orjson
import pytest
from botocore.config import Config

from processor.archive import archived
from processor.checkpoint import Checkpoint
from processor.decode.advertisement import manufacturer_data
from processor.decode.formats import ruuvi
from processor.errors import TransientError
from processor.failures import Failures, FailuresRedrive
from processor.quarantine import Quarantine, Rejection
from processor.redrive import Redrive
from processor.replay import Replay, Table
from processor.rules import Limits, Rules
from processor.store.writer import Writer

NOW = 1_700_000_000_000
DEVICES = [f"CB:B8:33:4C:88:{n:02X}" for n in range(4)]
ABOUT = {"source": "archive"}
PLACES = ["line's end", "within a line"]
MARGIN = 20
RULES = Rules(Limits(400 * 86400))


class S3(ThreadingHTTPServer):
    """Keeps objects, and cuts or damages the answers to GetObject as long as it is told to."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.reset()

    def reset(self):
        self.objects = {}
        self.spoil = lambda body: body
        """What is sent of an object's body, after the headers of the whole."""
        self.spoiled = 0
        """So many answers are spoiled from now on."""
        self.checksums = False
        self.reads = 0


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", headers=(), sent=None):
        self.send_response_only(status)
        for name, value in ("Content-Length", str(len(body))), *headers:
            self.send_header(name, value)
        self.end_headers()
        sent = body if sent is None else sent
        self.wfile.write(sent)
        self.close_connection = len(sent) < len(body)

    def begin(self):
        url = urlsplit(self.path)
        key = unquote(url.path).removeprefix("/bucket").removeprefix("/")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        return key, url.query, body

    def tag(self, key):
        return f'"{hashlib.md5(self.server.objects[key], usedforsecurity=False).hexdigest()}"'

    def do_GET(self):
        key, query, _ = self.begin()
        if not key:
            assert "list-type=2" in query
            entries = "".join(
                f"<Contents><Key>{key}</Key><Size>{len(body)}</Size><ETag>{self.tag(key)}</ETag></Contents>"
                for key, body in sorted(self.server.objects.items())
            )
            return self.answer(200, f"<ListBucketResult>{entries}</ListBucketResult>".encode())
        body = self.server.objects[key]
        headers = [("ETag", self.tag(key))]
        if self.server.checksums:
            headers.append(("x-amz-checksum-crc32", b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()))
        spoils = self.server.spoiled > 0
        self.server.spoiled -= spoils
        self.server.reads += 1
        return self.answer(200, body, headers, self.server.spoil(body) if spoils else body)

    def change(self):
        key, _, body = self.begin()
        if self.headers["If-Match"] != self.tag(key):
            return self.answer(412)
        if self.command == "PUT":
            self.server.objects[key] = body
        else:
            del self.server.objects[key]
        return self.answer(200)

    do_PUT = do_DELETE = change  # noqa: N815 - http.server's names


@pytest.fixture(scope="module")
def serving():
    with S3() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        made = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{server.server_port}",
            region_name="us-east-1",
            aws_access_key_id="x",
            aws_secret_access_key="x",
            config=Config(s3={"addressing_style": "path"}, max_pool_connections=32),
        )
        with closing(made):
            yield server, made
        server.shutdown()
        thread.join()


@pytest.fixture
def s3(serving, monkeypatch):
    monkeypatch.setattr("processor.store.retries.BASE", 0.0)
    serving[0].reset()
    return serving[0]


@pytest.fixture
def client(serving):
    return serving[1]


def envelope(device):
    data = manufacturer_data(0x0499, ruuvi.RAWV2.encode({"temperature": 20, "sequence": 1}, address=device))
    return orjson.dumps({"payloads": [{"address": device, "data": data.hex()}], "timestamp": NOW})


def quarantine(kinesis_event, new_bucket):
    memory = new_bucket()
    records = kinesis_event(*map(envelope, DEVICES))["Records"]
    Quarantine("bucket", lambda: memory).put((each, [Rejection(0, "shape", "?")]) for each in records)
    return memory.objects


def failures(kinesis_event, new_bucket):
    failure = {
        "requestContext": {"condition": "RetryAttemptsExhausted", "approximateInvokeCount": 1},
        "KinesisBatchInfo": {
            "shardId": "shard", "startSequenceNumber": "1", "endSequenceNumber": "4", "batchSize": 4,
            "approximateArrivalOfFirstRecord": "2023-11-14T22:13:20.000Z",
        },
        "payload": orjson.dumps(kinesis_event(*map(envelope, DEVICES))).decode(),
    }  # fmt: skip
    return {"aws/lambda/mapping/x": orjson.dumps(failure, option=orjson.OPT_INDENT_2)}


def plain(kinesis_event, new_bucket):
    return {"archive/2023/11/14/22/x": b"".join(envelope(device) + b"\n" for device in DEVICES)}


def gzipped(kinesis_event, new_bucket):
    """A member a line, as Firehose may: each beginning that ends with one is a whole gzip file."""
    return {"archive/2023/11/14/22/x.gz": b"".join(gzip.compress(envelope(device) + b"\n") for device in DEVICES)}


OBJECTS = {"quarantine": quarantine, "failures": failures, "archive": plain, "archive, gzipped": gzipped}


class Bench:
    """Runs the job that is meant, and tells what came of it."""

    def __init__(self, kind, s3, client, table, state):
        self.kind, self.s3, self.client, self.table, self.state = kind, s3, client, table, state
        self.writer = Writer(table, "processor-readings", threads=2)
        self.kept = dict(s3.objects)
        ((self.key, self.body),) = s3.objects.items()

    def cut(self, place):
        """Where to cut: behind a whole line (of a gzipped archive, a whole member), or in the next one."""
        if self.kind == "archive, gzipped":
            end = len(b"".join(gzip.compress(envelope(device) + b"\n") for device in DEVICES[:2]))
        else:
            end = self.body.index(b"\n", MARGIN) + 1
        assert 0 < end < len(self.body)
        return end if place == PLACES[0] else end + MARGIN

    def run(self):
        def make():
            return self.client

        def clock():
            return NOW / 1000

        quarantined = Quarantine("bucket", make)
        if self.kind == "quarantine":
            return Redrive(quarantined, self.writer, RULES, clock=clock).redrive()
        if self.kind == "failures":
            return FailuresRedrive(
                Failures("bucket", make), quarantined, self.writer, RULES, aggregator=None, clock=clock
            ).redrive()
        with closing(Checkpoint(self.state, ABOUT)) as checkpoint:
            sink = Table(self.writer, RULES, clock=clock)
            return Replay(sink, checkpoint=checkpoint).run(archived(self.client, "bucket", "archive/", None, None))

    def stored(self):
        return sorted(device for device, _ in self.table.items)

    def assert_nothing_happened(self):
        assert self.s3.objects == self.kept
        assert self.stored() == []
        if self.state.exists():
            assert self.state.read_bytes() == orjson.dumps({"replay": ABOUT}) + b"\n"

    def assert_all_is_done(self):
        assert self.stored() == DEVICES
        if not self.state.exists():
            assert self.s3.objects == {}
            return
        reads = self.s3.reads
        assert self.run().resumed == len(DEVICES)
        assert self.s3.reads == reads


@pytest.fixture(params=OBJECTS)
def bench(request, s3, client, table, kinesis_event, new_bucket, tmp_path):
    s3.objects = OBJECTS[request.param](kinesis_event, new_bucket)
    made = Bench(request.param, s3, client, table, tmp_path / "state")
    with closing(made.writer):
        yield made


@pytest.mark.parametrize("checksums", [False, True], ids=["length alone", "checksum"])
@pytest.mark.parametrize("place", PLACES)
def test_an_object_that_never_comes_whole_stays_and_is_handled_by_the_next_run(bench, s3, place, checksums):
    at = bench.cut(place)
    s3.spoil, s3.spoiled, s3.checksums = lambda body: body[:at], 10**9, checksums
    with pytest.raises(TransientError, match=rf"s3://bucket/{bench.key}: .* broke off .*: run the command again"):
        bench.run()
    assert s3.reads > 1
    bench.assert_nothing_happened()
    s3.spoiled = 0
    bench.run()
    bench.assert_all_is_done()


@pytest.mark.parametrize("checksums", [False, True], ids=["length alone", "checksum"])
@pytest.mark.parametrize("place", PLACES)
def test_an_answer_that_broke_off_once_is_asked_for_again(bench, s3, place, checksums):
    at = bench.cut(place)
    s3.spoil, s3.spoiled, s3.checksums = lambda body: body[:at], 1, checksums
    bench.run()
    assert s3.reads == 2
    bench.assert_all_is_done()


def test_an_answer_that_came_damaged_is_asked_for_again_where_s3_sent_a_checksum(bench, s3):
    """As long as it ought to be: only the checksum tells."""
    at = bench.cut(PLACES[1])
    s3.spoil, s3.spoiled, s3.checksums = lambda body: body[:at] + b"~" + body[at + 1 :], 10**9, True
    with pytest.raises(TransientError, match=rf"s3://bucket/{bench.key}: "):
        bench.run()
    bench.assert_nothing_happened()
    s3.spoiled = 1
    bench.run()
    bench.assert_all_is_done()
