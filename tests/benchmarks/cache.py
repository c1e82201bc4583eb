"""Caching: hits from memory and from the table, and 1,000 misses of one key at once.

Peers: `cachetools` (memory only), `dogpile.cache` with its memory and its Redis backend, and `ddbc`, the library that
did this before. One that is not installed is left out; Redis needs `redis-server` in the PATH. DynamoDB is MiniStack,
Redis its own server, each a process of its own here: their speed is theirs, the CPU per hit is the client's.

ddbc 0.0.4 cannot write to its table on Python 3 (a call lacks arguments), nor read it (pickle refuses boto3's Binary),
and gives no value that has a time to live (a comparison is the wrong way round). So only its memory takes part; what it
meant to do with the table, boto3's `Table.get_item` and pickle, is done for it.
"""

from __future__ import annotations

import asyncio
import pickle
import shutil
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from hashlib import sha1
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from processor.cache import Cache, Memory, cached
from processor.local.aws import EmbeddedAws
from processor.settings import Settings
from processor.store import client, tables
from tests.benchmarks.measure import LEAST, paired, show, verdict

TABLE = "processor-cache"
TTL = 600
KEYS = 1000
MEMORY_TARGET = 0.5
"""Hits per second from memory, against cachetools."""
CALLERS = 1000
COMPUTING = 0.05
"""Seconds that the computation of the 1,000 takes."""

VALUES: dict[str, Any] = {
    "text of 20": "x" * 20,
    "text of 2,000": "x" * 2000,
    "dict of 5": {"name": "freezer 3", "site": "Tokyo", "offset": -0.25, "tags": ["a", "b"], "active": True},
}


def run(rounds: int, count: int = 1000, least: float = LEAST) -> None:
    """Measure, and print the tables."""
    peers = [name for name in ("cachetools", "dogpile.cache", "redis", "ddbc") if _installed(name)]
    print("\npeers: " + (", ".join(f"{name} {version(name)}" for name in peers) or "none installed"))
    with ExitStack() as stack:
        aws = stack.enter_context(EmbeddedAws())
        tables.create_table(aws.client("dynamodb"), TABLE, "cache")
        redis = stack.enter_context(_redis()) if "redis" in peers and "dogpile.cache" in peers else None
        _memory(rounds, count, least, aws)
        _table(rounds, max(1, count // 20), least, aws, redis)
        _misses(aws, redis)


def _installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


@contextmanager
def _redis() -> Iterator[str | None]:
    """Start a Redis server that keeps nothing on disk, and give its URL; None where there is none to start."""
    program = shutil.which("redis-server")
    if program is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        socket = Path(folder) / "socket"
        command = [program, "--port", "0", "--unixsocket", str(socket), "--save", "", "--appendonly", "no"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=folder) as server:
            try:
                deadline = time.monotonic() + 30
                while not socket.exists():
                    assert time.monotonic() < deadline, "redis-server does not start"
                    time.sleep(0.01)
                yield f"unix://{socket}"
            finally:
                server.terminate()


@contextmanager
def caching(aws: EmbeddedAws, implementation: str = "wire", **given: Any) -> Iterator[Cache]:
    """Give a cache of ours on the table."""
    settings = Settings.read(aws.environment() | {"DYNAMODB_CLIENT": implementation})
    with (
        closing(client(settings)) as dynamodb,
        Cache(TABLE, TTL, client=dynamodb, report_errors=True, **given) as cache,
    ):
        yield cache


def region(backend: str, **arguments: Any) -> Any:
    """Return a dogpile region."""
    return (
        import_module("dogpile.cache")
        .make_region()
        .configure(backend, expiration_time=TTL, arguments=arguments or None)
    )


def _memory(rounds: int, count: int, least: float, aws: EmbeddedAws) -> None:
    """Hits from memory: every key of `KEYS`, one after another."""
    keys = [f"device/{n}" for n in range(KEYS)]
    rows = []
    for kind, value in VALUES.items():
        with caching(aws, memory=Memory(stale=3600), namespace=kind) as cache:
            contenders, thread_safe = _memory_contenders(cache, keys, value)
            work = {name: _each(get, keys[: min(count, KEYS)], value) for name, get in contenders.items()}
            measured = paired(work, rounds=rounds, least=least)
            before = aws_calls(cache)
            contenders["ours, get"](keys[0])
            assert aws_calls(cache) == before, "a hit from memory makes no request"
            for name in contenders:
                each = measured.seconds(name) / min(count, KEYS)
                shares = [measured.ratio(peer, name) for peer in ("TTLCache", "LRUCache") if peer in contenders]
                judged = verdict(shares[0], least=MEMORY_TARGET) if shares and name == "ours, get" else "–"
                shown = [f"{share:.2f}" for share in shares] or ["–", "–"]
                rows.append([f"{kind}: {name}", thread_safe[name], f"{1 / each:,.0f}", *shown, judged])
    show(
        "Hits from memory, one thread: per second of CPU, and as a share of cachetools' (which, alone, has no lock)",
        ("", "thread-safe", "hits/s", "of TTLCache's", "of LRUCache's", "at least half of TTLCache's"),
        rows,
    )
    print("\nOurs gives every reader a dict of its own, decoded from JSON; the others hand out the one they keep.")


def aws_calls(cache: Cache) -> int:
    """Return how many reads a cache has asked its table for."""
    return cache.stats.hits + cache.stats.misses


def _memory_contenders(
    cache: Cache, keys: list[str], value: Any
) -> tuple[dict[str, Callable[[str], Any]], dict[str, str]]:
    for key in keys:
        cache.tiers.memory.put(key, cache.tiers.entry(cache.tiers.values.encode(value), TTL))
    decorated = cached(cache, ttl=TTL, key=lambda key: key)(_never)
    found: dict[str, Callable[[str], Any]] = {"ours, get": cache.get, "ours, @cached": decorated}
    safe = {"ours, get": "yes", "ours, @cached": "yes"}
    if _installed("cachetools"):
        cachetools = import_module("cachetools")
        bare, expiring, locked = (
            cachetools.LRUCache(KEYS),
            cachetools.TTLCache(KEYS, TTL),
            cachetools.TTLCache(KEYS, TTL),
        )
        for held in (bare, expiring, locked):
            held.update(dict.fromkeys(keys, value))
        decorated = cachetools.cached(locked, key=lambda key: key, lock=threading.Lock())(_never)
        found |= {"LRUCache": bare.get, "TTLCache": expiring.get, "cachetools.cached, with a lock": decorated}
        safe |= {"LRUCache": "no, no expiry", "TTLCache": "no", "cachetools.cached, with a lock": "yes"}
    if _installed("dogpile.cache"):
        held = region("dogpile.cache.memory")
        for key in keys:
            held.set(key, value)
        found["dogpile, memory"], safe["dogpile, memory"] = held.get, "yes, unbounded"
    if _installed("ddbc"):
        ddbc = import_module("ddbc.cache").Client("none", region="us-east-1")
        ddbc.cache = {key: {"data": value, "until": -1} for key in keys}
        found["ddbc"], safe["ddbc"] = ddbc.get, "unbounded, no expiry"
    return found, safe


def _never(key: str) -> Any:
    raise AssertionError(f"{key} is in memory")


def _each(get: Callable[[str], Any], keys: list[str], value: Any) -> Callable[[], None]:
    assert get(keys[0]) == value

    def work() -> None:
        for key in keys:
            get(key)

    return work


def _table(rounds: int, count: int, least: float, aws: EmbeddedAws, redis: str | None) -> None:
    """Hits from the table, or from Redis: client CPU for each, and the pace of one thread and of 16."""
    keys = [f"device/{n}" for n in range(count)]
    value = VALUES["dict of 5"]
    with ExitStack() as stack:
        ours = stack.enter_context(caching(aws, memory=None))
        boto = stack.enter_context(caching(aws, "boto3", memory=None))
        ours.set_many(dict.fromkeys(keys, value))
        table = _boto_table(aws)
        for key in keys:
            table.put_item(Item={"key": sha1(key.encode()).hexdigest(), "data": pickle.dumps(value), "until": -1})

        def plain(key: str) -> Any:
            item = table.get_item(Key={"key": sha1(key.encode()).hexdigest()})["Item"]
            return pickle.loads(bytes(item["data"]))

        contenders: dict[str, Callable[[str], Any]] = {
            "ours": ours.get,
            "ours over boto3": boto.get,
            "Table.get_item and pickle (ddbc's way)": plain,
        }
        if redis is not None:
            distant = region("dogpile.cache.redis", url=redis)
            for key in keys:
                distant.set(key, value)
            contenders["dogpile, Redis"] = distant.get
        work = {name: _each(get, keys, value) for name, get in contenders.items()}
        work["ours, get_many"] = lambda: ours.get_many(keys)
        measured = paired(work, rounds=rounds, least=least)
        pool = stack.enter_context(ThreadPoolExecutor(16))
        rows = [
            [
                name,
                f"{measured.seconds(name) / count * 1e6:.0f}",
                f"{measured.ratio(name, 'ours'):.2f}",
                f"{count / _clocked(work[name]):,.0f}",
                f"{count / _clocked(lambda name=name: list(pool.map(contenders[name], keys))):,.0f}"
                if name in contenders
                else "–",
            ]
            for name in work
        ]
    show(
        "Hits from the table (MiniStack) or from Redis, a dict of 5: client CPU per hit, and hits/s by the clock",
        ("", "µs of CPU", "of ours", "hits/s, 1 thread", "hits/s, 16 threads"),
        rows,
    )


def _boto_table(aws: EmbeddedAws) -> Any:
    import boto3

    variables = aws.environment()
    dynamodb = boto3.resource(
        "dynamodb",
        region_name=variables["AWS_REGION"],
        endpoint_url=aws.endpoint,
        aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
    )
    return dynamodb.Table(TABLE)


def _clocked(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


class Counting:
    """A client that counts what goes through it."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.calls: Counter[str] = Counter()
        self.lock = threading.Lock()

    def call(self, operation: str, body: Mapping[str, Any], *, deadline: float | None = None) -> dict[str, Any]:
        with self.lock:
            self.calls[operation] += 1
        found: dict[str, Any] = self.inner.call(operation, body, deadline=deadline)
        return found

    def close(self) -> None:
        self.inner.close()


def _misses(aws: EmbeddedAws, redis: str | None) -> None:
    """1,000 callers miss one key at once; the computation takes 50 ms. How often is it made?"""
    rows = [
        ["ours, threads", *_ours(aws, 1, 0)],
        ["ours, coroutines", *_ours(aws, 0, 1)],
        ["ours, 4 processes' caches, threads", *_ours(aws, 4, 0)],
        ["ours, 2 of threads and 2 of coroutines", *_ours(aws, 2, 2)],
    ]
    if _installed("dogpile.cache"):
        rows.append(["dogpile, memory, threads", *_theirs([_dogpile("dogpile.cache.memory")])])
    if redis is not None:
        wide = {"connection_kwargs": {"max_connections": CALLERS}}  # of its default, 100, the threads run out
        several = [_dogpile("dogpile.cache.redis", url=redis, **wide) for _ in range(4)]
        rows.append(["dogpile, Redis, 4 processes' regions, threads", *_theirs(several)])
        locked = [_dogpile("dogpile.cache.redis", url=redis, distributed_lock=True, **wide) for _ in range(4)]
        rows.append(["the same, distributed_lock", *_theirs(locked)])
    if _installed("cachetools"):
        cachetools = import_module("cachetools")

        def plain(compute: Callable[[str], str]) -> Callable[[str], str]:
            found: Callable[[str], str] = cachetools.cached(cachetools.TTLCache(9, TTL), lock=threading.Lock())(compute)
            return found

        def waiting(compute: Callable[[str], str]) -> Callable[[str], str]:
            held = cachetools.TTLCache(9, TTL)
            found: Callable[[str], str] = cachetools.cached(held, condition=threading.Condition())(compute)
            return found

        rows.append(["cachetools.cached, a lock, threads", *_theirs([plain])])
        rows.append(["cachetools.cached, a condition, threads", *_theirs([waiting])])
    show(
        f"{CALLERS:,} callers that miss one key at once; it takes {COMPUTING * 1000:.0f} ms to compute",
        ("", "computations", "seconds", "requests to the table", "exactly one"),
        rows,
    )
    print("\nddbc has nothing for this: each caller computes.")


def _dogpile(backend: str, **arguments: Any) -> Callable[[Callable[[str], str]], Callable[[str], str]]:
    if "distributed_lock" in arguments:
        arguments["thread_local_lock"] = False  # as dogpile asks for
    name = str(arguments.get("distributed_lock"))

    def decorate(compute: Callable[[str], str]) -> Callable[[str], str]:
        held = region(backend, **arguments)
        return lambda key: held.get_or_create(name + key, lambda: compute(key))

    return decorate


def _ours(aws: EmbeddedAws, of_threads: int, of_coroutines: int) -> list[str]:
    """Each cache is a process's: caches share nothing but the table."""
    calls: list[int] = []
    key = f"stampede/{of_threads}/{of_coroutines}"

    def compute(key: str) -> str:
        calls.append(1)
        time.sleep(COMPUTING)
        return "result"

    async def compute_async(key: str) -> str:
        return await asyncio.to_thread(compute, key)

    with ExitStack() as stack:
        counting = Counting(stack.enter_context(closing(client(Settings.read(aws.environment())))))
        caches = [stack.enter_context(Cache(TABLE, TTL, client=counting)) for _ in range(of_threads + of_coroutines)]
        threads = [cached(cache, ttl=TTL, key=str)(compute) for cache in caches[:of_threads]]
        coroutines = [cached(cache, ttl=TTL, key=str)(compute_async) for cache in caches[of_threads:]]
        share = CALLERS // len(caches)

        async def gathered(function: Callable[[str], Any]) -> list[str]:
            return await asyncio.gather(*(function(key) for _ in range(share)))

        started = time.perf_counter()
        with ThreadPoolExecutor(max(1, of_coroutines)) as loops:
            running = [loops.submit(asyncio.run, gathered(function)) for function in coroutines]
            results = _at_once([(function, key) for function in threads for _ in range(share)])
            results += [result for each in running for result in each.result()]
        seconds = time.perf_counter() - started
    assert results == ["result"] * CALLERS
    requests = ", ".join(f"{count} {operation}" for operation, count in counting.calls.most_common())
    return [str(len(calls)), f"{seconds:.2f}", requests, "yes" if len(calls) == 1 else "NO"]


def _theirs(decorators: list[Callable[[Callable[[str], str]], Callable[[str], str]]]) -> list[str]:
    calls: list[int] = []

    def compute(key: str) -> str:
        calls.append(1)
        time.sleep(COMPUTING)
        return "result"

    functions = [decorate(compute) for decorate in decorators]
    started = time.perf_counter()
    results = _at_once([(function, "stampede") for function in functions for _ in range(CALLERS // len(functions))])
    seconds = time.perf_counter() - started
    assert results == ["result"] * CALLERS
    return [str(len(calls)), f"{seconds:.2f}", "–", "yes" if len(calls) == 1 else "no"]


def _at_once(work: list[tuple[Callable[[str], str], str]]) -> list[str]:
    """Run all in threads of their own that start together."""
    if not work:
        return []
    gate = threading.Barrier(len(work))

    def run_one(pair: tuple[Callable[[str], str], str]) -> str:
        function, key = pair
        gate.wait(60)
        return function(key)

    with ThreadPoolExecutor(len(work)) as pool:
        return list(pool.map(run_one, work))
