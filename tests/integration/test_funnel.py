"""The stand-in for Funnel over real sockets, in front of a stream in memory."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from processor.errors import LocalError
from processor.local.funnel import Funnel, sim_of
from processor.local.memory_kinesis import MemoryKinesis, client_error

INVALID = b"400 Invalid JSON is send to funnel."
VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "gateways.json").read_text())["families"]
EXAMPLE = next(family["example"] for family in VECTORS if family["family"] == "SORACOM Funnel envelope")


@pytest.fixture
def kinesis():
    return MemoryKinesis(2, clock=time.time, name="processor")


@pytest.fixture
def sent():
    return []


@pytest.fixture
def funnel(kinesis, sent):
    with Funnel(kinesis, "processor", on_record=sent.append, clock=lambda: 1653891795.421) as funnel:
        yield funnel


def records(kinesis):
    """Return partition key and parsed data of every record of the stream."""
    found = []
    for shard in kinesis.list_shards()["Shards"]:
        start = kinesis.get_shard_iterator(ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON")
        answer = kinesis.get_records(ShardIterator=start["ShardIterator"])
        found += [(record["PartitionKey"], json.loads(record["Data"])) for record in answer["Records"]]
    return found


def payloads(kinesis):
    return [envelope["payloads"] for _, envelope in records(kinesis)]


def post(funnel, body, path="/", method="POST", **headers):
    where = urlsplit(funnel.http_url)
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=30)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def connected(address):
    found = socket.create_connection(address, timeout=30)
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return found


def received(connection, count):
    data = b""
    while len(data) < count and (more := connection.recv(4096)):
        data += more
    return data


# HTTP


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/xml", "application/octet-stream"])
@pytest.mark.parametrize("path", ["/", "/any/path?x=1"])
def test_posted_json_is_answered_204_once_the_stream_has_its_envelope(funnel, kinesis, sent, kind, path):
    assert post(funnel, b'{"any": "thing"}', path, Content_Type=kind) == (204, b"")
    [(key, envelope)] = records(kinesis)
    sim = sim_of("127.0.0.1")
    assert envelope == {
        "operatorId": "OP0000000000",
        "credentialsId": "local",
        "destination": {
            "provider": "aws",
            "service": "kinesis",
            "resourceUrl": "https://kinesis.us-east-1.amazonaws.com/processor",
            "payloadsOnly": False,
            "sendPayloadsAsBinary": False,
            "randomizePartitionKey": True,
        },
        "sourceProtocol": "http",
        "payloads": {"any": "thing"},
        "timestamp": 1653891795421,
        "imsi": sim.imsi,
        "imei": sim.imei,
    }
    assert set(EXAMPLE) == set(envelope)
    assert set(EXAMPLE["destination"]) <= set(envelope["destination"])
    assert key != sim.imsi
    assert [json.loads(data) for data in sent] == [envelope]


def test_json_passes_digit_by_digit_and_on_one_line(funnel, sent):
    body = b'[\n\t24.30, 1E40, 18446744073709551616,\r\n {"a": 1, "a": 2, "t": "a b\\n"}]'
    assert post(funnel, body)[0] == 204
    [data] = sent
    assert b'"payloads":[24.30, 1E40, 18446744073709551616, {"a": 1, "a": 2, "t": "a b\\n"}]' in data
    assert b"\n" not in data


@pytest.mark.parametrize(
    "body", [b"", b"{", b"temperature=24.3", b"\xff\xfe", b'{"a": NaN}', b'\xef\xbb\xbf{"a": 1}', b"[" * 5000]
)
def test_what_is_not_json_is_answered_400_in_funnels_words(funnel, kinesis, body):
    assert post(funnel, body) == (400, b'{"message":"Invalid JSON is send to funnel."}')
    assert records(kinesis) == []


def test_800000_bytes_are_taken_and_one_more_is_answered_413(funnel, kinesis):
    assert post(funnel, b'"' + b"x" * 799_998 + b'"')[0] == 204
    status, body = post(funnel, b'"' + b"x" * 799_999 + b'"')
    assert (status, json.loads(body)) == (413, {"message": "at most 800000 bytes of body"})
    assert len(records(kinesis)) == 1


def test_other_methods_are_answered_405(funnel):
    assert post(funnel, None, method="GET")[0] == 405
    assert post(funnel, b"{}", method="PUT")[0] == 405


def test_a_connection_serves_many_posts_also_after_an_invalid_one(funnel, kinesis):
    where = urlsplit(funnel.http_url)
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=30)
    connection.connect()
    first = connection.sock
    try:
        for body, status in ((b"1", 204), (b"no", 400), (b"2", 204)):
            connection.request("POST", "/", body)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == status
            assert connection.sock is first
    finally:
        connection.close()
    assert payloads(kinesis) == [1, 2] or sorted(payloads(kinesis)) == [1, 2]


def test_fifty_posts_at_a_time_are_all_taken_in_few_calls(funnel, kinesis, sent):
    start, statuses = threading.Barrier(50), []

    def client(number):
        start.wait(30)
        statuses.append(post(funnel, json.dumps({"n": number}))[0])

    threads = [threading.Thread(target=client, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [204] * 50
    assert sorted(payload["n"] for payload in payloads(kinesis)) == list(range(50))
    assert len(sent) == 50
    assert len({key for key, _ in records(kinesis)}) == 50
    assert kinesis.calls["PutRecords"] < 50


def test_clients_that_hang_or_send_garbage_hold_up_nobody(funnel, kinesis):
    where = urlsplit(funnel.http_url)
    http_address = (where.hostname, where.port)
    silent = [connected(address) for address in (http_address, funnel.tcp_address) for _ in range(20)]
    halves = [connected(http_address) for _ in range(3)]
    halves[0].sendall(b"POST / HT")
    halves[1].sendall(b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nhalf")
    halves[2].sendall(b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" * 100)
    gone = connected(http_address)
    gone.sendall(b'POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n{"gone":')
    gone.close()
    try:
        assert post(funnel, b'{"n": 1}')[0] == 204
        with connected(funnel.tcp_address) as tcp:
            tcp.sendall(b'{"n": 2}')
            assert received(tcp, 3) == b"200"
    finally:
        for connection in [*silent, *halves]:
            connection.close()
    assert {payload["n"] for payload in payloads(kinesis)} == {1, 2}


def test_a_refused_request_gets_its_answer_even_if_it_is_still_being_sent(funnel):
    where = urlsplit(funnel.http_url)
    with connected((where.hostname, where.port)) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nContent-Length: 3000000\r\n\r\n")
        for _ in range(30):
            connection.sendall(b"x" * 100_000)
        connection.shutdown(socket.SHUT_WR)
        answer = received(connection, 10_000)
    assert answer.startswith(b"HTTP/1.1 413 ")


# TCP


def test_a_segment_is_a_record_and_is_answered_200(funnel, kinesis):
    with connected(funnel.tcp_address) as tcp:
        for number in (1, 2, 3):
            tcp.sendall(b'{"n": %d}' % number)
            assert received(tcp, 3) == b"200"
    assert sorted(payload["n"] for payload in payloads(kinesis)) == [1, 2, 3]
    assert {envelope["sourceProtocol"] for _, envelope in records(kinesis)} == {"tcp"}


def test_an_invalid_segment_is_answered_400_and_ends_the_connection(funnel, kinesis):
    with connected(funnel.tcp_address) as tcp:
        tcp.sendall(b'{"n": 1')
        assert received(tcp, 10_000) == INVALID  # up to the end of the connection
    assert records(kinesis) == []


def test_a_payload_split_on_the_way_is_two_records_and_neither_is_json(funnel, kinesis):
    with connected(funnel.tcp_address) as tcp:
        tcp.sendall(b'{"split":')
        assert received(tcp, 10_000) == INVALID
    assert records(kinesis) == []


def test_in_binary_mode_a_split_payload_arrives_in_two_records(kinesis):
    with Funnel(kinesis, "processor", binary=True) as funnel, connected(funnel.tcp_address) as tcp:
        for half in (b'{"split":', b" true}"):
            tcp.sendall(half)
            assert received(tcp, 3) == b"200"
    assert sorted(map(base64.b64decode, payloads(kinesis))) == [b" true}", b'{"split":']


def test_a_client_that_closes_its_half_still_gets_its_answer(funnel):
    with connected(funnel.tcp_address) as tcp:
        tcp.sendall(b"{}")
        tcp.shutdown(socket.SHUT_WR)
        assert received(tcp, 10_000) == b"200"


def test_segments_sent_without_waiting_are_answered_one_by_one_and_none_is_lost(funnel, kinesis):
    with Funnel(kinesis, "processor", binary=True) as binary, connected(binary.tcp_address) as tcp:
        for number in range(200):
            tcp.sendall(b"%03d" % number)
        tcp.shutdown(socket.SHUT_WR)
        answers = received(tcp, 10_000)
    stored = [base64.b64decode(payload).decode() for payload in payloads(kinesis)]
    assert answers == b"200" * len(stored)
    numbers = sorted(text[at : at + 3] for text in stored for at in range(0, len(text), 3))
    assert numbers == [f"{number:03d}" for number in range(200)]


# UDP


def test_a_datagram_is_a_record_and_is_answered(funnel, kinesis):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.settimeout(30)
        for data, answer in ((b'{"n": 1}', b"200"), (b"no", INVALID), (b"", INVALID), (b'{"n": 2}', b"200")):
            udp.sendto(data, funnel.udp_address)
            assert udp.recv(4096) == answer
    assert sorted(payload["n"] for payload in payloads(kinesis)) == [1, 2]
    assert {envelope["sourceProtocol"] for _, envelope in records(kinesis)} == {"udp"}


# Settings


def test_in_binary_mode_anything_is_taken_and_passed_on_as_base64(kinesis):
    with Funnel(kinesis, "processor", binary=True) as funnel:
        assert post(funnel, b"\x00\xff")[0] == 204
        assert post(funnel, b'{"json": true}')[0] == 204
    assert sorted(map(base64.b64decode, payloads(kinesis))) == [b"\x00\xff", b'{"json": true}']
    assert all(envelope["destination"]["sendPayloadsAsBinary"] for _, envelope in records(kinesis))


def test_a_payload_that_outgrows_a_record_in_base64_is_answered_413(kinesis):
    with Funnel(kinesis, "processor", binary=True) as funnel:
        assert post(funnel, b"\x00" * 800_000)[0] == 413
        assert post(funnel, b"\x00" * 780_000)[0] == 204
    assert len(records(kinesis)) == 1


def test_without_random_keys_the_imsi_is_the_key(kinesis):
    with Funnel(kinesis, "processor", randomize_partition_key=False) as funnel:
        assert post(funnel, b"1")[0] == post(funnel, b"2")[0] == 204
    assert {key for key, _ in records(kinesis)} == {sim_of("127.0.0.1").imsi}
    assert {envelope["destination"]["randomizePartitionKey"] for _, envelope in records(kinesis)} == {False}


def test_it_listens_on_the_ports_it_is_told_to_and_says_which_one_is_taken(funnel, kinesis):
    port = funnel.tcp_address[1]
    with pytest.raises(LocalError, match=f"cannot listen on 127.0.0.1, port {port}"):
        Funnel(kinesis, "processor", socket_port=port).start()
    funnel.stop()
    with Funnel(kinesis, "processor", socket_port=port) as second:
        assert second.tcp_address == second.udp_address == ("127.0.0.1", port)
        with connected(second.tcp_address) as tcp:
            tcp.sendall(b"{}")
            assert received(tcp, 3) == b"200"


# Failures


def test_a_stream_that_refuses_to_the_end_is_answered_503(funnel, kinesis, sent, monkeypatch):
    monkeypatch.setattr("processor.local.outbox.BACKOFF_MAXIMUM", 0.001)
    kinesis.fault = lambda operation, arguments: client_error("ResourceNotFoundException", operation, "no such stream")
    status, body = post(funnel, b"{}")
    assert status == 503
    assert "no such stream" in json.loads(body)["message"]
    with connected(funnel.tcp_address) as tcp:
        tcp.sendall(b"{}")
        assert received(tcp, 3).startswith(b"503")
    assert sent == []
    kinesis.fault = None
    assert post(funnel, b"{}")[0] == 204


def test_the_answer_waits_for_the_stream(funnel, kinesis):
    go_on, asked, statuses = threading.Event(), threading.Event(), []

    def hold(operation, arguments):
        if operation == "PutRecords":
            asked.set()
            go_on.wait(30)

    kinesis.fault = hold
    client = threading.Thread(target=lambda: statuses.append(post(funnel, b"{}")[0]))
    client.start()
    assert asked.wait(30)
    assert statuses == []
    go_on.set()
    client.join(30)
    assert statuses == [204]


def test_it_stops_while_clients_hang_and_lets_those_it_serves_finish(kinesis):
    go_on, asked, statuses = threading.Event(), threading.Event(), []

    def hold(operation, arguments):
        asked.set()
        go_on.wait(30)

    kinesis.fault = hold
    funnel = Funnel(kinesis, "processor")
    funnel.start()
    where = urlsplit(funnel.http_url)
    hanging = [connected((where.hostname, where.port)), connected(funnel.tcp_address)]
    hanging[0].sendall(b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n")
    client = threading.Thread(target=lambda: statuses.append(post(funnel, b"{}")[0]))
    client.start()
    assert asked.wait(30)
    stopper = threading.Thread(target=funnel.stop)
    stopper.start()
    go_on.set()
    stopper.join(30)
    client.join(30)
    assert statuses == [204]
    for connection in hanging:
        assert received(connection, 1) == b""
        connection.close()
    assert not [thread for thread in threading.enumerate() if thread.name in ("funnel", "outbox")]
    with pytest.raises(ConnectionError):
        connected(funnel.tcp_address)
    funnel.stop()
