"""The Runtime API of one environment, spoken to over raw sockets as a runtime would."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Iterator

import pytest

from processor.local.runtime import HEAD_LIMIT, Answer, RuntimeApi

NEXT = b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n"


class Runtime:
    """A selector, the API in it, and one client connection."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.api = RuntimeApi(self.selector)
        self.sockets: list[socket.socket] = []
        self.client = self.connect()

    def connect(self) -> socket.socket:
        host, port = self.api.address.split(":")
        client = socket.create_connection((host, int(port)))
        client.settimeout(10)
        self.sockets.append(client)
        self.serve()
        return client

    def serve(self, wait_s: float = 0.05) -> None:
        while events := self.selector.select(wait_s):
            for key, mask in events:
                key.data(mask)

    def ask(self, request: bytes) -> bytes:
        self.client.sendall(request)
        self.serve()
        return self.client.recv(1 << 16)

    def wait_for_invocation(self) -> None:
        self.client.sendall(NEXT)
        self.serve()
        assert self.api.waiting

    def close(self) -> None:
        for client in self.sockets:
            client.close()
        self.api.close()
        self.selector.close()


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    runtime = Runtime()
    yield runtime
    runtime.close()


def post(path: str, body: bytes, headers: str = "Content-Type: application/json\r\n") -> bytes:
    return f"POST /2018-06-01/runtime/{path} HTTP/1.1\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


def test_an_invocation_is_handed_over_and_answered(runtime: Runtime) -> None:
    runtime.wait_for_invocation()
    runtime.api.offer("r-1", b'{"a":1}', {"Lambda-Runtime-Deadline-Ms": "5"})
    head, _, body = runtime.client.recv(1 << 16).partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0].startswith("HTTP/1.1 200")
    assert {"Lambda-Runtime-Aws-Request-Id: r-1", "Lambda-Runtime-Deadline-Ms: 5", "Content-Length: 7"} <= set(lines)
    assert body == b'{"a":1}'
    assert runtime.ask(post("invocation/r-1/response", b"[]")).startswith(b"HTTP/1.1 202")
    assert runtime.api.answer == Answer("response", b"[]", "application/json")
    assert not runtime.api.waiting


def test_an_error_is_told_from_a_response(runtime: Runtime) -> None:
    runtime.wait_for_invocation()
    runtime.api.offer("r-1", b"{}", {})
    runtime.client.recv(1 << 16)
    runtime.ask(post("invocation/r-1/error", b"{}"))
    assert runtime.api.answer == Answer("error", b"{}", "application/json")


def test_an_answer_to_another_invocation_is_refused(runtime: Runtime) -> None:
    runtime.wait_for_invocation()
    runtime.api.offer("r-2", b"{}", {})
    runtime.client.recv(1 << 16)
    assert runtime.ask(post("invocation/r-1/response", b"[]")).startswith(b"HTTP/1.1 400")
    assert runtime.api.answer is None


def test_a_second_answer_to_one_invocation_is_refused(runtime: Runtime) -> None:
    runtime.wait_for_invocation()
    runtime.api.offer("r-1", b"{}", {})
    runtime.client.recv(1 << 16)
    runtime.ask(post("invocation/r-1/response", b"1"))
    assert runtime.ask(post("invocation/r-1/response", b"2")).startswith(b"HTTP/1.1 400")
    assert runtime.api.answer == Answer("response", b"1", "application/json")


def test_a_failed_initialisation_is_told(runtime: Runtime) -> None:
    assert runtime.ask(post("init/error", b"{}")).startswith(b"HTTP/1.1 202")
    assert runtime.api.failed_init


def test_a_request_may_come_byte_by_byte(runtime: Runtime) -> None:
    request = post("init/error", b'{"a":1}')
    for at in range(len(request)):
        runtime.client.sendall(request[at : at + 1])
        runtime.serve(0)
    runtime.serve()
    assert runtime.api.answer == Answer("init_error", b'{"a":1}', "application/json")


def test_requests_may_come_together(runtime: Runtime) -> None:
    runtime.client.sendall(post("init/error", b"{}") + NEXT)
    runtime.serve()
    assert runtime.api.failed_init
    assert runtime.api.waiting


def test_an_event_larger_than_any_socket_buffer_arrives_whole(runtime: Runtime) -> None:
    runtime.wait_for_invocation()
    event = bytes(range(256)) * (12 << 12)
    runtime.api.offer("r-1", event, {})
    received = b""
    while not received.endswith(event[-256:]) or len(received) < len(event):
        runtime.serve(0)
        received += runtime.client.recv(1 << 20)
    assert received.partition(b"\r\n\r\n")[2] == event


def test_a_runtime_that_is_gone_waits_no_more(runtime: Runtime) -> None:
    runtime.wait_for_invocation()
    runtime.client.close()
    runtime.serve()
    assert not runtime.api.waiting


def test_an_offer_to_a_runtime_that_is_gone_is_no_error(runtime: Runtime) -> None:
    """The worker's exit code tells what happened; the socket need not."""
    runtime.wait_for_invocation()
    runtime.client.close()
    runtime.api.offer("r-1", b"x" * (8 << 20), {})
    runtime.serve()
    assert runtime.api.answer is None


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /elsewhere HTTP/1.1\r\n\r\n", b"404"),
        (b"POST /2018-06-01/runtime/invocation/next HTTP/1.1\r\nContent-Length: 0\r\n\r\n", b"404"),
        (b"POST /2018-06-01/runtime/init/error HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"411"),
        (b"POST /2018-06-01/runtime/init/error HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"411"),
        (b"\x00\xff\r\n\r\n", b"404"),
    ],
)
def test_what_is_no_request_of_a_runtime_is_refused(runtime: Runtime, request_bytes: bytes, status: bytes) -> None:
    assert runtime.ask(request_bytes).startswith(b"HTTP/1.1 " + status)
    assert runtime.api.answer is None


def test_a_head_without_end_is_refused(runtime: Runtime) -> None:
    runtime.client.setblocking(False)
    unsent = memoryview(b"x" * (HEAD_LIMIT + 1))
    while unsent:
        try:
            unsent = unsent[runtime.client.send(unsent) :]
        except BlockingIOError:
            runtime.serve(0)
    runtime.serve()
    runtime.client.settimeout(10)
    assert runtime.client.recv(1 << 16).startswith(b"HTTP/1.1 431")
