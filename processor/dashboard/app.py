"""The routes: the page and its files, what it asks for as JSON, the events, and the one thing that changes anything."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from processor.dashboard.events import Events
from processor.dashboard.fleet import Fleet
from processor.dashboard.guard import Guard
from processor.dashboard.health import Health
from processor.dashboard.rejected import Busy, Rejected
from processor.dashboard.series import POINTS, Series
from processor.errors import DecodeError, ProcessorError, SettingsError
from processor.reading import device_id

STATIC = Path(__file__).parent / "static"
PAGES = ("/", "/devices/{device:path}", "/pipeline", "/rejected")
"""A device's id may hold slashes, and a path comes decoded: so the id is always the last of it."""

DEFAULT_MS = 3_600_000
MOST_BODY = 256 * 1024

LOG = logging.getLogger("processor.dashboard")


class Sources(NamedTuple):
    """Where the page's answers come from, and every how many seconds they are looked at."""

    fleet: Fleet
    series: Series
    health: Health
    rejected: Rejected
    refresh: float


def json(data: Any, status: int = 200) -> Response:
    """Return data as JSON."""
    return Response(orjson.dumps(data), status, media_type="application/json")


def problem(status: int, message: str) -> Response:
    """Return an error in words, as the page shows it."""
    return json({"error": message}, status)


class Api:
    """The answers, one method for each."""

    def __init__(self, sources: Sources, events: Events) -> None:
        self._sources = sources
        self._events = events

    async def page(self, _request: Request) -> Response:
        """Give the page; which part of it is shown, its address says."""
        return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})

    async def devices(self, _request: Request) -> Response:
        """Give every device's row."""
        rows = await run_in_threadpool(self._sources.fleet.rows)
        return json({"now": round(time.time() * 1000), "rows": list(rows.values())})

    async def device(self, request: Request) -> Response:
        """Give one device, with its latest values and gateways."""
        found = await run_in_threadpool(self._sources.fleet.one, _address(request))
        return problem(404, "the table of devices does not know it") if found is None else json(found[0])

    async def series(self, request: Request) -> Response:
        """Give one device's history: from and to in ms since 1970, resolution, points."""
        device, query = _address(request), request.query_params
        end = _integer(query.get("to"), "to", round(time.time() * 1000))
        start = _integer(query.get("from"), "from", end - DEFAULT_MS)
        points = _integer(query.get("points"), "points", POINTS)
        resolution = query.get("resolution", "auto")

        def read() -> dict[str, Any] | None:
            found = self._sources.fleet.one(device)
            if found is None:
                return None
            return self._sources.series.read(found[1].device, start, end, resolution=resolution, points=points)

        answer = await run_in_threadpool(read)
        return problem(404, "the table of devices does not know it") if answer is None else json(answer)

    async def pipeline(self, _request: Request) -> Response:
        """Give the pipeline's health with its history."""
        return json(await run_in_threadpool(self._sources.health.snapshot))

    async def rejected(self, _request: Request) -> Response:
        """Give the latest rejected records."""
        return json(await run_in_threadpool(self._sources.rejected.list))

    async def events(self, _request: Request) -> Response:
        """Give what changes, as it changes."""
        return StreamingResponse(
            self._events.stream(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
        )

    async def redrive(self, request: Request) -> Response:
        """Redrive rejected records: the only request that changes anything."""
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return problem(415, "a redrive is asked for in JSON")
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > MOST_BODY:
                return problem(413, "that names too many records: use a filter")
        try:
            asked = orjson.loads(body)
        except orjson.JSONDecodeError:
            asked = None
        if not isinstance(asked, dict):
            return problem(400, "a redrive takes a JSON object")
        result = await run_in_threadpool(self._sources.rejected.redrive, asked)
        if not result["dry_run"]:
            self._events.look_now()
        return json(result)


def _address(request: Request) -> str:
    return device_id(request.path_params["device"])


def _integer(text: str | None, name: str, default: int) -> int:
    if text is None:
        return default
    try:
        return int(text)
    except ValueError:
        raise SettingsError(f"{name} is a whole number, not {text[:40]!r}") from None


async def _failed(_request: Request, error: Exception) -> Response:
    """Answer what a source raised: the asker's mistakes with 400, what AWS or the store would not do with 502."""
    if isinstance(error, SettingsError | DecodeError):
        return problem(400, str(error))
    if isinstance(error, Busy):
        return problem(409, str(error))
    LOG.warning("%s", error)
    return problem(502, str(error))


def app(
    sources: Sources,
    *,
    token: str | None = None,
    names: frozenset[str] = frozenset(),
    closing: Callable[[], bool] = lambda: False,
) -> ASGIApp:
    """Return the whole page as an ASGI application. token, names: see guard.py. closing: the server is about to end."""
    from botocore.exceptions import BotoCoreError, ClientError

    events = Events(sources.fleet, sources.health, sources.rejected, refresh=sources.refresh, closing=closing)
    api = Api(sources, events)
    routes = [
        *(Route(path, api.page, methods=["GET"]) for path in PAGES),
        Mount("/static", StaticFiles(directory=STATIC)),
        Route("/api/devices", api.devices, methods=["GET"]),
        Route("/api/devices/{device:path}", api.device, methods=["GET"]),
        Route("/api/series/{device:path}", api.series, methods=["GET"]),
        Route("/api/pipeline", api.pipeline, methods=["GET"]),
        Route("/api/rejected", api.rejected, methods=["GET"]),
        Route("/api/events", api.events, methods=["GET"]),
        Route("/api/redrive", api.redrive, methods=["POST"]),
    ]
    page = Starlette(
        routes=routes,
        middleware=[Middleware(GZipMiddleware, minimum_size=2000)],
        exception_handlers=dict.fromkeys((ProcessorError, Busy, BotoCoreError, ClientError), _failed),
    )
    return Guard(page, token=token, names=names)
