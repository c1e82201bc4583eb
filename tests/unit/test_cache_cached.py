"""`cached`: one computation for many callers, whoever they are and whatever happens to the one who computes."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from processor.cache import Cache, CacheError, Memory, cached, flight
from processor.cache.testing import MemoryTable
from processor.errors import TransientError

START = 1_700_000_000.0
BOUND = 30  # seconds that a test waits for a thread at most: none comes near it unless it fails


class World:
    """A table and a clock that only sleeping and `pass_` move. Each cache stands for a process."""

    def __init__(self):
        self.table = MemoryTable()
        self.now = START
        self.on_sleep = lambda: None

    def pass_(self, seconds):
        self.now += seconds

    def sleep(self, seconds):
        self.now += seconds
        self.on_sleep()

    def cache(self, memory=None, **given):
        clocks = {"clock": lambda: self.now, "monotonic": lambda: self.now - START, "sleep": self.sleep}
        return Cache("t", memory=memory, client=self.table, **clocks, **given)

    @property
    def leases(self):
        return [key for key in self.table.items if key.endswith(".lease")]


@pytest.fixture
def world():
    return World()


def throttled(*_):
    raise TransientError("ThrottlingException", "Rate exceeded")


def counting(cache, **given):
    """A cached function, and the list of its calls."""
    calls = []

    @cached(cache, **{"ttl": 60, **given})
    def square(number):
        calls.append(number)
        return number * number

    return square, calls


def test_a_function_is_called_once_for_the_same_arguments(world):
    square, calls = counting(world.cache(Memory()))
    assert [square(3), square(3), square(4), square(3)] == [9, 9, 16, 9]
    assert calls == [3, 4]
    assert world.leases == []
    world.pass_(60)
    assert square(3) == 9
    assert calls == [3, 4, 3]


def test_everyone_gets_the_value_as_it_was_stored_the_first_caller_too(world):
    @cached(world.cache(), ttl=60)
    def pair():
        return (1, {"a": (2,)})

    assert pair() == pair() == [1, {"a": [2]}]


def test_keys_are_made_of_name_and_arguments_or_by_a_function(world):
    cache = world.cache()
    square, calls = counting(cache)
    assert square.key(3) == f"{__name__}.counting.<locals>.square[[3]]"
    assert square.key(number=3) == f'{__name__}.counting.<locals>.square[[],{{"number":3}}]'
    with pytest.raises(TypeError, match=r"the arguments of .*square make no cache key .*give `cached` a key function"):
        square(object())
    cube, _ = counting(cache, key=lambda number: f"cube/{number}")
    cube(2)
    assert cache["cube/2"] == 4
    assert (square.__name__, square.__wrapped__(5)) == ("square", 25)
    assert square.forget(3)
    assert calls == [5]


def test_a_result_can_be_forgotten(world):
    square, calls = counting(world.cache(Memory()))
    square(3)
    square.forget(3)
    square(3)
    assert calls == [3, 3]


def test_the_cache_may_be_made_when_it_is_first_needed(world):
    made = []

    def cache():
        made or made.append(world.cache())
        return made[0]

    square, calls = counting(cache)
    assert made == []
    assert [square(3), square(3)] == [9, 9]
    assert calls == [3]


@pytest.mark.parametrize("given", [{"ttl": 0}, {"ttl": -1}, {"stale": -1}, {"early": -1}, {"lease": -1}, {"wait": -1}])
def test_times_below_zero_are_refused_where_the_function_is_decorated(world, given):
    with pytest.raises(ValueError, match=next(iter(given))):
        counting(world.cache(), **given)


def test_generators_are_refused(world):
    def numbers():
        yield 1

    async def more():
        yield 1

    for function in (numbers, more):
        with pytest.raises(TypeError, match="a generator cannot"):
            cached(world.cache(), ttl=1)(function)


def test_none_is_kept_for_a_time_of_its_own(world):
    answers = iter([None, None, 5])
    calls = []

    @cached(world.cache(), ttl=60, negative_ttl=5)
    def find():
        calls.append(1)
        return next(answers)

    assert [find(), find()] == [None, None]
    world.pass_(5)
    assert find() is None
    world.pass_(5)
    assert [find(), find()] == [5, 5]
    world.pass_(59)
    assert find() == 5
    assert len(calls) == 3


def test_none_is_not_kept_where_negative_ttl_is_nothing(world):
    calls = []

    @cached(world.cache(), ttl=60, negative_ttl=0)
    def find():
        calls.append(1)

    assert [find(), find()] == [None, None]
    assert len(calls) == 2
    assert world.table.items == {}


class NoDevice(LookupError):
    pass


class NoSensor(NoDevice):
    pass


def test_exceptions_that_are_results_are_kept_and_raised_again(world):
    calls = []
    cache = world.cache(Memory())

    @cached(cache, ttl=60, negative=(NoDevice,), negative_ttl=5)
    def find(name):
        calls.append(name)
        raise NoSensor(name, 404) if name == "x" else ValueError(name)

    for _ in range(3):
        with pytest.raises(NoDevice) as caught:
            find("x")
        assert caught.value.args == ("x", 404)
    assert calls == ["x"]
    assert cache.get(find.key("x"), "default") == "default", "an exception is no value"
    for _ in range(2):
        with pytest.raises(ValueError, match="y"):
            find("y")
    assert calls == ["x", "y", "y"]
    world.pass_(5)
    with pytest.raises(NoDevice):
        find("x")
    assert calls == ["x", "y", "y", "x"]
    assert world.leases == []


def test_an_exception_that_cannot_be_stored_is_just_raised(world):
    @cached(world.cache(), ttl=60, negative=(NoDevice,))
    def find():
        raise NoDevice(object())

    with pytest.raises(NoDevice):
        find()
    assert world.table.items == {}


def test_a_result_that_cannot_be_stored_is_an_error_and_gives_the_lease_back(world):
    @cached(world.cache(), ttl=60)
    def make():
        return object()

    with pytest.raises(TypeError, match="give the cache a codec"):
        make()
    assert world.table.items == {}


def in_threads(count, work):
    """Run `work(n)` in so many threads at once, and return results or exceptions."""
    gate = threading.Barrier(count)

    def run(n):
        gate.wait(BOUND)
        try:
            return work(n)
        except Exception as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


@pytest.mark.parametrize("lease", [None, 30])
def test_threads_that_miss_at_once_share_one_computation(world, lease):
    square, calls = counting(world.cache(), lease=lease)
    assert in_threads(50, lambda n: square(3)) == [9] * 50
    assert calls == [3]


def test_threads_share_the_failure_too_and_the_next_call_tries_again(world):
    entered, leave = threading.Event(), threading.Event()
    calls = []

    @cached(world.cache(), ttl=60)
    def fail():
        calls.append(1)
        entered.set()
        leave.wait(BOUND)
        raise ValueError("no")

    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(fail)
        entered.wait(BOUND)
        others = [pool.submit(fail) for _ in range(4)]
        leave.set()
        assert {str(each.exception(BOUND)) for each in (first, *others)} == {"no"}
    made = len(calls)
    with pytest.raises(ValueError, match="no"):
        fail()
    assert len(calls) == made + 1
    assert world.leases == []


def test_an_interrupted_thread_leaves_the_computation_to_another(world):
    entered, leave = threading.Event(), threading.Event()
    calls = []

    @cached(world.cache(), ttl=60)
    def work():
        calls.append(1)
        if len(calls) == 1:
            entered.set()
            leave.wait(BOUND)
            raise SystemExit
        return 5

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(work)
        entered.wait(BOUND)
        second = pool.submit(work)
        leave.set()
        assert isinstance(first.exception(BOUND), SystemExit)
        assert second.result(BOUND) == 5
    assert world.leases == []


def test_a_function_that_calls_itself_for_the_same_key_does_not_wait_for_itself(world):
    depth = []

    @cached(world.cache(), ttl=60)
    def again():
        depth.append(1)
        return again() + 1 if len(depth) < 5 else 0

    assert again() == 4


def test_processes_that_miss_at_once_share_one_computation_by_the_lease(world):
    """Two caches without memory, the second asking while the first computes; its pauses let the first finish."""
    square, calls = counting(world.cache())
    entered, leave = threading.Event(), threading.Event()

    @cached(world.cache(), ttl=60, key=square.key)
    def slow(number):
        entered.set()
        leave.wait(BOUND)
        return number * number

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(slow, 3)
        entered.wait(BOUND)
        slept = []

        def on_sleep():
            slept.append(world.now)
            if len(slept) == 3:
                leave.set()
                first.result(BOUND)

        world.on_sleep = on_sleep
        assert square(3) == 9
    assert calls == []
    assert len(slept) == 3
    assert world.leases == []


def test_a_dead_holder_cannot_keep_the_lease(world):
    dead, square_cache = world.cache(), world.cache()
    square, calls = counting(square_cache, lease=30)
    assert dead.tiers.acquire(square.key(3), 30)
    world.on_sleep = lambda: calls and pytest.fail("it slept after it had computed")
    assert square(3) == 9
    assert calls == [3]
    assert 30 <= world.now - START < 30 + 2 * flight.LONGEST
    assert world.leases == []


def test_of_many_that_wait_for_a_dead_holder_one_computes(world):
    caches = [world.cache() for _ in range(8)]
    made = [counting(cache, lease=30, wait=10_000) for cache in caches]

    def sleep(seconds):
        """The threads' sleeps add up on one clock, which stops when the dead one's lease is over."""
        world.now = min(world.now + seconds, START + 30)
        time.sleep(0.001)

    for cache in caches:
        cache.tiers.sleep = sleep
    assert caches[0].tiers.acquire(made[0][0].key(3), 30)
    assert in_threads(8, lambda n: made[n][0](3)) == [9] * 8
    assert sum(len(calls) for _, calls in made) == 1


def test_after_a_dead_holder_the_next_one_is_waited_for_too(world):
    """One takes over the dead one's lease and computes for 20 s: a third, waiting all along, does not compute."""
    dead, second = world.cache().tiers, world.cache().tiers
    square, calls = counting(world.cache(), lease=30)
    assert dead.acquire(square.key(3), 30)
    taken = []

    def on_sleep():
        if not taken:
            owner = second.acquire(square.key(3), 30)
            if owner:
                taken.append((owner, world.now))
        elif world.now >= taken[0][1] + 20:
            second.write(square.key(3), second.entry(second.values.encode(9), 60))
            second.release(square.key(3), taken[0][0])

    world.on_sleep = on_sleep
    assert square(3) == 9
    assert calls == []


def test_a_failed_computation_gives_the_lease_back_at_once(world):
    @cached(world.cache(), ttl=60, key=lambda: "k")
    def fail():
        raise ValueError("no")

    other, _ = counting(world.cache(), key=lambda number: "k")
    with pytest.raises(ValueError, match="no"):
        fail()
    assert other(3) == 9
    assert world.now == START


def test_who_waited_long_enough_computes_without_the_lease(world):
    square, _ = counting(world.cache(), lease=1000, wait=5)
    assert world.cache().tiers.acquire(square.key(3), 1000)
    assert square(3) == 9
    assert 5 <= world.now - START < 5 + 2 * flight.LONGEST
    assert len(world.leases) == 1, "another's lease is not ours to give back"


def test_a_lease_taken_over_is_not_given_back_by_its_first_holder(world):
    one, two = world.cache().tiers, world.cache().tiers
    first = one.acquire("k", 10)
    world.pass_(10)
    second = two.acquire("k", 10)
    assert second
    one.release("k", first)
    assert len(world.leases) == 1
    assert one.acquire("k", 10) is None
    two.release("k", second)
    assert world.leases == []


def test_a_lease_is_ours_though_the_answer_was_lost(world):
    twice = []

    def again(operation, body):
        if operation == "PutItem" and not twice:
            twice.append(1)
            world.table.call(operation, body)

    world.table.after = again
    assert world.cache().tiers.acquire("k", 10)


def test_who_gets_the_lease_after_another_finished_does_not_compute_again(world):
    """Between its miss and its lease, another process computed, stored and gave the lease back."""
    square, calls = counting(world.cache())
    other, others = counting(world.cache(), key=square.key)

    def meanwhile(operation, body):
        if operation == "PutItem":
            world.table.before = lambda *_: None
            assert other(3) == 9

    world.table.before = meanwhile
    assert square(3) == 9
    assert (calls, others) == ([], [3])
    assert world.leases == []


def test_an_expired_value_is_served_while_another_process_computes_and_not_longer_than_allowed(world):
    cache = world.cache()
    square, calls = counting(cache, ttl=10, stale=100)
    square(3)
    world.pass_(20)
    world.table.expire(world.now)
    assert world.cache().tiers.acquire(square.key(3), 1000)
    assert square(3) == 9
    assert calls == [3]
    assert cache.stats.stale == 1
    assert cache.get(square.key(3)) is None, "who did not ask for stale values gets none"
    world.pass_(100)
    assert square(3) == 9
    assert calls == [3, 3]


def test_an_expired_value_is_served_to_threads_while_one_of_them_computes(world):
    entered, leave = threading.Event(), threading.Event()
    values = iter([1, 2])
    cache = world.cache(Memory(stale=1000))

    @cached(cache, ttl=10, stale=100, early=0)
    def value():
        found = next(values)
        if found == 2:
            entered.set()
            leave.wait(BOUND)
        return found

    assert value() == 1
    world.pass_(11)
    with ThreadPoolExecutor(1) as pool:
        refreshing = pool.submit(value)
        entered.wait(BOUND)
        assert [value(), value()] == [1, 1]
        leave.set()
        assert refreshing.result(BOUND) == 2
    assert value() == 2
    assert cache.stats.stale == 2


def slow_square(world, cache, seconds, **given):
    calls = []

    @cached(cache, **{"ttl": 60, **given})
    def square(number):
        calls.append(number)
        world.pass_(seconds)
        return number * number

    return square, calls


def test_a_value_is_refreshed_early_by_a_lot_that_weighs_the_time_left_against_the_cost(world, monkeypatch):
    """XFetch: refresh when now − cost × early × ln(lot) ≥ expiry. Cost 2 s, expiry 60 s after it was stored."""
    cache = world.cache(Memory(stale=1000))
    square, calls = slow_square(world, cache, 2)
    square(3)
    lot = [0.0]
    monkeypatch.setattr(random, "random", lambda: 1 - lot[0])
    world.pass_(55)
    lot[0] = 0.09  # −ln 0.09 × 2 s = 4.8 s < 5 s left
    square(3)
    assert calls == [3]
    lot[0] = 0.08  # 5.05 s
    square(3)
    assert calls == [3, 3]
    assert (cache.stats.computed, cache.stats.early) == (2, 1)
    world.pass_(55)
    assert square(3) == 9
    assert calls == [3, 3, 3]


def test_no_value_is_refreshed_early_where_that_is_switched_off_or_it_cost_nothing_or_never_expires(world, monkeypatch):
    made = [
        slow_square(world, world.cache(Memory(stale=1000), namespace="a"), 2, early=0),
        slow_square(world, world.cache(Memory(stale=1000), namespace="b"), 0),
        slow_square(world, world.cache(Memory(stale=1000), namespace="c"), 2, ttl=None),
    ]
    for square, _ in made:
        square(3)
    monkeypatch.setattr(random, "random", lambda: 1 - 1e-300 or 1.0)
    world.pass_(50)
    for square, calls in made:
        square(3)
        assert calls == [3]


def test_only_one_process_refreshes_early_and_the_others_go_on_with_what_they_have(world, monkeypatch):
    square, calls = slow_square(world, world.cache(), 2)
    square(3)
    monkeypatch.setattr(random, "random", lambda: 1 - 1e-9)
    world.pass_(50)
    assert world.cache().tiers.acquire(square.key(3), 30)
    assert square(3) == 9
    assert calls == [3]


def test_if_the_table_fails_the_function_is_called_or_the_error_raised(world):
    quiet, calls = counting(world.cache())
    loud, _ = counting(world.cache(report_errors=True))
    world.table.before = throttled
    assert [quiet(3), quiet(3)] == [9, 9]
    assert calls == [3, 3]
    with pytest.raises(CacheError):
        loud(3)


def test_if_the_table_fails_threads_still_share(world):
    cache = world.cache()
    entered, leave = threading.Event(), threading.Event()
    calls = []

    @cached(cache, ttl=60)
    def slow():
        calls.append(1)
        entered.set()
        leave.wait(BOUND)
        return 1

    world.table.before = throttled
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(slow)
        entered.wait(BOUND)
        second = pool.submit(slow)
        while not second.running():
            pass
        leave.set()
        assert [first.result(BOUND), second.result(BOUND)] == [1, 1]


def test_a_value_that_cannot_be_read_is_computed_anew(world):
    cache = world.cache()
    square, calls = counting(cache)
    square(3)
    (item,) = world.table.items.values()
    item |= {"form": {"S": "json"}, "data": {"B": "e30x"}}
    assert square(3) == 9
    assert calls == [3, 3]


# Coroutines


def test_coroutines_that_miss_at_once_share_one_computation(world):
    calls = []
    cache = world.cache(Memory())

    @cached(cache, ttl=60)
    async def square(number):
        calls.append(number)
        await asyncio.sleep(0)
        return number * number

    async def main():
        assert await asyncio.gather(*(square(3) for _ in range(1000))) == [9] * 1000
        return await square(3)

    assert asyncio.run(main()) == 9
    assert calls == [3]
    assert asyncio.run(main()) == 9, "another loop is served too"
    assert calls == [3]
    assert world.leases == []


def test_no_request_to_the_table_is_made_in_the_event_loops_thread(world):
    threads = set()
    world.table.before = lambda *_: threads.add(threading.get_ident())

    @cached(world.cache(), ttl=60)
    async def one():
        assert threading.get_ident() == me, "the coroutine itself runs in its loop"
        return 1

    me = threading.get_ident()
    assert asyncio.run(one()) == 1
    assert threads
    assert me not in threads


def test_a_cancelled_caller_leaves_the_computation_to_the_others(world):
    calls = []

    @cached(world.cache(), ttl=60)
    async def slow():
        calls.append(1)
        await release.wait()
        return 5

    async def main():
        global release
        release = asyncio.Event()
        first, second = asyncio.create_task(slow()), asyncio.create_task(slow())
        while not calls:
            await asyncio.sleep(0.001)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        release.set()
        return await second

    assert asyncio.run(main()) == 5
    assert len(calls) == 1


def test_a_computation_nobody_waits_for_any_more_fails_without_noise_and_gives_the_lease_back(world):
    started = []

    @cached(world.cache(), ttl=60)
    async def fail():
        started.append(1)
        await release.wait()
        raise ValueError

    async def main():
        global release
        release = asyncio.Event()
        noise = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: noise.append(context))
        task = asyncio.create_task(fail())
        while not started:
            await asyncio.sleep(0.001)
        task.cancel()
        release.set()
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0.001)
        return noise

    assert asyncio.run(main()) == []
    assert world.leases == []


def test_a_loop_that_ends_amid_a_computation_gives_the_lease_back(world):
    started = []

    @cached(world.cache(), ttl=60)
    async def endless():
        started.append(1)
        await asyncio.Event().wait()

    async def main():
        task = asyncio.create_task(endless())
        while not started:
            await asyncio.sleep(0.001)
        assert not task.done()
        assert len(world.leases) == 1

    asyncio.run(main())
    assert world.leases == []


def test_coroutines_wait_for_another_process_and_keep_exceptions_as_functions_do(world):
    cache = world.cache()
    holder = cache.tiers.acquire("k", 1000)
    assert holder

    @cached(cache, ttl=60, key=lambda: "k", negative=(NoDevice,))
    async def find():
        raise NoDevice("x")

    async def main():
        task = asyncio.create_task(find())
        while "BatchGetItem" not in world.table.calls:
            await asyncio.sleep(0.001)
        cache.tiers.release("k", holder)
        with pytest.raises(NoDevice):
            await task
        with pytest.raises(NoDevice):
            await find()

    asyncio.run(main())
    assert cache.stats.computed == 1
