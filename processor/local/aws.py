"""An AWS on this machine: MiniStack as a child process, on a free port of the loopback interface.

All that the local run knows of the server is in this module; another server takes its place by its endpoint.

The port is bound here and the listening socket is handed to the server, so that nothing else can take the port
meanwhile, and a first request just waits in the socket's queue until the server accepts it: no retry, no polling.
For that, MiniStack's application is run by the command line of `hypercorn`, the server MiniStack itself uses.

The server knows nothing of the user: no real credentials, profile, home folder or Docker (MiniStack removes what
it takes for its own stale containers when it finds a Docker socket). It keeps everything in memory and holds nothing
that a clean shutdown would save, so it is stopped with SIGKILL. That it ends with us in any case is `child.py`'s part.
"""

from __future__ import annotations

import http.client
import importlib.util
import os
import socket
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from processor.errors import LocalError
from processor.local.child import Child, describe_exit

# MiniStack makes an account of its own of any access key of twelve digits; any other key is the account of zeros.
ACCOUNT = "000000000000"
CREDENTIAL = "local"
APPLICATION = "ministack.app:app"
START_TIMEOUT_S = 60  # it takes half a second; a machine that needs longer than this is not going to get there
LOG_TAIL = 4000


class EmbeddedAws:
    """A running AWS of our own: started by the constructor, stopped by `stop` or at the end of a `with`.

    `endpoint` is its URL, `region` the region its resources are in. Raises LocalError when the server cannot start.
    """

    def __init__(self, region: str = "us-east-1") -> None:
        if importlib.util.find_spec("ministack") is None:
            raise LocalError("the embedded AWS needs the package ministack: pip install 'processor[local]'")
        self.region = region
        self._lock = threading.Lock()
        self._clients: dict[str, Any] = {}
        self._child: Child | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="processor-aws-")
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as the server)
        try:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                self._port: int = listener.getsockname()[1]
                self._child = self._start(listener)
            self._session = self._new_session()
            # Our copy of the socket is closed now: if the server dies, the waiting request fails at once.
            self._request("GET", "/_ministack/health")
        except BaseException:
            self.stop()
            raise

    @property
    def endpoint(self) -> str:
        """The URL that every service answers at."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._running().pid

    def environment(self) -> dict[str, str]:
        """Give the variables that point awscli, boto3 and a function at this AWS."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": CREDENTIAL,
            "AWS_SECRET_ACCESS_KEY": CREDENTIAL,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_REGION": self.region,
        }

    def client(self, service: str) -> Any:
        """Give the boto3 client of a service (`kinesis`, `dynamodb`, …): one for all threads, closed by `stop`."""
        with self._lock:
            if service not in self._clients:
                self._clients[service] = self._new_client(service)
            return self._clients[service]

    def check(self) -> None:
        """Raise LocalError, with the end of the server's log, if the server has died or been stopped."""
        exit_code = self._running().exit_code
        if exit_code is not None:
            raise LocalError(f"the embedded AWS {describe_exit(exit_code)}{self._log_tail()}")

    def reset(self) -> None:
        """Drop every resource of every service; a few milliseconds, where a new server takes half a second."""
        self._request("POST", "/_ministack/reset")

    def stop(self) -> None:
        """Stop the server and give back everything it held; the second time does nothing."""
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()
            if self._child is not None:
                self._child.close()
                self._child = None
            self._log.close()
            self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start(self, listener: socket.socket) -> Child:
        folder = Path(self._folder.name)
        return Child(
            "hypercorn",
            *("--bind", f"fd://{listener.fileno()}", "--workers", "0", "--keep-alive", "75"),
            *("--log-level", "WARNING", APPLICATION),
            cwd=folder,
            variables=self.environment()
            | {
                "GATEWAY_PORT": str(self._port),
                "MINISTACK_HOST": "127.0.0.1",
                "MINISTACK_REGION": self.region,
                "MINISTACK_ACCOUNT_ID": ACCOUNT,
                "LOG_LEVEL": "WARNING",
                # With `cryptography` installed it would listen on 0.0.0.0:8883, for SFTP on a port of its own.
                "IOT_MTLS_ENABLED": "0",
                "SFTP_ENABLED": "0",
                # Whatever it writes, it writes where we remove it.
                "HOME": str(folder),
                "TMPDIR": str(folder),
                "STATE_DIR": str(folder / "state"),
                "S3_DATA_DIR": str(folder / "s3"),
                "DOCKER_HOST": f"unix://{folder / 'no-docker'}",
                "AWS_EC2_METADATA_DISABLED": "true",
            },
            output=self._log.fileno(),
            inherit=(listener.fileno(),),
        )

    def _new_session(self) -> Any:
        """Give a boto3 session that reads nothing of the user: a broken profile, or a real one, must not matter."""
        import boto3  # 0.2 s, while the server starts
        import botocore.session

        ours = {
            "profile": (None, None, None, None),
            "config_file": (None, None, os.devnull, None),
            "credentials_file": (None, None, os.devnull, None),
        }
        return boto3.session.Session(
            aws_access_key_id=CREDENTIAL,
            aws_secret_access_key=CREDENTIAL,
            region_name=self.region,
            botocore_session=botocore.session.Session(session_vars=ours),
        )

    def _new_client(self, service: str) -> Any:
        from botocore.config import Config

        self._running()
        # No proxy between us and the loopback interface, whatever HTTP_PROXY says.
        config = Config(proxies={}, max_pool_connections=64)
        return self._session.client(service, endpoint_url=self.endpoint, config=config)

    def _running(self) -> Child:
        if self._child is None:
            raise LocalError("the embedded AWS is stopped")
        return self._child

    def _request(self, method: str, path: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=START_TIMEOUT_S)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            # A dead server's socket breaks a moment before its exit code can be had.
            exit_code = self._running().wait(0 if isinstance(error, TimeoutError) else 1)
            what = f"gave no answer to {method} {path}: {error!r}" if exit_code is None else describe_exit(exit_code)
            raise LocalError(f"the embedded AWS {what}{self._log_tail()}") from error
        finally:
            connection.close()
        if response.status != http.client.OK:
            raise LocalError(f"the embedded AWS answered {method} {path} with {response.status}: {body[:200]!r}")

    def _log_tail(self) -> str:
        size = os.fstat(self._log.fileno()).st_size
        tail = os.pread(self._log.fileno(), LOG_TAIL, max(0, size - LOG_TAIL)).decode(errors="replace").strip()
        return f"; the end of its log:\n{tail}" if tail else "; its log is empty"
