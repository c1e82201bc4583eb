"""The page's server: uvicorn in a thread of its own, on a port of its own, and what its answers are read from."""

from __future__ import annotations

import contextlib
import errno
import secrets
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import uvicorn

from processor.dashboard.app import Sources, app
from processor.dashboard.fleet import SILENT_SECONDS, Fleet
from processor.dashboard.guard import loopback
from processor.dashboard.health import Health
from processor.dashboard.rejected import Rejected
from processor.dashboard.series import Series
from processor.devices import Devices
from processor.errors import LocalError, SettingsError
from processor.quarantine import Quarantine
from processor.redrive import Redrive
from processor.rules import Rules
from processor.settings import Settings
from processor.store.registry import Registry
from processor.store.wire import Client
from processor.store.writer import Writer
from processor.vault import Vault

PORT = 8787
START_SECONDS = 30
LEAST_TOKEN = 16

PORTS = (errno.EADDRINUSE, errno.EACCES)
"""Where one cannot listen for the port's sake."""


def sources(
    settings: Settings,
    dynamodb: Client,
    aws: Callable[[str], Any],
    health: Health,
    *,
    refresh: float,
    silent_seconds: float = SILENT_SECONDS,
) -> Sources:
    """Return what the page reads: everything that the settings name. aws: makes a boto3 client of a service."""
    devices = Devices(
        Registry(dynamodb, settings.devices_table),
        Vault(lambda: aws("kms"), lambda: aws("secretsmanager")),
        fixed=settings.bindkeys,
    )
    rules = Rules.of(settings, devices, keys=devices)
    quarantine = Quarantine(settings.quarantine_bucket, lambda: aws("s3"))
    writer = Writer(
        dynamodb, settings.readings_table, threads=settings.writer_threads, measure=settings.count_units == "items"
    )
    return Sources(
        Fleet(dynamodb, settings.devices_table, silent_seconds=silent_seconds),
        Series(dynamodb, settings.readings_table, settings.rollups_table),
        health,
        Rejected(quarantine, Redrive(quarantine, writer, rules), rules.known),
        refresh,
    )


def _listen(host: str, port: int, *, exactly: bool) -> socket.socket:
    """Return a listening socket at that port, or, unless it must be that one, at a free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for number in (port,) if exactly else (port, 0):
        try:
            return socket.create_server((host, number), family=family, backlog=128)
        except OSError as error:
            failure = error
    other = "--host" if failure.errno not in PORTS else "--port"
    raise LocalError(f"the page cannot listen at {host}, port {port}: {failure.strerror}: choose another {other}")


class Dashboard:
    """The page being served, as long as it is entered.

    host: where it listens; anything but the loopback interface needs a token. port: None is PORT, or a free one where
    that is taken. token: None makes one where one is needed. Raises SettingsError for a token that can be guessed,
    LocalError where it cannot listen.
    """

    def __init__(
        self, sources: Sources, *, host: str = "127.0.0.1", port: int | None = None, token: str | None = None
    ) -> None:
        if token is not None and (len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable()):
            raise SettingsError(f"a token has at least {LEAST_TOKEN} printable ASCII characters")
        if token is None and not loopback(host):
            token = secrets.token_urlsafe(32)
        self.token = token
        self._socket = _listen(host, PORT if port is None else port, exactly=port is not None)
        names = frozenset((host, socket.gethostname())) if token is not None else frozenset((host,))
        self._server = uvicorn.Server(
            uvicorn.Config(
                app(sources, token=token, names=names, closing=lambda: self._server.should_exit),
                access_log=False,  # a first visit has the token in its address
                lifespan="off",
                log_level="error",
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=3,
                ws="none",
            )
        )
        self._host = host
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="dashboard", daemon=True)

    @property
    def url(self) -> str:
        """The address to open, with the token where there is one."""
        port = self._socket.getsockname()[1]
        name = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(self._host, self._host)  # noqa: S104
        address = f"http://{f'[{name}]' if ':' in name else name}:{port}/"
        return address if self.token is None else f"{address}?token={self.token}"

    def _run(self) -> None:
        try:
            self._server.run(sockets=[self._socket])
        except BaseException as error:
            self._failure = error

    def __enter__(self) -> Self:
        self._thread.start()
        deadline = time.monotonic() + START_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise LocalError(f"the page's server did not start: {self._failure!r}")
            time.sleep(0.01)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join()
        with contextlib.suppress(OSError):
            self._socket.close()

    def check(self) -> None:
        """Raise LocalError if the server has ended by itself."""
        if not self._thread.is_alive():
            raise LocalError(f"the page's server ended: {self._failure!r}")
