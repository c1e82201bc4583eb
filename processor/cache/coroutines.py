"""The same flight for coroutines: the steps of flight.py, awaited. Imported where a coroutine function is decorated.

asyncio takes 10 ms to import, a third of what the whole cache takes: a function without coroutines does without.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Awaitable, Callable, Generator
from typing import Any

from processor.cache.codec import Encoded
from processor.cache.flight import Compute, Plan, Step, steps
from processor.cache.tiers import Tiers


class Tasks:
    """Single flight for coroutines: one task a key and event loop, which outlives the caller that started it."""

    def __init__(self) -> None:
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, asyncio.Task[Encoded]]]
        self._loops = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()

    async def run(
        self,
        tiers: Tiers,
        key: str,
        plan: Plan,
        compute: Callable[[], Awaitable[Any]],
        *,
        instead: Callable[[], Encoded | None],
    ) -> Encoded:
        """Return the key's value; see Threads.run. A cancelled caller leaves the task to the others."""
        loop = asyncio.get_running_loop()
        with self._lock:
            tasks = self._loops.setdefault(loop, {})
        task = tasks.get(key)
        if task is None:
            task = tasks[key] = loop.create_task(drive_async(steps(tiers, key, plan), compute))

            def ended(task: asyncio.Task[Encoded]) -> None:
                del tasks[key]
                if not task.cancelled():
                    task.exception()  # asked for, so that asyncio does not complain if every caller was cancelled

            task.add_done_callback(ended)
        elif (other := instead()) is not None:
            return other
        return await asyncio.shield(task)


async def drive_async(work: Generator[Step, Any, Encoded], compute: Callable[[], Awaitable[Any]]) -> Encoded:
    """Carry out the steps in this event loop; whatever talks to the table does so in a thread."""
    reply: Any = None
    error: BaseException | None = None
    while True:
        try:
            step = work.send(reply) if error is None else work.throw(error)
        except StopIteration as end:
            result: Encoded = end.value
            return result
        reply = error = None
        try:
            if isinstance(step, float):
                await asyncio.sleep(step)
            elif step is Compute.STEP:
                reply = await compute()
            else:
                reply = await asyncio.to_thread(step)
        except BaseException as failed:  # the generator decides, and raises it again
            error = failed
