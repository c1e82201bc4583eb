"""`cached`: keeps what functions and coroutines return."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, Protocol, TypeVar, cast

import orjson

from processor.cache.cache import Cache
from processor.cache.codec import Encoded
from processor.cache.flight import Plan, Threads, outcome

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)
R = TypeVar("R")

LEASE = 30.0


class CachedFunction(Protocol[P, R_co]):
    """A function whose results are kept."""

    __wrapped__: Callable[..., Any]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Return the result, kept or computed."""

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Return the cache key of a call with these arguments."""

    def forget(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Delete the result of a call with these arguments; False if the table failed."""


def cached(
    cache: Cache | Callable[[], Cache],
    *,
    ttl: float | None,
    key: Callable[..., str] | None = None,
    negative_ttl: float | None = -1.0,
    negative: tuple[type[Exception], ...] = (),
    stale: float = 0.0,
    early: float = 1.0,
    lease: float | None = LEASE,
    wait: float | None = None,
) -> Callable[[Callable[P, R]], CachedFunction[P, R]]:
    """Keep the results of a function, or of a coroutine function, in `cache` (or in what `cache()` returns).

    Everyone gets the value as it was stored, the first caller too: a tuple comes back as a list.

    ttl: seconds that a result is kept; None: for ever.
    key: makes the cache key from the arguments; by default the function's module and name, and the arguments as JSON.
        `f(1)` and `f(x=1)` are two keys.
    negative_ttl: seconds that None is kept, and an exception of `negative`; default: as ttl; 0: not at all.
    negative: exceptions that are results ("no such device"), raised again with the same arguments while they are kept.
    stale: seconds after its expiry for which a value is still served while somebody computes a new one.
    early: how readily a value is refreshed before it expires, in proportion to the time that computing it took;
        1 is the optimum of the XFetch paper, 0 is never.
    lease: seconds that one process may compute a key alone, and thus how long a dead one can hold up the others;
        make it the longest that computing takes. None: every process computes for itself, threads still share.
    wait: seconds that a process waits for another's result before it computes too; default: two leases, in which
        a dead holder's can expire and the next one compute.

    If the table fails, the function is called: once for all threads that ask at the time.
    Raises TypeError where arguments (without `key`) or a result are not JSON; ValueError for seconds below zero.
    """
    for name, seconds in (("stale", stale), ("early", early), ("lease", lease or 0), ("wait", wait or 0)):
        if seconds < 0:
            raise ValueError(f"{name} is at least 0, not {seconds}")
    if ttl is not None and ttl <= 0:
        raise ValueError(f"ttl is a positive number of seconds, or None for what does not expire, not {ttl}")
    plan = Plan(
        ttl=ttl,
        negative_ttl=ttl if negative_ttl is not None and negative_ttl < 0 else negative_ttl,
        negative=negative,
        stale=stale,
        early=early,
        lease=lease,
        wait=2 * (lease or 0.0) if wait is None else wait,
    )
    given: Callable[[], Cache] = (lambda: cache) if isinstance(cache, Cache) else cache

    def decorate(function: Callable[P, R]) -> CachedFunction[P, R]:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"{function.__qualname__} is a generator: a result can be cached, a generator cannot")
        key_of = key or _key_of(function)
        wrap = _async if inspect.iscoroutinefunction(function) else _sync
        wrapper: Any = wrap(function, given, key_of, plan)
        functools.update_wrapper(wrapper, function)
        wrapper.key = key_of
        wrapper.forget = lambda *args, **kwargs: given().delete(key_of(*args, **kwargs))
        return cast(CachedFunction[P, R], wrapper)

    return decorate


def _sync(
    function: Callable[..., Any], given: Callable[[], Cache], key_of: Callable[..., str], plan: Plan
) -> Callable[..., Any]:
    flights = Threads()

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        tiers, key = given().tiers, key_of(*args, **kwargs)
        held = tiers.memory.get(key)
        if held is not None and held.entry is not None and not (held.entry.cost and plan.due(held.entry, tiers.now())):
            return held.value if held.plain else outcome(tiers, Encoded(held.entry.form, held.entry.data), plan)
        found = flights.run(
            tiers, key, plan, lambda: function(*args, **kwargs), instead=lambda: _instead(given(), key, plan)
        )
        return outcome(tiers, found, plan)

    return wrapper


def _async(
    function: Callable[..., Any], given: Callable[[], Cache], key_of: Callable[..., str], plan: Plan
) -> Callable[..., Any]:
    from processor.cache.coroutines import Tasks

    flights = Tasks()

    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        tiers, key = given().tiers, key_of(*args, **kwargs)
        held = tiers.memory.get(key)
        if held is not None and held.entry is not None and not (held.entry.cost and plan.due(held.entry, tiers.now())):
            return held.value if held.plain else outcome(tiers, Encoded(held.entry.form, held.entry.data), plan)
        found = await flights.run(
            tiers, key, plan, lambda: function(*args, **kwargs), instead=lambda: _instead(given(), key, plan)
        )
        return outcome(tiers, found, plan)

    return wrapper


def _instead(cache: Cache, key: str, plan: Plan) -> Encoded | None:
    """Return what may be served, from memory, while another thread or task of this process computes."""
    entry = cache.tiers.memory.expired(key)
    now = cache.tiers.now()
    if entry is None or not plan.usable(entry, now):
        return None
    if entry.until <= now:
        cache.tiers.stats.add("stale")
    return Encoded(entry.form, entry.data)


def _key_of(function: Callable[..., Any]) -> Callable[..., str]:
    name = f"{function.__module__}.{function.__qualname__}"

    def key_of(*args: Any, **kwargs: Any) -> str:
        try:
            arguments = orjson.dumps([args, kwargs] if kwargs else [args], option=orjson.OPT_SORT_KEYS)
        except TypeError as error:
            raise TypeError(
                f"the arguments of {name} make no cache key ({error}): give `cached` a key function"
            ) from None
        return name + arguments.decode()

    return key_of
