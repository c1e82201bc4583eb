"""A stand-in for SORACOM Funnel: takes posts over HTTP, TCP and UDP, wraps them in the envelope, puts them to a stream.

It answers as Funnel does (users.soracom.io, "SORACOM Funnel": protocols, data format): 204 or `200` once the stream has
the record, 400 where the content is to be JSON and is not, 413 beyond 800,000 bytes. Two things are ours: 503 where the
stream refuses the record to the end, and the SIM, invented from the client's address. The content type is not looked at.
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
from contextlib import suppress
from http import HTTPStatus
from threading import Thread
from types import TracebackType
from typing import Any, Literal, NamedTuple

import orjson

from processor.errors import LocalError
from processor.local.funnel_sockets import Datagrams, HttpConnection, Segments
from processor.local.outbox import MAXIMUM_RECORD, Outbox

MAXIMUM_PAYLOAD = 800_000
INVALID_JSON = "Invalid JSON is send to funnel."
"""Funnel's own words."""

STOP_SECONDS = 5.0
"""How long clients that are being served may take when the stand-in stops."""

Protocol = Literal["http", "tcp", "udp"]


class Answer(NamedTuple):
    """What a client is told: the status as HTTP has it, and a text where there is something to say."""

    status: HTTPStatus
    text: str = ""


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
        """Listen. Raises LocalError where a port or the host cannot be had."""
        http_port, socket_port = self._ports
        try:
            self._sockets.append(_bound(self._host, http_port, socket.SOCK_STREAM))
            self._sockets.append(_bound(self._host, socket_port, socket.SOCK_STREAM))
            self._sockets.append(_bound(self._host, socket_port, socket.SOCK_DGRAM))
        except OSError as error:
            self._close_sockets()
            raise LocalError(f"cannot listen on {self._host}, port {http_port or socket_port}: {error}") from error
        self._outbox = Outbox(self._kinesis, self._stream, on_record=self._on_record)
        started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        self._thread = Thread(target=self._run, args=(started,), name="funnel", daemon=True)
        self._thread.start()
        self._loop, self._stopping = started.result()

    def stop(self) -> None:
        """Take no more, let what was taken reach the stream, and close everything."""
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()
            self._thread = None
            self._outbox.close()

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

    async def take(self, protocol: Protocol, address: str, payload: bytes) -> Answer:
        """Put a payload from a client's address to the stream; return what the client is to be told."""
        if len(payload) > MAXIMUM_PAYLOAD:
            return too_large()
        sim = sim_of(address)
        envelope = self._envelope(protocol, sim, payload)
        if envelope is None:
            return Answer(HTTPStatus.BAD_REQUEST, INVALID_JSON)
        key = os.urandom(16).hex() if self._randomize else sim.imsi
        if len(envelope) + len(key) > MAXIMUM_RECORD:
            return too_large()
        try:
            await asyncio.wrap_future(self._outbox.put(key, envelope))
        except LocalError as error:
            return Answer(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        return Answer(HTTPStatus.OK)

    def _envelope(self, protocol: Protocol, sim: Sim, payload: bytes) -> bytes | None:
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

    def _run(self, started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]) -> None:
        with asyncio.Runner() as runner:
            runner.run(self._serve(started))
        self._close_sockets()

    async def _serve(self, started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]) -> None:
        loop, stopping = asyncio.get_running_loop(), asyncio.Event()
