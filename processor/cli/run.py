"""`processor run`: the main job on one machine, from a simulated fleet or a capture to readings in DynamoDB."""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager

import click
from click.core import ParameterSource

from processor.cli import capture
from processor.cli.chaos import Chaos, under_faults
from processor.cli.dashboard import kept_page, watched
from processor.cli.kept import DRAIN_SECONDS, serve
from processor.cli.progress import Progress
from processor.cli.summary import summary
from processor.local.faults.fault import Fault
from processor.local.fleet import Fleet, Sent
from processor.local.funnel import Funnel
from processor.local.system import STREAM, System
from processor.settings import Settings, own

PENDING = 5_000
"""So many records may wait for the stream to take them."""

KEPT_INTERVAL = 10.0
"""How often each sensor of a kept run measures, in seconds, where no --rate says otherwise: it may run for hours."""

PORT = click.IntRange(0, 65535)
CAPTURE = click.Path(exists=True, dir_okay=False, allow_dash=True)


@click.command()
@click.option("--devices", type=click.IntRange(1, 65_000), default=100, show_default=True, help="Simulated sensors.")
@click.option("--gateways", type=click.IntRange(1, 1000), default=9, show_default=True, help="Simulated gateways.")
@click.option("--shards", type=click.IntRange(1, 50), default=2, show_default=True, help="Shards of the stream.")
@click.option("--seconds", type=click.FloatRange(0.1), help="How long the fleet sends. Default: 20.")
@click.option("--readings", type=click.IntRange(1), help="Stop after so many measurements, or lines of --input.")
@click.option(
    "--rate",
    type=click.FloatRange(0.1),
    help="Measurements a second of the whole fleet (default: one a device every two seconds), or lines a second of "
    "--input (default: as fast as they go).",
)
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed, the same fleet and faults.")
@click.option(
    "--input",
    "source",
    type=CAPTURE,
    help="Send this capture instead of a fleet: JSON Lines of Funnel envelopes or raw payloads; - is standard input. "
    "Any age is accepted.",
)
@click.option(
    "--keep",
    is_flag=True,
    help="Keep serving after the check until Ctrl-C, with a web page and Funnel's entry points; the fleet goes on "
    "(unless --readings limits it), a measurement a device every ten seconds where --rate is not given.",
)
@click.option(
    "--chaos",
    type=Chaos(),
    help="Inject these faults all the while, comma-separated, or all of them: all. --seed draws their moments. The "
    "summary says how often each happened, what was lost and what was doubled; names are in tests/faults/README.md.",
)
@click.option("--dashboard-port", type=PORT, help="The page's port, with --keep. Default: 8787, or a free one.")
@click.option("--funnel-host", default="127.0.0.1", show_default=True, help="Where --keep listens as SORACOM Funnel.")
@click.option("--funnel-port", type=PORT, default=0, help="Its HTTP port. Default: a free one.")
@click.option(
    "--funnel-socket-port", type=PORT, default=0, help="Its TCP and UDP port (Funnel's own: 23080). Default: free ones."
)
@click.option(
    "--funnel-binary", is_flag=True, help="Take any content there, as Funnel set to binary does; not JSON only."
)
def run(
    devices: int,
    gateways: int,
    shards: int,
    seconds: float | None,
    readings: int | None,
    rate: float | None,
    seed: int,
    source: str | None,
    keep: bool,
    chaos: list[Fault] | None,
    dashboard_port: int | None,
    funnel_host: str,
    funnel_port: int,
    funnel_socket_port: int,
    funnel_binary: bool,
) -> None:
    """Run the whole system on this machine: sensors, Kinesis, the ingest function, DynamoDB, and a check at the end.

    It needs no AWS account. The exit status is 1 if anything that was sent is not accounted for.
    """
    _refuse_unused(click.get_current_context(), source is not None, readings is not None)
    if chaos is not None and keep:
        raise click.UsageError("--chaos ends with its check: it does not go with --keep")
    fleet, variables = None, own()
    keys = dict(Settings.read(variables).bindkeys)
    if source is None:
        fleet = Fleet(
            devices=devices, gateways=gateways, rate=rate or devices / 2, seed=seed, start=round(time.time() * 1000)
        )
        keys |= fleet.keys
        until = None if readings else (seconds or 20.0)
        records = fleet.records(duration_ms=None if until is None else round(until * 1000), measurements=readings)
    else:
        records = capture.records(source, rate, readings)
    if chaos is not None:
        with _stoppable():
            passed = under_faults(
                chaos,
                seed,
                lambda system, progress: _send(system, records, progress),
                fleet,
                shards=shards,
                any_age=source is not None,
                keys=keys,
                variables=variables,
            )
        if not passed:
            raise SystemExit(1)
        return
    with (
        _stoppable(),
        System(shards=shards, any_age=source is not None, keys=keys, variables=variables) as system,
        watched(system) as health,
    ):
        progress = Progress(system)
        _send(system, records, progress)
        progress.wait("draining", lambda: system.drain(DRAIN_SECONDS))
        verdict = system.check()
        lines, passed = summary(system, verdict, fleet)
        progress.finish(lines)
        if not keep:
            click.echo("Next       processor run --keep goes on serving: query it, post to it; processor run --help")
        else:
            funnel = Funnel(
                system.kinesis,
                STREAM,
                host=funnel_host,
                http_port=funnel_port,
                socket_port=funnel_socket_port,
                binary=funnel_binary,
                on_record=system.sent.append,
            )
            living = None
            if fleet is not None and not readings:
                fleet.interval = KEPT_INTERVAL * 1000 if rate is None else fleet.interval
                living = fleet
            passed = serve(system, funnel, progress, living, kept_page(system, health, dashboard_port)) and passed
    if not passed:
        raise SystemExit(1)


def _refuse_unused(context: click.Context, captured: bool, counted: bool) -> None:
    """Refuse options that would do nothing."""
    idle = {"devices": captured, "gateways": captured, "seed": captured, "seconds": captured or counted}
    for name, unused in idle.items():
        if unused and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name} does nothing with {'--input' if captured else '--readings'}")


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGTERM end a run as Ctrl-C does, with everything stopped; and Ctrl-C too where a shell made us ignore it."""

    def stop(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _send(system: System, records: Iterator[Sent], progress: Progress) -> None:
    """Send every record at its time; not more than PENDING of them wait for the stream."""

    def send() -> None:
        started = time.monotonic()
        pending: deque[Future[None]] = deque()
        for record in records:
            ahead = record.at / 1000 - (time.monotonic() - started)
            if ahead > 0:
                time.sleep(ahead)
            pending.append(system.put(record.data))
            while len(pending) > PENDING or (pending and pending[0].done()):
                pending.popleft().result()
        for taken in pending:
            taken.result()

    progress.wait("sending", send)
