"""Work in parallel whose results are wanted in order, with no more of them waiting than fit in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")

FIRST = 8
"""So many are begun before it is known what one weighs."""


def ahead(
    jobs: Iterable[Job],
    work: Callable[[Job], Result],
    *,
    threads: int,
    weigh: Callable[[Result], int],
    most: int,
) -> Iterator[tuple[Job, Result]]:
    """Yield (job, result) in the order of the jobs, `threads` of them at work ahead of whoever takes the results.

    What waits, or is on its way, is held to a weight of about `most`, by what results weighed so far; one job goes on
    whatever it weighs. Raises what `work` raises. Who leaves early does not wait for what is under way: it may wait for
    read units, which end when the client is closed.
    """
    waiting = iter(jobs)
    begun: deque[tuple[Job, Future[Result]]] = deque()
    weights: deque[int] = deque(maxlen=64)

    def weighed(job: Job) -> Result:
        result = work(job)
        weights.append(weigh(result))
        return result

    def room() -> bool:
        if not begun or not weights:
            return len(begun) < min(FIRST, threads)
        known = list(weights)
        return len(begun) < min(threads, max(1, most * len(known) // max(1, sum(known))))

    pool = ThreadPoolExecutor(threads, thread_name_prefix="ahead")
    try:
        while True:
            while room():
                try:
                    job = next(waiting)
                except StopIteration:
                    break
                begun.append((job, pool.submit(weighed, job)))
            if not begun:
                return
            job, future = begun[0]
            result = future.result()
            begun.popleft()
            yield job, result
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
