"""The whole main job on one machine: embedded AWS, stream, tables, bucket, function and event source mapping."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from processor import failures
from processor.errors import LocalError
from processor.local.aws import EmbeddedAws
from processor.local.check import Verdict, compare, stream_records
from processor.local.function import Function
from processor.local.mapping import EventSourceMapping, MappingSettings
from processor.local.outbox import Outbox
from processor.local.seams import SHUT, Seams
from processor.local.totals import Blobs, RollupTotals, Totals
from processor.quarantine import Quarantine
from processor.rules import Limits, known_gateways
from processor.settings import Settings
from processor.store import client, tables
from processor.store.reader import Reader
from processor.store.rollups import Rollups

STREAM = "processor"
KEY_LENGTH = 16
FUNCTIONS = Path(__file__).resolve().parents[2] / "apex" / "functions"

MAPPING = MappingSettings(
    batch_size=1000,
    batching_window_seconds=0.5,
    parallelization_factor=2,
    bisect_batch_on_function_error=True,
    report_batch_item_failures=True,
)
"""As Terraform creates it, but for the window: half a second, so that a local run answers at once."""

ROLLUP_MAPPING = replace(MAPPING, batching_window_seconds=1.0)
"""The same, where Terraform's window is 300 s."""


class System:
    """Everything between a gateway's post and the table, started by `with`, and stopped whatever happens.

    shards: of the stream. any_age: take readings of any age; retention then counts from arrival. keys: bindkeys.
    variables: more of the function's environment (AWS_ENDPOINT_URL_DYNAMODB sends it through a
    proxy). aws: an embedded AWS that runs already, and goes on running afterwards. timeout_s: the functions', where
    function.json's is not meant. functions: the folder of them. seams: where faults get in.
    """

    def __init__(
        self,
        *,
        shards: int = 2,
        any_age: bool = False,
        keys: Mapping[str, bytes] | None = None,
        mapping: MappingSettings = MAPPING,
        rollup_mapping: MappingSettings = ROLLUP_MAPPING,
        workers: int = 2,
        variables: Mapping[str, str] | None = None,
        aws: EmbeddedAws | None = None,
        timeout_s: float | None = None,
        functions: Path = FUNCTIONS,
        seams: Seams = SHUT,
    ) -> None:
        if not functions.is_dir():
            raise LocalError(f"the local run needs the functions in {functions}: run it from a clone of the repository")
        self.totals = Totals()
        self.rollup_totals = RollupTotals()
        self.sent: list[bytes] = []
        self._stack = contextlib.ExitStack()
        self._mapping_settings = mapping
        self._rollup_settings = rollup_mapping
        self._workers = workers
        self._shards = shards
        self._own_variables = dict(variables or {}) | {
            "COUNT_UNITS": "items",
            "BINDKEYS": ",".join(f"{device}={key.hex()}" for device, key in (keys or {}).items()),
            "EXPIRES_FROM": "arrival" if any_age else "reading",
        }
        self._aws = aws
        self._timeout_s = timeout_s
        self.functions = functions
        self._seams = seams

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self.aws = self._aws or stack.enter_context(EmbeddedAws())
            self.variables = self.aws.environment() | self._own_variables | dict(self._seams.variables(self.aws))
            self._stream = self._seams.stream(self.aws, self._shards)
            # The function may be sent through a proxy; what we read ourselves comes straight from the source.
            direct = {name: value for name, value in self.variables.items() if name != "AWS_ENDPOINT_URL_DYNAMODB"}
            self.settings = Settings.read(direct | self.aws.environment())
            dynamodb = stack.enter_context(contextlib.closing(client(self.settings)))
            self.client = dynamodb
            self.reader = Reader(dynamodb, self.settings.readings_table)
            self.rollups = Rollups(dynamodb, self.settings.rollups_table)
            self._create()
            self.function = stack.enter_context(self._function("ingest", self.totals))
            self.mapping = stack.enter_context(self._map(self.function, self.kinesis, STREAM, self._mapping_settings))
            self.rollup = stack.enter_context(self._function("rollup", self.rollup_totals))
            table = self.aws.client("dynamodb").describe_table(TableName=self.settings.readings_table)["Table"]
            self.rollup_mapping = stack.enter_context(
                self._map(
                    self.rollup, self.aws.client("dynamodbstreams"), table["LatestStreamArn"], self._rollup_settings
                )
            )
            self._outbox = stack.enter_context(
                contextlib.closing(Outbox(self.kinesis, STREAM, on_record=self.sent.append))
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def kinesis(self) -> Any:
        """The boto3 client of Kinesis, or what stands for it."""
        return self.aws.client("kinesis") if self._stream is None else self._stream

    @property
    def limits(self) -> Limits:
        """The limits that the function was given."""
        return Limits.of(self.settings)

    def _function(self, name: str, totals: Blobs) -> Function:
        return Function(
            self.functions / name,
            environment=self.variables,
            sink=self._seams.sink(name, totals.line),
            concurrency=self._workers,
            timeout_s=self._timeout_s,
        )

    def _map(self, function: Function, client: Any, stream: str, settings: MappingSettings) -> EventSourceMapping:
        return EventSourceMapping(
            client,
            stream,
            self._seams.invoke(function.config.directory.name, function.invoke),
            settings,
            on_failure=self._seams.discarded(self._discarded),
            function_name=function.config.name,
        )

    def _create(self) -> None:
        if self._stream is None:
            self.kinesis.create_stream(StreamName=STREAM, ShardCount=self._shards)
            self.kinesis.get_waiter("stream_exists").wait(StreamName=STREAM, WaiterConfig={"Delay": 1})
        tables.create(self.aws.client("dynamodb"), self.settings.table_prefix)
        self.aws.client("s3").create_bucket(Bucket=self.settings.quarantine_bucket)

    def _discarded(self, failure: dict[str, Any]) -> None:
        """Keep what the mapping gives up, payload included, as Lambda's S3 failure destination does."""
        self.aws.client("s3").put_object(
            Bucket=self.settings.quarantine_bucket,
            Key=failures.key_of(failure, "local"),
            Body=orjson.dumps(failure, default=str),
        )

    def put(self, record: bytes, key: str | None = None) -> Future[None]:
        """Put one record into the stream and remember it for the check.

        key: its partition key; a random one by default, as Funnel has them. The future is done when the stream has
        taken it, and fails with LocalError where it does not, however often it is sent. Raises
        LocalError for a record that no stream takes.
        """
        try:
            return self._outbox.put(key or f"{random.getrandbits(64):0{KEY_LENGTH}x}", record)
        except ValueError as error:
            raise LocalError(str(error)) from error

    def send(self, records: Iterable[bytes]) -> None:
        """Put records into the stream, and wait until it has taken them."""
        for taken in [self.put(record) for record in records]:
            taken.result()

    def alive(self) -> None:
        """Raise LocalError if the embedded AWS or a mapping has died."""
        self.aws.check()
        self.mapping.check()
        self.rollup_mapping.check()

    @property
    def unhandled(self) -> int:
        """How many of the records that were put the mapping is not done with: under way to the stream, or there."""
        stats = self.mapping.stats
        return self._outbox.waiting + len(self.sent) - stats.records - stats.filtered - stats.discarded

    def drain(self, timeout: float) -> None:
        """Wait until everything sent so far has been handled, and rolled up; what the stream has yet to take, too.

        Raises LocalError, saying what is left, after so many seconds.
        """
        deadline = time.monotonic() + timeout
        for wait in (self._outbox.flush, self.mapping.drain, self.rollup_mapping.drain):
            wait(max(0.0, deadline - time.monotonic()))

    def check(self) -> Verdict:
        """Compare the stream with what the table and the quarantine hold."""
        s3 = self.aws.client("s3")
        return compare(
            self.sent,
            stream_records(self.kinesis, STREAM),
            self.reader.scan(),
            Quarantine(self.settings.quarantine_bucket, lambda: s3).entries(),
            self.limits,
            self.settings.bindkeys,
            known_gateways(self.settings),
        )
