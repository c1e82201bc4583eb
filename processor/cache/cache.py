"""`Cache`: a dict-like view of one namespace of a table, with memory before it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Final, Self

from processor import store
from processor.cache.codec import REFUSAL, Codec, Compression, Undecodable, Values
from processor.cache.counter import Counters
from processor.cache.items import NAME_BYTES, Items
from processor.cache.lease import Leases
from processor.cache.memory import Entry, Layer, Memory
from processor.cache.request import GET_BATCH, WRITE_BATCH, Table, sliced
from processor.cache.stats import Stats
from processor.cache.tiers import Tiers
from processor.settings import Settings
from processor.store.wire import Client

DEFAULT: Final = -1.0
"""As a ttl: the cache's `default_ttl`."""
_NONE: Final = object()


class Cache:
    """A cache in a DynamoDB table, with a layer of memory before it; safe to share between threads.

    table: the table's name; `processor cache create-table` makes one. Many caches can share a table.
    default_ttl: seconds that values live unless told otherwise; None: they do not expire.
    memory: the memory layer's bounds, or None for no memory layer. Another process's write is seen after at most
        `memory.stale` seconds.
    report_errors: raise CacheError if the table fails. By default reads then give the default and writes False, and
        `stats` counts it.
    namespace, version: keys of other namespaces, and of other versions, are other keys. No "/" in a version.
    codec: instead of JSON and bytes; see Codec. compression: "zlib", or "zstd" where it is installed everywhere.
    consistent: strongly consistent reads, for twice the price.
    timeout: seconds for one request to the table, its retries included.
    threads: requests that get_many, set_many and clear make at a time.
    client: a `processor.store.wire.Client`; by default one as the environment says, closed with the cache.
    clock, monotonic, sleep: for tests.
    """

    def __init__(
        self,
        table: str,
        default_ttl: float | None = None,
        memory: Memory | None = Memory(),  # noqa: B008 - immutable
        report_errors: bool = False,
        *,
        namespace: str = "",
        version: str | int = 1,
        codec: Codec | None = None,
        compression: Compression = "zlib",
        consistent: bool = False,
        timeout: float = 2.0,
        threads: int = 8,
        client: Client | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        if default_ttl is not None and default_ttl <= 0:
            raise ValueError(f"default_ttl is a positive number of seconds, or None, not {default_ttl}")
        if "/" in str(version):
            raise ValueError(f"a version has no '/': {version!r}")
        self._default_ttl = default_ttl
        self._threads = threads
        caller = client or store.client(Settings.read())
        self._close: Callable[[], object] = (lambda: None) if client else caller.close
        self._values = Values(codec, compression)
        self._memory = Layer(memory, self._values, clock, monotonic)
        self.stats = Stats(lambda: self._memory.hits)
        space = f"{namespace}/{version}"
        requests = Table(caller, table, timeout, sleep)
        self._items = Items(requests, self._values, self.stats, space=space, consistent=consistent)
        self._counters = Counters(self._items)
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self.tiers = Tiers(
            items=self._items,
            memory=self._memory,
            leases=Leases(self._items, clock),
            values=self._values,
            stats=self.stats,
            report_errors=report_errors,
            clock=clock,
            monotonic=monotonic,
            sleep=sleep,
        )

    def get(self, key: str, default: Any = None) -> Any:
        """Return the key's value; `default` if there is none, it expired, or the table fails."""
        held = self._memory.get(key)
        if held is not None:
            if held.plain:
                return held.value
            return default if held.entry is None else self._decoded(held.entry, default)
        entry = self.tiers.read(_checked(key))
        return default if entry is None else self._value(entry, default)

    def set(self, key: str, value: Any, ttl: float | None = DEFAULT) -> bool:
        """Store a value for `ttl` seconds (None: for ever); False if the table failed.

        Raises TypeError for a value that is neither bytes nor JSON (and no codec takes it).
        """
        return self.tiers.write(_checked(key), self._entry(value, ttl))

    def add(self, key: str, value: Any, ttl: float | None = DEFAULT) -> bool:
        """Store a value only if the key has none; False if it has one, or the table failed. Atomic."""
        entry = self._entry(value, ttl)
        self._memory.drop(_checked(key))
        work = self.tiers.forgetting(key, lambda: self._items.add(key, entry, self.tiers.now()))
        return self.tiers.written({key: entry}, self.tiers.guarded(work, False))

    def delete(self, key: str) -> bool:
        """Delete a key, whether it is there or not; False if the table failed."""

        def work() -> bool:
            self._items.delete(key)
            self._memory.put(key, None)
            return True

        return self.tiers.guarded(self.tiers.forgetting(_checked(key), work), False)

    def touch(self, key: str, ttl: float | None = DEFAULT) -> bool:
        """Let a value live for `ttl` seconds from now; False if there is none, or the table failed."""
        until = self.tiers.until(self._ttl(ttl))
        _checked(key)
        try:
            return self.tiers.guarded(lambda: self._items.touch(key, until, self.tiers.now()), False)
        finally:
            self._memory.drop(key)

    def incr(self, key: str, by: int = 1, ttl: float | None = DEFAULT) -> int | None:
        """Add to a whole number and return the new one; where there is none it starts at `by`, for `ttl` seconds.

        Atomic, and exact even if an answer is lost on the way. None if the table failed: it may then have been counted.
        Raises TypeError if the key has a value that is not a whole number.
        """
        if type(by) is not int:
            raise TypeError(f"incr adds whole numbers, not {by!r}")
        until = self.tiers.until(self._ttl(ttl))
        _checked(key)
        try:
            return self.tiers.guarded(lambda: self._counters.add(key, by, until, self.tiers.now()), None)
        finally:
            self._memory.drop(key)

    def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """Return the values that there are, by key: memory first, then the table, 100 keys a request, in parallel."""
        found: dict[str, Any] = {}
        asked: list[str] = []
        for key in dict.fromkeys(keys):
            held = self._memory.get(_checked(key))
            if held is None:
                asked.append(key)
            elif held.entry is not None:
                found[key] = held.value if held.plain else self._decoded(held.entry, _NONE)

        def read(some: list[str]) -> Mapping[str, Entry]:
            return self.tiers.guarded(lambda: self._read(some), {})

        for entries in self._parallel(read, list(sliced(asked, GET_BATCH))):
            found.update({key: self._value(entry, _NONE) for key, entry in entries.items()})
        return {key: value for key, value in found.items() if value is not _NONE}

    def set_many(self, values: Mapping[str, Any], ttl: float | None = DEFAULT) -> bool:
        """Store many values, in parallel; False if any of them failed.

        25 a request; values that never expire one by one, which looks after the chunks of what they replace.
        """
        entries = {_checked(key): self._entry(value, ttl) for key, value in values.items()}
        batch = 1 if self._ttl(ttl) is None else WRITE_BATCH

        def write(keys: list[str]) -> bool:
            some = {key: entries[key] for key in keys}
            return self.tiers.written(some, self.tiers.guarded(lambda: self._write(some, batch), False))

        return all(self._parallel(write, list(sliced(entries, batch))))

    def clear(self, prefix: str = "") -> bool:
        """Delete every key of this namespace and version that starts with `prefix`; False if the table failed.

        This reads the whole table, all namespaces, at half a read unit for 4 KB: to invalidate a namespace at once and
        for nothing, make the cache with another `version`. Values written meanwhile may stay.
        """
        if len(prefix.encode("utf-8", "replace")) > NAME_BYTES:
            raise ValueError(f"only the first {NAME_BYTES} bytes of a key can be looked for")

        def segment(number: int) -> bool:
            def work() -> bool:
                self._items.clear(prefix, number, self._threads)
                return True

            return self.tiers.guarded(work, False)

        try:
            return all(self._parallel(segment, list(range(self._threads))))
        finally:
            self._memory.clear(prefix)

    def __getitem__(self, key: str) -> Any:
        value = self.get(key, _NONE)
        if value is _NONE:
            raise KeyError(key)
        return value

    def __setitem__(self, key: str, value: Any) -> None:
        self.set(key, value)

    def __delitem__(self, key: str) -> None:
        if key not in self:
            raise KeyError(key)
        self.delete(key)

    def __contains__(self, key: str) -> bool:
        return self.get(key, _NONE) is not _NONE

    def close(self) -> None:
        """Stop the threads, and close the client if it is our own."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown()
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ttl(self, ttl: float | None) -> float | None:
        return self._default_ttl if ttl is not None and ttl == DEFAULT else ttl

    def _entry(self, value: Any, ttl: float | None) -> Entry:
        return self.tiers.entry(self._values.encode(value), self._ttl(ttl))

    def _value(self, entry: Entry, default: Any) -> Any:
        return default if entry.until <= self.tiers.now() else self._decoded(entry, default)

    def _decoded(self, entry: Entry, default: Any) -> Any:
        if entry.form == REFUSAL:
            return default
        try:
            return self._values.decode(entry.form, entry.data)
        except Undecodable:
            self.stats.add("undecodable")
            return default

    def _read(self, keys: list[str]) -> Mapping[str, Entry]:
        with self._memory.reading(*keys) as ticket:
            entries = self._items.read_many(keys)
            for key in keys:
                self.tiers.counted(entries.get(key))
                self._memory.keep(key, ticket, entries.get(key))
        return entries

    def _write(self, entries: Mapping[str, Entry], batch: int) -> bool:
        if batch > 1:
            self._items.write_many(entries)
        else:
            for key, entry in entries.items():
                self._items.write(key, entry)
        return True

    def _parallel(self, work: Callable[[Any], Any], parts: list[Any]) -> list[Any]:
        """Return what `work` returns for each part; CacheError, where errors are reported, after all were tried."""
        if len(parts) <= 1:
            return [work(part) for part in parts]
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._threads, "cache")
            futures = [self._pool.submit(work, part) for part in parts]
        for future in futures:
            future.exception()
        return [future.result() for future in futures]


def _checked(key: str) -> str:
    if type(key) is not str:
        raise TypeError(f"a cache key is text, not {type(key).__name__}: {key!r}")
    return key
