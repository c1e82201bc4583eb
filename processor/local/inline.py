"""An executor that needs no threads: under a virtual clock everything happens in one, in its order."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any


class Inline(Executor):
    """Does each job at once, in the thread that asks for it."""

    def submit(self, job: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
        """Do it, and return what came of it."""
        done: Future[Any] = Future()
        try:
            done.set_result(job(*arguments, **options))
        except Exception as error:
            done.set_exception(error)
        return done
