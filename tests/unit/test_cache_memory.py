"""The memory layer: bounds, both clocks, staleness, isolation, and reads that are overtaken by writes."""

from __future__ import annotations

import random
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import pytest

from processor.cache import Cache, Memory
from processor.cache.memory import OVERHEAD
from processor.cache.testing import MemoryTable


class Clocks:
    def __init__(self):
        self.wall, self.steady = 1_700_000_000.0, 0.0

    def both(self, seconds):
        self.wall += seconds
        self.steady += seconds


@pytest.fixture
def clocks():
    return Clocks()


@pytest.fixture
def table():
    return MemoryTable()


@pytest.fixture
def make(table, clocks):
    def cache(memory=Memory(), **given):  # noqa: B008
        return Cache(
            "t", memory=memory, client=table, clock=lambda: clocks.wall, monotonic=lambda: clocks.steady, **given
        )

    return cache


def test_a_second_read_makes_no_request_and_neither_does_one_of_what_is_absent(make, table):
    make(memory=None)["a"] = {"b": 1}
    cache = make()
    assert [cache["a"], cache["a"], cache.get("none"), cache.get("none", 5)] == [{"b": 1}, {"b": 1}, None, 5]
    assert table.calls == ["PutItem", "GetItem", "GetItem"]
    assert (cache.stats.memory_hits, cache.stats.hits, cache.stats.misses) == (2, 1, 1)


def test_another_caches_write_and_deletion_show_after_the_staleness_allowed(make, clocks):
    one, two = make(Memory(stale=2)), make(Memory(stale=2))
    one["a"] = 1
    assert two["a"] == 1
    one["a"] = 2
    clocks.both(1.9)
    assert two["a"] == 1
    clocks.both(0.1)
    assert two["a"] == 2
    del one["a"]
    assert two["a"] == 2
    clocks.both(2)
    assert "a" not in two
    one["a"] = 3
    assert "a" not in two, "an absence is as stale as a value"
    clocks.both(2)
    assert two["a"] == 3


def test_an_entry_ends_by_the_monotonic_clock_though_the_wall_clock_is_set_back(make, clocks):
    cache = make(Memory(stale=100))
    cache.set("a", 1, 5)
    clocks.both(4)
    clocks.wall -= 3600
    assert cache["a"] == 1
    clocks.both(1)
    assert cache.tiers.memory.get("a") is None


def test_an_entry_ends_by_the_wall_clock_though_the_monotonic_one_stood_still(make, clocks):
    """As in a Lambda environment that was frozen between two invocations."""
    one, two = make(Memory(stale=2)), make(Memory(stale=2))
    one["a"] = 1
    two["a"] = 2
    clocks.wall += 2
    assert one["a"] == 2


def test_the_least_recently_used_entry_goes_first(make, table):
    cache = make(Memory(entries=2))
    cache["a"], cache["b"] = 1, 2
    cache["a"]
    cache["c"] = 3
    table.calls.clear()
    assert [cache["a"], cache["c"]] == [1, 3]
    assert table.calls == []
    assert cache["b"] == 2
    assert table.calls == ["GetItem"]


def test_memory_is_bounded_by_bytes_and_what_is_bigger_than_all_of_it_is_not_kept(make):
    cache = make(Memory(size=3 * (OVERHEAD + 101)))
    for name in "abcd":
        cache[name] = bytes(100)
        assert cache.tiers.memory.size <= 3 * (OVERHEAD + 101)
    assert len(cache.tiers.memory) == 3
    cache["b"] = bytes(5000)
    assert len(cache.tiers.memory) == 2
    assert cache["b"] == bytes(5000)
    cache.clear()
    assert (len(cache.tiers.memory), cache.tiers.memory.size) == (0, 0)


def test_nobody_can_change_what_others_get(make):
    cache = make()
    value = {"list": [1]}
    cache["a"] = value
    value["list"].append(2)
    cache["a"]["list"].append(3)
    assert cache["a"] == {"list": [1]}


def test_what_expired_is_let_go_when_it_is_asked_for(make, clocks):
    cache = make(Memory(stale=2))
    cache["a"] = 1
    clocks.both(2)
    assert cache.tiers.memory.get("a") is None
    assert (len(cache.tiers.memory), cache.tiers.memory.size) == (0, 0)


@pytest.mark.parametrize("value", ["text", 5, 2.5, True, None, b"bytes", "x" * 500])
def test_what_nobody_can_change_is_handed_out_as_it_is(make, value):
    cache = make()
    cache["a"] = value
    assert cache["a"] is cache["a"]
    assert cache["a"] == value
    assert type(cache["a"]) is type(value)


@pytest.mark.parametrize("write", [
    lambda cache: cache.set("a", "new"), lambda cache: cache.delete("a"), lambda cache: cache.touch("a", 1),
    lambda cache: cache.set_many({"a": "new"}), lambda cache: cache.clear(),
])  # fmt: skip
@pytest.mark.parametrize("read", [lambda cache: cache.get("a"), lambda cache: cache.get_many(["a"])])
def test_a_read_overtaken_by_a_write_of_the_same_process_is_not_kept(make, table, write, read):
    cache = make()
    cache.set("a", "old", 60)
    cache.tiers.memory.clear()

    def meanwhile(operation, body):
        if operation in ("GetItem", "BatchGetItem"):
            table.after = lambda *_: None
            write(cache)

    table.after = meanwhile
    read(cache)
    with make(memory=None) as truth:
        assert cache.get("a", "none") == truth.get("a", "none")


@pytest.mark.parametrize("value", [{"a": "x" * 100}, "x" * 100, b"x" * 100, None])
def test_entries_take_about_the_memory_that_is_accounted_for(make, value):
    """What `size` bounds is what the process really spends."""
    cache = make(Memory(entries=10**6, size=10**9, stale=60))
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        held, taken = cache.tiers.memory.size, len(cache.tiers.memory)
        for n in range(2000):
            key = f"device/{n}"
            cache.tiers.memory.put(key, cache.tiers.entry(cache.tiers.values.encode(value), 60))
        spent = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    accounted = cache.tiers.memory.size - held
    assert len(cache.tiers.memory) - taken == 2000
    assert accounted / 2 < spent < accounted * 1.3


def test_many_threads_leave_it_consistent_and_within_its_bounds(make):
    cache = make(Memory(entries=20, size=20 * (OVERHEAD + 50), stale=60))
    gate = threading.Barrier(8)

    def work(seed):
        chance = random.Random(seed)
        gate.wait(30)
        for _ in range(1500):
            key = f"k{chance.randrange(40)}"
            action = chance.randrange(5)
            if action == 0:
                cache.set(key, key * chance.randrange(1, 20))
            elif action == 1:
                cache.delete(key)
            else:
                found = cache.get(key)
                assert found is None or found.replace(key, "") == ""

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    layer = cache.tiers.memory
    assert len(layer) <= 20
    assert layer.size == sum(held.size for held in layer._held.values()) <= 20 * (OVERHEAD + 50)
    assert not layer._reads


def test_a_failed_read_leaves_nothing_to_remember(make, table):
    cache = make()

    def broken(*_):
        raise RuntimeError

    table.before = broken
    for name in "abc":
        with pytest.raises(RuntimeError):
            cache.get(name)
    assert not cache.tiers.memory._reads


def test_memory_can_be_left_out(make, table):
    for memory in (None, Memory(entries=0), Memory(stale=0)):
        cache = make(memory)
        cache["a"] = 1
        table.calls.clear()
        assert [cache["a"], cache["a"]] == [1, 1]
        assert table.calls == ["GetItem"] * 2
        assert len(cache.tiers.memory) == 0
