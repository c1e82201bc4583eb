"""The client against a server that misbehaves by script, over real sockets."""

from __future__ import annotations

import json
import os
import socket
import socketserver
import ssl
import threading
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from time import monotonic
from types import SimpleNamespace
from unittest.mock import patch
from zlib import crc32

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from processor.errors import StoreError, TransientError
from processor.store.boto import Boto
from processor.store.connection import Connection
from processor.store.credentials import Credentials
from processor.store.retries import Retries
from processor.store.wire import Wire, connect

PATIENCE = 20  # seconds after which the server gives up on a client: no test takes that long unless it fails
GIVEN = Credentials("AKID", "secret", "token")
BOTH = pytest.mark.parametrize("implementation", ["wire", "boto3"])


def reply(body=b"{}", status="200 OK", *lines):
    """Return an answer as DynamoDB's are; `lines` are more headers."""
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", f"x-amz-crc32: {crc32(body)}"]
    if not any(line.startswith("Content-Type:") for line in lines):
        head.append("Content-Type: application/x-amz-json-1.0")
    head.extend(lines)
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def refusal(code, status="400 Bad Request", *lines):
    return reply(json.dumps({"__type": f"com.example#{code}", "message": "because"}).encode(), status, *lines)


def then_close(data):
    """Send, and close the connection without having announced it."""

    def act(connection):
        connection.sendall(data)
        return False

    return act


def byte_by_byte(data):
    def act(connection):
        for n in range(len(data)):
            connection.sendall(data[n : n + 1])
        return True

    return act


close = then_close(b"")
OK = reply()
THROTTLED = refusal("ProvisionedThroughputExceededException")


class Server(socketserver.ThreadingTCPServer):
    """Answers each request by the script's next act: bytes to send, or a function of the connection."""

    daemon_threads = False
    request_queue_size = 64

    def __init__(self, script, context=None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script = deque(script)
        self.echo = False
        """Instead of the script: answer with the request's own body."""
        self.context = context
        self.requests = []
        self.connections = 0
        self.open = set()
        self.ended = threading.Semaphore(0)
        """Released as each connection ends."""
        self.waited = False
        """Set when a client neither asked nor left for as long as PATIENCE: it waited for more of an answer."""
        self.greeting = b""
        """Instead of the script: send this to whoever connects, and close."""
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.thread = threading.Thread(target=self.serve_forever, args=(0.01,))
        self.thread.start()

    def stop(self):
        """Stop, whoever is still connected: boto3 leaves the closing of its connections to garbage collection."""
        self.shutdown()
        for connection in list(self.open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.server_close()


class Handler(socketserver.BaseRequestHandler):
    """One connection."""

    def handle(self):
        self.server.connections += 1
        self.request.settimeout(PATIENCE)
        try:
            if self.server.context:
                self.request = self.server.context.wrap_socket(self.request, server_side=True)
            self.server.open.add(self.request)
            if self.server.greeting:
                self.request.sendall(self.server.greeting)
                self.request.recv(4096)  # else the close would be a reset, which overtakes the greeting
                return
            with self.request.makefile("rb") as lines:
                while self.answer(lines):
                    pass
        except TimeoutError:
            self.server.waited = True
        except OSError:  # the client may leave whenever it likes
            pass
        finally:
            self.server.open.discard(self.request)
            self.request.close()
            self.server.ended.release()

    def answer(self, lines):
        start = lines.readline()
        if not start:
            return False
        headers = {}
        while (line := lines.readline().strip()) != b"":
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        body = lines.read(int(headers["content-length"]))
        self.server.requests.append(SimpleNamespace(start=start.decode(), headers=headers, body=body))
        if self.server.echo:
            act = reply(body)
        else:
            act = self.server.script.popleft() if self.server.script else refusal("ScriptEnded")
        if callable(act):
            return act(self.request)
        self.request.sendall(act)
        return True


@pytest.fixture
def play():
    """Start a server with a script and a client of it; returns both and the list of the client's pauses."""
    servers, clients = [], []

    def start(
        *script, implementation="wire", attempts=4, tls=None, scheme="http", path="", timeout=PATIENCE + 10, **options
    ):
        server = Server(script, tls)
        servers.append(server)
        pauses = []
        retries = Retries(attempts=attempts, sleep=pauses.append)
        common = {
            "region": "eu-west-1",
            "endpoint": f"{scheme}://127.0.0.1:{server.server_address[1]}{path}",
            "timeout": timeout,
            "retries": retries,
        }
        if implementation == "wire":
            client = Wire(**{"credentials": lambda: GIVEN, **common, **options})
        else:
            client = Boto(credentials=GIVEN, **common, **options)
        clients.append(client)
        return client, server, pauses

    yield start
    for client in clients:
        client.close()
    for server in servers:
        server.stop()
    assert not any(server.waited for server in servers)


def update(client, **options):
    key = {"device": {"S": "CB:B8:33:4C:88:4F"}, "slot": {"N": "1700000000"}}
    return client.call("UpdateItem", {"TableName": "readings", "Key": key}, **options)


@BOTH
def test_throttling_is_waited_out(play, implementation):
    client, server, pauses = play(THROTTLED, THROTTLED, reply(b'{"Attributes":{}}'), implementation=implementation)
    assert update(client) == {"Attributes": {}}
    assert len(server.requests) == 3
    assert len(pauses) == 2


@BOTH
def test_server_errors_that_persist_end_after_the_last_attempt(play, implementation):
    broken = refusal("InternalServerError", "500 Internal Server Error")
    client, server, pauses = play(*[broken] * 9, implementation=implementation)
    with pytest.raises(TransientError, match=r"InternalServerError: UpdateItem at .*127\.0\.0\.1.*because") as raised:
        update(client)
    assert raised.value.status == 500
    assert len(server.requests) == 4
    assert len(pauses) == 3


@BOTH
def test_a_failed_condition_is_not_tried_again(play, implementation):
    client, server, _ = play(refusal("ConditionalCheckFailedException"), implementation=implementation)
    with pytest.raises(StoreError) as raised:
        update(client)
    assert type(raised.value) is StoreError
    assert raised.value.code == "ConditionalCheckFailedException"
    assert len(server.requests) == 1


@BOTH
@pytest.mark.parametrize(
    "fault",
    [
        close,
        then_close(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\n"),
        then_close(reply(b'{"Attributes":{}}')[:-5]),
        then_close(b"HTTP/1.1 200 OK\r\nContent-Type: json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}"),
        reply().replace(b"x-amz-crc32: ", b"x-amz-crc32: 1"),
        then_close(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"),
        reply(b"<html>Welcome to the hotel</html>", "200 OK", "Content-Type: text/html"),
    ],
    ids=["closed", "head-cut", "body-cut", "chunk-cut", "crc-wrong", "no-http", "no-json"],
)
def test_an_answer_that_is_not_whole_or_not_dynamodbs_is_asked_for_again(play, implementation, fault):
    client, server, pauses = play(fault, reply(b'{"Attributes":{}}'), implementation=implementation)
    assert update(client) == {"Attributes": {}}
    assert len(server.requests) == 2
    assert len(pauses) == 1


@pytest.mark.parametrize(
    "fault",
    [
        b"HTTP/1.1 200 OK\r\n\r\n{}",
        b"HTTP/1.1 2x0 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 20\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+2\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 80_000,
        b"\xff" * 80_000,
    ],
    ids=lambda fault: repr(fault[:60]),
)
def test_broken_http_is_a_connection_fault_and_never_a_hang(play, fault):
    """The server leaves the connection open: what the client cannot read, it must not wait for."""
    client, server, pauses = play(fault, OK)
    assert update(client) == {}
    assert (len(server.requests), server.connections, len(pauses)) == (2, 2, 1)


@pytest.mark.parametrize("body", [b"[]", b"{", b"", b"null"])
def test_a_success_that_is_no_json_object_is_asked_for_again(play, body):
    client, server, pauses = play(reply(body), OK)
    assert update(client) == {}
    assert (len(server.requests), len(pauses)) == (2, 1)


def test_an_error_page_that_is_not_dynamodbs_is_transient_and_not_asked_for_again(play):
    client, server, pauses = play(reply(b"<html>no such page</html>", "404 Not Found", "Content-Type: text/html"))
    with pytest.raises(TransientError, match="no such page"):
        update(client)
    assert (len(server.requests), len(pauses)) == (1, 0)


def test_answers_in_pieces_in_chunks_and_of_megabytes_are_read_whole(play):
    wanted = json.dumps({"Items": [{"S": "é" * 500_000}, {"S": "z" * 2_000_000}]}, ensure_ascii=False).encode()
    cuts = [wanted[n : n + 100_001] for n in range(0, len(wanted), 100_001)]
    chunks = b"".join(b"%X;name=value\r\n%b\r\n" % (len(cut), cut) for cut in cuts)
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\nTrailer: x\r\n\r\n"
    small = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"
    client, server, _ = play(reply(wanted), chunked, byte_by_byte(reply(b'{"a":1}')), byte_by_byte(small), attempts=1)
    assert update(client) == json.loads(wanted)
    assert update(client) == json.loads(wanted)
    assert update(client) == {"a": 1}
    assert update(client) == {}
    assert (len(server.requests), server.connections) == (4, 1)


def test_a_connection_closed_while_idle_is_replaced_at_once_and_costs_no_attempt(play):
    client, server, pauses = play(then_close(OK), reply(b'{"a":1}'), attempts=1)
    update(client)
    assert server.ended.acquire(timeout=PATIENCE)
    assert update(client) == {"a": 1}
    assert (len(server.requests), server.connections, pauses) == (2, 2, [])


def test_a_fresh_connection_that_fails_too_is_a_fault(play):
    client, server, pauses = play(OK, close, close, OK, attempts=1)
    update(client)
    with pytest.raises(TransientError, match="ConnectionError"):
        update(client)
    assert (len(server.requests), server.connections, pauses) == (3, 2, [])


def test_a_connection_idle_for_long_is_not_trusted(play):
    """A Lambda environment was frozen, or the clock was set back."""
    now = [1_000_000.0]
    client, server, _ = play(*[OK] * 5, clock=lambda: now[0])
    for now[0], connections in [(1e6, 1), (1e6 + 5, 1), (1e6 + 900, 2), (1e6 + 905, 2), (1e6, 3)]:
        update(client)
        assert server.connections == connections
    assert len(server.requests) == 5


@pytest.mark.parametrize(
    "last",
    [reply(b"{}", "200 OK", "Connection: Close"), OK.replace(b"HTTP/1.1", b"HTTP/1.0"), OK + b"HTTP/1.1 200 OK\r\n"],
    ids=["close", "http-1.0", "too-much"],
)
def test_a_connection_that_is_at_its_end_is_not_kept(play, last):
    client, server, pauses = play(last, OK)
    assert update(client) == update(client) == {}
    assert (len(server.requests), server.connections, pauses) == (2, 2, [])


def test_close_closes_what_was_kept(play):
    client, server, _ = play(OK)
    update(client)
    client.close()
    assert server.ended.acquire(timeout=PATIENCE)


def test_an_answer_slower_than_the_deadline_is_not_waited_for(play):
    left = threading.Event()

    def silence(connection):
        if connection.recv(1) == b"":  # raises when the client stays longer than PATIENCE
            left.set()
        return False

    client, server, pauses = play(silence, OK)
    with pytest.raises(TransientError, match="in time"):
        update(client, deadline=monotonic() + 0.2)
    assert left.wait(PATIENCE)
    assert (len(server.requests), pauses) == (1, [])


def test_an_answer_that_trickles_past_the_deadline_is_not_waited_for(play):
    left = threading.Event()

    def trickle(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        connection.settimeout(0.02)
        until = monotonic() + PATIENCE
        while monotonic() < until:
            connection.sendall(b" ")
            try:
                if connection.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        else:
            return False
        left.set()
        return False

    client, server, pauses = play(trickle, OK)
    with pytest.raises(TransientError, match="in time"):
        update(client, deadline=monotonic() + 0.2)
    assert left.wait(PATIENCE)
    assert (len(server.requests), pauses) == (1, [])


def test_a_deadline_shortens_a_kept_connections_timeout_for_its_own_call_only(play):
    client, server, _ = play(OK, OK, OK, timeout=30)
    timeouts = []
    for deadline in (None, monotonic() + 10, None):
        update(client, deadline=deadline)
        (kept,) = client._pool._idle
        timeouts.append(round(kept._sock.gettimeout(), -1))
    assert timeouts == [30, 10, 30]
    assert (len(server.requests), server.connections) == (3, 1)


def test_no_wait_on_a_socket_starts_after_its_limit(play):
    client, server, _ = play(OK)
    update(client)
    with pytest.raises(TimeoutError, match="used up"):
        client._pool.exchange(b"", monotonic() - 1)
    assert len(server.requests) == 1


@BOTH
def test_a_passed_deadline_sends_nothing(play, implementation):
    client, server, _ = play(OK, implementation=implementation)
    with pytest.raises(TransientError, match="DeadlineExceeded"):
        update(client, deadline=monotonic())
    assert server.requests == []


@BOTH
def test_a_refused_connection_says_where_and_what_to_check(play, implementation):
    client, server, pauses = play(implementation=implementation)
    server.stop()
    with pytest.raises(TransientError, match=r"ConnectionError: UpdateItem at .*127\.0\.0\.1") as raised:
        update(client)
    assert implementation == "boto3" or "AWS_ENDPOINT_URL" in str(raised.value)
    assert len(pauses) == 3


def test_what_is_sent_is_what_was_signed(play):
    client, server, _ = play(OK, OK, path="/prefix")
    update(client)
    (sent,) = server.requests
    assert sent.start == "POST /prefix HTTP/1.1\r\n"
    assert sent.headers["x-amz-security-token"] == GIVEN.token
    assert sent.headers["accept-encoding"] == "identity"
    assert "x-amz-security-token" in sent.headers["authorization"]
    named = {"Content-Type": sent.headers["content-type"], "X-Amz-Target": sent.headers["x-amz-target"]}
    request = AWSRequest("POST", f"http://{sent.headers['host']}/prefix", named, sent.body)
    when = datetime.strptime(sent.headers["x-amz-date"], "%Y%m%dT%H%M%SZ")
    with patch("botocore.auth.get_current_datetime", lambda: when):
        SigV4Auth(BotocoreCredentials(*GIVEN), "dynamodb", "eu-west-1").add_auth(request)
    assert sent.headers["authorization"] == request.headers["Authorization"]


def test_a_wrong_clock_is_put_right_by_the_servers(play):
    skewed = refusal("InvalidSignatureException", "400 Bad Request", "Date: Tue, 01 Jan 2030 00:00:10 GMT")
    client, server, pauses = play(skewed, OK, OK, clock=lambda: 1_000_000.0)
    update(client)
    update(client)
    assert [sent.headers["x-amz-date"] for sent in server.requests] == [
        "19700112T134640Z",
        "20300101T000010Z",
        "20300101T000010Z",
    ]
    assert pauses == []


@pytest.mark.parametrize("date", ["Mon, 12 Jan 1970 13:46:50 GMT", "soon", ""])
def test_a_wrong_signature_at_the_right_time_is_not_sent_again(play, date):
    wrong = refusal("InvalidSignatureException", "400 Bad Request", f"Date: {date}")
    client, server, _ = play(wrong, OK, clock=lambda: 1_000_000.0)
    with pytest.raises(TransientError, match=r"InvalidSignatureException.*secret key"):
        update(client)
    assert len(server.requests) == 1


def test_a_clock_that_stays_wrong_is_put_right_only_once_a_call(play):
    skewed = [
        refusal("RequestTimeTooSkewed", "403 Forbidden", f"Date: Tue, 01 Jan 20{n}0 00:00:00 GMT") for n in (3, 4, 5)
    ]
    client, server, _ = play(*skewed)
    with pytest.raises(TransientError, match="RequestTimeTooSkewed"):
        update(client)
    assert len(server.requests) == 2


def connected(server, implementation):
    return connect(region="eu-west-1", endpoint=server.url, implementation=implementation, retries=Retries(attempts=1))


@BOTH
def test_without_given_credentials_botocores_chain_finds_them(play, implementation, monkeypatch):
    for name, value in zip(("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN"), GIVEN, strict=True):
        monkeypatch.setenv(f"AWS_{name}", value)
    _, server, _ = play(OK)
    client = connected(server, implementation)
    update(client)
    client.close()
    assert server.requests[0].headers["x-amz-security-token"] == GIVEN.token
    assert f"Credential={GIVEN.access_key}/" in server.requests[0].headers["authorization"]


@BOTH
def test_without_any_credentials_nothing_is_sent_and_the_error_says_so(play, implementation, monkeypatch):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    _, server, _ = play(OK)
    client = connected(server, implementation)
    with pytest.raises(TransientError, match=r"NoCredentials.*credentials"):
        update(client)
    client.close()
    assert server.requests == []


class Rotating:
    """Credentials that change when they are refreshed."""

    def __init__(self, *tokens):
        self.tokens = list(tokens)

    def __call__(self):
        return Credentials("AKID", "secret", self.tokens[0])

    def refresh(self, stale):
        assert stale == self()
        if len(self.tokens) > 1:
            self.tokens.pop(0)


@pytest.mark.parametrize(
    ("tokens", "sent"),
    [(["one", "two"], ["one", "two"]), (["one"], ["one"]), (["one", "two", "three"], ["one", "two"])],
    ids=["renewed", "nothing-new", "expired-again"],
)
def test_expired_credentials_are_renewed_once(play, tokens, sent):
    expired = refusal("ExpiredTokenException")
    answers = [expired, expired if len(tokens) == 3 else OK]
    chain = Rotating(*tokens)
    client, server, pauses = play(*answers, credentials=chain, refresh=chain.refresh)
    if len(tokens) == 2:
        assert update(client) == {}
    else:
        with pytest.raises(TransientError, match=r"ExpiredTokenException.*renew the credentials"):
            update(client)
    assert [request.headers["x-amz-security-token"] for request in server.requests] == sent
    assert pauses == []


def test_given_credentials_that_expired_are_not_tried_again(play):
    client, server, _ = play(refusal("ExpiredTokenException"), OK)
    with pytest.raises(TransientError, match="ExpiredTokenException"):
        update(client)
    assert len(server.requests) == 1


def test_sixteen_threads_share_a_client_and_each_gets_its_own_answer(play):
    """The server answers what it was asked, so that a mix-up would show."""
    client, server, _ = play(attempts=1)
    server.echo = True
    wrong = []

    def work(thread):
        for n in range(25):
            body = {"thread": thread, "n": n}
            if client.call("Query", body) != body:
                wrong.append(body)

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(server.requests) == 400
    assert server.connections <= 16


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A certificate for 127.0.0.1 that only vouches for itself: a file with it and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "server.pem"
    pem = serialization.Encoding.PEM
    file.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()) + made.public_bytes(pem)
    )
    return file


@pytest.fixture
def serving(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@BOTH
def test_a_certificate_nobody_vouches_for_is_refused_at_once(play, serving, implementation):
    client, server, pauses = play(OK, tls=serving, scheme="https", implementation=implementation)
    with pytest.raises(TransientError, match=r"CertificateError.*certificate"):
        update(client)
    assert (server.requests, server.connections, pauses) == ([], 1, [])


def test_a_trusted_certificate_is_accepted_and_its_connection_kept(play, serving, certificate):
    trusting = ssl.create_default_context(cafile=certificate)
    big = reply(b'{"a":"' + b"z" * 300_000 + b'"}')
    client, server, _ = play(OK, big, then_close(OK), OK, tls=serving, scheme="https", context=trusting, attempts=1)
    assert update(client) == {}
    assert update(client) == {"a": "z" * 300_000}
    assert update(client) == {}
    assert server.ended.acquire(timeout=PATIENCE)
    assert update(client) == {}
    assert (len(server.requests), server.connections) == (4, 2)


def test_https_to_a_plain_server_says_so(play):
    client, server, pauses = play(scheme="https", attempts=2)
    server.greeting = b"HTTP/1.1 400 Bad Request\r\n\r\n"
    with pytest.raises(TransientError, match=r"ConnectionError.*is the endpoint https"):
        update(client)
    assert (server.requests, server.connections, len(pauses)) == ([], 2, 1)


def many(client, count, **options):
    """Send `count` requests at once; returns the answers by job."""
    jobs = [f"D{n}" for n in range(count)]
    options = {"deadline": monotonic() + PATIENCE} | options
    found = list(client.call_many("UpdateItem", jobs, lambda job: {"Key": {"device": {"S": job}}}, **options))
    assert sorted(job for job, _ in found) == sorted(jobs)  # each exactly once
    return dict(found)


def warm(client, connections):
    """Have the client keep so many connections."""
    pool = client._pool
    for connection in [Connection(pool._endpoint, pool._tls, monotonic() + PATIENCE) for _ in range(connections)]:
        connection.reusable = True
        pool.give(connection)


@pytest.mark.parametrize("connections", [1, 3, 16])
def test_many_requests_share_the_kept_connections_and_each_gets_its_own_answer(play, connections):
    client, server, _ = play()
    server.echo = True
    warm(client, connections)
    assert many(client, 40) == {f"D{n}": {"Key": {"device": {"S": f"D{n}"}}} for n in range(40)}
    assert many(client, 40) == {f"D{n}": {"Key": {"device": {"S": f"D{n}"}}} for n in range(40)}
    assert (len(server.requests), server.connections) == (80, connections)


def test_many_requests_over_tls(play, serving, certificate):
    trusting = ssl.create_default_context(cafile=certificate)
    client, server, _ = play(tls=serving, scheme="https", context=trusting)
    server.echo = True
    warm(client, 4)
    assert many(client, 20) == {f"D{n}": {"Key": {"device": {"S": f"D{n}"}}} for n in range(20)}
    assert server.connections == 4


def test_without_a_kept_connection_many_requests_are_all_left_and_none_is_sent(play):
    client, server, _ = play()
    assert many(client, 3) == {"D0": None, "D1": None, "D2": None}
    assert server.connections == 0


def test_after_the_deadline_many_requests_are_all_left_and_none_is_sent(play):
    client, server, _ = play()
    warm(client, 2)
    assert set(many(client, 5, deadline=monotonic()).values()) == {None}
    assert server.requests == []


@pytest.mark.parametrize(
    "fault",
    [
        THROTTLED,
        refusal("InternalServerError", "500 Internal Server Error"),
        close,
        then_close(reply(b'{"Attributes":{}}')[:-5]),
        reply().replace(b"x-amz-crc32: ", b"x-amz-crc32: 1"),
        reply(b"[]"),
    ],
    ids=["throttled", "500", "closed", "cut", "crc", "no-object"],
)
def test_a_request_among_many_that_fails_is_left_and_the_others_are_answered(play, fault):
    client, _, _ = play(OK, OK, fault, *[OK] * 9)
    warm(client, 3)
    found = list(many(client, 10).values())
    assert found.count(None) == 1
    assert found.count({}) == 9
    assert update(client) == {}


def test_a_kept_connection_that_was_closed_leaves_its_request_and_no_connection_behind(play):
    client, server, _ = play(then_close(OK), OK, OK)
    assert update(client) == {}
    assert server.ended.acquire(timeout=PATIENCE)
    assert many(client, 2) == {"D0": None, "D1": None}
    assert update(client) == {}
    assert many(client, 1) == {"D0": {}}


def test_an_answer_that_never_comes_leaves_its_request_at_the_timeout(play):
    silent = threading.Event()
    client, _, _ = play(lambda connection: silent.wait(PATIENCE) and False, OK, timeout=0.3)
    warm(client, 1)
    assert many(client, 2) == {"D0": None, "D1": None}
    silent.set()


def test_a_body_that_is_no_json_is_left_and_the_others_are_sent(play):
    client, server, _ = play()
    server.echo = True
    warm(client, 1)
    found = dict(client.call_many("UpdateItem", [1 << 70, 2], lambda job: {"n": job}, deadline=monotonic() + PATIENCE))
    assert found == {1 << 70: None, 2: {"n": 2}}
