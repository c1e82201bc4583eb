"""The sockets of the stand-in for Funnel: HTTP, TCP and UDP in one event loop.

Whatever a client sends, or fails to send, is its own affair: each connection is a task of its own, bounded in size,
time and number.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from http import HTTPStatus
from typing import Any, NamedTuple, cast

import orjson

from processor.local.http_request import MAXIMUM_HEAD, Refused, read_request

MAXIMUM_CONNECTIONS = 400
"""HTTP and TCP together; the usual limit of open files is 1,024."""

MAXIMUM_DATAGRAMS = 1_000
"""Datagrams being answered at a time; more are dropped, as UDP may."""

MAXIMUM_SEGMENTS = 16
"""Segments of one TCP connection that wait for their turn; then the connection is not read for a while."""

MAXIMUM_UNREAD = 65_536
"""Bytes of answers that a TCP client may leave unread."""

LINGER_SECONDS, STOP_SECONDS = 5.0, 5.0


class Answer(NamedTuple):
    """What a client is told: the status, as HTTP has it, and a text where there is something to say."""

    status: HTTPStatus
    text: str = ""

    @property
    def packet(self) -> bytes:
        """The answer over TCP and UDP."""
        return f"{self.status.value} {self.text}".strip().encode()


Take = Callable[[str, str, bytes], Awaitable[Answer]]
"""Takes a protocol (http, tcp, udp), a client's address and a payload."""


class EntryPoints:
    """Serves three bound sockets until told to stop; what `take` answers is what the clients are told."""

    def __init__(self, take: Take, maximum_payload: int) -> None:
        self._take = take
        self._maximum_payload = maximum_payload
        self._tasks: set[asyncio.Task[None]] = set()
        self._open: set[asyncio.WriteTransport] = set()
        self._under_way = 0
        self.stopping = asyncio.Event()

    async def serve(
        self, http: socket.socket, tcp: socket.socket, udp: socket.socket, ready: Callable[[], object]
    ) -> None:
        """Serve until `stopping` is set; then answer what was received, and close everything."""
        loop = asyncio.get_running_loop()
        http_server = await asyncio.start_server(self._accept, sock=http, limit=MAXIMUM_HEAD)
        tcp_server = await loop.create_server(lambda: _Segments(self), sock=tcp)
        datagrams, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), sock=udp)
        ready()
        await self.stopping.wait()
        http_server.close()
        tcp_server.close()
        deadline = loop.time() + STOP_SECONDS
        while self._under_way and loop.time() < deadline:
            await asyncio.sleep(0.005)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        datagrams.close()
        for transport in list(self._open):
            transport.close()
        while self._open:
            if loop.time() >= deadline:  # a client that does not read its answers
                for transport in list(self._open):
                    transport.abort()
            await asyncio.sleep(0.005)

    async def answer(self, protocol: str, address: str, payload: bytes) -> Answer:
        """Return what a client is told of its payload."""
        self._under_way += 1
        try:
            return await self._take(protocol, address, payload)
        finally:
            self._under_way -= 1

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run in a task that `serve` ends."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def opened(self, transport: asyncio.WriteTransport) -> bool:
        """Count a connection in; False where there are too many."""
        self._open.add(transport)
        return len(self._open) <= MAXIMUM_CONNECTIONS and not self.stopping.is_set()

    def closed(self, transport: asyncio.WriteTransport) -> None:
        """Count a connection out."""
        self._open.discard(transport)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.spawn(self._serve_http(reader, writer))

    async def _serve_http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self.opened(writer.transport):
                while await self._serve_request(reader, writer):
                    pass
            else:
                _respond(writer, Answer(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections"), keep_alive=False)
            writer.close()
            async with asyncio.timeout(LINGER_SECONDS):
                await writer.wait_closed()
        except (ConnectionError, TimeoutError):
            pass  # the client's own affair
        finally:
            writer.transport.abort()
            self.closed(writer.transport)

    async def _serve_request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; say whether another one may come."""
        try:
            request = await read_request(reader, writer, self._maximum_payload)
        except Refused as refused:
            _respond(writer, Answer(refused.status, str(refused)), keep_alive=False)
            await _linger(reader, writer)
            return False
        if request is None:
            return False
        if request.method == "POST":
            answer = await self.answer("http", _address(writer.transport), request.body)
        else:
            answer = Answer(HTTPStatus.METHOD_NOT_ALLOWED, "POST a payload")
        keep_alive = request.keep_alive and not self.stopping.is_set()
        _respond(writer, answer, keep_alive=keep_alive)
        async with asyncio.timeout(LINGER_SECONDS):
            await writer.drain()
        return keep_alive


def _respond(writer: asyncio.StreamWriter, answer: Answer, *, keep_alive: bool) -> None:
    status = HTTPStatus.NO_CONTENT if answer.status is HTTPStatus.OK else answer.status
    lines = [f"HTTP/1.1 {status.value} {status.phrase}"]
    body = b""
    if status is not HTTPStatus.NO_CONTENT:
        body = orjson.dumps({"message": answer.text})
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        lines.append("Allow: POST")
    lines.append("Connection: keep-alive" if keep_alive else "Connection: close")
    writer.write("\r\n".join([*lines, "", ""]).encode() + body)


async def _linger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read on for a while what the client is still sending: a reset would take the answer from it."""
    writer.write_eof()
    async with asyncio.timeout(LINGER_SECONDS):
        while await reader.read(65_536):
            pass


def _address(transport: asyncio.BaseTransport) -> str:
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if peer else ""


class _Segments(asyncio.Protocol):
    """A TCP connection: what arrives at a time is one record, as with Funnel, and is answered in turn.

    TCP has no records: a payload may come in two, and two in one; the network decides. Nothing is put together here.
    """

    def __init__(self, points: EntryPoints) -> None:
        self._points = points
        self._segments: deque[bytes] = deque()
        self._answering = False
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if not self._points.opened(self._transport):
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        self._ended = True
        self._points.closed(self._transport)

    def data_received(self, data: bytes) -> None:
        self._segments.append(data)
        if len(self._segments) >= MAXIMUM_SEGMENTS:
            self._transport.pause_reading()
        if not self._answering:
            self._answering = True
            self._points.spawn(self._answer())

    def eof_received(self) -> bool:
        """Keep the connection until all is answered."""
        self._ended = True
        return self._answering

    async def _answer(self) -> None:
        while self._segments and not self._points.stopping.is_set():
            segment = self._segments.popleft()
            self._transport.resume_reading()
            answer = await self._points.answer("tcp", _address(self._transport), segment)
            if self._transport.is_closing():
                return
            self._transport.write(answer.packet)
            if self._transport.get_write_buffer_size() > MAXIMUM_UNREAD:
                self._transport.abort()
                return
            if answer.status is HTTPStatus.BAD_REQUEST:
                self._transport.close()
                return
        self._answering = False
        if self._ended:
            self._transport.close()


class _Datagrams(asyncio.DatagramProtocol):
    """The UDP socket: one datagram is one record."""

    def __init__(self, points: EntryPoints) -> None:
        self._points = points
        self._answering = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if self._answering < MAXIMUM_DATAGRAMS and not self._points.stopping.is_set():
            self._answering += 1
            self._points.spawn(self._answer(data, addr))

    async def _answer(self, data: bytes, addr: Any) -> None:
        try:
            answer = await self._points.answer("udp", str(addr[0]), data)
            self._transport.sendto(answer.packet, addr)
        finally:
            self._answering -= 1
