"""The cache against a plain dict with a virtual clock: whatever is called, in whatever order, by two caches at once."""

from __future__ import annotations

from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from processor.cache import Cache, CacheError, Memory, items
from processor.cache.testing import MemoryTable
from processor.errors import TransientError

STALE = 3.0
START = 1_700_000_000.0
MISSING = "nothing there"

KEYS = st.sampled_from(["a", "a/1", "a/2", "b", "", "é" * 1000])
VALUES = st.one_of(
    st.integers(-(10**20), 10**20),
    st.none(),
    st.booleans(),
    st.text(max_size=20),
    st.binary(max_size=200),  # several chunks
    st.lists(st.integers(0, 9), max_size=60),
    st.dictionaries(st.text(max_size=3), st.floats(allow_nan=False, allow_infinity=False), max_size=3),
)
TTLS = st.sampled_from([None, 0.25, 1, 2.5, 10])
CACHES = st.sampled_from([0, 1])


class Resending:
    """A client that sends what it is told to send twice: the answer to the first was lost on the way."""

    def __init__(self, table):
        self.table = table
        self.twice = False

    def call(self, operation, body, *, deadline=None):
        if self.twice and operation not in ("GetItem", "BatchGetItem", "Scan"):
            self._lost(operation, body)
        return self.table.call(operation, body)

    def _lost(self, operation, body):
        try:
            self.table.call(operation, body)
        except Exception as error:
            if getattr(error, "code", "") != "ConditionalCheckFailedException":
                raise

    def close(self):
        pass


class Model:
    """The dict: of each key all versions, (value, until, replaced at), the last being what holds."""

    def __init__(self):
        self.versions = {}

    def versions_of(self, key):
        return self.versions.setdefault(key, [[MISSING, None, None]])

    def current(self, key, now):
        value, until, _ = self.versions_of(key)[-1]
        return MISSING if until is not None and until <= now else value

    def write(self, key, value, until, now):
        versions = self.versions_of(key)
        versions[-1][2] = now
        versions.append([value, until, None])
        return len(versions) - 1

    def allowed(self, key, since, now):
        """What a cache may see that made version `since` itself: nothing that was replaced longer ago than STALE."""
        return [
            MISSING if until is not None and until <= now else value
            for n, (value, until, replaced) in enumerate(self.versions_of(key))
            if n >= since and (replaced is None or replaced > now - STALE)
        ]


class Caches(RuleBasedStateMachine):
    """Two caches with memory layers of their own on one table; and a third without memory, which sees the truth."""

    @initialize()
    def start(self):
        self.now = START
        self.table = MemoryTable(page=3)
        self.client = Resending(self.table)
        self.model = Model()
        self.own = [{}, {}]
        self.down = False
        self.left = set()
        clocks = {"clock": lambda: self.now, "monotonic": lambda: self.now - START, "sleep": self.fail_sleeping}
        given = {"client": self.client, "namespace": "test", "threads": 1, **clocks}
        self.caches = [Cache("t", memory=Memory(entries=4, size=3000, stale=STALE), **given) for _ in range(2)]
        self.truth = Cache("t", memory=None, report_errors=True, **given)
        self.other = Cache("t", memory=None, version=2, **given)
        self.other.set("a", "another version's")
        self.table.before = self.fault

    def teardown(self):
        for cache in getattr(self, "caches", ()):
            cache.close()

    @staticmethod
    def fail_sleeping(seconds):
        raise AssertionError("nothing here is unprocessed")

    def fault(self, operation, body):
        if self.down:
            raise TransientError("ThrottlingException", "down")

    def orphans(self, keys):
        """The chunks that the table has of these keys."""
        identities = {self.truth.tiers.items.id_of(key) for key in keys}
        return {key for key in self.table.items if "." in key and key.partition(".")[0] in identities}

    def until(self, ttl):
        return None if ttl is None else self.now + ttl

    def wrote(self, which, key, value, until):
        self.own[which][key] = self.model.write(key, value, until, self.now)

    def check(self, which, key, found):
        allowed = self.model.allowed(key, self.own[which].get(key, 0), self.now)
        if self.down:
            allowed.append(MISSING)
        assert repr(found) in set(map(repr, allowed)), f"{key!r}: {found!r}, not one of {allowed!r}"

    @rule(which=CACHES, key=KEYS, value=VALUES, ttl=TTLS)
    def set(self, which, key, value, ttl):
        assert self.caches[which].set(key, value, ttl) is not self.down
        if not self.down:
            self.wrote(which, key, value, self.until(ttl))

    @rule(which=CACHES, values=st.dictionaries(KEYS, VALUES, max_size=5), ttl=TTLS)
    def set_many(self, which, values, ttl):
        if ttl is not None:
            self.left |= {key for key in self.orphans(values) if "expires" not in self.table.items[key]}
        assert self.caches[which].set_many(values, ttl) is not (self.down and bool(values))
        if not self.down:
            for key, value in values.items():
                self.wrote(which, key, value, self.until(ttl))

    @rule(which=CACHES, key=KEYS, value=VALUES, ttl=TTLS)
    def add(self, which, key, value, ttl):
        added = self.caches[which].add(key, value, ttl)
        assert added is (not self.down and self.model.current(key, self.now) is MISSING)
        if added:
            self.wrote(which, key, value, self.until(ttl))

    @rule(which=CACHES, key=KEYS)
    def delete(self, which, key):
        assert self.caches[which].delete(key) is not self.down
        if not self.down:
            self.wrote(which, key, MISSING, None)

    @rule(which=CACHES, key=KEYS, ttl=TTLS)
    def touch(self, which, key, ttl):
        value = self.model.current(key, self.now)
        assert self.caches[which].touch(key, ttl) is (not self.down and value is not MISSING)
        if not self.down and value is not MISSING:
            self.wrote(which, key, value, self.until(ttl))

    @rule(which=CACHES, key=KEYS, by=st.integers(-5, 5), ttl=TTLS)
    def incr(self, which, key, by, ttl):
        cache, value = self.caches[which], self.model.current(key, self.now)
        if self.down:
            assert cache.incr(key, by, ttl) is None
        elif value is MISSING:
            assert cache.incr(key, by, ttl) == by
            self.wrote(which, key, by, self.until(ttl))
        elif type(value) is int:
            assert cache.incr(key, by, ttl) == value + by
            self.wrote(which, key, value + by, self.model.versions_of(key)[-1][1])
        else:
            with pytest.raises(TypeError, match="not a whole number"):
                cache.incr(key, by, ttl)

    @rule(which=CACHES, prefix=st.sampled_from(["", "a", "a/", "é", "x"]))
    def clear(self, which, prefix):
        assert self.caches[which].clear(prefix) is not self.down
        if not self.down:
            for key in list(self.model.versions):
                if key.startswith(prefix):
                    self.wrote(which, key, MISSING, None)

    @rule(which=CACHES, key=KEYS)
    def get(self, which, key):
        self.check(which, key, self.caches[which].get(key, MISSING))

    @rule(which=CACHES, key=KEYS)
    def item(self, which, key):
        try:
            found = self.caches[which][key]
        except KeyError:
            found = MISSING
        self.check(which, key, found)
        assert (key in self.caches[which]) is (found is not MISSING) or self.down

    @rule(which=CACHES, keys=st.lists(KEYS, max_size=6))
    def get_many(self, which, keys):
        found = self.caches[which].get_many(keys)
        assert set(found) <= set(keys)
        for key in keys:
            self.check(which, key, found.get(key, MISSING))

    @rule(seconds=st.sampled_from([0.25, 1, 2.5, 4]))
    def wait(self, seconds):
        self.now += seconds

    @rule()
    def the_table_deletes_what_expired(self):
        self.table.expire(self.now)

    @rule(twice=st.booleans())
    def answers_get_lost(self, twice):
        self.client.twice = twice

    @rule(down=st.booleans())
    def the_table_fails(self, down):
        self.down = down

    @precondition(lambda self: self.down)
    @rule(key=KEYS)
    def an_error_is_reported(self, key):
        with pytest.raises(CacheError):
            self.truth.get(key)

    @invariant()
    def without_memory_the_truth_is_seen(self):
        if not getattr(self, "model", None) or self.down:
            return
        for key in self.model.versions:
            assert repr(self.truth.get(key, MISSING)) == repr(self.model.current(key, self.now)), key
        assert self.other.get("a") == "another version's"

    @invariant()
    def memory_stays_within_its_bounds(self):
        for cache in getattr(self, "caches", ()):
            layer = cache.tiers.memory
            assert len(layer) <= 4
            assert 0 <= layer.size <= 3000
            assert layer.size == sum(held.size for held in layer._held.values())
            assert not layer._reads

    @invariant()
    def no_chunk_is_left_behind(self):
        """What does not expire belongs to a value; only set_many leaves such chunks behind, as it says."""
        there = getattr(self, "table", MemoryTable()).items
        for key, item in there.items():
            if "." in key and "expires" not in item:
                head = there.get(key.partition(".")[0])
                assert key in self.left or (head and key in items._chunk_keys(head["key"]["S"], head))


def test_two_caches_agree_with_a_dict_within_the_staleness_that_was_allowed():
    with patch.object(items, "CHUNK", 64):
        run_state_machine_as_test(Caches, settings=settings(max_examples=100, stateful_step_count=40, deadline=None))


WRITES = {
    "set": lambda cache, value: cache.set("k", value, 60),
    "set for ever": lambda cache, value: cache.set("k", value, None),
    "set_many": lambda cache, value: cache.set_many({"k": value}, 60),
    "delete": lambda cache, value: cache.delete("k"),
    "touch": lambda cache, value: cache.touch("k", 5000),
    "clear": lambda cache, value: cache.clear(),
}


@given(
    before=st.binary(max_size=300),
    after=st.binary(max_size=300),
    write=st.sampled_from(sorted(WRITES)),
    at=st.integers(0, 6),
    lost=st.booleans(),
)
@settings(max_examples=300)
def test_a_write_cut_off_at_any_request_leaves_the_old_value_the_new_one_or_none_but_never_a_mixture(
    before, after, write, at, lost
):
    """`at`: the request that fails; `lost`: after it was carried out, so that only its answer is missing."""
    table = MemoryTable()
    left = [at]

    def fault(operation, body):
        left[0] -= 1
        if left[0] < 0:
            raise TransientError("ConnectionError", "cut off")

    with patch.object(items, "CHUNK", 64), Cache("t", memory=Memory(), client=table, threads=1) as cache:
        cache.set("k", before, 60)
        setattr(table, "after" if lost else "before", fault)
        done = WRITES[write](cache, after)
        table.before = table.after = lambda *_: None
        with Cache("t", memory=None, client=table) as fresh:
            found = fresh.get("k", MISSING)
        gone = write in ("delete", "clear")
        new = MISSING if gone else before if write == "touch" else after
        assert found in ((new,) if done else (before, new, MISSING))
        assert cache.get("k", MISSING) == found, "after a failed write, memory must not know better than the table"


@given(value=VALUES.filter(lambda value: type(value) is not int), padding=st.integers(0, 3000))
def test_what_is_set_is_what_is_read(value, padding):
    """Also beyond the size from which it is compressed, and from memory as from the table."""
    value = value + bytes(padding) if type(value) is bytes else [value, "x" * padding]
    table = MemoryTable()
    with Cache("t", client=table) as cache, Cache("t", memory=None, client=table) as other:
        assert cache.set("k", value)
        assert repr(cache["k"]) == repr(other["k"]) == repr(value)
