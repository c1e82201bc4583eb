"""Memory over the table, and what a failing table means: the default or False, counted; or CacheError."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from processor.cache.codec import Encoded, Undecodable, Values
from processor.cache.items import Items, new_write
from processor.cache.lease import Leases
from processor.cache.memory import NEVER, Entry, Layer
from processor.cache.stats import Stats
from processor.errors import CacheError, StoreError

T = TypeVar("T")
U = TypeVar("U")


class Tiers:
    """Reads and writes entries through both layers; what `Cache` and `cached` have in common."""

    def __init__(
        self,
        *,
        items: Items,
        memory: Layer,
        leases: Leases,
        values: Values,
        stats: Stats,
        report_errors: bool,
        clock: Callable[[], float],
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.items = items
        self.memory = memory
        self.values = values
        self.stats = stats
        self.monotonic = monotonic
        self.sleep = sleep
        self._leases = leases
        self._report_errors = report_errors
        self._clock = clock

    def now(self) -> int:
        """Return the time in epoch milliseconds."""
        return int(self._clock() * 1000)

    def guarded(self, work: Callable[[], T], otherwise: U, *, quiet: bool = False) -> T | U:
        """Return what `work` returns; if the table fails, `otherwise`, or CacheError where errors are reported."""
        try:
            return work()
        except StoreError as error:
            self.stats.error(error)
            if self._report_errors and not quiet:
                raise CacheError(f"{self.items.table.name}: {error}") from error
            return otherwise

    def entry(self, encoded: Encoded, ttl: float | None, cost: int = 0) -> Entry:
        """Return a new entry that expires `ttl` seconds from now. Raises ValueError for a ttl that is not positive."""
        return Entry(encoded.form, encoded.data, self.until(ttl), cost, new_write())

    def until(self, ttl: float | None) -> int:
        """Return when something expires, in epoch milliseconds."""
        if ttl is None:
            return NEVER
        if not 0 < ttl < 1e10:
            raise ValueError(f"ttl is a positive number of seconds, or None for what does not expire, not {ttl!r}")
        return round((self._clock() + ttl) * 1000)

    def read(self, key: str, *, consistent: bool = False, grace: float = 0.0) -> Entry | None:
        """Return the entry that the table has, expired or not, and keep it in memory."""

        def work() -> Entry | None:
            with self.memory.reading(key) as ticket:
                found = self.items.read(key, consistent=consistent)
                self.memory.keep(key, ticket, found, grace)
                return found

        return self.counted(self.guarded(work, None))

    def write(self, key: str, entry: Entry, grace: float = 0.0) -> bool:
        """Put an entry into the table, and into memory if the table took it."""

        def work() -> bool:
            self.items.write(key, entry, grace)
            return True

        return self.written({key: entry}, self.guarded(self.forgetting(key, work), False), grace)

    def forgetting(self, key: str, work: Callable[[], T]) -> Callable[[], T]:
        """Return `work`, after whose failure memory does not know the key: nobody can tell what the table holds."""

        def run() -> T:
            try:
                return work()
            except BaseException:
                self.memory.drop(key)
                raise

        return run

    def written(self, entries: Mapping[str, Entry], done: bool, grace: float = 0.0) -> bool:
        """Keep in memory what the table took, or forget what it may have; return `done`."""
        for key, entry in entries.items():
            if done:
                self.memory.put(key, entry, grace)
            else:
                self.memory.drop(key)
        if done:
            self.stats.add("writes", len(entries))
        return done

    def counted(self, entry: Entry | None) -> Entry | None:
        """Count a hit or a miss."""
        self.stats.add("hits" if entry is not None and entry.until > self.now() else "misses")
        return entry

    def readable(self, entry: Entry) -> bool:
        """Tell whether the entry's value can be decoded, and count it if not."""
        try:
            self.values.decode(entry.form, entry.data)
        except Undecodable:
            self.stats.add("undecodable")
            return False
        return True

    def acquire(self, key: str, seconds: float) -> str | None:
        """Return the token of the key's lease, None while another has it, and "" if the table fails."""
        return self.guarded(lambda: self._leases.acquire(key, seconds), "")

    def release(self, key: str, owner: str) -> None:
        """Give a lease back; if that fails, it expires."""
        self.guarded(lambda: self._leases.release(key, owner), None, quiet=True)

    def look(self, key: str, grace: float = 0.0) -> tuple[Entry | None, bool]:
        """Return what the table has, and whether somebody holds the lease."""

        def work() -> tuple[Entry | None, bool]:
            with self.memory.reading(key) as ticket:
                found, held = self._leases.look(key)
                self.memory.keep(key, ticket, found, grace)
                return found, held

        return self.guarded(work, (None, False))
