"""A fast stand-in for DynamoDB's HTTP side: any signed POST gets a fixed answer after a fixed latency.

    python tests/benchmarks/stub.py --latency-ms 4

prints its port and serves 127.0.0.1 until it is terminated (or, with --leashed, until its standard input ends, so that
it cannot outlive whoever started it). It keeps nothing and checks nothing but that a request is signed: what it
measures is the client. GET /counts answers what came in, bytes being those of the POST bodies and items those that the
calls would write or delete: `{"calls": 1, "bytes": 99, "items": 1, "connections": 1, "operations": {"UpdateItem": 1}}`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from zlib import crc32

ANSWERS = {"UpdateItem": b"{}", "PutItem": b"{}", "DeleteItem": b"{}", "BatchWriteItem": b'{"UnprocessedItems":{}}'}
UNSIGNED = b'{"__type":"com.amazon.coral.service#MissingAuthenticationTokenException","message":"not signed"}'


def answer(status: bytes, body: bytes) -> bytes:
    """Return a whole HTTP answer, with the headers that DynamoDB sends."""
    return (
        b"HTTP/1.1 %b\r\nServer: Server\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: %d\r\n"
        b"Connection: keep-alive\r\nx-amzn-RequestId: STUB\r\nx-amz-crc32: %d\r\n\r\n%b"
    ) % (status, len(body), crc32(body), body)


class Counts:
    """What came in so far."""

    def __init__(self) -> None:
        self.bytes = 0
        self.items = 0
        self.connections = 0
        self.operations: Counter[str] = Counter()

    def add(self, operation: str, body: bytes) -> None:
        self.operations[operation] += 1
        self.bytes += len(body)
        if operation == "BatchWriteItem":
            self.items += body.count(b'"PutRequest"') + body.count(b'"DeleteRequest"')
        else:
            self.items += operation in ANSWERS

    def json(self) -> bytes:
        calls = self.operations.total()
        shown = {"calls": calls, "bytes": self.bytes, "items": self.items, "connections": self.connections}
        return json.dumps({**shown, "operations": self.operations}).encode()


class Connection(asyncio.Protocol):
    """One keep-alive connection."""

    def __init__(self, counts: Counts, answers: dict[str, bytes], default: bytes, latency: float) -> None:
        self.counts = counts
        self.answers = answers
        self.default = default
        self.latency = latency
        self.buffer = b""
        self.used = False
        self.loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            length = int(header(head, b"content-length") or 0)
            if len(self.buffer) < end + 4 + length:
                return
            target = header(self.buffer[:end], b"X-Amz-Target")
            body = self.buffer[end + 4 : end + 4 + length]
            self.buffer = self.buffer[end + 4 + length :]
            self.answer(head, target.rpartition(b".")[2].decode(), body)

    def answer(self, head: bytes, operation: str, body: bytes) -> None:
        if not head.startswith(b"post "):
            self.transport.write(answer(b"200 OK", self.counts.json()))
        elif not header(head, b"authorization").startswith(b"aws4-hmac-sha256 credential="):
            self.transport.write(answer(b"400 Bad Request", UNSIGNED))
        else:
            self.counts.connections += not self.used
            self.used = True
            self.counts.add(operation, body)
            self.loop.call_later(self.latency, self.transport.write, self.answers.get(operation, self.default))


def header(head: bytes, name: bytes) -> bytes:
    """Return a header's value, or nothing."""
    at = head.find(b"\r\n" + name + b":")
    return b"" if at < 0 else head[at + len(name) + 3 :].split(b"\r\n", 1)[0].strip()


async def serve(latency: float, body: bytes, port: int, leashed: bool) -> None:
    """Print the port and serve until cancelled, or until standard input ends."""
    counts = Counts()
    answers = {operation: answer(b"200 OK", known) for operation, known in ANSWERS.items()}
    default = answer(b"200 OK", body)
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    server = await loop.create_server(lambda: Connection(counts, answers, default, latency), "127.0.0.1", port)
    print(server.sockets[0].getsockname()[1], flush=True)
    if leashed:
        loop.add_reader(0, lambda: None if os.read(0, 4096) else ended.set())
    await ended.wait()


@dataclass(frozen=True)
class Stub:
    """A stub that runs in a process of its own."""

    url: str

    def counts(self) -> dict[str, Any]:
        """Return what came in so far."""
        with urllib.request.urlopen(f"{self.url}/counts", timeout=10) as found:
            return dict(json.load(found))


@contextmanager
def running(latency_ms: float = 4) -> Iterator[Stub]:
    """Run this file in a process of its own, so that its CPU time is not the client's."""
    command = [sys.executable, __file__, "--latency-ms", str(latency_ms), "--leashed"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            yield Stub(f"http://127.0.0.1:{int(child.stdout.readline())}")
        finally:
            child.stdin.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latency-ms", type=float, default=4, help="from request to answer (default: 4)")
    parser.add_argument("--body", default="{}", help="the JSON of every answer but those of writes (default: {})")
    parser.add_argument("--port", type=int, default=0, help="default: a free one, which is printed")
    parser.add_argument("--leashed", action="store_true", help="stop when standard input ends")
    options = parser.parse_args()
    with suppress(KeyboardInterrupt):
        asyncio.run(serve(options.latency_ms / 1000, options.body.encode(), options.port, options.leashed))


if __name__ == "__main__":
    main()
