"""`processor dashboard`: the page, over the tables that the environment names; and over a kept run's own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import click

from processor.errors import LocalError
from processor.settings import Settings
from processor.store import client

if TYPE_CHECKING:  # the web framework is an extra
    from processor.dashboard.health import RunHealth
    from processor.dashboard.server import Dashboard
    from processor.local.system import System

LOCAL_SECONDS = 2.0
AWS_SECONDS = 30.0
"""How often the page looks for news: each look reads the table of devices, which costs read units on AWS."""

SILENT_MINUTES = 15.0
MISSING = "the page needs starlette and uvicorn: pip install 'processor[dashboard]'"


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen. Other than this: with a token.")
@click.option("--port", type=click.IntRange(0, 65535), help="Default: 8787, or a free one.")
@click.option("--token", help="What a visitor must bring. Default with another --host: a new one, printed.")
@click.option(
    "--silent",
    type=click.FloatRange(min=0, min_open=True),
    default=SILENT_MINUTES,
    show_default=True,
    help="A device that was not heard for so many minutes is silent.",
)
@click.option("--refresh", type=click.FloatRange(0.5), help="Seconds between two looks. Default: 2 locally, 30 on AWS.")
@click.option("--stream", help="The Kinesis stream's name, for its health. Default: TABLE_PREFIX without its hyphen.")
def dashboard(
    host: str, port: int | None, token: str | None, silent: float, refresh: float | None, stream: str | None
) -> None:
    """Serve a web page: the fleet, a device's charts, the pipeline's health, rejected records and their redrive.

    It reads what the standard environment names: real AWS, or a kept run in another terminal. It changes nothing but
    what its redrive button is asked to.
    """
    try:
        from processor.dashboard.cloudwatch import CloudWatchHealth, Names
        from processor.dashboard.server import Dashboard, sources
    except ModuleNotFoundError as error:
        raise LocalError(MISSING) from error
    settings = Settings.read()
    names = Names.of(settings.table_prefix)
    health = CloudWatchHealth(
        lambda: _aws(settings, "cloudwatch"), names if stream is None else names._replace(stream=stream)
    )
    with closing(client(settings)) as dynamodb:
        found = sources(
            settings,
            dynamodb,
            lambda service: _aws(settings, service),
            health,
            refresh=refresh or (LOCAL_SECONDS if settings.endpoint else AWS_SECONDS),
            silent_seconds=silent * 60,
        )
        try:
            with Dashboard(found, host=host, port=port, token=token) as page:
                click.echo(f"The page is at {page.url} (Ctrl-C ends it)")
                while True:
                    time.sleep(0.5)
                    page.check()
        except KeyboardInterrupt:
            click.echo("")


def _aws(settings: Settings, service: str) -> Any:
    """Return a boto3 client that answers, or fails, while somebody waits for it."""
    import boto3
    from botocore.config import Config

    bounds = Config(connect_timeout=3, read_timeout=20, retries={"total_max_attempts": 2}, max_pool_connections=32)
    return boto3.client(service, region_name=settings.region or None, config=bounds)


@contextmanager
def watched(system: System) -> Iterator[RunHealth | None]:
    """Note the health of a run of this process; None where what the page needs is not installed."""
    try:
        from processor.dashboard.health import RunHealth
        from processor.dashboard.server import Dashboard  # noqa: F401 - is it there?
    except ModuleNotFoundError:
        yield None
        return
    functions = {"ingest": system.function.config.memory_mb, "rollup": system.rollup.config.memory_mb}
    with RunHealth(
        system.totals,
        lambda: system.mapping.stats,
        memory_mb=functions,
        rollup=system.rollup_totals,
        rollup_stats=lambda: system.rollup_mapping.stats,
    ) as health:
        yield health


@contextmanager
def kept_page(system: System, health: RunHealth | None, port: int | None) -> Iterator[Dashboard | None]:
    """Serve the page over a run of this process; None where there is no health: see `watched`."""
    if health is None:
        yield None
        return
    from processor.dashboard.server import Dashboard, sources

    with closing(client(system.settings)) as dynamodb:
        found = sources(system.settings, dynamodb, system.aws.client, health, refresh=LOCAL_SECONDS)
        with Dashboard(found, port=port) as page:
            yield page
