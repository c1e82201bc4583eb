"""What the stand-in for Funnel is made of: the invented SIM, reading a request, and the way into the stream."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import wait
from http import HTTPStatus

import pytest

from processor.errors import LocalError
from processor.local.funnel import sim_of
from processor.local.http_request import Refused, read_request
from processor.local.memory_kinesis import client_error
from processor.local.outbox import MAXIMUM_BYTES, MAXIMUM_RECORD, Outbox

# The SIM


def test_a_client_has_the_same_sim_every_time_and_others_have_others():
    sims = [sim_of(f"192.0.2.{n}") for n in range(200)]
    assert sims == [sim_of(f"192.0.2.{n}") for n in range(200)]
    assert len({sim.imsi for sim in sims}) == len({sim.imei for sim in sims}) == 200
    assert all(len(digits) == 15 and digits.isdigit() for sim in sims for digits in sim)
    assert all(sim.imsi.startswith("29505") for sim in sims)


# Reading a request


class Writer:
    """Keeps what the server says before the body has come."""

    def __init__(self):
        self.said = b""

    def write(self, data):
        self.said += data


def read(*parts, maximum=100, writer=None):
    async def reading():
        reader = asyncio.StreamReader(limit=1000)
        for part in parts:
            reader.feed_data(part)
        reader.feed_eof()
        return await read_request(reader, writer or Writer(), maximum)

    return asyncio.run(reading())


def test_a_body_of_a_given_length_is_read_and_nothing_behind_it():
    request = read(b"POST /any HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcPOST")
    assert (request.method, request.body, request.keep_alive) == ("POST", b"abc", True)


def test_a_chunked_body_is_put_together():
    head = b"POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n"
    assert read(head, b"3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nTrailer: t\r\n\r\n").body == b"abc0123456789"


def test_a_closed_connection_is_no_request():
    assert read() is None
    assert read(b"\r\n") is None


@pytest.mark.parametrize(
    ("head", "keep_alive"),
    [
        (b"POST / HTTP/1.1\r\n", True),
        (b"POST / HTTP/1.1\r\nConnection: Close\r\n", False),
        (b"POST / HTTP/1.0\r\n", False),
        (b"POST / HTTP/1.0\r\nConnection: keep-alive\r\n", True),
    ],
)
def test_a_connection_persists_as_its_version_and_header_say(head, keep_alive):
    assert read(head + b"\r\n").keep_alive is keep_alive


def test_who_expects_to_be_asked_for_the_body_is_asked():
    writer = Writer()
    head = b"POST / HTTP/1.1\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\n"
    assert read(head, b"{}", writer=writer).body == b"{}"
    assert writer.said == b"HTTP/1.1 100 Continue\r\n\r\n"


def test_who_expects_to_be_asked_for_too_much_is_refused_first():
    writer = Writer()
    with pytest.raises(Refused) as refused:
        read(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 101\r\n\r\n", writer=writer)
    assert refused.value.status is HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    assert writer.said == b""


@pytest.mark.parametrize("size", [100, 101])
def test_the_largest_body_is_taken_and_one_byte_more_is_not(size):
    lengths = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size
    chunks = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % size + b"x" * size + b"\r\n0\r\n\r\n"
    for request in (lengths, chunks):
        if size == 100:
            assert len(read(request).body) == 100
        else:
            with pytest.raises(Refused) as refused:
                read(request)
            assert refused.value.status is HTTPStatus.REQUEST_ENTITY_TOO_LARGE


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"garbage\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
        (b"POST / HTTP/2\r\n\r\n", 400),
        (b"POST /a b HTTP/1.1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nName : spaced\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nA: 1\r\n folded\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: two\r\n\r\nxx", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -2\r\n\r\nxx", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nxx", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhalf", 400),
        (b"POST / HTTP/1.1\r\nContent-Length", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 2000, 400),
        (b"POST / HTTP/1.1\r\nContent-Length: " + b"9" * 500 + b"\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nA: " + b"x" * 2000 + b"\r\n\r\n", 431),
        (b"POST / HTTP/1.1\r\nA: " + b"x" * 2000, 431),
    ],
)
def test_what_is_no_request_is_refused(request_bytes, status):
    with pytest.raises(Refused) as refused:
        read(request_bytes)
    assert refused.value.status == status


# The way into the stream


class Stream:
    """Takes records, a call at a time; `refuse` says what happens to an entry, `fail` to a call."""

    def __init__(self):
        self.calls = []
        self.refuse = lambda entry: False
        self.fail = lambda: None

    def put_records(self, *, StreamName, Records):  # noqa: N803 - boto3's names
        assert StreamName == "processor"
        self.calls.append([entry["Data"] for entry in Records])
        self.fail()
        refused = {"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "Rate exceeded"}
        results = [refused if self.refuse(entry) else {"SequenceNumber": "1", "ShardId": "s"} for entry in Records]
        return {"FailedRecordCount": results.count(refused), "Records": results}


@pytest.fixture
def stream():
    return Stream()


@pytest.fixture
def taken():
    return []


@pytest.fixture
def outbox(stream, taken):
    outbox = Outbox(stream, "processor", on_record=taken.append)
    yield outbox
    outbox.close()


def test_records_of_many_threads_share_a_call(stream, taken, outbox):
    start = threading.Barrier(51)
    futures = []

    def put(number):
        start.wait(30)
        futures.append(outbox.put("k", b"%d" % number))

    threads = [threading.Thread(target=put, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    start.wait(30)
    for thread in threads:
        thread.join()
    wait(futures, timeout=30)
    assert all(future.result() is None for future in futures)
    assert sorted(taken) == sorted(b"%d" % number for number in range(50))
    assert len(stream.calls) < 50


def test_a_call_holds_at_most_500_records_and_5_megabytes(stream, taken, outbox):
    futures = [outbox.put("k", b"x") for _ in range(1001)]
    large = [outbox.put("k", b"y" * (MAXIMUM_RECORD - 1)) for _ in range(7)]
    wait([*futures, *large], timeout=30)
    assert len(taken) == 1008
    assert max(len(call) for call in stream.calls) == 500
    assert all(sum(len(data) + 1 for data in call) <= MAXIMUM_BYTES for call in stream.calls)


def test_only_the_entries_that_were_refused_are_sent_again(stream, taken, outbox):
    refused = set()

    def refuse(entry):
        first = entry["Data"] in (b"b", b"d") and entry["Data"] not in refused
        refused.add(entry["Data"])
        return first

    stream.refuse = refuse
    futures = [outbox.put("k", data) for data in (b"a", b"b", b"c", b"d")]
    for future in futures:
        future.result(30)
    sent = [data for call in stream.calls for data in call]
    assert sorted(sent) == [b"a", b"b", b"b", b"c", b"d", b"d"]
    assert sorted(taken) == [b"a", b"b", b"c", b"d"]


def test_a_call_that_fails_is_repeated(stream, taken, outbox):
    def fail_once():
        if len(stream.calls) == 1:
            raise client_error("InternalFailure", "PutRecords")

    stream.fail = fail_once
    outbox.put("k", b"a").result(30)
    assert stream.calls == [[b"a"], [b"a"]]
    assert taken == [b"a"]


def test_a_record_refused_to_the_end_fails_with_the_reason_and_the_others_do_not(stream, taken, monkeypatch):
    monkeypatch.setattr("processor.local.outbox.BACKOFF_MAXIMUM", 0.001)
    outbox = Outbox(stream, "processor", on_record=taken.append)
    stream.refuse = lambda entry: entry["Data"] == b"bad"
    good, bad = outbox.put("k", b"good"), outbox.put("k", b"bad")
    good.result(30)
    with pytest.raises(LocalError, match=r"processor does not take the record: .*Rate exceeded"):
        bad.result(30)
    outbox.close()
    assert taken == [b"good"]


@pytest.mark.parametrize(("size", "fits"), [(MAXIMUM_RECORD - 3, True), (MAXIMUM_RECORD - 2, False)])
def test_a_record_beyond_the_streams_limit_is_refused_at_once(outbox, size, fits):
    if fits:
        outbox.put("key", b"x" * size).result(30)
    else:
        with pytest.raises(ValueError, match="has at most 1048576 bytes, not 1048577"):
            outbox.put("key", b"x" * size)


def test_closing_sends_what_is_queued_and_ends_the_thread(stream, taken):
    outbox = Outbox(stream, "processor", on_record=taken.append)
    futures = [outbox.put("k", b"%d" % number) for number in range(700)]
    outbox.close()
    assert all(future.done() for future in futures)
    assert len(taken) == 700
    assert not [thread for thread in threading.enumerate() if thread.name == "outbox"]


def test_closing_does_not_wait_for_a_stream_that_refuses_everything(stream):
    outbox = Outbox(stream, "processor")
    stream.refuse = lambda entry: True
    stream.fail = lambda: outbox._closing.wait(30)
    future = outbox.put("k", b"a")
    outbox.close()
    assert stream.calls == [[b"a"]]
    with pytest.raises(LocalError):
        future.result(0)


def test_flushing_waits_for_what_was_put_before(stream, taken, outbox):
    outbox.flush(0)  # nothing was
    go_on = threading.Event()
    stream.fail = lambda: go_on.wait(30)
    outbox.put("k", b"a")
    with pytest.raises(LocalError, match="processor has not taken 1 records after 0 s"):
        outbox.flush(0)
    go_on.set()
    outbox.flush(30)
    assert taken == [b"a"]


def test_a_cancelled_record_is_not_sent_and_harms_no_other(stream, taken, outbox):
    busy, go_on = threading.Event(), threading.Event()

    def hold():
        busy.set()
        go_on.wait(30)

    stream.fail = hold
    first = outbox.put("k", b"first")
    assert busy.wait(30)
    cancelled, last = outbox.put("k", b"cancelled"), outbox.put("k", b"last")
    assert cancelled.cancel()
    assert not first.cancel()
    go_on.set()
    last.result(30)
    assert taken == [b"first", b"last"]


def test_an_error_of_on_record_is_told_when_it_closes_and_stops_no_record(stream):
    def fail(data):
        raise ZeroDivisionError(data)

    outbox = Outbox(stream, "processor", on_record=fail)
    outbox.put("k", b"a").result(30)
    outbox.put("k", b"b").result(30)
    with pytest.raises(ZeroDivisionError):
        outbox.close()
    assert [data for call in stream.calls for data in call] == [b"a", b"b"]
