"""Reading one shard: positions that survive expired iterators and errors, and how often it is polled."""

from __future__ import annotations

import base64
import json

import pytest
from botocore.exceptions import EndpointConnectionError

from processor.local.iterator import BACKOFF_FIRST, BACKOFF_MAXIMUM, POLL_FIRST, POLL_MAXIMUM, ShardIterator
from processor.local.kinesis_stream import KinesisStream
from processor.local.memory_kinesis import client_error
from processor.local.stream import Start

SHARD = "shardId-000000000000"


def put(kinesis, *texts):
    kinesis.put_records(Records=[{"Data": text.encode(), "PartitionKey": "k"} for text in texts])


def iterator_of(kinesis, clock, start=Start("TRIM_HORIZON"), shard=SHARD):  # noqa: B008 - immutable
    stream = KinesisStream(kinesis, kinesis.arn, "ingest")
    stream.open()
    return ShardIterator(stream, shard, start, clock=clock)


def texts(records):
    return [base64.b64decode(json.loads(record.event)["kinesis"]["data"]).decode() for record in records]


def test_each_record_is_read_once_and_in_order(kinesis, clock):
    put(kinesis, "a", "b")
    iterator = iterator_of(kinesis, clock)
    assert texts(iterator.read()) == ["a", "b"]
    put(kinesis, "c")
    assert texts(iterator.read()) == ["c"]
    assert texts(iterator.read()) == []


def test_an_expired_iterator_is_renewed_at_once_after_the_last_record_read(kinesis, clock):
    put(kinesis, "a", "b")
    iterator = iterator_of(kinesis, clock)
    iterator.read()
    put(kinesis, "c")
    clock.now += 301
    assert iterator.read() == []
    assert iterator.next_poll <= clock()
    assert texts(iterator.read()) == ["c"]
    assert iterator.errors == 0


def test_an_iterator_that_keeps_expiring_is_backed_off(kinesis, clock):
    kinesis.fault = lambda operation, arguments: (
        client_error("ExpiredIteratorException", operation) if operation == "GetRecords" else None
    )
    iterator = iterator_of(kinesis, clock)
    iterator.read()
    iterator.read()
    assert iterator.next_poll > clock()
    assert iterator.errors == 1


def test_the_numbers_zeros_survive_a_renewal(kinesis, clock):
    put(kinesis, "a")
    iterator = iterator_of(kinesis, clock)
    [record] = iterator.read()
    assert record.sequence_number.startswith("000")
    seen = []
    kinesis.fault = lambda operation, arguments: seen.append((operation, arguments))
    kinesis.expire_iterators()
    iterator.read()
    iterator.read()
    [arguments] = [arguments for operation, arguments in seen if operation == "GetShardIterator"]
    assert arguments["StartingSequenceNumber"] == record.sequence_number
    assert arguments["ShardIteratorType"] == "AFTER_SEQUENCE_NUMBER"


def test_a_latest_iterator_that_expires_before_any_record_misses_none(kinesis, clock):
    put(kinesis, "before")
    clock.now += 1
    iterator = iterator_of(kinesis, clock, Start("LATEST"))
    assert iterator.read() == []
    put(kinesis, "after")
    kinesis.expire_iterators()
    iterator.read()
    assert texts(iterator.read()) == ["after"]


def test_it_starts_where_it_is_told_to(kinesis, clock):
    put(kinesis, "a")
    clock.now += 10
    put(kinesis, "b")
    [first, _] = iterator_of(kinesis, clock).read()
    assert texts(iterator_of(kinesis, clock, Start("AT_TIMESTAMP", timestamp=clock.now)).read()) == ["b"]
    assert texts(iterator_of(kinesis, clock, Start("AFTER_SEQUENCE_NUMBER", first.sequence_number)).read()) == ["b"]


@pytest.mark.parametrize(
    "error",
    [
        client_error("ProvisionedThroughputExceededException", "GetRecords"),
        client_error("InternalFailure", "GetRecords"),
        client_error("AccessDeniedException", "GetRecords"),
        EndpointConnectionError(endpoint_url="http://nowhere"),
    ],
    ids=lambda error: type(error).__name__ + str(error)[19:40],
)
def test_any_failed_read_is_repeated_with_a_growing_back_off_and_loses_nothing(kinesis, clock, error):
    put(kinesis, "a")
    iterator = iterator_of(kinesis, clock)
    assert texts(iterator.read()) == ["a"]
    put(kinesis, "b")
    kinesis.fault = lambda operation, arguments: error if operation == "GetRecords" else None
    delays = []
    for _ in range(9):
        assert iterator.read() == []
        delays.append(round(iterator.next_poll - clock(), 6))
        clock.now = iterator.next_poll
    assert delays[:3] == [BACKOFF_FIRST, 2 * BACKOFF_FIRST, 4 * BACKOFF_FIRST]
    assert delays[-1] == BACKOFF_MAXIMUM
    assert (iterator.errors, iterator.last_error) == (9, str(error))
    kinesis.fault = None
    assert texts(iterator.read()) == ["b"]


def test_a_throttled_read_keeps_its_iterator(kinesis, clock):
    iterator = iterator_of(kinesis, clock)
    iterator.read()
    kinesis.fault = lambda operation, arguments: client_error("ProvisionedThroughputExceededException", operation)
    iterator.read()
    kinesis.fault = None
    iterator.read()
    assert kinesis.calls["GetShardIterator"] == 1


def test_a_fault_of_get_shard_iterator_is_repeated_too(kinesis, clock):
    put(kinesis, "a")
    kinesis.fault = lambda operation, arguments: (
        client_error("LimitExceededException", operation) if operation == "GetShardIterator" else None
    )
    iterator = iterator_of(kinesis, clock)
    assert iterator.read() == []
    kinesis.fault = None
    assert texts(iterator.read()) == ["a"]


def test_the_interval_grows_while_nothing_comes_and_shrinks_when_something_does(kinesis, clock):
    iterator = iterator_of(kinesis, clock)
    delays = []
    for _ in range(4):
        iterator.read()
        delays.append(round(iterator.next_poll - clock(), 6))
    assert delays == [POLL_FIRST, 2 * POLL_FIRST, POLL_MAXIMUM, POLL_MAXIMUM]
    put(kinesis, "a")
    iterator.read()
    assert round(iterator.next_poll - clock(), 6) == POLL_FIRST


def test_while_behind_it_reads_on_without_a_pause(kinesis, clock):
    kinesis.put_records(Records=[{"Data": b"", "PartitionKey": "k"}] * 10_001)
    clock.now += 2
    iterator = iterator_of(kinesis, clock)
    assert len(iterator.read()) == 10_000
    assert (iterator.next_poll, iterator.at_tip, iterator.millis_behind_latest) == (clock(), False, 2000)
    assert len(iterator.read()) == 1
    assert (iterator.at_tip, iterator.millis_behind_latest) == (True, 0)


def test_a_full_answer_is_not_taken_for_the_tip_even_if_it_says_so(kinesis, clock, monkeypatch):
    kinesis.put_records(Records=[{"Data": b"", "PartitionKey": "k"}] * 10_001)
    answer = kinesis.get_records
    monkeypatch.setattr(kinesis, "get_records", lambda **arguments: answer(**arguments) | {"MillisBehindLatest": 0})
    iterator = iterator_of(kinesis, clock)
    iterator.read()
    assert not iterator.at_tip


def test_a_closed_shard_ends_when_its_last_record_is_read_and_not_before(kinesis, clock):
    put(kinesis, "a")
    iterator = iterator_of(kinesis, clock)
    iterator.read()
    assert not iterator.ended
    put(kinesis, "b")
    kinesis.split_shard(ShardToSplit=SHARD)
    assert texts(iterator.read()) == ["b"]
    assert iterator.ended
    assert iterator.at_tip


def test_a_deleted_shard_is_known_as_missing(kinesis, clock):
    iterator = iterator_of(kinesis, clock)
    iterator.read()
    kinesis.delete_shard(SHARD)
    assert iterator.read() == []
    assert iterator.missing
    assert not iterator.ended
