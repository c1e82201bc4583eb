"""`processor replay`: records of the past, from the archive or a file, into the table once more, or into a stream."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from processor.archive import PREFIX, Piece, archived, capture
from processor.checkpoint import Checkpoint
from processor.cli.jobs import s3, stores
from processor.cli.times import When, iso
from processor.errors import ProcessorError, SourceError
from processor.local.outbox import Outbox
from processor.replay import Dated, Progress, Replay, Sink, Table
from processor.settings import Settings
from processor.store import region_of

PLAIN_SECONDS = 2.0
SHOWN = ("stored", "duplicates", "rejected")
KEY_BITS = 64


@click.command()
@click.argument("source", metavar="SOURCE")
@click.option("--from", "start", type=When(), help="Records that Funnel had at this time or later.")
@click.option("--to", "end", type=When(), help="Records that Funnel had before this time.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Records a second, at most.")
@click.option(
    "--resume",
    "state",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Note in this file what is done, and go on from there where it exists. Of one source, time and destination.",
)
@click.option(
    "--arrived-at",
    "arrived",
    type=When(),
    help="Take all records as arrived then. Default: as Funnel says; --from and --to mean that where it says it.",
)
@click.option("--to-stream", "stream", metavar="NAME", help="Put the records into this Kinesis stream instead.")
def replay(
    source: str,
    start: int | None,
    end: int | None,
    rate: float | None,
    state: Path | None,
    arrived: int | None,
    stream: str | None,
) -> None:
    """Store once more what SOURCE holds. What is stored already stays as it is, to the last byte.

    SOURCE is the archive in S3 (s3://BUCKET, or s3://BUCKET/PREFIX), a file of Funnel envelopes or payloads, one a
    line, gzipped or not, or - for standard input. A record whose envelope does not say when Funnel had it is left out,
    and counted as undated, unless --arrived-at says when it arrived. With --from or --to, one that cannot be read is
    left out in the same way, and counted as unreadable.
    """
    _refuse(source, start, end, state, arrived, stream)
    settings = Settings.read()
    pieces = _pieces(source, settings, start, end)
    checkpoint = None
    if state is not None:
        place = source if "://" in source else str(Path(source).resolve())
        asked = {"source": place, "from": start, "to": end, "arrived": arrived}
        checkpoint = Checkpoint(state, asked | _destination(settings, stream))
    with _closed(checkpoint), _terminable(), _sink(settings, stream) as sink, _Shown(pieces) as shown:
        job = Replay(sink, start=start, end=end, arrived=arrived, rate=rate, checkpoint=checkpoint, progress=shown.show)
        try:
            job.run(pieces)
        except (KeyboardInterrupt, ProcessorError) as error:
            shown.stop()
            _summary(job.progress, stream)
            goes_on = state is not None and not isinstance(error, SourceError)  # a source stays as wrong as it is
            hint = f". The same command goes on from here: {state} knows how far it is." if goes_on else ""
            raise click.ClickException((str(error) or "interrupted").removesuffix(".") + hint) from None
    _summary(job.progress, stream)


def _refuse(
    source: str, start: int | None, end: int | None, state: Path | None, arrived: int | None, stream: str | None
) -> None:
    """Refuse options that make no sense together."""
    if start is not None and end is not None and start >= end:
        raise click.UsageError(f"--from ({iso(start)}) is not before --to ({iso(end)})")
    if stream is not None and arrived is not None:
        raise click.UsageError("--arrived-at does nothing with --to-stream: what is put into a stream arrives now")
    if source == "-" and state is not None:
        raise click.UsageError("--resume needs a source that can be read again, not standard input")
    if state is not None and state.exists() and Path(source).exists() and state.samefile(source):
        raise click.UsageError(f"--resume would write into the source itself ({state}): give another file")


def _pieces(source: str, settings: Settings, start: int | None, end: int | None) -> list[Piece]:
    """Return the objects or the file of a source. Raises SourceError where there are none."""
    if source == "-":
        return [Piece("standard input", 0, lambda: _input())]
    if source.startswith("s3://"):
        bucket, _, prefix = source.removeprefix("s3://").partition("/")
        found = list(archived(s3(settings), bucket, prefix or PREFIX, start, end))
        if not found:
            raise SourceError(
                f"s3://{bucket}/{prefix or PREFIX} has no objects of these times: is the archive switched on "
                "(`archive` in infra/terraform)?"
            )
        return found
    path = Path(source)
    if not path.is_file():
        raise SourceError(f"{source} is no file: SOURCE takes a file, -, or s3://BUCKET/PREFIX")
    return [capture(path)]


def _destination(settings: Settings, stream: str | None) -> dict[str, str | None]:
    """Return what tells a destination from all others: what is done for one is not done for another."""
    if stream is None:
        return {"table": settings.readings_table, "region": region_of(settings), "endpoint": settings.endpoint}
    meta = _kinesis(settings).meta
    return {"stream": stream, "region": meta.region_name, "endpoint": meta.endpoint_url}


def _kinesis(settings: Settings) -> Any:
    import boto3

    return boto3.client("kinesis", region_name=settings.region or None)


def _input() -> BufferedReader:
    return open(os.dup(0), "rb")  # noqa: PTH123 - a descriptor has no Path, and the reader closes it


@contextmanager
def _closed(checkpoint: Checkpoint | None) -> Iterator[None]:
    try:
        yield
    finally:
        if checkpoint is not None:
            checkpoint.close()


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end a replay as Ctrl-C does, with a summary and how to go on."""

    def stop(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _sink(settings: Settings, stream: str | None) -> Iterator[Sink]:
    if stream is None:
        with stores(settings) as (writer, rules):
            yield Table(writer, rules)
        return
    with closing(Outbox(_kinesis(settings), stream)) as outbox:
        yield Stream(outbox)


class Stream:
    """The sink that puts records into a stream, under random keys, as Funnel does: they arrive anew, now."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def take(self, records: list[Dated]) -> Mapping[str, int]:
        """Put the records, and wait until the stream has taken them all."""
        try:
            futures = [self._outbox.put(f"{random.getrandbits(KEY_BITS):016x}", each.data) for each in records]
        except ValueError as error:
            raise SourceError(str(error)) from None
        for taken in futures:
            taken.result()
        return {"put": len(records)}


class _Shown:
    """A bar on a terminal, a plain line every two seconds elsewhere."""

    def __init__(self, pieces: list[Piece]) -> None:
        self._total = sum(piece.size for piece in pieces)
        self._pieces = len(pieces)
        self._live = sys.stderr.isatty()
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task("replaying", total=self._total or None)
        self._began = self._last = time.monotonic()

    def __enter__(self) -> _Shown:
        if self._live:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._bar.stop()

    def show(self, progress: Progress) -> None:
        now = time.monotonic()
        rate = progress.records / max(now - self._began, 0.001)
        counts = "".join(f", {count:,} {name}" for name, count in progress.ledger.items() if count and name in SHOWN)
        text = f"{progress.records:,} records, {rate:,.0f}/s{counts}"
        if self._live:
            self._bar.update(self._task, completed=progress.size, description=text)
        elif now - self._last >= PLAIN_SECONDS:
            self._last = now
            share = f"{progress.size / self._total:.0%} of {self._pieces} objects: " if self._total else ""
            click.echo(f"{now - self._began:6.1f} s  {share}{text}", err=True)


def _summary(progress: Progress, stream: str | None) -> None:
    """Print what became of the records; each line adds up."""
    see = " (see --arrived-at)" if stream is None else ""
    left_out = {
        "of another time": progress.outside,
        f"undated{see}": progress.undated,
        f"unreadable and so of no known time{see}": progress.unreadable,
    }
    click.echo(
        f"Replayed   {progress.sent:,} of {progress.records:,} records"
        + "".join(f", {count:,} {what}" for what, count in left_out.items() if count)
        + (f"; {progress.resumed:,} were done before" if progress.resumed else "")
    )
    if stream is None:
        names = ("stored", "duplicates", "rejected", "ignored")
        ledger: Mapping[str, Any] = progress.ledger
        click.echo(
            f"Ledger     {ledger['received']:,} advertisements received = "
            + " + ".join(f"{ledger[name]:,} {name}" for name in names)
        )
