"""`processor run`: the main job on one machine, from a simulated fleet or a capture to readings in DynamoDB."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import IO, TYPE_CHECKING, Self

import click
from click.core import ParameterSource

from processor.cli.chaos import Chaos, under_faults
from processor.cli.dashboard import kept_page, watched
from processor.cli.progress import Progress
from processor.cli.summary import next_steps, summary
from processor.errors import LocalError
from processor.local.faults.fault import Fault
from processor.local.fleet import Fleet, Sent
from processor.local.funnel import Funnel
from processor.local.outbox import MAXIMUM_RECORD
from processor.local.system import KEY_LENGTH, STREAM, System
from processor.settings import Settings, own

if TYPE_CHECKING:  # the web framework is an extra
    from processor.dashboard.server import Dashboard

DRAIN_SECONDS = 120.0
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
        records = _lines(source, rate, readings)
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
            passed = _keep(system, funnel, progress, living, kept_page(system, health, dashboard_port)) and passed
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


@contextmanager
def _opened(source: str) -> Iterator[IO[bytes]]:
    """Open a capture; standard input through a file of our own.

    A thread that waits for input when the process ends must not hold the interpreter's own `sys.stdin`.
    """
    with open(os.dup(0) if source == "-" else source, "rb") as lines:  # noqa: PTH123 - a descriptor has no Path
        yield lines


def _lines(source: str, rate: float | None, most: int | None) -> Iterator[Sent]:
    """Yield a capture's lines as records, at a rate where one is asked for."""
    name = "standard input" if source == "-" else source
    with _opened(source) as lines:
        yield from _records(name, lines, rate, most)


def _records(name: str, lines: IO[bytes], rate: float | None, most: int | None) -> Iterator[Sent]:
    sent = 0
    for number, line in enumerate(lines, 1):
        data = line.strip()
        if not data:
            continue
        if len(data) > MAXIMUM_RECORD - KEY_LENGTH:
            raise LocalError(
                f"{name}, line {number}: {len(data):,} bytes, but the embedded Kinesis takes records of up to "
                f"{MAXIMUM_RECORD:,}, key included (AWS: 10 MiB): split the line's payload"
            )
        yield Sent(round(sent * 1000 / rate) if rate else 0, data)
        sent += 1
        if sent == most:
            return
    if not sent:
        raise LocalError(f"{name} has no lines: it takes one Funnel envelope or payload a line (JSON Lines)")


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


class _Living:
    """The fleet of a kept run, sending on in a thread of its own until it is left."""

    def __init__(self, system: System, fleet: Fleet | None) -> None:
        self._system = system
        self._fleet = fleet
        self.sent = 0
        self.failure: BaseException | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fleet", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            if self._fleet is not None:
                self._send(self._fleet)
        except BaseException as error:
            self.failure = error

    def _send(self, fleet: Fleet) -> None:
        started = time.time()
        fleet.start = round(started * 1000)
        for record in fleet.records():
            if self._stopping.wait(max(0.0, started + record.at / 1000 - time.time())):
                return
            self._system.put(record.data).result()
            self.sent += 1


def _keep(
    system: System,
    funnel: Funnel,
    progress: Progress,
    fleet: Fleet | None,
    serving: AbstractContextManager[Dashboard | None],
) -> bool:
    """Serve until Ctrl-C, the fleet going on; then check once more, with what came through Funnel's entry points."""
    before = len(system.sent)
    with funnel, serving as page:
        for line in next_steps(system, funnel, None if page is None else page.url):
            click.echo(line)
        sys.stdout.flush()
        with _Living(system, fleet) as living:
            try:
                while living.failure is None:
                    time.sleep(0.5)
                    system.alive()
                    if page is not None:
                        page.check()
            except KeyboardInterrupt:
                click.echo("")
        if living.failure is not None:
            raise living.failure
    posted = len(system.sent) - before - living.sent
    if len(system.sent) == before:
        return True
    progress.wait("draining", lambda: system.drain(DRAIN_SECONDS))
    verdict = system.check()
    click.echo(f"{posted} records came through Funnel's entry points; {verdict.found} readings are in the table now.")
    for line in verdict.differences():
        click.echo(line)
    return verdict.passed
