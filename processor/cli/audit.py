"""`processor audit`: marked readings sent through the whole system, and each accounted for."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

import click
import orjson
from rich.progress import Progress

from processor.audit import marks
from processor.audit.count import Auditor, Counts, Truth, count
from processor.audit.marks import Post, address
from processor.audit.tap import Tap
from processor.cli.verify import progress_bar
from processor.errors import SettingsError
from processor.local.outbox import Outbox
from processor.local.system import KEY_LENGTH, STREAM, System
from processor.settings import Settings, own

TIMEOUT, LOCAL_TIMEOUT = 900.0, 300.0
INTERVAL, LOCAL_INTERVAL = 10.0, 1.0
"""Seconds between two looks at the tables."""

PENDING = 2_000
"""So many records may wait for the stream to take them."""

UNITS = 3
"""Write units that a reading may take, at most: its cell, a copy's, its share of roll-ups and states."""

PRICE = 0.625 / 1_000_000
"""US dollars for a write unit on demand, in us-east-1 (Amazon DynamoDB pricing, November 2024)."""


EMBEDDED = "the embedded AWS, which this command started: --stream NAME is for one of the account"


class Place(NamedTuple):
    """Where the audit is, in words: what takes records, the tables, and what raises an error when it is gone."""

    name: str
    put: Callable[[bytes], Future[None]]
    dynamodb: Any
    streams: Any
    prefix: str
    alive: Callable[[], None]
    embedded: bool

    @property
    def tables(self) -> tuple[str, str, str]:
        """The names of the three tables."""
        return f"{self.prefix}readings", f"{self.prefix}rollups", f"{self.prefix}devices"


@click.command()
@click.option(
    "--count",
    "number",
    type=click.IntRange(1, marks.MAXIMUM),
    default=1_000,
    show_default=True,
    help="Marked readings to send.",
)
@click.option("--seed", type=click.IntRange(0, marks.SEEDS - 1), help="The run's number, which makes its devices' "
              "addresses and values. Default: a random one.")  # fmt: skip
@click.option("--rate", type=click.FloatRange(1), help="Readings a second. Default: as fast as they go.")
@click.option("--shards", type=click.IntRange(1, 50), default=4, show_default=True, help="Of the embedded stream.")
@click.option("--stream", help=f"Send into this stream of the account. Default: {STREAM} where AWS_ENDPOINT_URL is "
              "set; else an embedded AWS is started.")  # fmt: skip
@click.option("--timeout", type=click.FloatRange(0), help=f"Seconds to wait for all of them. Default: {TIMEOUT:g}; "
              f"{LOCAL_TIMEOUT:g} on this machine.")  # fmt: skip
@click.option("--clean", is_flag=True, help="Delete the marked items again at the end, from tables that are not the "
              "embedded ones.")  # fmt: skip
@click.option("--yes", is_flag=True, help="Do not ask before writing to an AWS account.")
@click.option("--show", "shown", type=click.IntRange(0), default=20, show_default=True, help="Faults to name.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def audit(
    number: int,
    seed: int | None,
    rate: float | None,
    shards: int,
    stream: str | None,
    timeout: float | None,
    clean: bool,
    yes: bool,
    shown: int,
    form: str,
) -> None:
    """Send marked readings through the whole system, and account for each: stored, streamed, rolled up, once.

    On an embedded AWS, which it starts; or into a real stream (--stream), whose function, tables and roll-ups are then
    what is audited. The count is independent: it reads the items themselves. The exit status is 1 unless every one is
    accounted for.
    """
    settings = Settings.read()
    seed = random.randrange(marks.SEEDS) if seed is None else seed  # noqa: S311 - no secret
    sent = marks.posts(marks.marks(number, seed, round(time.time() * 1000)), seed)
    truth = Truth(sent)
    embedded = stream is None and settings.endpoint is None
    if embedded and clean:
        raise click.UsageError("--clean is for other tables: the embedded AWS is gone at the end anyway")
    local = settings.endpoint is not None or embedded
    wait = (LOCAL_TIMEOUT if local else TIMEOUT) if timeout is None else timeout
    with _embedded(shards) if embedded else _configured(settings, stream or STREAM, number, yes) as place:
        click.echo(f"Auditing {place.name}", err=True)
        job = Audit(place, truth, LOCAL_INTERVAL if local else INTERVAL)
        with progress_bar() as bar:
            job.send(sent, rate, bar)
            counts = job.wait(wait, bar)
            cleaned = job.clean(wait, bar) if clean else None
    _say(place.name, seed, len(sent), truth, counts, cleaned, shown, form)
    if not counts.passed:
        raise SystemExit(1)


@contextmanager
def _embedded(shards: int) -> Iterator[Place]:
    with System(shards=shards, variables=own()) as system:
        clients = system.aws.client("dynamodb"), system.aws.client("dynamodbstreams")
        yield Place(EMBEDDED, system.put, *clients, system.settings.table_prefix, system.alive, True)


@contextmanager
def _configured(settings: Settings, stream: str, number: int, yes: bool) -> Iterator[Place]:
    """Give the account, or the endpoint, that the environment names; ask before writing to an account."""
    import boto3

    kinesis, dynamodb, streams = (
        boto3.client(service, region_name=settings.region or None)
        for service in ("kinesis", "dynamodb", "dynamodbstreams")
    )
    arn = kinesis.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]["StreamARN"]
    if settings.endpoint is None and not yes:
        click.confirm(
            f"This sends {number:,} marked readings into {arn}; they cost up to {number * UNITS:,} write units (about "
            f"{max(0.01, number * UNITS * PRICE):.2f} US dollars) and stay until they expire, or --clean. Go on?",
            abort=True,
            err=True,
        )
    with closing(Outbox(kinesis, stream)) as outbox:

        def put(data: bytes) -> Future[None]:
            return outbox.put(f"{random.getrandbits(64):0{KEY_LENGTH}x}", data)

        at = "" if settings.endpoint is None else f", at {kinesis.meta.endpoint_url}"
        name = f"the stream {arn}, region {kinesis.meta.region_name}{at}"
        yield Place(name, put, dynamodb, streams, settings.table_prefix, lambda: None, False)


class Audit:
    """One audit: sends, waits, cleans. interval: seconds between two looks at the tables."""

    def __init__(self, place: Place, truth: Truth, interval: float) -> None:
        self._place = place
        self._truth = truth
        self._interval = interval
        self._auditor = Auditor(place.dynamodb, place.tables, truth.devices, place.embedded)
        self._tap = self._tapped(truth.devices[0][: -len(":00")])
        if not place.embedded and any(any(table) for table in self._auditor.read()):
            raise SettingsError("the tables hold marked readings of this very seed: take another, or none")

    def _tapped(self, prefix: str) -> Tap | None:
        table = self._place.dynamodb.describe_table(TableName=self._place.tables[0])["Table"]
        arn = table.get("LatestStreamArn")
        return None if arn is None else Tap(self._place.streams, arn, prefix)

    def send(self, posts: list[Post], rate: float | None, bar: Progress) -> None:
        """Send every record; `rate` readings a second."""
        task = bar.add_task("sending", total=len(posts))
        started = polled = time.monotonic()
        pending: deque[Future[None]] = deque()
        gone = 0
        for post in posts:
            pending.append(self._place.put(post.data))
            gone += len(post.marks)
            bar.advance(task)
            while len(pending) > PENDING:
                pending.popleft().result()
            if time.monotonic() - polled > self._interval:
                self._poll()
                polled = time.monotonic()
            if rate is not None:
                time.sleep(max(0.0, gone / rate - (time.monotonic() - started)))
        for taken in pending:
            taken.result()

    def _poll(self) -> None:
        self._place.alive()
        if self._tap is not None:
            self._tap.poll()

    def wait(self, timeout: float, bar: Progress) -> Counts:
        """Count until everything is there at two looks in a row, or for `timeout` seconds; return the last count."""
        total = len(self._truth.marks)
        stored, rolled_up = bar.add_task("stored", total=total), bar.add_task("rolled up", total=total)
        until = time.monotonic() + timeout
        passed = 0
        while True:
            tables = self._auditor.read()
            self._poll()  # after the tables: what is in there, the stream told of before
            counts = count(self._truth, tables, None if self._tap is None else self._tap.items)
            bar.update(stored, completed=counts.stored)
            bar.update(rolled_up, completed=counts.rolled_up)
            passed = passed + 1 if counts.passed else 0
            if passed == 2 or time.monotonic() >= until:
                return counts
            time.sleep(self._interval)

    def clean(self, timeout: float, bar: Progress) -> int:
        """Delete the marked items; return how many. Roll-ups go when their function has seen the readings go."""
        bar.add_task("cleaning", total=None)
        until = time.monotonic() + timeout

        def wait(done: Callable[[], bool]) -> None:
            time.sleep(self._interval)
            while not done() and time.monotonic() < until:
                time.sleep(self._interval)

        return self._auditor.clean(wait)


def _say(
    place: str, seed: int, records: int, truth: Truth, counts: Counts, cleaned: int | None, shown: int, form: str
) -> None:
    faults = {name: getattr(counts, name) for name in ("missing", "doubled", "changed")}
    if form == "json":
        numbers = {
            "place": place,
            "seed": seed,
            "sent": counts.sent,
            "copies": truth.copies,
            "records": records,
            "stored": counts.stored,
            "items": counts.items,
            "streamed": counts.streamed,
            "rolled_up": counts.rolled_up,
            "ranges": counts.ranges,
            "devices": counts.devices,
            "cleaned": cleaned,
            "passed": counts.passed,
        }
        click.echo(orjson.dumps(numbers | faults, option=orjson.OPT_INDENT_2))
        return
    streamed = "the table has no stream" if counts.streamed is None else f"{counts.streamed:,} items seen at least once"
    last = address(seed, len(truth.devices) - 1)
    lines = [
        f"Place       {place}",
        f"Run         --seed {seed}: {len(truth.devices)} devices, {truth.devices[0]} to {last}",
        f"Sent        {counts.sent:,} readings, {truth.copies:,} of them twice, in {records:,} records",
        f"Stored      {counts.stored:,} readings in {counts.items:,} items",
        f"Streamed    {streamed}",
        f"Rolled up   {counts.rolled_up:,} readings in {counts.ranges:,} ranges; states of {counts.devices:,} devices",
        *(f"{name.capitalize():<12}{len(faults[name]):,}" for name in faults),
        *(f"            {line}" for name in faults for line in faults[name][:shown]),
        "Every one is accounted for." if counts.passed else "FAILED: not every one is accounted for.",
    ]
    if cleaned is not None:
        lines.append(f"{cleaned:,} marked items deleted.")
    click.echo("\n".join(lines))
