"""The memory layer: what the table said lately, bounded by entries, bytes and age; the least recently used goes first.

Both clocks count. The monotonic one ends an entry in time whatever is done to the wall clock; the wall clock ends it
after a pause in which the monotonic one stood still, as a frozen Lambda environment's may.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from processor.cache.codec import BYTES, INT, REFUSAL, Undecodable, Values

OVERHEAD = 500
"""Bytes that an entry costs beside its data and key: measured with tracemalloc, rounded."""
PLAIN = frozenset({str, int, float, bool, type(None), bytes})
"""Types whose values nobody can change: they are handed out as they are. Others are decoded anew for each reader."""

SHORT = 64
"""Bytes up to which JSON is decoded on arrival, to see whether its value is plain: numbers, true, null and the like."""

NEVER = 1 << 62
"""The expiry, in epoch milliseconds, of what does not expire."""


class Memory(NamedTuple):
    """How much a cache keeps in memory: at most `entries`, at most `size` bytes, each for at most `stale` seconds.

    `stale` is also how long another process's write, or deletion, may go unseen here.
    """

    entries: int = 10_000
    size: int = 16 * 1024 * 1024
    stale: float = 5.0


class Entry(NamedTuple):
    """A value as the table has it. until: epoch milliseconds; cost: milliseconds that computing it took.

    `written` tells one write of the key from another.
    """

    form: str
    data: bytes
    until: int
    cost: int
    written: str


class Held:
    """An entry in memory, or, with `entry` None, the memory of its absence.

    fresh, gone: epoch seconds until which it is handed out, and (to be served stale) kept; dies: the same as `gone` by
    the monotonic clock.
    """

    __slots__ = ("dies", "entry", "fresh", "gone", "plain", "size", "value")

    def __init__(self, entry: Entry | None, value: Any, plain: bool, *, dies: float, gone: float, size: int) -> None:
        self.entry = entry
        self.value = value
        self.plain = plain
        self.fresh = gone if entry is None else min(gone, entry.until / 1000)
        self.dies = dies
        self.gone = gone
        self.size = size


class Layer:
    """Entries by key; safe to share between threads. With `memory` None it keeps nothing."""

    def __init__(
        self, memory: Memory | None, values: Values, clock: Callable[[], float], monotonic: Callable[[], float]
    ) -> None:
        self._limits = memory or Memory(0, 0, 0)
        self._values = values
        self._clock = clock
        self._monotonic = monotonic
        self._held: OrderedDict[str, Held] = OrderedDict()
        self._used = self._held.move_to_end
        self._reads: dict[str, object] = {}
        self._size = 0
        self._lock = threading.Lock()
        self.hits = 0

    def get(self, key: str) -> Held | None:
        """Return what is known of the key, not expired; None where nothing is.

        No lock: it would cost more than all the rest. Each step on the dict is one call of C code, which is atomic.
        """
        held = self._held.get(key)
        if held is None:
            return None
        if held.fresh <= self._clock() or held.dies <= self._monotonic():
            self._bury(key, held)
            return None
        try:
            self._used(key)
        except KeyError:
            return held  # let go of this very moment
        self.hits += 1  # no call within, so no thread comes between (but on a free-threaded Python some are lost)
        return held

    def _bury(self, key: str, held: Held) -> None:
        """Drop what is not even kept to be served stale."""
        if held.gone <= self._clock() or held.dies <= self._monotonic():
            with self._lock:
                self._drop(key, held)

    def expired(self, key: str) -> Entry | None:
        """Return the entry that is kept to be served after its expiry, if there is one."""
        held = self._held.get(key)
        if held is None or held.dies <= self._monotonic() or held.gone <= self._clock():
            return None
        return held.entry

    @contextmanager
    def reading(self, *keys: str) -> Iterator[object]:
        """Announce a read of the table, and give its ticket for `keep`."""
        ticket = object()
        if self._limits.entries:
            with self._lock:
                self._reads.update(dict.fromkeys(keys, ticket))
        try:
            yield ticket
        finally:
            with self._lock:
                for key in keys:
                    if self._reads.get(key) is ticket:
                        del self._reads[key]

    def keep(self, key: str, ticket: object, entry: Entry | None, grace: float = 0.0) -> None:
        """Keep what a read found, unless the key was written, or read again, since its ticket was given."""
        held = self._made(key, entry, grace)
        with self._lock:
            if self._reads.get(key) is ticket:
                self._put(key, held)

    def put(self, key: str, entry: Entry | None, grace: float = 0.0) -> None:
        """Keep what was written; what is being read meanwhile is older, and is not kept."""
        held = self._made(key, entry, grace)
        with self._lock:
            self._reads.pop(key, None)
            self._put(key, held)

    def drop(self, key: str) -> None:
        """Forget a key: it was written elsewhere, or with an unknown end."""
        with self._lock:
            self._reads.pop(key, None)
            held = self._held.get(key)
            if held is not None:
                self._drop(key, held)

    def clear(self, prefix: str = "") -> None:
        """Forget all keys that start with `prefix`."""
        with self._lock:
            for key in [key for key in self._reads if key.startswith(prefix)]:
                del self._reads[key]
            for key in [key for key in self._held if key.startswith(prefix)]:
                self._drop(key, self._held[key])

    def __len__(self) -> int:
        return len(self._held)

    @property
    def size(self) -> int:
        """Bytes held."""
        return self._size

    def _made(self, key: str, entry: Entry | None, grace: float) -> Held | None:
        """Return what is to be held; None for what is too big, too late, or not wanted."""
        now = self._clock()
        left = self._limits.stale
        if entry is not None and entry.until != NEVER:
            left = min(left, entry.until / 1000 + grace - now)
        value, plain = self._plain(entry)
        data = 0 if entry is None else len(entry.data)
        twice = plain and value is not None and entry is not None and value is not entry.data  # encoded and decoded
        size = len(key) + OVERHEAD + data * (2 if twice else 1)
        if left <= 0 or size > self._limits.size:
            return None
        return Held(entry, value, plain, dies=self._monotonic() + left, gone=now + left, size=size)

    def _put(self, key: str, held: Held | None) -> None:
        """Hold this instead of what is held, and let go of the least recently used; the lock is held."""
        before = self._held.get(key)
        if before is not None:
            self._drop(key, before)
        if held is None:
            return
        self._held[key] = held
        self._size += held.size
        while len(self._held) > self._limits.entries or self._size > self._limits.size:
            self._drop(*next(iter(self._held.items())))

    def _plain(self, entry: Entry | None) -> tuple[Any, bool]:
        """Return the value, and whether it can be handed out as it is."""
        if entry is None or entry.form == REFUSAL:
            return None, False
        if entry.form == BYTES or entry.form == INT or len(entry.data) <= SHORT or entry.data[:1] == b'"':
            try:
                value = self._values.decode(entry.form, entry.data)
            except Undecodable:
                return None, False
            return (value, True) if type(value) in PLAIN else (None, False)
        return None, False

    def _drop(self, key: str, held: Held) -> None:
        """Remove an entry; the lock is held."""
        if self._held.get(key) is held:
            del self._held[key]
            self._size -= held.size
