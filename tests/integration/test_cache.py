"""The cache against a DynamoDB that is not ours, over sockets: threads, processes, two memory layers, the command."""

from __future__ import annotations

import ast
import asyncio
import os
import random
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

import processor.cache
from processor.cache import Cache, Memory, cached
from processor.cache.testing import MemoryTable
from processor.cli import main
from processor.settings import Settings
from processor.store import client, tables

TABLE = "processor-cache"
BOUND = 60  # seconds that a test waits for others at most


@pytest.fixture
def aws(embedded):
    embedded.reset()
    tables.create_table(embedded.client("dynamodb"), TABLE, "cache")
    return embedded


@contextmanager
def caching(aws, memory=None, implementation="wire", **given):
    settings = Settings.read(aws.environment() | {"DYNAMODB_CLIENT": implementation})
    given = {"timeout": BOUND, **given}
    with closing(client(settings)) as dynamodb, Cache(TABLE, 60, memory, True, client=dynamodb, **given) as cache:
        yield cache


def count(aws):
    pages = aws.client("dynamodb").get_paginator("scan").paginate(TableName=TABLE, Select="COUNT")
    return sum(page["Count"] for page in pages)


@pytest.mark.parametrize("implementation", ["wire", "boto3"])
def test_everything_works_over_both_clients(aws, implementation):
    big, bigger = random.Random(1).randbytes(900_000), random.Random(2).randbytes(1_300_000)
    with caching(aws, implementation=implementation) as cache:
        cache["a"] = {"b": [1, 2.5, None, "é"]}
        assert cache["a"] == {"b": [1, 2.5, None, "é"]}
        assert cache.get("none", 5) == 5
        assert [cache.add("a", 1), cache.add("n", 1)] == [False, True]
        assert [cache.incr("n", 5), cache.incr("n"), cache.incr("new", 3)] == [6, 7, 3]
        assert cache["n"] == 7
        for number in (10**20, -(10**37), 10**37 + 7, 0):
            cache["n"] = number
            assert cache["n"] == number
        cache["big"] = big
        assert cache["big"] == big
        cache["big"] = bigger
        assert cache["big"] == bigger
        assert count(aws) == 3 + 1 + 4
        assert cache.touch("big", 500)
        assert not cache.touch("none", 500)
        assert cache.delete("big")
        assert count(aws) == 3
        values = {f"k{n}": "x" * n for n in range(230)} | {"big": big}
        assert cache.set_many(values)
        assert cache.get_many([*values, "none"]) == values
        assert cache.clear("k1")
        assert len(cache.get_many(values)) == 231 - 111
        assert cache.clear()
        assert count(aws) == 0
        assert cache.stats.errors == 0


def test_the_table_in_memory_answers_as_the_server_does(aws):
    """What `processor.cache.testing` offers to others is no fiction: the same calls, the same results."""
    now = [round(time.time())]
    chance = random.Random(7)
    clocks = {"clock": lambda: now[0], "monotonic": lambda: now[0]}
    with caching(aws, **clocks) as real, Cache("t", 60, None, True, client=MemoryTable(), **clocks) as fake:
        values = [1, -7, "text", b"bytes" * 100, None, {"a": [1]}, chance.randbytes(500_000)]
        calls = {
            "get": lambda: (key(),),
            "set": lambda: (key(), chance.choice(values), ttl()),
            "add": lambda: (key(), chance.choice(values), ttl()),
            "delete": lambda: (key(),),
            "touch": lambda: (key(), ttl()),
            "incr": lambda: (key(), chance.randrange(-5, 6), ttl()),
            "get_many": lambda: ([key(), key()],),
            "set_many": lambda: ({key(): chance.choice(values) for _ in range(3)}, ttl()),
            "clear": lambda: (key()[:2],),
        }

        def key():
            return chance.choice(["a", "b/1", "b/2", "b/3"])

        def ttl():
            return chance.choice([1, 5, None])

        def result(cache, name, arguments):
            try:
                return getattr(cache, name)(*arguments)
            except TypeError as error:
                return str(error)

        seen = set()
        for _ in range(300):
            name = chance.choice([*calls, "get", "incr", "set"])
            arguments = calls[name]()
            found = result(real, name, arguments)
            assert found == result(fake, name, arguments), (name, arguments)
            seen.add((name, str(found)[:20]))
            now[0] += chance.choice([0, 0, 0.5, 2])
        assert len(seen) > 40


def test_increments_of_many_threads_and_two_caches_each_get_a_number_of_their_own(aws):
    with caching(aws) as one, caching(aws, Memory()) as two, ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda n: (one, two)[n % 2].incr("n"), range(300)))
        assert sorted(found) == list(range(1, 301))
        assert one["n"] == two["n"] == 300


def test_one_of_many_threads_that_add_the_same_key_wins(aws):
    with caching(aws) as cache, ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(lambda n: cache.add("a", n), range(64))) == 1


def test_big_values_written_and_read_by_many_threads_are_whole_or_absent(aws):
    values = [bytes([n]) * 900_000 + random.Random(n).randbytes(500_000) for n in range(4)]
    with caching(aws, compression="zlib") as cache, ThreadPoolExecutor(8) as pool:
        cache["a"] = values[0]

        def work(n):
            return cache.set("a", values[n % 4]) if n % 3 == 0 else cache.get("a", "absent")

        found = [each for each in pool.map(work, range(36)) if not isinstance(each, bool)]
        assert {each if each == "absent" else each[0] for each in found} <= {"absent", 0, 1, 2, 3}
        assert all(each == "absent" or each == values[each[0]] for each in found)
        assert cache["a"] in values
        assert count(aws) == 3, "no chunk is left behind"


def test_two_memory_layers_come_to_agree(aws):
    """Each writes and reads for a while; within its staleness each then sees the last write."""
    with caching(aws, Memory(stale=0.3)) as one, caching(aws, Memory(stale=0.3)) as two:
        for n in range(50):
            (one, two)[n % 2]["a"] = n
            assert one["a"] <= n
            assert two["a"] <= n
            assert (one, two)[n % 2]["a"] == n, "who wrote last reads what it wrote"
        deadline = time.monotonic() + BOUND
        while {one["a"], two["a"]} != {49}:
            assert time.monotonic() < deadline
        assert one.stats.memory_hits + two.stats.memory_hits > 50


WORKER = """
import asyncio, sys, threading, time
from pathlib import Path
from processor.cache import Cache, cached

log, kind = Path(sys.argv[1]), sys.argv[2]
with Cache("processor-cache", memory=None, report_errors=True, timeout=20) as cache:

    def compute():
        with log.open("a") as file:
            file.write("computed\\n")
        time.sleep(0.3)
        return "result"

    @cached(cache, ttl=600, key=lambda: "expensive")
    def plain():
        return compute()

    @cached(cache, ttl=600, key=lambda: "expensive")
    async def coroutine():
        return await asyncio.to_thread(compute)

    async def many():
        return await asyncio.gather(*(coroutine() for _ in range(8)))

    found = []
    print("ready", flush=True)
    sys.stdin.readline()
    if kind == "coroutines":
        found = asyncio.run(many())
    else:
        threads = [threading.Thread(target=lambda: found.append(plain())) for _ in range(8)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
    assert found == ["result"] * 8, found
"""


def test_processes_with_threads_and_coroutines_that_miss_at_once_compute_once(aws, tmp_path):
    log = tmp_path / "log"
    environment = {**os.environ, **aws.environment()}
    workers = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", WORKER, str(log), kind],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment,
        )
        for kind in ("threads", "coroutines", "threads", "coroutines")
    ]  # fmt: skip
    for worker in workers:
        assert worker.stdout.readline() == b"ready\n"
    for worker in workers:
        worker.stdin.write(b"\n")
        worker.stdin.flush()
    for worker in workers:
        worker.communicate(timeout=BOUND)
        assert worker.returncode == 0
    assert log.read_text() == "computed\n"
    assert count(aws) == 1, "the lease was given back"


def test_a_thousand_coroutines_that_miss_at_once_compute_once(aws):
    calls = []
    with caching(aws, Memory()) as cache:

        @cached(cache, ttl=60)
        async def expensive():
            calls.append(1)
            await asyncio.sleep(0.05)
            return {"a": 1}

        async def many():
            return await asyncio.gather(*(expensive() for _ in range(1000)))

        assert asyncio.run(many()) == [{"a": 1}] * 1000
    assert len(calls) == 1


def test_the_command_creates_the_table_switches_expiry_on_and_refuses_another_kind_of_table(configured, monkeypatch):
    dynamodb = configured.client("dynamodb")

    def create(*arguments):
        done = CliRunner().invoke(main, ["cache", "create-table", *arguments])
        return done.exit_code, done.output

    assert create() == (0, "processor-cache: created, items expire by their attribute expires\n")
    assert create() == (0, "processor-cache: is there already\n")
    dynamodb.update_time_to_live(
        TableName=TABLE, TimeToLiveSpecification={"AttributeName": "expires", "Enabled": False}
    )
    assert create()[0] == 0
    status = dynamodb.describe_time_to_live(TableName=TABLE)["TimeToLiveDescription"]["TimeToLiveStatus"]
    assert status == "ENABLED"
    assert create("--table", "mine")[0] == 0
    with Cache("mine", report_errors=True) as cache:
        cache["a"] = 1
        assert cache["a"] == 1
    tables.create_table(dynamodb, "other", "readings")
    code, said = create("--table", "other")
    assert code == 1
    assert "another kind of table" in said
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    code, said = create()
    assert code == 1
    assert "check AWS_ENDPOINT_URL" in said


def value_of(comment):
    """The value that an example's comment begins with; SyntaxError or ValueError if it begins with none."""
    return ast.literal_eval(re.split(r"[:;,] ", comment)[0] if comment[:1] in ("T", "F", "1") else comment)


def run_examples(text, names):
    """Run the Python blocks of a README; where a comment gives the value, compare. Return how many were compared."""
    compared = 0
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        for statement in ast.parse(block).body:
            first = min([statement.lineno, *(each.lineno for each in getattr(statement, "decorator_list", ()))])
            lines = "\n".join(block.splitlines()[first - 1 : statement.end_lineno])
            try:
                expected = value_of(lines.partition("  # ")[2])
            except (SyntaxError, ValueError):
                exec(lines, names)
            else:
                assert eval(lines.partition("  # ")[0], names) == expected, lines
                compared += 1
    return compared


def test_the_examples_of_the_readme_give_what_their_comments_say(aws, monkeypatch, capsys):
    made = []
    real = Cache.__init__

    def init(self, *arguments, **given):
        made.append(self)
        real(self, *arguments, **given)

    for name, value in aws.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(Cache, "__init__", init)
    names = {"__name__": "readme"}
    try:
        assert run_examples((Path(processor.cache.__file__).parent / "README.md").read_text(), names) == 12
        with pytest.raises(LookupError, match="AA:BB"):
            asyncio.run(names["registry"]("AA:BB"))
    finally:
        for each in made:
            each.close()
    assert '"CacheErrors":0' in capsys.readouterr().out
