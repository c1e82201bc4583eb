"""The signed keep-alive DynamoDB client of the hot path, and `connect`, which picks it or boto3.

A call costs a tenth of boto3's CPU, because nothing is done twice: the body is serialised, signed and sent over a kept
socket, and the answer is parsed as it is. It needs no boto3; botocore is imported only where no credentials are given.

A request whose answer was lost is sent again, and may then be carried out twice. That is safe because every write of
this package is idempotent (cells are set with `if_not_exists`, all else is conditional or a plain replacement): do not
send an `ADD` through it. One thing shows: the second UPDATED_OLD names, as there already, what the first write stored.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol
from zlib import crc32

import orjson

from processor.errors import InvalidWrite, SettingsError, StoreError
from processor.store.boto import Boto
from processor.store.connection import Answer, Pool
from processor.store.credentials import Chain, Credentials
from processor.store.endpoint import Endpoint
from processor.store.failures import CERTIFICATE, CHECKSUM, CONNECTION, EXPIRED, SKEWED, failure, name_tables
from processor.store.many import Job, exchange_many
from processor.store.retries import Retries
from processor.store.signature import CONTENT_TYPE, Signer

__all__ = ["Boto", "Client", "Credentials", "Wire", "connect"]

TIMEOUT = 5.0
"""Seconds for one attempt, connecting included. DynamoDB answers in milliseconds: what takes longer is lost."""
SKEW = 60.0
"""Seconds between the server's clock and ours from which the clock is to blame; AWS allows signatures five minutes."""


class Client(Protocol):
    """Calls DynamoDB's low-level API; safe to share between threads."""

    def call(self, operation: str, body: Mapping[str, Any], *, deadline: float | None = None) -> dict[str, Any]:
        """Send one request (`UpdateItem`, `Query`, …) and return its answer.

        Body and answer are DynamoDB JSON as it travels: numbers are strings, binary values are Base64 text. No attempt
        is started after `deadline` (time.monotonic() seconds), which also shortens the timeouts.

        Raises InvalidWrite where DynamoDB calls the request itself invalid; TransientError for throttling, server and
        connection faults, after bounded retries, and at once for denied access, a missing table or bad credentials;
        StoreError for any other refusal (`ConditionalCheckFailedException`, …), by its `code`.
        """

    def close(self) -> None:
        """Close the connections."""


class Wire:
    """A `Client` with its own signer and connections.

    `credentials` is asked before each request; `refresh` gets those that DynamoDB called expired and has them renewed.
    `connections` is how many are kept; there are as many as threads at work. `timeout` is in seconds. `clock` is the
    wall clock (epoch seconds); `context` replaces the system's trusted certificates. Proxies are not used: Boto does.
    """

    def __init__(
        self,
        *,
        region: str,
        endpoint: str | None = None,
        credentials: Callable[[], Credentials],
        refresh: Callable[[Credentials], object] | None = None,
        connections: int = 16,
        timeout: float = TIMEOUT,
        retries: Retries | None = None,
        clock: Callable[[], float] = time.time,
        context: ssl.SSLContext | None = None,
    ) -> None:
        public = Endpoint.of_region(region)
        where = Endpoint.of(endpoint) if endpoint else public
        self._host = where.authority
        self._start = f"POST {where.path} HTTP/1.1\r\nHost: {where.authority}\r\nContent-Type: {CONTENT_TYPE}\r\n"
        self._signer = Signer(region=region, host=where.authority, path=where.path)
        self._pool = Pool(where, size=connections, timeout=timeout, clock=clock, context=context)
        self._credentials = credentials
        self._refresh = refresh
        self._retries = retries or Retries()
        self._clock = clock
        self._timeout = timeout
        self._skew = 0.0

    def call(self, operation: str, body: Mapping[str, Any], *, deadline: float | None = None) -> dict[str, Any]:
        """Send one request; see `Client.call`."""
        try:
            payload = orjson.dumps(body)
        except TypeError as error:  # a number too long, half a surrogate pair, a type that JSON has not
            raise InvalidWrite("SerializationException", f"{operation}: the request is no JSON: {error}") from error
        try:
            return self._retries.run(lambda: self._attempt(operation, payload, deadline), deadline)
        except StoreError as error:
            name_tables(error, body)
            raise

    def call_many(
        self, operation: str, jobs: Iterable[Job], body: Callable[[Job], Mapping[str, Any]], *, deadline: float
    ) -> Iterator[tuple[Job, dict[str, Any] | None]]:
        """Send each job's request once, from this thread, and yield the job with its answer as that comes.

        None where it was not sent, was refused or no answer came: `call` is to be asked then, which repeats and
        explains. `body` makes a job's request; it is called for those that are sent.
        """

        def request(job: Job) -> bytes | None:
            try:
                payload, credentials = orjson.dumps(body(job)), self._credentials()
            except (TypeError, StoreError):
                return None
            return self._request(operation, payload, credentials, self._clock() + self._skew)

        for job, answer in exchange_many(self._pool, jobs, request, timeout=self._timeout, deadline=deadline):
            yield job, None if answer is None else self._good(operation, answer)

    def _good(self, operation: str, answer: Answer) -> dict[str, Any] | None:
        if answer.status != 200 or not _whole(answer):
            return None
        try:
            return self._parsed(operation, answer)
        except StoreError:
            return None

    def close(self) -> None:
        """Close the kept connections."""
        self._pool.close()

    def _attempt(self, operation: str, payload: bytes, deadline: float | None) -> dict[str, Any]:
        """Make one attempt; a wrong clock or expired credentials are put right on the spot, once."""
        credentials, now = self._credentials(), self._clock() + self._skew
        answer = self._exchange(operation, payload, credentials, now, deadline)
        if answer.status == 200:
            return self._parsed(operation, answer)
        error = self._refusal(operation, answer)
        if self._renewed(error, credentials) or self._synchronised(error, answer, now):
            credentials, now = self._credentials(), self._clock() + self._skew
            answer = self._exchange(operation, payload, credentials, now, deadline)
            if answer.status == 200:
                return self._parsed(operation, answer)
            error = self._refusal(operation, answer)
        raise error

    def _exchange(
        self, operation: str, payload: bytes, credentials: Credentials, now: float, deadline: float | None
    ) -> Answer:
        """Sign and send, and return an answer whose checksum is right."""
        try:
            answer = self._pool.exchange(self._request(operation, payload, credentials, now), deadline)
        except OSError as error:
            raise self._fault(operation, error) from error
        if not _whole(answer):
            checksum = answer.headers[b"x-amz-crc32"]
            message = f"the answer's {len(answer.body)} bytes do not have the CRC32 {checksum[:20].decode('latin-1')}"
            raise self._failure(CHECKSUM, message, operation=operation)
        return answer

    def _request(self, operation: str, payload: bytes, credentials: Credentials, now: float) -> bytes:
        """Return the signed request."""
        target = f"DynamoDB_20120810.{operation}"
        signature = self._signer.sign(target, payload, credentials, now)
        token = f"X-Amz-Security-Token: {credentials.token}\r\n" if credentials.token else ""
        head = (
            f"{self._start}X-Amz-Target: {target}\r\nX-Amz-Date: {signature.date}\r\n{token}"
            f"Authorization: {signature.authorization}\r\nAccept-Encoding: identity\r\nUser-Agent: processor\r\n"
            f"Content-Length: {len(payload)}\r\n\r\n"
        )
        return head.encode() + payload

    def _parsed(self, operation: str, answer: Answer) -> dict[str, Any]:
        try:
            parsed = orjson.loads(answer.body)
        except ValueError:
            parsed = None
        if not isinstance(parsed, dict):
            message = f"the answer is not a JSON object; it starts with {answer.body[:60]!r}. Is this DynamoDB?"
            raise self._failure(CONNECTION, message, operation=operation)
        return parsed

    def _refusal(self, operation: str, answer: Answer) -> StoreError:
        """Return the exception of an answer that is an error: `{"__type": "…#Code", "message": "…"}`."""
        try:
            said = orjson.loads(answer.body)
        except ValueError:
            said = None
        if not isinstance(said, dict) or not isinstance(said.get("__type"), str):
            message = f"an answer that is not DynamoDB's; it starts with {answer.body[:60]!r}"
            return self._failure("", message, operation=operation, status=answer.status)
        code = said["__type"].rpartition("#")[2].partition(":")[0]
        message = said.get("message") or said.get("Message") or "no reason given"
        return self._failure(code, message, operation=operation, status=answer.status)

    def _fault(self, operation: str, error: OSError) -> StoreError:
        """Return the exception of a connection that failed."""
        match error:
            case ssl.SSLCertVerificationError():
                message = (
                    f"its certificate is not trusted ({error.verify_message}): check the endpoint or SSL_CERT_FILE"
                )
                return self._failure(CERTIFICATE, message, operation=operation)
            case ConnectionRefusedError():
                message = "connection refused: is a server running there? Check AWS_ENDPOINT_URL and its port"
            case socket.gaierror():
                message = f"no address for this host ({error}): check the region, AWS_ENDPOINT_URL and the network"
            case TimeoutError():
                message = f"no whole answer in time ({error}): check that the network lets this host be reached"
            case ssl.SSLError():
                message = f"TLS failed ({error}): is the endpoint https?"
            case _:
                message = f"the connection failed ({error or type(error).__name__})"
        return self._failure(CONNECTION, message, operation=operation)

    def _failure(self, code: str, message: str, *, operation: str, status: int = 0) -> StoreError:
        return failure(code, message, operation=operation, host=self._host, status=status)

    def _renewed(self, error: StoreError, stale: Credentials) -> bool:
        """Have expired credentials renewed, and tell whether others came of it."""
        if error.code not in EXPIRED or self._refresh is None:
            return False
        self._refresh(stale)
        return self._credentials() != stale

    def _synchronised(self, error: StoreError, answer: Answer, signed_at: float) -> bool:
        """Take over the server's time where ours made it refuse the signature, and tell whether that was so.

        AWS refuses signatures more than five minutes off, as the clock of a machine that slept may be.
        Waiting does not help; the server's Date header does. The correction stays for all later requests.
        """
        if error.code not in SKEWED:
            return False
        from email.utils import parsedate_to_datetime  # a slow import that a right clock never needs

        try:
            server = parsedate_to_datetime(answer.headers.get(b"date", b"").decode("latin-1")).timestamp()
        except ValueError:
            return False
        if abs(server - signed_at) < SKEW:
            return False
        self._skew = server - self._clock()
        return True


def _whole(answer: Answer) -> bool:
    """Tell whether the answer has the checksum that it says, if it says one."""
    checksum = answer.headers.get(b"x-amz-crc32")
    return checksum is None or checksum == b"%d" % crc32(answer.body)


def connect(
    *,
    region: str,
    endpoint: str | None = None,
    implementation: str = "wire",
    credentials: Credentials | None = None,
    connections: int = 16,
    timeout: float = TIMEOUT,
    retries: Retries | None = None,
) -> Client:
    """Return a client of the region's DynamoDB, or of `endpoint`: a Wire (`"wire"`) or a Boto (`"boto3"`).

    Without credentials botocore's chain finds them. Raises SettingsError for another implementation, a region that is
    none, or an endpoint that is not a URL.
    """
    if implementation == "boto3":
        return Boto(
            region=region,
            endpoint=endpoint,
            credentials=credentials,
            connections=connections,
            timeout=timeout,
            retries=retries,
        )
    if implementation != "wire":
        raise SettingsError(f"the DynamoDB client is 'wire' or 'boto3', not {implementation!r}")
    chain = Chain()
    return Wire(
        region=region,
        endpoint=endpoint,
        credentials=chain if credentials is None else lambda: credentials,
        refresh=chain.refresh if credentials is None else None,
        connections=connections,
        timeout=timeout,
        retries=retries,
    )
