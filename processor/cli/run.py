"""`processor run`: the main job on one machine, from a simulated fleet or a capture to readings in DynamoDB."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import click

from processor.cli.progress import Progress
from processor.cli.summary import next_steps, summary
from processor.errors import LocalError
from processor.local.fleet import Fleet, Sent
from processor.local.funnel import Funnel
from processor.local.outbox import MAXIMUM_RECORD
from processor.local.system import KEY_LENGTH, STREAM, System

DRAIN_SECONDS = 120.0
BATCH_SECONDS = 0.1
"""Records due within so long are put together."""


@click.command()
@click.option("--devices", type=click.IntRange(1, 65_000), default=100, show_default=True, help="Simulated sensors.")
@click.option("--gateways", type=click.IntRange(1, 1000), default=5, show_default=True, help="Simulated gateways.")
@click.option("--shards", type=click.IntRange(1, 50), default=2, show_default=True, help="Shards of the stream.")
@click.option("--seconds", type=click.FloatRange(0.1), help="How long the fleet sends. Default: 20.")
@click.option(
    "--readings", type=click.IntRange(1), help="Stop after so many measurements (or lines of --input) instead."
)
@click.option("--rate", type=click.FloatRange(0.1), help="Measurements a second of the whole fleet (default: one a "
              "device), or lines a second of --input (default: as fast as they go).")  # fmt: skip
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed, the same fleet.")
@click.option("--input", "source", type=click.File("rb"), help="Send this capture instead of a fleet: JSON Lines of "
              "Funnel envelopes or raw payloads; - is standard input. Any age is accepted.")  # fmt: skip
@click.option("--keep", is_flag=True, help="Keep serving afterwards, Funnel's entry points included, until Ctrl-C.")
@click.option("--funnel-host", default="127.0.0.1", show_default=True, help="Where --keep listens as SORACOM Funnel.")
@click.option("--funnel-port", type=click.IntRange(0, 65535), default=0, help="Its HTTP port. Default: a free one.")
@click.option("--funnel-socket-port", type=click.IntRange(0, 65535), default=0, help="Its TCP and UDP port (Funnel's "
              "own is 23080). Default: a free one.")  # fmt: skip
def run(
    devices: int,
    gateways: int,
    shards: int,
    seconds: float | None,
    readings: int | None,
    rate: float | None,
    seed: int,
    source: IO[bytes] | None,
    keep: bool,
    funnel_host: str,
    funnel_port: int,
    funnel_socket_port: int,
) -> None:
    """Run the whole system on this machine: sensors, Kinesis, the ingest function, DynamoDB, and a check at the end.

    It needs no AWS account. The exit status is 1 if anything that was sent is not accounted for.
    """
    fleet = None
    if source is None:
        fleet = Fleet(
            devices=devices, gateways=gateways, rate=rate or devices, seed=seed, start=round(time.time() * 1000)
        )
        until = None if readings else (seconds or 20.0)
        records = fleet.records(duration_ms=None if until is None else round(until * 1000), measurements=readings)
    else:
        records = _lines(source, rate, readings)
    with _stoppable(), System(shards=shards, any_age=source is not None, keys=fleet.keys if fleet else None) as system:
        progress = Progress(system)
        _send(system, records, progress)
        progress.wait("draining", lambda: system.drain(DRAIN_SECONDS))
        verdict = system.check()
        lines, passed = summary(system, verdict, fleet)
        progress.finish(lines)
        if not keep:
            click.echo("Next       processor run --keep goes on serving: query it, post to it; processor run --help")
        else:
            passed = _keep(system, funnel_host, funnel_port, funnel_socket_port, progress) and passed
    if not passed:
        raise SystemExit(1)


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


def _lines(source: IO[bytes], rate: float | None, most: int | None) -> Iterator[Sent]:
    """Yield a capture's lines as records, at a rate where one is asked for."""
    name = getattr(source, "name", "input")
    sent = 0
    for number, line in enumerate(source, 1):
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
    """Send every record at its time, together with those due at about the same time."""

    def send() -> None:
        started = time.monotonic()
        batch: list[bytes] = []
        for record in records:
            ahead = record.at / 1000 - (time.monotonic() - started)
            if batch and (ahead > BATCH_SECONDS or len(batch) == 500):
                system.send(batch)
                batch = []
            if ahead > 0:
                time.sleep(ahead)
            batch.append(record.data)
        if batch:
            system.send(batch)

    progress.wait("sending", send)


def _keep(system: System, host: str, http_port: int, socket_port: int, progress: Progress) -> bool:
    """Serve until Ctrl-C; then check once more, with what came through Funnel's entry points."""
    with Funnel(
        system.kinesis, STREAM, host=host, http_port=http_port, socket_port=socket_port, on_record=system.sent.append
    ) as funnel:
        before = len(system.sent)
        for line in next_steps(system, funnel):
            click.echo(line)
        sys.stdout.flush()
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            click.echo("")
    posted = len(system.sent) - before
    if not posted:
        return True
    progress.wait("draining", lambda: system.drain(DRAIN_SECONDS))
    verdict = system.check()
    click.echo(f"{posted} records came through Funnel's entry points; {verdict.found} readings are in the table now.")
    for line in verdict.differences():
        click.echo(line)
    return verdict.passed
