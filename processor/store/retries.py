"""Retries with full jitter, bounded in number and by a deadline.

Source: "Exponential Backoff And Jitter", AWS Architecture Blog: each pause is drawn evenly between nothing and a limit
that doubles, so that clients throttled together do not come back together.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from processor.errors import TransientError
from processor.store.failures import DEADLINE, retryable

T = TypeVar("T")

ATTEMPTS = 8
"""With the pauses below, about 1.3 s of waiting on average and 2.6 s at most."""
BASE = 0.025
CAP = 1.0


def pause(made: int, drawn: float) -> float:
    """Return the seconds to wait after so many attempts. drawn: evenly, from 0 to 1."""
    return drawn * min(CAP, BASE * 2.0 ** min(made - 1, 30))  # a power of some thousand is no float any more


class Retries:
    """Runs attempts until one succeeds, fails for good, or time or number is used up.

    sleep, uniform (a number from 0 to 1) and monotonic can be replaced by tests.
    """

    def __init__(
        self,
        *,
        attempts: int = ATTEMPTS,
        sleep: Callable[[float], object] = time.sleep,
        uniform: Callable[[], float] = random.random,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._attempts = attempts
        self._sleep = sleep
        self._uniform = uniform
        self._monotonic = monotonic

    def run(self, attempt: Callable[[], T], deadline: float | None) -> T:
        """Return what `attempt` returns; no attempt is started after `deadline`, in `monotonic` seconds.

        Raises the last attempt's error, with a note that counts the attempts.
        """
        made, error = 0, None
        while deadline is None or self._monotonic() < deadline:
            made += 1
            try:
                return attempt()
            except TransientError as failed:
                error = failed
            seconds = pause(made, self._uniform())
            late = deadline is not None and self._monotonic() + seconds >= deadline
            if made >= self._attempts or late or not retryable(error):
                break
            self._sleep(seconds)
        if error is None:
            raise TransientError(DEADLINE, "no time was left to start a request")
        error.add_note(f"attempt {made} of at most {self._attempts}")
        raise error
