"""A proxy on the loopback interface between functions and AWS: faults meet the real client code over real sockets.

It forwards HTTP requests one by one. Whoever injects faults sees each as a Call, may send it on, late or never, and
says what the client gets: the answer, a part of it, another one, or nothing.
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, NamedTuple, Self
from zlib import crc32

import orjson

_SCOPE = re.compile(rb"Credential=[^/]+/\d+/[^/]+/([^/]+)/aws4_request")
_TARGET = re.compile(rb"^x-amz-target:\s*(?:\S*\.)?(\w+)", re.IGNORECASE | re.MULTILINE)
_LENGTH = re.compile(rb"^content-length:\s*(\d+)", re.IGNORECASE | re.MULTILINE)
_CHUNKED = re.compile(rb"^transfer-encoding:\s*chunked", re.IGNORECASE | re.MULTILINE)
_EXPECT = re.compile(rb"^expect:[^\n]*\n", re.IGNORECASE | re.MULTILINE)
_NOW = struct.pack("ii", 1, 0)  # SO_LINGER: close at once, with a reset
RETRY_SECONDS = 0.01


@dataclass
class Call:
    """One request on its way.

    service: as the signature names it (`dynamodb`, `s3`, …). operation: DynamoDB's own (`UpdateItem`), or S3's method
    and path. port: the client's, by which its process can be told. forward: sends it on and gives the whole answer;
    afresh does so over a connection of its own, when the client's is long gone.
    """

    service: str
    operation: str
    body: bytes
    port: int
    forward: Callable[[], bytes]
    afresh: Callable[[], bytes]


class Reply(NamedTuple):
    """What the client gets, and whether the connection is then kept, closed, or reset."""

    data: bytes = b""
    then: Literal["keep", "close", "reset"] = "keep"


Fault = Callable[[Call], Reply | None]
"""Says what becomes of a call; None sends it on."""


def answer(body: bytes = b"{}", status: str = "200 OK") -> bytes:
    """Return an HTTP answer as DynamoDB gives it, checksum and all."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/x-amz-json-1.0\r\nx-amz-crc32: {crc32(body)}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def refusal(code: str, status: str = "400 Bad Request") -> bytes:
    """Return an error as DynamoDB and the other services of JSON answer it."""
    return answer(orjson.dumps({"__type": f"com.amazonaws#{code}", "message": f"{code} (injected)"}), status)


class Proxy:
    """Forwards to one endpoint from the first moment until `close`; `fault` is asked about each call."""

    def __init__(self, endpoint: str, fault: Fault) -> None:
        host, _, port = endpoint.removeprefix("http://").partition(":")
        self._target = (host, int(port))
        self._fault = fault
        self._lock = threading.Lock()
        self._refusing = threading.Lock()
        self._open: set[socket.socket] = set()
        self._closed = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, name="proxy", daemon=True)
        self._thread.start()

    @property
    def endpoint(self) -> str:
        """The URL to give to the client."""
        return f"http://127.0.0.1:{self._port}"

    def refuse(self, seconds: float) -> None:
        """Refuse connections for so long, and break those that are open: nothing listens there any more."""
        with self._refusing:  # one after the other
            with self._lock:
                self._stop_listening()
            self._closed.wait(seconds)
            while not self._closed.is_set():
                with self._lock, contextlib.suppress(OSError):  # the port may still be in somebody's hands
                    self._listener = socket.create_server(("127.0.0.1", self._port))
                    return
                time.sleep(RETRY_SECONDS)

    def close(self) -> None:
        """Stop listening, and break what is open."""
        self._closed.set()
        with self._lock:
            self._stop_listening()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _stop_listening(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                client, (_, port) = self._listener.accept()
            except OSError:  # refusing, or closed
                self._closed.wait(RETRY_SECONDS)
                continue
            threading.Thread(target=self._serve, args=(client, port), name="proxy call", daemon=True).start()

    def _serve(self, client: socket.socket, port: int) -> None:
        with self._lock:
            self._open.add(client)
        server: socket.socket | None = None
        try:
            with contextlib.suppress(OSError), client:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                server = socket.create_connection(self._target)
                server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while request := _request(client):
                    reply = self._replied(request, server, port)
                    client.sendall(reply.data)
                    if reply.then == "reset":
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NOW)
                    if reply.then != "keep" or not reply.data:
                        return
        finally:
            if server is not None:
                server.close()
            with self._lock:
                self._open.discard(client)

    def _replied(self, request: bytes, server: socket.socket, port: int) -> Reply:
        head, _, body = request.partition(b"\r\n\r\n")

        def forward() -> bytes:
            if self._closed.is_set():
                raise OSError("the proxy was closed before the request was sent on")
            server.sendall(request)
            return _message(server)

        def afresh() -> bytes:
            with socket.create_connection(self._target) as own:
                own.sendall(request)
                return _message(own)

        scope, target = _SCOPE.search(head), _TARGET.search(head)
        service = scope[1].decode() if scope else ""
        method, path, *_ = head.split(b" ", 2)
        operation = target[1].decode() if target else f"{method.decode()} {path.decode()}"
        reply = self._fault(Call(service, operation, body, port, forward, afresh))
        return Reply(forward()) if reply is None else reply


def _request(client: socket.socket) -> bytes:
    """Return one request whole; where the client waits for leave to send its body, give it."""
    data = _head(client)
    if _EXPECT.search(data.partition(b"\r\n\r\n")[0]):
        client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        head, _, body = data.partition(b"\r\n\r\n")
        data = _EXPECT.sub(b"", head + b"\r\n") + b"\r\n" + body
    return _whole(client, data)


def _message(sock: socket.socket) -> bytes:
    """Return one message whole; empty where the peer hung up."""
    return _whole(sock, _head(sock))


def _head(sock: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(65536)
        if not piece:
            return b""
        data += piece
    return data


def _whole(sock: socket.socket, data: bytes) -> bytes:
    head, end, body = data.partition(b"\r\n\r\n")
    length = _LENGTH.search(head)
    chunked = length is None and _CHUNKED.search(head) is not None
    pieces, have = [head, end, body], len(body)
    while (chunked and not b"".join(pieces[-2:]).endswith(b"0\r\n\r\n")) or (
        length is not None and have < int(length[1])
    ):
        piece = sock.recv(1 << 20)
        if not piece:
            return b""
        pieces.append(piece)
        have += len(piece)
    return b"".join(pieces)
