"""A proxy between the function and DynamoDB, so that faults meet the real client code over real sockets."""

from __future__ import annotations

import socket
import threading
from zlib import crc32

import pytest

from processor.local.aws import EmbeddedAws


class Proxy:
    """Forwards HTTP requests one by one; `fault(operation, body, forward)` may do otherwise.

    `forward()` sends the request on and returns the whole answer; `fault` returns the answer to give, or None to
    hang up.
    """

    def __init__(self, host, port, fault):
        self._target = (host, port)
        self._fault = fault
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open = set()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for each in self._open:
                each.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
            with self._lock:
                self._threads.append(thread)
            thread.start()

    def _serve(self, client):
        with self._lock:
            self._open.add(client)
        try:
            with client, socket.create_connection(self._target) as server:
                while True:
                    request = _message(client)
                    if not request:
                        return
                    head, _, body = request.partition(b"\r\n\r\n")

                    def forward(request=request):
                        server.sendall(request)
                        return _message(server)

                    answer = self._fault(_operation(head), body, forward)
                    if answer is None:
                        return
                    client.sendall(answer)
        except OSError:
            pass
        finally:
            with self._lock:
                self._open.discard(client)


def _message(sock):
    """One HTTP message with its Content-Length, as bytes; empty when the peer hung up."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(65536)
        if not piece:
            return b""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
    )
    while len(body) < length:
        piece = sock.recv(65536)
        if not piece:
            return b""
        body += piece
    return head + b"\r\n\r\n" + body


def _operation(head):
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"x-amz-target:"):
            return line.rpartition(b".")[2].decode()
    return ""


def answer(body=b"{}", status="200 OK"):
    """An HTTP answer as DynamoDB gives it."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/x-amz-json-1.0\r\nx-amz-crc32: {crc32(body)}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.fixture(scope="session")
def embedded():
    with EmbeddedAws() as aws:
        yield aws


@pytest.fixture
def aws(embedded):
    """An embedded AWS with nothing in it."""
    embedded.reset()
    return embedded


@pytest.fixture
def proxy(aws):
    """Makes proxies before DynamoDB, and `answer`s for them."""
    made = []

    def make(fault):
        host, _, port = aws.endpoint.removeprefix("http://").partition(":")
        made.append(Proxy(host, int(port), fault))
        return made[-1]

    make.answer = answer
    yield make
    for each in made:
        each.close()
