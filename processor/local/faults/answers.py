"""Faults between the mapping and the function: what the function answers, and how often it is asked."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson

from processor.errors import LocalError
from processor.local.batch import Throttled
from processor.local.faults.fault import Injector

Invoke = Callable[[bytes], Any]


class Answer(Injector):
    """Replaces the answer of an invocation, which has done nothing at all or its work: nobody may believe it."""

    def __init__(self, instead: object, *, every: float = 1.0) -> None:
        self.every = every
        self._instead = instead
        self._replaced: Counter[str] = Counter()

    def invoke(self, _name: str, event: bytes, following: Invoke) -> Any:
        """Answer something else where it is due."""
        if not self.due():
            return following(event)
        self.count()
        with self._lock:
            self._replaced[_name] += 1
            works = self._replaced[_name] % 2 == 0
        if works:
            following(event)
        return self._instead


class AnswerLost(Injector):
    """The invocation does its work, and its answer never arrives: the mapping sees an error."""

    def __init__(self, *, every: float = 1.0) -> None:
        self.every = every

    def invoke(self, _name: str, event: bytes, following: Invoke) -> Any:
        """Raise after the work where it is due."""
        found = following(event)
        if self.due():
            self.count()
            raise LocalError("the invocation's answer was lost (injected)")
        return found


class NotInvoked(Injector):
    """The function cannot be invoked for want of concurrency."""

    def __init__(self, *, every: float = 1.0) -> None:
        self.every = every

    def invoke(self, _name: str, event: bytes, following: Invoke) -> Any:
        """Throttle where it is due."""
        if self.due():
            self.count()
            raise Throttled("too many requests (injected)")
        return following(event)


class Redelivered(Injector):
    """A batch is delivered twice under the same sequence numbers: one after the other, or both at once."""

    def __init__(self, *, at_once: bool = False, every: float = 1.0) -> None:
        self.every = every
        self._at_once = at_once

    def invoke(self, _name: str, event: bytes, following: Invoke) -> Any:
        """Deliver twice where it is due; what the second delivery answers counts."""
        if not self.due():
            return following(event)
        self.count()
        if not self._at_once:
            following(event)
            return following(event)
        with ThreadPoolExecutor(1) as pool:
            other = pool.submit(following, event)
            found = following(event)
            with contextlib.suppress(LocalError):  # the other one may be killed; this one's answer is what counts
                other.result()
        return found


def report(identifier: object) -> dict[str, Any]:
    """Return a report of one failed record by that identifier."""
    return {"batchItemFailures": [{"itemIdentifier": identifier}]}


NOT_JSON = b"{"
NO_LIST = orjson.dumps({"batchItemFailures": "none"})
