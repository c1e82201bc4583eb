"""A stand-in for SORACOM Funnel: takes posts over HTTP, TCP and UDP, wraps them in the envelope, puts them to a stream.

It answers as Funnel does (users.soracom.io, "SORACOM Funnel": protocols, data format): 204 or `200` once the stream has
the record, 400 where the content is to be JSON and is not, 413 beyond 800,000 bytes. Ours are: 503 where the stream
refuses the record to the end, and the SIM, invented from the client's address. The content type is not looked at.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import time
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import Future
from http import HTTPStatus
from threading import Thread
from types import TracebackType
from typing import Any, NamedTuple

import orjson

from processor.errors import LocalError
from processor.local.entry_points import Answer, EntryPoints
from processor.local.outbox import MAXIMUM_RECORD, Outbox

MAXIMUM_PAYLOAD = 800_000
INVALID_JSON = "Invalid JSON is send to funnel."
"""Funnel's own words."""


class Sim(NamedTuple):
    """The SIM that a client seems to have."""

    imsi: str
    imei: str


def sim_of(address: str) -> Sim:
    """Return the SIM invented for an IP address: always the same one, with SORACOM's prefix and 15 digits each."""
    digits = int.from_bytes(hashlib.sha256(address.encode()).digest()[:8], "big")
    return Sim(f"29505{digits % 10**10:010d}", f"86760{digits // 10**10 % 10**10:010d}")


class Funnel:
    """The entry points, a context manager: they answer between `start` and `stop`.

    kinesis: a boto3 client, or what answers put_records alike. stream: the stream's name. host: the interface to
    listen on. http_port, socket_port (TCP and UDP; 23080 at SORACOM): 0 takes free ones. binary: any content is taken,
    and passed on as Base64. randomize_partition_key: without it, the IMSI is the key. on_record: is called, from
    another thread, with the envelope of every record that the stream took. clock: seconds since 1970.
    """

    def __init__(
        self,
        kinesis: Any,
        stream: str,
        *,
        host: str = "127.0.0.1",
        http_port: int = 0,
        socket_port: int = 0,
        binary: bool = False,
        randomize_partition_key: bool = True,
        on_record: Callable[[bytes], None] | None = None,
        region: str = "us-east-1",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._kinesis = kinesis
        self._stream = stream
        self._ports = (http_port, socket_port)
        self._host = host
        self._binary = binary
        self._randomize = randomize_partition_key
        self._on_record = on_record
        self._clock = clock
        self._destination = {
            "provider": "aws",
            "service": "kinesis",
            "resourceUrl": f"https://kinesis.{region}.amazonaws.com/{stream}",
            "payloadsOnly": False,
            "sendPayloadsAsBinary": binary,
            "randomizePartitionKey": randomize_partition_key,
        }
        self._sockets: list[socket.socket] = []
        self._thread: Thread | None = None

    def start(self) -> None:
        """Listen. Raises LocalError where the host or a port cannot be had."""
        http_port, socket_port = self._ports
        ends = ((http_port, socket.SOCK_STREAM), (socket_port, socket.SOCK_STREAM), (socket_port, socket.SOCK_DGRAM))
        for port, kind in ends:
            try:
                self._sockets.append(_bound(self._host, port, kind))
            except OSError as error:
                self._close_sockets()
                raise LocalError(f"Funnel cannot listen on {self._host}, port {port}: {error}") from error
        self._addresses: list[tuple[str, int]] = [found.getsockname()[:2] for found in self._sockets]
        self._outbox = Outbox(self._kinesis, self._stream, on_record=self._on_record)
        started: Future[None] = Future()
        self._thread = Thread(target=self._run, args=(started,), name="funnel", daemon=True)
        self._thread.start()
        started.result()

    def stop(self) -> None:
        """Take no more, let what was taken reach the stream, and close everything. Raises what `on_record` raised."""
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._points.stopping.set)
            self._thread.join()
            self._thread = None
            self._close_sockets()
            self._outbox.close()

    def _close_sockets(self) -> None:
        for found in self._sockets:
            found.close()
        self._sockets.clear()

    def __enter__(self) -> Funnel:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def http_url(self) -> str:
        """Where to POST to; any path will do."""
        host, port = self._addresses[0]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def tcp_address(self) -> tuple[str, int]:
        """Host and port of the TCP entry point."""
        return self._addresses[1]

    @property
    def udp_address(self) -> tuple[str, int]:
        """Host and port of the UDP entry point."""
        return self._addresses[2]

    async def _take(self, protocol: str, address: str, payload: bytes) -> Answer:
        """Put a payload from a client's address to the stream; return what the client is to be told."""
        sim = sim_of(address)
        envelope = self._envelope(protocol, sim, payload)
        if envelope is None:
            return Answer(HTTPStatus.BAD_REQUEST, INVALID_JSON)
        key = os.urandom(16).hex() if self._randomize else sim.imsi
        if len(envelope) + len(key) > MAXIMUM_RECORD:
            return Answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {MAXIMUM_RECORD} bytes as a record")
        try:
            await asyncio.wrap_future(self._outbox.put(key, envelope))
        except LocalError as error:
            return Answer(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        return Answer(HTTPStatus.OK)

    def _envelope(self, protocol: str, sim: Sim, payload: bytes) -> bytes | None:
        """Return the record; None where the payload should be JSON and is not.

        JSON passes as it came, digit by digit, but on one line: valid JSON has line ends between its tokens only.
        """
        if self._binary:
            payloads: Any = b64encode(payload).decode()
        else:
            try:
                orjson.loads(payload)
            except orjson.JSONDecodeError:
                return None
            payloads = orjson.Fragment(payload.translate(None, b"\r\n\t"))
        return orjson.dumps(
            {
                "operatorId": "OP0000000000",
                "credentialsId": "local",
                "destination": self._destination,
                "sourceProtocol": protocol,
                "payloads": payloads,
                "timestamp": int(self._clock() * 1000),
                "imsi": sim.imsi,
                "imei": sim.imei,
            }
        )

    def _run(self, started: Future[None]) -> None:
        async def serve() -> None:
            self._points = EntryPoints(self._take, MAXIMUM_PAYLOAD)
            self._loop = asyncio.get_running_loop()
            http, tcp, udp = self._sockets
            await self._points.serve(http, tcp, udp, ready=lambda: started.set_result(None))

        try:
            with asyncio.Runner() as runner:
                runner.run(serve())
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)


def _bound(host: str, port: int, kind: socket.SocketKind) -> socket.socket:
    family, _, _, _, address = socket.getaddrinfo(host, port, type=kind, flags=socket.AI_PASSIVE)[0]
    found = socket.socket(family, kind)
    try:
        if kind is socket.SOCK_STREAM:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        if kind is socket.SOCK_STREAM:
            found.listen(128)  # from now on clients may connect, before the first is accepted
    except OSError:
        found.close()
        raise
    return found
