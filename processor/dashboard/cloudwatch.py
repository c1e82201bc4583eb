"""The pipeline's health from CloudWatch: the functions' own metrics, Lambda's, Kinesis' and DynamoDB's.

Names and dimensions are those that processor/telemetry.py emits and infra/terraform/alarms.tf watches; `health.py` says
what is given. CloudWatch asks a cent for a thousand metrics read: an answer is kept for a minute.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from processor.dashboard import prices
from processor.dashboard.health import COLUMNS, nothing
from processor.telemetry import NAMESPACE

PERIOD = 60
LATE_SECONDS = 60
"""A minute is shown when it has been over for so long: until then CloudWatch has it in part, or not at all. What comes
later still is shown with the next answer."""

HOURS = 3
KEPT_SECONDS = 60.0
MOST_SHARDS = 100
ALL = "stream"
FUNCTIONS = ("ingest", "rollup")


class Query(NamedTuple):
    """One metric: what it is called here, and what CloudWatch calls it."""

    name: str
    namespace: str
    metric: str
    statistic: str
    dimensions: Mapping[str, str]


class Names(NamedTuple):
    """What the pipeline's parts are called on AWS, as Terraform names them: all begin with TABLE_PREFIX."""

    stream: str
    functions: Mapping[str, str]
    readings: str
    summaries: tuple[str, ...] = ()
    """The tables that `rollup` writes."""

    @classmethod
    def of(cls, table_prefix: str) -> Names:
        """Return the names that go with a table prefix (`processor-prod-`)."""
        functions = {name: f"{table_prefix}{name}" for name in FUNCTIONS}
        summaries = (f"{table_prefix}rollups", f"{table_prefix}devices")
        return cls(table_prefix.rstrip("-_."), functions, f"{table_prefix}readings", summaries)


def queries(names: Names, shards: Iterable[str] = ()) -> list[Query]:
    """Return every metric that is asked for. shards: those that have metrics of their own."""
    ingest = {"service": names.functions["ingest"]}
    stream = {"StreamName": names.stream}
    kinesis, table = "AWS/Kinesis", {"TableName": names.readings}
    found = [
        Query("records", kinesis, "IncomingRecords", "Sum", stream),
        Query("stored", NAMESPACE, "ReadingsStored", "Sum", ingest),
        Query("duplicates", NAMESPACE, "Duplicates", "Sum", ingest),
        Query("rejected", NAMESPACE, "RecordsRejected", "Sum", ingest),
        Query("failed", NAMESPACE, "RecordsFailed", "Sum", ingest),
        Query("duration_ms", NAMESPACE, "BatchDuration", "Average", ingest),
        Query("write_units", "AWS/DynamoDB", "ConsumedWriteCapacityUnits", "Sum", table),
        Query(f"age.{ALL}", kinesis, "GetRecords.IteratorAgeMilliseconds", "Maximum", stream),
    ]
    found += [
        Query(f"units.{table}", "AWS/DynamoDB", "ConsumedWriteCapacityUnits", "Sum", {"TableName": table})
        for table in names.summaries
    ]
    found += [
        Query(f"age.{shard}", kinesis, "IteratorAgeMilliseconds", "Maximum", stream | {"ShardId": shard})
        for shard in shards
    ]
    for name, function in names.functions.items():
        service, own = {"service": function}, {"FunctionName": function}
        found += [
            Query(f"{name}.invocations", "AWS/Lambda", "Invocations", "Sum", own),
            Query(f"{name}.errors", "AWS/Lambda", "Errors", "Sum", own),
            Query(f"{name}.duration_ms", "AWS/Lambda", "Duration", "Average", own),
            Query(f"{name}.slowest_ms", "AWS/Lambda", "Duration", "Maximum", own),
            Query(f"{name}.age", "AWS/Lambda", "IteratorAge", "Maximum", own),
            Query(f"{name}.memory_mb", NAMESPACE, "MemoryUsed", "Maximum", service),
            Query(f"{name}.utilization", NAMESPACE, "MemoryUtilization", "Maximum", service),
        ]
    return found


class CloudWatchHealth:
    """The health of a pipeline on AWS. client: makes a boto3 client of CloudWatch. clock: epoch seconds."""

    def __init__(self, client: Callable[[], Any], names: Names, *, clock: Callable[[], float] = time.time) -> None:
        self._make = client
        self._client: Any = None
        self._names = names
        self._clock = clock
        self._kept: tuple[float, dict[str, Any]] | None = None

    def snapshot(self) -> dict[str, Any]:
        """Return the last three hours' figures; where CloudWatch has none or does not answer, a note that says so."""
        from botocore.exceptions import BotoCoreError, ClientError

        now = self._clock()
        if self._kept is None or now - self._kept[0] >= KEPT_SECONDS:
            try:
                found = self._read(now)
            except (BotoCoreError, ClientError) as error:
                found = nothing("CloudWatch", f"CloudWatch gives no figures: {error}")
            self._kept = now, found
        return self._kept[1]

    def _read(self, now: float) -> dict[str, Any]:
        if self._client is None:
            self._client = self._make()
        values = self._values(queries(self._names, self._shards()), now)
        if not any(values.values()):
            return nothing(
                "CloudWatch",
                f"CloudWatch has no figures of the stream {self._names.stream} and the function "
                f"{self._names.functions['ingest']} in the last {HOURS} hours. A run on this machine sends none: "
                "`processor run --keep` shows them on its own page.",
            )
        return _snapshot(values)

    def _shards(self) -> list[str]:
        """Return the shards that have metrics of their own (Kinesis' enhanced monitoring); usually there are none."""
        answer = self._client.list_metrics(
            Namespace="AWS/Kinesis",
            MetricName="IteratorAgeMilliseconds",
            Dimensions=[{"Name": "StreamName", "Value": self._names.stream}],
        )
        dimensions = ({each["Name"]: each["Value"] for each in metric["Dimensions"]} for metric in answer["Metrics"])
        return sorted(found["ShardId"] for found in dimensions if "ShardId" in found)[:MOST_SHARDS]

    def _values(self, wanted: list[Query], now: float) -> dict[str, dict[int, float]]:
        """Return each metric's values by time (epoch seconds), of whole minutes only."""
        end = int(now - LATE_SECONDS) // PERIOD * PERIOD
        request = {
            "StartTime": datetime.fromtimestamp(end - HOURS * 3600, UTC),
            "EndTime": datetime.fromtimestamp(end, UTC),
            "MetricDataQueries": [_asked(number, query) for number, query in enumerate(wanted)],
        }
        found: dict[str, dict[int, float]] = {query.name: {} for query in wanted}
        for page in self._client.get_paginator("get_metric_data").paginate(**request):
            for result in page["MetricDataResults"]:
                times = (round(at.timestamp()) for at in result["Timestamps"])
                found[wanted[int(result["Id"][1:])].name] |= dict(zip(times, result["Values"], strict=True))
        return found


def _asked(number: int, query: Query) -> dict[str, Any]:
    dimensions = [{"Name": name, "Value": value} for name, value in query.dimensions.items()]
    metric = {"Namespace": query.namespace, "MetricName": query.metric, "Dimensions": dimensions}
    return {"Id": f"m{number}", "MetricStat": {"Metric": metric, "Period": PERIOD, "Stat": query.statistic}}


def _snapshot(values: Mapping[str, Mapping[int, float]]) -> dict[str, Any]:
    total = {name: sum(each.values()) for name, each in values.items()}
    functions = [_function(name, values) for name in FUNCTIONS if values[f"{name}.invocations"]]
    seconds = sum(values[f"{name}.duration_ms"].get(at, 0) * count / 1000 for name in FUNCTIONS
                  for at, count in values[f"{name}.invocations"].items())  # fmt: skip
    limits = [each["limit_mb"] for each in functions if each["limit_mb"]]
    shards = {name.removeprefix("age."): each for name, each in values.items() if name.startswith("age.") and each}
    own = {shard: each for shard, each in shards.items() if shard != ALL}
    return nothing("CloudWatch", "") | {
        "span": f"the last {HOURS} hours",
        "history": _history(values),
        "ledger": {
            "received": None,
            "ignored": None,
            **{name: round(total[name]) for name in ("stored", "duplicates", "rejected", "failed")},
        },
        "shards": [{"shard": shard, "age_ms": _last(each)} for shard, each in sorted((own or shards).items())],
        "functions": functions,
        "costs": prices.costs(
            write_units=total["write_units"],
            rollup_units=sum(units for name, units in total.items() if name.startswith("units.")),
            readings=round(total["stored"]),
            invocations=round(sum(total[f"{name}.invocations"] for name in FUNCTIONS)),
            gb_seconds=seconds * max(limits, default=0) / 1024,
            shard_hours=max(1, len(own)) * HOURS,
        ),
    }


def _function(name: str, values: Mapping[str, Mapping[int, float]]) -> dict[str, Any]:
    invocations, errors, duration, slowest, memory, share = (
        values[f"{name}.{what}"]
        for what in ("invocations", "errors", "duration_ms", "slowest_ms", "memory_mb", "utilization")
    )
    used, percent = max(memory.values(), default=None), max(share.values(), default=None)
    return {
        "name": name,
        "invocations": round(sum(invocations.values())),
        "errors": round(sum(errors.values())),
        "duration_ms": round(sum(duration.values()) / len(duration), 1) if duration else None,
        "slowest_ms": max(slowest.values(), default=None),
        "memory_mb": used,
        "limit_mb": _limit(used, percent),
    }


def _limit(used: float | None, percent: float | None) -> int | None:
    """Return a function's memory, in MB, which Lambda gives in steps of 64 more often than not."""
    return round(used * 100 / percent / 64) * 64 if used and percent else None


def _last(values: Mapping[int, float]) -> float:
    return values[max(values)]


def _history(values: Mapping[str, Mapping[int, float]]) -> dict[str, list[float]]:
    """Return the columns over every minute that has a value; what a minute lacks is 0."""
    ages = [each for name, each in values.items() if name.startswith("age.") or name == "ingest.age"]
    drawn = [values[name] for name in COLUMNS if name in values]
    times = sorted(set().union(*drawn, *ages))
    found: dict[str, list[float]] = {"t": [float(at) for at in times]}
    for name in COLUMNS[1:]:
        if name == "age_ms":
            found[name] = [max((age.get(at, 0) for age in ages), default=0) for at in times]
        else:
            share = 1 if name == "duration_ms" else PERIOD
            found[name] = [round(values[name].get(at, 0) / share, 3) for at in times]
    return found
