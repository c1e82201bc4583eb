"""HTTP/1.1 over kept sockets: a small reader of answers, and a pool of connections to one endpoint.

Reads what DynamoDB and its stand-ins send: an answer with Content-Length or in chunks (RFC 9112, sections 6 and 7). All
else is a broken connection, never a hang: every wait ends at the caller's limit, and an answer has a greatest size. An
UpdateItem costs a quarter of the CPU that it does through http.client, which parses headers as those of an e-mail.
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from processor.store.endpoint import Endpoint

MAX_HEAD = 64 * 1024
MAX_BODY = 64 * 1024 * 1024
"""An answer of DynamoDB holds at most 16 MB of items (BatchGetItem); their JSON is a few times that."""
MAX_IDLE = 20.0
"""Seconds after which a kept connection is not trusted. A frozen Lambda environment may wake to one whose other end is
gone without a word, where a request would wait for its whole timeout; a fresh connection costs milliseconds."""
SLACK = 0.02
"""Seconds by which a wait may outlast its limit: setting a socket's timeout is a system call, not worth it for less."""

_RECEIVE = 64 * 1024
_HEXADECIMAL = re.compile(rb"[0-9A-Fa-f]{1,8}")


class BrokenConnectionError(OSError):
    """What came is not a whole HTTP answer."""


class StaleConnectionError(OSError):
    """A kept connection had been closed by the other side before the request reached it."""


class Answer(NamedTuple):
    """An HTTP answer; the headers' names are in lower case."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


class Connection:
    """One open connection, for one request at a time. Limits are moments of time.monotonic()."""

    def __init__(self, endpoint: Endpoint, tls: Callable[[], ssl.SSLContext], limit: float) -> None:
        self._timeout = max(limit - time.monotonic(), 0.001)
        self._sock = socket.create_connection((endpoint.host, endpoint.port), self._timeout)
        try:
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if endpoint.tls:
                self._sock = tls().wrap_socket(self._sock, server_hostname=endpoint.host)
        except BaseException:
            self._sock.close()
            raise
        self._rest = b""
        self._used = False
        self.reusable = False
        self.kept_at = 0.0

    def close(self) -> None:
        """Close the socket."""
        with suppress(OSError):
            self._sock.close()

    def fileno(self) -> int:
        """Return the socket's number, to wait for it together with others."""
        return self._sock.fileno()

    def send(self, request: bytes, limit: float) -> None:
        """Send a request, whose answer `receive` returns. Raises OSError."""
        self.reusable = False
        self._pace(limit)
        self._sock.sendall(request)

    def receive(self, limit: float) -> Answer:
        """Return the answer to what was sent. Raises OSError."""
        self._used = True
        self._rest = self._receive(limit)
        return self._answer(limit)

    def exchange(self, request: bytes, limit: float) -> Answer:
        """Send a request and return its answer, or raise an OSError: StaleConnectionError where a fresh one may do."""
        self.reusable = False
        try:
            self._pace(limit)
            self._sock.sendall(request)
            self._rest = self._receive(limit)
        except TimeoutError:
            raise
        except OSError as error:
            if self._used:
                raise StaleConnectionError(*error.args) from error
            raise
        self._used = True
        return self._answer(limit)

    def _answer(self, limit: float) -> Answer:
        lines = self._until(b"\r\n\r\n", limit).split(b"\r\n")
        start = lines[0]
        if start[:7] != b"HTTP/1." or not start[9:12].isdigit() or start[12:13] not in (b" ", b""):
            raise BrokenConnectionError(f"the answer is not HTTP/1.1: it starts with {start[:40]!r}")
        headers: dict[bytes, bytes] = {}
        for line in lines[1:]:
            name, colon, value = line.partition(b":")
            name = name.lower()
            if not colon:
                raise BrokenConnectionError(f"the answer has a header line without a colon: {line[:40]!r}")
            # A repeated header becomes a list (RFC 9110, 5.2), which no number is: two lengths break the connection.
            headers[name] = headers[name] + b"," + value if name in headers else value.strip()
        body = self._body(headers, limit)
        self.reusable = (
            start[7:8] == b"1" and not self._rest and b"close" not in headers.get(b"connection", b"").lower()
        )
        return Answer(int(start[9:12]), headers, body)

    def _body(self, headers: dict[bytes, bytes], limit: float) -> bytes:
        coding = headers.get(b"transfer-encoding")
        if coding is not None:
            if coding.lower() != b"chunked":
                raise BrokenConnectionError(f"the answer's Transfer-Encoding is {coding[:40]!r}, not chunked")
            return self._chunks(limit)
        length = headers.get(b"content-length", b"")
        if not length.isdigit():
            raise BrokenConnectionError(f"the answer's Content-Length is {length[:40]!r}, not a number of bytes")
        if len(length) > 9 or int(length) > MAX_BODY:
            raise BrokenConnectionError(f"the answer has {length[:40].decode()} bytes, more than {MAX_BODY}")
        return self._exactly(int(length), limit)

    def _chunks(self, limit: float) -> bytes:
        chunks, total = [], 0
        while True:
            size = self._until(b"\r\n", limit).partition(b";")[0].strip()
            if not _HEXADECIMAL.fullmatch(size):
                raise BrokenConnectionError(f"a chunk's size is {size[:40]!r}, not a hexadecimal number")
            length = int(size, 16)
            total += length
            if total > MAX_BODY:
                raise BrokenConnectionError(f"the answer has more than {MAX_BODY} bytes")
            if not length:
                break
            chunk = self._exactly(length + 2, limit)
            if chunk[-2:] != b"\r\n":
                raise BrokenConnectionError(f"a chunk of {length} bytes does not end after them")
            chunks.append(chunk[:-2])
        while self._until(b"\r\n", limit):  # trailers
            pass
        return b"".join(chunks)

    def _until(self, mark: bytes, limit: float) -> bytes:
        """Return what comes before `mark`, which is dropped."""
        rest = self._rest
        while (end := rest.find(mark)) < 0:
            if len(rest) > MAX_HEAD:
                raise BrokenConnectionError(f"the answer has a line or header of more than {MAX_HEAD} bytes")
            rest += self._receive(limit)
        self._rest = rest[end + len(mark) :]
        return rest[:end]

    def _exactly(self, length: int, limit: float) -> bytes:
        rest = self._rest
        if len(rest) < length:
            parts, have = [rest], len(rest)
            while have < length:
                part = self._receive(limit)
                parts.append(part)
                have += len(part)
            rest = b"".join(parts)
        self._rest = rest[length:]
        return rest[:length]

    def _receive(self, limit: float) -> bytes:
        self._pace(limit)
        data = self._sock.recv(_RECEIVE)
        if not data:
            raise BrokenConnectionError("the connection was closed before the answer was whole")
        return data

    def _pace(self, limit: float) -> None:
        """See that the next wait on the socket ends at `limit`, give or take SLACK."""
        remaining = limit - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("the time for this request is used up")
        if not -SLACK < self._timeout - remaining < SLACK:
            self._sock.settimeout(remaining)
            self._timeout = remaining


class Pool:
    """Keeps up to `size` idle connections to an endpoint, the last used first.

    It opens as many as there are threads at work. `clock` is the wall clock, in seconds: unlike a monotonic one it goes
    on while a Lambda environment is frozen. `context` replaces the system's trusted certificates.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        size: int,
        timeout: float,
        clock: Callable[[], float] = time.time,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._size = size
        self._timeout = timeout
        self._clock = clock
        self._context = context
        self._lock = threading.Lock()
        self._idle: deque[Connection] = deque()
        self._closed = False

    def exchange(self, request: bytes, deadline: float | None) -> Answer:
        """Send a request on a kept connection, or on a fresh one where there is none or it proves stale.

        `deadline` (time.monotonic()) shortens the timeout. Raises an OSError where no whole answer came.
        """
        limit = time.monotonic() + self._timeout
        if deadline is not None and deadline < limit:
            limit = deadline
        kept = self.take()
        if kept is not None:
            try:
                return self._use(kept, request, limit)
            except StaleConnectionError:
                pass
        return self._use(Connection(self._endpoint, self._tls, limit), request, limit)

    def close(self) -> None:
        """Close the idle connections; those at work are closed after their answer."""
        self._closed = True
        with suppress(IndexError):
            while True:
                self._idle.pop().close()

    def take(self) -> Connection | None:
        """Return a kept connection, which `give` takes back; None where there is none."""
        with suppress(IndexError):
            while True:
                connection = self._idle.pop()
                if 0 <= self._clock() - connection.kept_at < MAX_IDLE:
                    return connection
                connection.close()
        return None

    def _use(self, connection: Connection, request: bytes, limit: float) -> Answer:
        try:
            answer = connection.exchange(request, limit)
        except BaseException:
            connection.close()
            raise
        self.give(connection)
        return answer

    def give(self, connection: Connection) -> None:
        """Keep a connection, or close it where it cannot be used again."""
        if connection.reusable and len(self._idle) < self._size:
            connection.kept_at = self._clock()
            self._idle.append(connection)
            if self._closed:
                self.close()
        else:
            connection.close()

    def _tls(self) -> ssl.SSLContext:
        """Return the one context that all connections share: reading the trusted certificates takes 20 ms."""
        with self._lock:
            if self._context is None:
                self._context = ssl.create_default_context()
            return self._context
