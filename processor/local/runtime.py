"""The Lambda Runtime API of one execution environment, over loopback HTTP, without a thread of its own.

The runtime in the worker asks for its next invocation and posts what came of it (AWS Lambda Developer Guide, "Using
the Lambda runtime API"). Whoever waits for the worker lends the selector its thread; between invocations nobody
does, and the worker is frozen in its unanswered request, as on Lambda.

Requests must carry a Content-Length, as both `awslambdaric` and `bootstrap.py` do; a chunked body is refused.
"""

from __future__ import annotations

import selectors
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

PREFIX = "/2018-06-01/runtime"
RECEIVE_BYTES = 1 << 18
# An error's header may hold a trace of nearly 1 MiB (awslambdaric's own limit).
HEAD_LIMIT = 1 << 21


@dataclass(frozen=True, slots=True)
class Answer:
    """What the runtime posted: the handler's response, its error, or the error of its initialisation."""

    kind: Literal["response", "error", "init_error"]
    body: bytes
    content_type: str


class RuntimeApi:
    """Serves one runtime. The callbacks it registers in `selector` are called with the mask of events.

    `address` is for AWS_LAMBDA_RUNTIME_API; `waiting` says whether the runtime waits for an invocation; `answer` is
    what it posted since the last `offer`.
    """

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self._connections: set[_Connection] = set()
        self._waiting: _Connection | None = None
        self._request_id: str | None = None
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.answer: Answer | None = None
        selector.register(self._listener, selectors.EVENT_READ, self._accept)

    @property
    def waiting(self) -> bool:
        """True while the runtime waits for its next invocation."""
        return self._waiting is not None

    @property
    def failed_init(self) -> bool:
        """True once the runtime has posted that it could not initialise."""
        return self.answer is not None and self.answer.kind == "init_error"

    def offer(self, request_id: str, event: bytes, headers: Mapping[str, str]) -> None:
        """Hand an event to the waiting runtime; its answer appears in `answer`."""
        if self._waiting is None:
            raise AssertionError("the runtime is not waiting for an invocation")
        self.answer = None
        self._request_id = request_id
        connection, self._waiting = self._waiting, None
        connection.send(200, event, {"Lambda-Runtime-Aws-Request-Id": request_id, **headers})

    def close(self) -> None:
        """Close every socket."""
        self._selector.unregister(self._listener)
        self._listener.close()
        for connection in list(self._connections):
            connection.close()

    def handle(self, connection: _Connection, method: str, path: str, headers: Mapping[str, str], body: bytes) -> None:
        """Take one request of the runtime."""
        content_type = headers.get("content-type", "")
        match (method, *path.removeprefix(PREFIX + "/").split("/")):
            case ("GET", "invocation", "next"):
                self._waiting = connection
                return
            case ("POST", "init", "error"):
                self.answer = Answer("init_error", body, content_type)
            case ("POST", "invocation", request_id, "response" | "error" as kind):
                if request_id != self._request_id:
                    connection.send(400, b'{"errorType":"InvalidRequestID"}')
                    return
                self._request_id = None
                self.answer = Answer("response" if kind == "response" else "error", body, content_type)
            case _:
                connection.send(404, b'{"errorType":"NotFound"}')
                return
        connection.send(202, b'{"status":"OK"}')

    def forget(self, connection: _Connection) -> None:
        """Drop a connection that has been closed."""
        self._connections.discard(connection)
        if self._waiting is connection:
            self._waiting = None

    def _accept(self, _mask: int) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:  # gone again before we came
            return
        self._connections.add(_Connection(self, self._selector, sock))


class _Connection:
    """One kept-alive HTTP/1.1 connection of the runtime: requests in, responses out, never blocking."""

    def __init__(self, api: RuntimeApi, selector: selectors.BaseSelector, sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._api = api
        self._selector = selector
        self._socket = sock
        self._inbox = bytearray()
        self._outbox: list[memoryview] = []
        self._head: tuple[str, str, dict[str, str]] | None = None
        selector.register(sock, selectors.EVENT_READ, self._on_ready)

    def send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Send a response; what does not fit the socket's buffer goes when there is room."""
        lines = [f"HTTP/1.1 {status} ", "Content-Type: application/json", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        head = "\r\n".join(lines) + "\r\n\r\n"
        self._outbox += [memoryview(head.encode("latin-1")), memoryview(body)]
        self._flush()

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            self._selector.unregister(self._socket)
            self._socket.close()
            self._api.forget(self)

    def _on_ready(self, mask: int) -> None:
        if mask & selectors.EVENT_WRITE:
            self._flush()
        if mask & selectors.EVENT_READ and self._socket.fileno() >= 0:
            self._receive()

    def _flush(self) -> None:
        try:
            while self._outbox:
                sent = self._socket.send(self._outbox[0])
                rest = self._outbox[0][sent:]
                if rest:
                    self._outbox[0] = rest
                else:
                    del self._outbox[0]
        except BlockingIOError:
            pass
        except OSError:  # the worker is gone, which its exit code will tell better
            self.close()
            return
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._outbox else 0)
        self._selector.modify(self._socket, wanted, self._on_ready)

    def _receive(self) -> None:
        try:
            received = self._socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if not received:
            self.close()
            return
        self._inbox += received
        while self._socket.fileno() >= 0 and self._take_request():
            pass

    def _take_request(self) -> bool:
        """Handle one request if the whole of it is here."""
        if self._head is None:
            end = self._inbox.find(b"\r\n\r\n")
            if end < 0:
                if len(self._inbox) > HEAD_LIMIT:
                    self._refuse(431, "the request's head is too long")
                return False
            request_line, *lines = self._inbox[:end].decode("latin-1").split("\r\n")
            del self._inbox[: end + 4]
            method, _, rest = request_line.partition(" ")
            headers = {
                name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
            }
            if "transfer-encoding" in headers or not headers.get("content-length", "0").isdigit():
                self._refuse(411, "a Content-Length is required")
                return False
            self._head = (method, rest.partition(" ")[0], headers)
        method, path, headers = self._head
        length = int(headers.get("content-length", "0"))
        if len(self._inbox) < length:
            return False
        body = bytes(memoryview(self._inbox)[:length])
        del self._inbox[:length]
        self._head = None
        self._api.handle(self, method, path, headers, body)
        return True

    def _refuse(self, status: int, reason: str) -> None:
        self.send(status, f'{{"errorMessage":"{reason}"}}'.encode())
        self.close()
