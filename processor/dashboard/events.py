"""What changed, sent to every page that is open, as server-sent events.

One job looks at the sources as long as a page is open, however many pages there are. A page that connects, or connects
again, gets everything first; so nothing it missed matters.

    fleet     {now, rows}: every device's row
    devices   {now, rows, gone}: the rows that changed, by address
    health    the snapshot, with the last few samples only as its history
    rejected  {records, objects}
    trouble   {error}: a source could not be read; what the page shows is old
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson

from processor.dashboard.fleet import Fleet
from processor.dashboard.health import Health
from processor.dashboard.rejected import Rejected

KEEPALIVE_SECONDS = 15.0
QUEUED = 100
"""A page that is so many events behind is let go; it comes again, and gets everything."""

SAMPLES = 5
"""So many samples of the pipeline's history are sent: what CloudWatch gets late changes some that were sent before."""

LOG = logging.getLogger("processor.dashboard")


def event(name: str, data: Any) -> bytes:
    """Return one server-sent event."""
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps(data) + b"\n\n"


class Events:
    """Looks at the sources every `refresh` seconds while somebody listens, and tells what changed.

    closing: tells when the server ends; then every stream does.
    """

    def __init__(
        self, fleet: Fleet, health: Health, rejected: Rejected, *, refresh: float, closing: Callable[[], bool]
    ) -> None:
        self._fleet = fleet
        self._health = health
        self._rejected = rejected
        self._refresh = refresh
        self._closing = closing
        self._listeners: set[asyncio.Queue[bytes | None]] = set()
        self._last: dict[str, Any] = {}
        self._job: asyncio.Task[None] | None = None
        self._looking = asyncio.Lock()
        self._now = asyncio.Event()

    async def stream(self) -> AsyncIterator[bytes]:
        """Yield events for one page, from everything on."""
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(QUEUED)
        if self._job is None:
            await self._look()  # which may find what another page, that came meanwhile, does not know
        for name, data in self._everything():
            queue.put_nowait(event(name, data))
        self._listeners.add(queue)
        if self._job is None:
            self._job = asyncio.create_task(self._keep_looking())
        try:
            quiet = 0.0
            while not self._closing():
                try:
                    found = await asyncio.wait_for(queue.get(), 0.5)
                except TimeoutError:
                    quiet += 0.5
                    if quiet >= KEEPALIVE_SECONDS:
                        quiet = 0.0
                        yield b": still here\n\n"
                    continue
                if found is None:
                    return
                quiet = 0.0
                yield found
        finally:
            self._listeners.discard(queue)
            if not self._listeners and self._job is not None:
                self._job.cancel()
                self._job = None

    def look_now(self) -> None:
        """Look at the sources without waiting: something was changed by the page itself."""
        self._now.set()

    async def _keep_looking(self) -> None:
        while not self._closing():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._now.wait(), self._refresh)
            self._now.clear()
            await self._look()

    def _tell(self, found: bytes) -> None:
        for queue in list(self._listeners):
            if queue.full():
                self._listeners.discard(queue)
                while not queue.empty():
                    queue.get_nowait()
                queue.put_nowait(None)
            else:
                queue.put_nowait(found)

    async def _look(self) -> None:
        """Ask every source, and tell every page what changed."""
        async with self._looking:
            changes: list[tuple[str, Any]] = []
            errors = []
            sources: dict[str, Callable[[], Any]] = {
                "fleet": self._fleet.rows,
                "health": self._health.snapshot,
                "rejected": self._rejected.count,
            }
            found = await asyncio.gather(*map(asyncio.to_thread, sources.values()), return_exceptions=True)
            for name, result in zip(sources, found, strict=True):
                if isinstance(result, Exception):
                    errors.append(f"{name}: {result}")
                    LOG.debug("%s could not be read", name, exc_info=result)
                elif isinstance(result, BaseException):
                    raise result
                else:
                    changes += self._changed(name, result)
            if errors != self._last.get("trouble", []):
                self._last["trouble"] = errors
                changes.append(("trouble", {"error": "; ".join(errors)}))
            for name, data in changes:
                self._tell(event(name, data))

    def _changed(self, name: str, result: Any) -> list[tuple[str, Any]]:
        before, self._last[name] = self._last.get(name), result
        if name == "fleet":
            known = before or {}
            rows = [row for device, row in result.items() if known.get(device) != row]
            gone = [device for device in known if device not in result]
            return [("devices", {"now": _now(), "rows": rows, "gone": gone})] if rows or gone else []
        if name == "rejected":
            return [("rejected", _counts(result))] if result != before else []
        return [("health", _latest(result))] if result != before else []

    def _everything(self) -> list[tuple[str, Any]]:
        last = self._last
        found: list[tuple[str, Any]] = []
        if "fleet" in last:
            found.append(("fleet", {"now": _now(), "rows": list(last["fleet"].values())}))
        if "health" in last:
            found.append(("health", _latest(last["health"])))
        if "rejected" in last:
            found.append(("rejected", _counts(last["rejected"])))
        if last.get("trouble"):
            found.append(("trouble", {"error": "; ".join(last["trouble"])}))
        return found


def _now() -> int:
    return round(time.time() * 1000)


def _counts(result: tuple[int, int]) -> dict[str, int]:
    return {"records": result[0], "objects": result[1]}


def _latest(snapshot: dict[str, Any]) -> dict[str, Any]:
    return snapshot | {"history": {name: column[-SAMPLES:] for name, column in snapshot["history"].items()}}
