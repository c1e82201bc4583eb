"""The cache's own behaviour, over a table in memory: expiry, namespaces, values, errors, counters, batches."""

from __future__ import annotations

import json
import pickle
import random
import subprocess
import sys
import tracemalloc
import zlib
from base64 import b64encode
from types import SimpleNamespace

import pytest

from processor.cache import Cache, CacheError, Memory, codec, counter, items
from processor.cache.testing import MemoryTable
from processor.errors import StoreError, TransientError

START = 1_700_000_000.0


class World:
    """A table, a clock that only sleeping and `pass_` move, and caches on them."""

    def __init__(self):
        self.table = MemoryTable(page=3)
        self.now = START
        self.steady = 0.0
        self.slept = []

    def pass_(self, seconds):
        self.now += seconds
        self.steady += seconds

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.pass_(seconds)

    def cache(self, memory=None, **given):
        clocks = {"clock": lambda: self.now, "monotonic": lambda: self.steady, "sleep": self.sleep}
        return Cache("t", memory=memory, client=self.table, threads=1, **clocks, **given)


@pytest.fixture
def world():
    return World()


def throttled(*_):
    raise TransientError("ThrottlingException", "Rate exceeded")


def test_it_is_used_like_a_dict(world):
    cache = world.cache()
    cache["a"] = {"b": [1, 2.5, None, "é"]}
    assert cache["a"] == {"b": [1, 2.5, None, "é"]}
    assert "a" in cache
    assert cache.get("b") is None
    assert cache.get("b", 7) == 7
    with pytest.raises(KeyError, match="b"):
        cache["b"]
    del cache["a"]
    assert "a" not in cache
    with pytest.raises(KeyError, match="a"):
        del cache["a"]


def test_none_is_a_value(world):
    cache = world.cache()
    cache["nothing"] = None
    assert "nothing" in cache
    assert cache.get("nothing", "default") is None


def test_a_value_expires_to_the_millisecond_though_the_tables_own_expiry_is_in_seconds_and_late(world):
    cache = world.cache(default_ttl=10)
    cache.set("a", 1, 0.25)
    cache.set("b", 2)
    cache.set("c", 3, None)
    world.pass_(0.249)
    assert cache["a"] == 1
    world.pass_(0.001)
    assert "a" not in cache
    assert cache["b"] == 2
    world.pass_(10)
    assert cache.get_many(["a", "b", "c"]) == {"c": 3}
    expiries = [item.get("expires", {}).get("N") for item in world.table.items.values()]
    assert expiries == [str(int(START) + 1), str(int(START) + 10), None]


@pytest.mark.parametrize("ttl", [0, -3, float("nan"), float("inf")])
def test_a_ttl_that_is_no_time_is_an_error_of_the_caller(world, ttl):
    with pytest.raises(ValueError, match="ttl is a positive number of seconds"):
        world.cache().set("a", 1, ttl)


@pytest.mark.parametrize("key", [b"a", 1, None, ("a", 1)])
def test_keys_are_text(world, key):
    cache = world.cache(memory=Memory())
    for call in (cache.get, cache.delete, cache.touch, cache.incr):
        with pytest.raises(TypeError, match="a cache key is text"):
            call(key)
    with pytest.raises(TypeError, match="a cache key is text"):
        cache.set(key, 1)


def test_keys_of_any_length_are_hashed_and_namespaces_and_versions_are_apart(world):
    long = "k" * 5000
    caches = [
        world.cache(),
        world.cache(namespace="n"),
        world.cache(namespace="n", version=2),
        world.cache(version="2"),
    ]
    for number, cache in enumerate(caches):
        cache[long] = number
        cache[long + "x"] = -number
    assert [cache[long] for cache in caches] == [0, 1, 2, 3]
    assert len(world.table.items) == 8
    assert {len(key) for key in world.table.items} == {24}
    caches[1].clear()
    assert [cache.get(long) for cache in caches] == [0, None, 2, 3]
    with pytest.raises(ValueError, match="version"):
        world.cache(version="1/2")


def test_half_a_surrogate_pair_is_a_key_too(world):
    cache = world.cache()
    cache["\ud800"] = 1
    assert cache["\ud800"] == 1


@pytest.mark.parametrize("value", [object(), {1: 2}, "\ud800", {"a": {1, 2}}, [2**64]])
def test_what_json_cannot_say_is_refused_with_what_to_do(world, value):
    with pytest.raises(TypeError, match="give the cache a codec"):
        world.cache().set("a", value)


class Pickle:
    name = "pickle"
    encode = staticmethod(pickle.dumps)
    decode = staticmethod(pickle.loads)


def test_a_codec_of_the_callers_takes_everything_and_is_not_read_by_others(world):
    cache, plain = world.cache(codec=Pickle()), world.cache()
    cache["a"] = {1: (2, 3)}
    cache["n"] = 5
    assert cache["a"] == {1: (2, 3)}
    assert plain.get("a") is None
    assert plain.stats.undecodable == 1
    plain["a"] = [1]
    assert cache["a"] == [1]
    with pytest.raises(TypeError, match="not a whole number"):
        cache.incr("n")
    with pytest.raises(ValueError, match="codec's name"):
        world.cache(codec=SimpleNamespace(name="json"))


def test_damaged_data_is_a_miss_and_counted(world):
    cache = world.cache()
    for number, broken in enumerate(
        ({"form": {"S": "json+zlib"}}, {"form": {"S": "json+lzma"}}, {"data": {"B": "e30x"}}, {"until": {"N": "x"}})
    ):
        cache["a"] = {"b": 1}
        (item,) = world.table.items.values()
        item |= broken
        assert cache.get("a", "default") == "default", broken
        assert cache.stats.undecodable == number + 1


def test_values_are_compressed_where_that_saves_and_only_there(world):
    cache = world.cache()
    cache["small"] = "x" * 1000
    cache["big"] = "x" * 5000
    cache["dense"] = random.Random(1).randbytes(4000)
    forms = [item["form"]["S"] for item in world.table.items.values()]
    assert forms == ["json", "json+zlib", "bytes"]
    assert cache["big"] == "x" * 5000


def test_zstd_is_used_where_it_is_installed_and_named_where_it_is_not(world, monkeypatch):
    cache = world.cache(compression="zstd")
    cache["big"] = "x" * 5000
    (item,) = world.table.items.values()
    assert item["form"]["S"] == "json+zstd"
    assert cache["big"] == "x" * 5000

    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(codec, "import_module", missing)
    with pytest.raises(ValueError, match="or the package zstandard"):
        world.cache(compression="zstd")


def bombs():
    """A hundred megabytes of nothing in a few kilobytes, by each compression; and a frame that keeps silent of it."""
    empty, zstd = bytes(100_000_000), codec._zstd()
    silent = zstd.ZstdCompressor(write_content_size=False)
    return {"zlib": [zlib.compress(empty, 9)], "zstd": [zstd.compress(empty), silent.compress(empty)]}


def test_a_compressed_bomb_is_a_miss_that_takes_no_more_than_the_bound(world, monkeypatch):
    """The bound is set low, so that memory counts: what is undone stays below twice of it."""
    monkeypatch.setattr(codec, "MAX_VALUE", 1_000_000)
    cache = world.cache()
    cache["a"] = {"b": 1}
    (item,) = world.table.items.values()
    for compression, found in bombs().items():
        for data in found:
            item |= {"form": {"S": f"bytes+{compression}"}, "data": {"B": b64encode(data).decode()}}
            tracemalloc.start()
            try:
                assert cache.get("a") is None
                assert tracemalloc.get_traced_memory()[1] < 3_000_000
            finally:
                tracemalloc.stop()
    assert cache.stats.undecodable == 3
    for compression in ("zlib", "zstd"):
        small = world.cache(compression=compression)
        small["b"] = bytes(1_000_000)
        assert small["b"] == bytes(1_000_000)
        with pytest.raises(ValueError, match="at most 1,000,000 bytes, not 1,000,001: keep it in S3"):
            small["b"] = bytes(1_000_001)


def test_a_head_that_names_a_billion_chunks_costs_no_more_than_the_largest_value(world):
    cache = world.cache()
    cache["a"] = random.Random(1).randbytes(1_000_001)
    head = next(item for item in world.table.items.values() if "chunks" in item)
    head["chunks"] = {"N": "1000000000"}
    assert cache.get("a") is None
    assert len(world.table.calls) < 30
    cache["a"] = b""
    assert cache["a"] == b""


def test_a_value_that_says_it_is_a_pickle_is_never_loaded(world, tmp_path):
    """Only the caller's own codec may do that, and only for what it wrote by its own name."""

    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "loaded"), "w"))

    cache = world.cache()
    cache["a"] = {"b": 1}
    (item,) = world.table.items.values()
    for form in ("pickle", "json", "refusal", "int", "bytes", "pickle+zlib"):
        item |= {"form": {"S": form}, "data": {"B": b64encode(pickle.dumps(Bomb())).decode()}}
        cache.get("a")
    assert not (tmp_path / "loaded").exists()
    pickle.loads(pickle.dumps(Bomb())).close()
    assert (tmp_path / "loaded").exists()


def test_a_value_beyond_one_item_is_read_back_whole(world):
    cache = world.cache()
    value = random.Random(1).randbytes(1_000_001)
    assert cache.set("a", value, 60)
    assert len(world.table.items) == 4
    assert cache["a"] == value
    cache["a"] = b"small"
    assert len(world.table.items) == 1, "the chunks of a replaced value go"


@pytest.mark.parametrize("twice", [False, True])
def test_a_deleted_value_takes_its_chunks_along_also_when_the_answer_was_lost(world, monkeypatch, twice):
    monkeypatch.setattr(items, "CHUNK", 10)
    cache = world.cache()
    cache.set("a", bytes(range(35)), None)

    def again(operation, body):
        if operation == "DeleteItem":
            world.table.after = lambda *_: None
            world.table.call(operation, body)

    world.table.after = again if twice else lambda *_: None
    assert cache.delete("a")
    assert world.table.items == {}


def test_touch_makes_a_lasting_values_chunks_expire_too_but_not_before_it(world, monkeypatch):
    monkeypatch.setattr(items, "CHUNK", 10)
    cache = world.cache()
    cache.set("a", bytes(range(35)), None)
    assert cache.touch("a", 60)
    world.table.expire(world.now + 59)
    assert cache["a"] == bytes(range(35))
    world.table.expire(world.now + 60 + items.CHUNK_SLACK)
    assert world.table.items == {}
    cache.set("a", bytes(range(35)), 60)
    assert cache.touch("a", None)
    world.table.expire(world.now + 10**6)
    assert cache["a"] == bytes(range(35))


@pytest.mark.parametrize("damage", ["missing", "changed", "another's"])
def test_a_chunk_missing_or_damaged_makes_the_whole_value_a_miss(world, damage, monkeypatch):
    monkeypatch.setattr(items, "CHUNK", 10)
    cache = world.cache()
    cache["a"] = bytes(range(35))
    chunks = sorted(key for key in world.table.items if "." in key)
    if damage == "missing":
        del world.table.items[chunks[1]]
    elif damage == "changed":
        world.table.items[chunks[1]]["data"] = {"B": "AAAAAAAAAAAAAA=="}
    else:
        world.table.items[chunks[1]]["data"] = world.table.items[chunks[2]]["data"]
    assert cache.get("a", "default") == "default"
    assert cache.get_many(["a"]) == {}
    assert cache.stats.incomplete == 2


def test_a_value_replaced_while_its_chunks_are_read_is_read_anew(world, monkeypatch):
    monkeypatch.setattr(items, "CHUNK", 10)
    cache, other = world.cache(), world.cache()
    cache["a"] = bytes(range(35))

    def meanwhile(operation, body):
        if operation == "BatchGetItem":
            world.table.before = lambda *_: None
            other["a"] = bytes(35)

    world.table.before = meanwhile
    assert cache["a"] == bytes(35)
    assert cache.stats.incomplete == 0


def test_two_writers_that_replace_a_big_value_at_once_leave_one_and_no_chunks_of_the_others(world, monkeypatch):
    monkeypatch.setattr(items, "CHUNK", 10)
    cache, other = world.cache(), world.cache()
    cache["a"] = bytes(35)

    def meanwhile(operation, body):
        if operation == "PutItem" and "seen" in str(body):
            world.table.before = lambda *_: None
            other["a"] = b"\1" * 25

    world.table.before = meanwhile
    cache["a"] = b"\2" * 45
    assert other["a"] == b"\2" * 45
    assert len(world.table.items) == 6


def test_touch_lets_a_value_and_its_chunks_live_longer(world, monkeypatch):
    monkeypatch.setattr(items, "CHUNK", 10)
    cache = world.cache()
    cache.set("small", 1, 5)
    cache.set("big", bytes(35), 5)
    assert cache.touch("small", 10_000)
    assert cache.touch("big", 10_000)
    assert not cache.touch("none", 10_000)
    world.pass_(9_999)
    world.table.expire(world.now)
    assert cache.get_many(["small", "big"]) == {"small": 1, "big": bytes(35)}
    world.pass_(1)
    assert not cache.touch("small", 10), "what expired is not brought back"
    assert not cache.touch("big", 10)


def test_touch_of_a_value_whose_chunk_is_gone_says_that_there_is_none(world, monkeypatch):
    monkeypatch.setattr(items, "CHUNK", 10)
    cache = world.cache()
    cache.set("big", bytes(35), 5)
    del world.table.items[max(key for key in world.table.items if "." in key)]
    assert not cache.touch("big", 50)


def test_add_stores_once_and_again_after_expiry(world):
    cache = world.cache()
    assert cache.add("a", 1, 5)
    assert not cache.add("a", 2, 5)
    assert cache["a"] == 1
    world.pass_(5)
    assert cache.add("a", 3, 5)
    assert cache["a"] == 3


def test_add_of_a_big_value_that_comes_too_late_leaves_no_chunks(world, monkeypatch):
    monkeypatch.setattr(items, "CHUNK", 10)
    cache = world.cache()
    cache["a"] = 1
    assert not cache.add("a", bytes(100), 5)
    assert len(world.table.items) == 1


def test_incr_counts_from_nothing_keeps_its_expiry_and_starts_again_after_it(world):
    cache = world.cache()
    assert [cache.incr("a", ttl=10), cache.incr("a", 5, ttl=99), cache.incr("a", -2)] == [1, 6, 4]
    assert cache["a"] == 4
    world.pass_(10)
    assert cache.incr("a", 7) == 7
    cache["b"] = 41
    assert cache.incr("b") == 42
    with pytest.raises(TypeError, match="whole numbers"):
        cache.incr("b", 0.5)


def test_receipts_of_increments_do_not_pile_up(world):
    caches = [world.cache() for _ in range(100)]
    for _ in range(3):
        for cache in caches:
            cache.incr("a")
    (item,) = world.table.items.values()
    assert item["data"]["N"] == "300"
    assert sum(name.startswith("+") for name in item) <= counter.GATHERED + 1
    for cache in caches:
        world.pass_(counter.RECEIPT_SECONDS)
        cache.incr("a")
    assert sum(name.startswith("+") for name in world.table.items[item["key"]["S"]]) <= counter.GATHERED + 1


def test_receipts_that_dead_processes_left_are_removed_when_they_are_old(world):
    cache = world.cache()
    cache.incr("a")
    (item,) = world.table.items.values()
    left = {f"+{int(START) - age:x}.x{age}": {"N": "1"} for age in range(0, 2 * counter.RECEIPT_SECONDS, 50)}
    item |= left
    assert cache.incr("a") == 2
    (item,) = world.table.items.values()
    young = {name for name in left if int(START) - int(name[1:].partition(".")[0], 16) <= counter.RECEIPT_SECONDS}
    assert {name for name in item if name.startswith("+")} == young


def test_reads_are_eventually_consistent_unless_told_otherwise(world):
    asked = []
    world.table.before = lambda operation, body: asked.append(
        "true" in str(body).lower().partition("consistentread")[2][:8]
    )
    cache, strong = world.cache(), world.cache(consistent=True)
    cache.get("a")
    cache.get_many(["a", "b"])
    strong.get("a")
    strong.get_many(["a", "b"])
    assert asked == [False, False, True, True]


def test_set_many_of_eternal_values_leaves_no_chunks_of_what_it_replaces(world, monkeypatch):
    monkeypatch.setattr(items, "CHUNK", 10)
    cache = world.cache()
    assert cache.set_many({"a": bytes(35), "b": bytes(25)}, None)
    assert len(world.table.items) == 2 + 4 + 3
    assert cache.set_many({"a": 1, "b": bytes(15)}, None)
    assert len(world.table.items) == 2 + 2
    assert cache.get_many("ab") == {"a": 1, "b": bytes(15)}


def test_get_many_and_set_many_go_in_full_batches(world):
    cache = world.cache()
    values = {f"k{n}": n for n in range(230)}
    assert cache.set_many(values, 60)
    assert world.table.calls == ["BatchWriteItem"] * 10
    world.table.calls.clear()
    assert cache.get_many([*values, "k1", "none"]) == values
    assert world.table.calls == ["BatchGetItem"] * 3
    assert cache.get_many([]) == {}
    assert cache.set_many({})


def test_what_a_batch_leaves_unprocessed_is_sent_again_and_again_after_pauses(world):
    cache = world.cache()
    real = {"BatchGetItem": world.table._BatchGetItem, "BatchWriteItem": world.table._BatchWriteItem}
    refused = []

    def get(body):
        refused.append(1)
        ((table, asked),) = body["RequestItems"].items()
        keys = asked["Keys"]
        if len(refused) % 2:
            return {"Responses": {}, "UnprocessedKeys": body["RequestItems"]}
        answer = real["BatchGetItem"]({"RequestItems": {table: {**asked, "Keys": keys[:3]}}})
        return answer | ({"UnprocessedKeys": {table: {**asked, "Keys": keys[3:]}}} if keys[3:] else {})

    def write(body):
        ((table, asked),) = body["RequestItems"].items()
        real["BatchWriteItem"]({"RequestItems": {table: asked[:10]}})
        return {"UnprocessedItems": {table: asked[10:]} if asked[10:] else {}}

    world.table._BatchGetItem, world.table._BatchWriteItem = get, write
    values = {f"k{n}": n for n in range(25)}
    assert cache.set_many(values, 60)
    assert cache.get_many(values) == values
    assert len(world.slept) == 9
    assert all(0 <= pause <= 1 for pause in world.slept)
    world.table._BatchGetItem = lambda body: {"Responses": {}, "UnprocessedKeys": body["RequestItems"]}
    assert cache.get_many(values) == {}
    assert cache.stats.errors == 1
    assert "UnprocessedKeys" in cache.stats.last_error


def test_clear_takes_a_prefix(world):
    cache = world.cache()
    cache.set_many({f"{place}/{n}": n for place in ("tokyo", "osaka") for n in range(10)}, 60)
    assert cache.clear("tokyo/")
    assert len(world.table.items) == 10
    assert cache["osaka/3"] == 3
    with pytest.raises(ValueError, match="first 1024 bytes"):
        cache.clear("x" * 1025)


def test_a_failing_table_gives_defaults_and_false_and_is_counted(world):
    cache = world.cache()
    cache["a"] = 1
    world.table.before = throttled
    assert cache.get("a", "default") == "default"
    assert cache.get_many(["a"]) == {}
    assert "a" not in cache
    calls = [cache.set, cache.add]
    assert [call("a", 2) for call in calls] == [False, False]
    assert [cache.delete("a"), cache.touch("a", 5), cache.clear(), cache.set_many({"a": 1}, 5)] == [False] * 4
    assert cache.incr("a") is None
    cache["a"] = 3
    assert cache.stats.errors == 11
    assert cache.stats.last_error == "ThrottlingException: Rate exceeded"
    world.table.before = lambda *_: None
    assert cache["a"] == 1


def test_a_failing_table_raises_where_errors_are_reported(world):
    cache = world.cache(report_errors=True)
    world.table.before = throttled
    for call in (
        lambda: cache.get("a"), lambda: cache["a"], lambda: cache.set("a", 1), lambda: cache.add("a", 1),
        lambda: cache.delete("a"), lambda: cache.touch("a"), lambda: cache.incr("a"), lambda: cache.clear(),
        lambda: cache.get_many(["a"]), lambda: cache.set_many({"a": 1}),
    ):  # fmt: skip
        with pytest.raises(CacheError, match="t: ThrottlingException") as caught:
            call()
        assert isinstance(caught.value.__cause__, StoreError)


def test_an_error_of_ours_is_not_taken_for_one_of_the_table(world):
    cache = world.cache()

    def broken(*_):
        raise RuntimeError("a bug")

    world.table.before = broken
    with pytest.raises(RuntimeError, match="a bug"):
        cache.get("a")


def test_emf_tells_what_was_counted_since_the_last_time(world):
    cache = world.cache(memory=Memory())
    cache["a"] = 1
    cache["a"]
    cache.get("b")
    first = json.loads(cache.stats.emf(service="ingest", at=1.5))
    assert first["_aws"]["Timestamp"] == 1500
    (directive,) = first["_aws"]["CloudWatchMetrics"]
    assert directive == {
        "Namespace": "Processor",
        "Dimensions": [["service"]],
        "Metrics": [{"Name": "CacheErrors", "Unit": "Count"}],
    }
    assert (first["service"], first["CacheErrors"]) == ("ingest", 0)
    assert {name: count for name, count in first["cache"].items() if count} == {
        "memory_hits": 1, "misses": 1, "writes": 1,
    }  # fmt: skip
    world.table.before = throttled
    cache.get("c")
    second = json.loads(cache.stats.emf())
    assert (second["CacheErrors"], second["cache"]["memory_hits"]) == (1, 0)
    assert second["cache_error"] == "ThrottlingException: Rate exceeded"
    with pytest.raises(AttributeError, match="a cache counts"):
        cache.stats.nonsense  # noqa: B018


def test_a_cache_closes_only_a_client_of_its_own(world, monkeypatch):
    closed = []
    own = MemoryTable()
    own.close = lambda: closed.append("own")
    world.table.close = lambda: closed.append("given")
    monkeypatch.setattr("processor.store.client", lambda settings: own)
    with Cache("t") as cache:
        cache["a"] = 1
    with world.cache() as cache:
        cache.get_many(map(str, range(300)))
    assert closed == ["own"]


@pytest.mark.parametrize("write", ["set", "delete"])
def test_who_is_overtaken_every_time_writes_all_the_same_and_leaves_no_chunks(world, monkeypatch, write):
    monkeypatch.setattr(items, "CHUNK", 10)
    cache, other = world.cache(), world.cache()
    cache["a"] = bytes(35)
    rounds = []

    def meanwhile(operation, body):
        if operation in ("PutItem", "DeleteItem") and "seen" in str(body) and not rounds[items.ATTEMPTS :]:
            rounds.append(operation)
            world.table.before = lambda *_: None
            other["a"] = bytes([len(rounds)]) * 25
            world.table.before = meanwhile

    world.table.before = meanwhile
    assert cache.set("a", b"\xff" * 45) if write == "set" else cache.delete("a")
    assert len(rounds) >= items.ATTEMPTS - 1
    assert other.get("a") == (b"\xff" * 45 if write == "set" else None)
    assert len(world.table.items) == (6 if write == "set" else 0)


def test_the_cache_imports_neither_boto3_nor_what_only_coroutines_need():
    code = "import sys, processor.cache; print(sorted({'boto3', 'botocore', 'asyncio', 'click'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
