"""The cache with its table missing, throttled, slow, its answers lost, a lease's holder killed, a chunk gone."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from processor.cache import Cache, CacheError, Memory, cached
from processor.settings import Settings
from processor.store import client, tables

TABLE = "processor-cache"
BOUND = 60  # seconds that a test waits for others at most
THROTTLED = (
    b'{"__type":"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException","message":"slow down"}'
)


@pytest.fixture
def made(aws):
    """An embedded AWS with the cache's table."""
    tables.create_table(aws.client("dynamodb"), TABLE, "cache")
    return aws


@contextmanager
def caching(aws, endpoint=None, **given):
    variables = aws.environment() | ({"AWS_ENDPOINT_URL_DYNAMODB": endpoint} if endpoint else {})
    dynamodb = client(Settings.read(variables))
    try:
        with Cache(TABLE, client=dynamodb, **{"memory": None, **given}) as cache:
            yield cache
    finally:
        dynamodb.close()


def test_a_missing_table_gives_defaults_and_false_or_an_error_that_says_what_to_do(aws):
    with caching(aws) as cache, caching(aws, report_errors=True) as loud:
        calls = []

        @cached(cache, ttl=60)
        def square(number):
            calls.append(number)
            return number * number

        assert cache.get("a", "default") == "default"
        assert cache.get_many(["a", "b"]) == {}
        assert [cache.set("a", 1), cache.add("a", 1), cache.delete("a"), cache.clear()] == [False] * 4
        assert cache.incr("a") is None
        assert square(3) == 9
        assert calls == [3]
        assert "create the table" in cache.stats.last_error
        with pytest.raises(CacheError, match=r"processor-cache: ResourceNotFoundException: .*create the table"):
            loud.get("a")
        before = cache.stats.errors
        tables.create_table(aws.client("dynamodb"), TABLE, "cache")
        assert cache.set("a", 1)
        assert cache["a"] == 1
        assert cache.stats.errors == before


def test_throttling_is_retried_and_if_it_lasts_the_default_is_given(made, proxy):
    refuse = [3]

    def fault(operation, body, forward):
        if refuse[0]:
            refuse[0] -= 1
            return proxy.answer(THROTTLED, "400 Bad Request")
        return forward()

    with caching(made, proxy(fault).endpoint, timeout=10) as cache:
        assert cache.set("a", 1)
        refuse[0] = 2
        assert cache["a"] == 1
        assert cache.stats.errors == 0
    refuse[0] = 10**6
    with caching(made, proxy(fault).endpoint, timeout=0.2) as cache:
        assert cache.get("a", "default") == "default"
        assert not cache.set("a", 2)
        assert cache.stats.errors == 2
        assert "ProvisionedThroughputExceededException" in cache.stats.last_error


def test_a_slow_table_holds_up_nobody_for_longer_than_the_timeout(made, proxy):
    """The table answers only when the test says so: after the cache has given up."""
    go = threading.Event()

    def fault(operation, body, forward):
        go.wait(BOUND)
        return forward()

    with caching(made, proxy(fault).endpoint, timeout=0.3) as cache:
        calls = []

        @cached(cache, ttl=60)
        def square(number):
            calls.append(number)
            return number * number

        assert cache.get("a", "default") == "default"
        assert not cache.set("a", 1)
        assert square(3) == 9
        assert not go.is_set()
        go.set()
    assert calls == [3]


class Losing:
    """Carries requests out, and hangs up instead of answering, every other time."""

    def __init__(self, *operations):
        self.operations = operations
        self.lost = 0
        self.seen = set()
        self.lock = threading.Lock()

    def __call__(self, operation, body, forward):
        answer = forward()
        with self.lock:
            if operation in self.operations and body not in self.seen:
                self.seen.add(body)
                self.lost += 1
                return None
        return answer


def test_increments_are_exact_though_every_answer_is_lost_once(made, proxy):
    losing = Losing("UpdateItem", "PutItem")
    endpoint = proxy(losing).endpoint
    with caching(made, endpoint, timeout=30) as one, caching(made, endpoint, timeout=30) as two:
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda n: (one, two)[n % 2].incr("n", ttl=600), range(100)))
        assert sorted(found) == list(range(1, 101)), "each increment counted once, and got the number that it made"
        assert one["n"] == 100
    assert losing.lost >= 100


def test_writes_whose_answers_are_lost_are_done_and_said_to_be(made, proxy):
    losing = Losing("UpdateItem", "PutItem", "DeleteItem", "BatchWriteItem")
    big = [random.Random(n).randbytes(900_000) for n in range(3)]
    with caching(made, proxy(losing).endpoint, timeout=30, report_errors=True) as cache:
        assert cache.add("a", 1), "it was absent, and the second request finds what the first one stored"
        assert not cache.add("a", 2)
        assert cache.set("b", big[0])
        assert cache.set("b", big[1])
        assert cache["b"] == big[1]
        assert cache.set_many({"c": big[2], "d": 1}, 60)
        assert cache.get_many("abcd") == {"a": 1, "b": big[1], "c": big[2], "d": 1}
        assert cache.touch("b", 600)
        assert [cache.delete("b"), cache.delete("c"), cache.delete("d")] == [True] * 3
        assert cache["a"] == 1
        assert cache.stats.errors == 0
    assert losing.lost >= 10
    assert made.client("dynamodb").scan(TableName=TABLE, Select="COUNT")["Count"] == 1


def test_computations_are_one_though_every_answer_is_lost_once(made, proxy):
    losing = Losing("PutItem", "DeleteItem")
    endpoint = proxy(losing).endpoint
    calls = []
    gate = threading.Barrier(4)
    with caching(made, endpoint, timeout=30) as one, caching(made, endpoint, timeout=30) as two:

        def compute():
            calls.append(1)
            return "result"

        functions = [cached(cache, ttl=600, key=lambda: "k")(compute) for cache in (one, two)]

        def work(n):
            gate.wait(BOUND)
            return functions[n % 2]()

        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(work, range(4))) == ["result"] * 4
    assert len(calls) == 1


HOLDER = """
import sys, time
from processor.cache import Cache, cached

with Cache("processor-cache", memory=None, report_errors=True) as cache:

    @cached(cache, ttl=600, key=lambda: "expensive", lease=600)
    def expensive():
        print("computing", flush=True)
        time.sleep(600)

    expensive()
"""


def test_who_is_killed_while_computing_holds_the_others_up_only_until_its_lease_expires(made):
    environment = {**os.environ, **made.environment()}
    with subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, env=environment) as holder:
        assert holder.stdout.readline() == b"computing\n"
        holder.send_signal(signal.SIGKILL)
        holder.wait(BOUND)
    calls = []
    ahead = [0.0]  # the others' clocks run a thousand times as fast while they wait

    def sleep(seconds):
        ahead[0] += 1000 * seconds
        time.sleep(seconds)

    given = {"clock": lambda: time.time() + ahead[0], "monotonic": lambda: time.monotonic() + ahead[0], "sleep": sleep}
    with caching(made, report_errors=True, **given) as one, caching(made, report_errors=True, **given) as two:
        assert one.tiers.look("expensive") == (None, True), "the dead one's lease is still there"

        def compute():
            calls.append(1)
            return "result"

        functions = [
            cached(cache, ttl=600, key=lambda: "expensive", lease=600, wait=10**9)(compute) for cache in (one, two)
        ]
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(lambda n: functions[n % 2](), range(8))) == ["result"] * 8
        assert len(calls) == 1
        assert one.tiers.look("expensive")[1] is False


def test_a_value_with_a_chunk_missing_is_a_miss_and_is_computed_anew(made):
    big = random.Random(1).randbytes(900_000)
    calls = []
    with caching(made, codec=None) as cache:

        @cached(cache, ttl=600, key=lambda: "big")
        def compute():
            calls.append(1)
            return big

        assert compute() == big
        dynamodb = made.client("dynamodb")
        keys = [item["key"]["S"] for item in dynamodb.scan(TableName=TABLE, ProjectionExpression="#k",
                ExpressionAttributeNames={"#k": "key"})["Items"]]  # fmt: skip
        dynamodb.delete_item(TableName=TABLE, Key={"key": {"S": max(keys, key=len)}})
        assert cache.get("big", "absent") == "absent"
        assert cache.get_many(["big"]) == {}
        assert cache.stats.incomplete == 2
        assert compute() == compute() == big
        assert len(calls) == 2
        assert cache.get("big") == big


def test_memory_serves_on_while_the_table_is_gone(made):
    """For as long as it may be stale: here an hour."""
    with caching(made, memory=Memory(stale=3600)) as cache:
        cache["a"] = 1
        made.client("dynamodb").delete_table(TableName=TABLE)
        assert cache["a"] == 1
        assert cache.get("b", "default") == "default"
        assert cache.stats.errors == 1
