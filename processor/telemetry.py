"""What a batch tells about itself: one log line and one EMF blob, with the process's own memory figures.

EMF (embedded metric format) is a JSON line that CloudWatch turns into metrics. Eight are metrics, for each costs
money every month; everything else is a property of the same blob, which Logs Insights finds.
Source: Amazon CloudWatch User Guide, "Specification: Embedded metric format".
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import orjson
from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

NAMESPACE = "Processor"
STATUS = Path("/proc/self/status")
EMF_VALUES = 99
"""A metric in one blob holds at most so many values; at 100 Powertools prints and starts another blob."""


class Memory(NamedTuple):
    """The process's memory, in bytes.

    used: resident now (VmRSS). peak: the most it ever was (VmHWM): it belongs to the execution environment, all its
    invocations together, as the "Max Memory Used" of Lambda's REPORT line does.
    """

    used: int
    peak: int


def memory() -> Memory:
    """Read the process's own accounting; where there is no /proc (macOS), the peak stands for both."""
    try:
        status = STATUS.read_bytes()
    except FileNotFoundError:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        peak *= 1 if sys.platform == "darwin" else 1024  # macOS counts bytes
        return Memory(peak, peak)
    return Memory(_kilobytes(status, b"VmRSS:"), _kilobytes(status, b"VmHWM:"))


def _kilobytes(status: bytes, name: bytes) -> int:
    start = status.index(name) + len(name)
    return int(status[start : status.index(b"kB", start)]) * 1024


def usage(context: Any) -> tuple[dict[str, tuple[MetricUnit, list[float]]], float]:
    """Return the process's memory as metrics, against the function's limit, and its peak in MB."""
    used, peak = memory()
    limit = int(context.memory_limit_in_mb) * 1024 * 1024
    metrics: dict[str, tuple[MetricUnit, list[float]]] = {
        "MemoryUsed": (MetricUnit.Megabytes, [megabytes(used)]),
        "MemoryUtilization": (MetricUnit.Percent, [round(100 * peak / limit, 2)]),
    }
    return metrics, megabytes(peak)


def megabytes(size: int) -> float:
    """Return bytes as MB of 1,048,576 bytes, to a tenth."""
    return round(size / (1024 * 1024), 1)


def ages(arrivals: Iterable[float], now: float, most: int = 50) -> list[float]:
    """Return how old what arrived at these times is now (ms, from seconds), at most so many, evenly picked."""
    ordered = sorted(arrivals)
    if not ordered:
        return [0.0]
    step = max(1.0, len(ordered) / most)
    picked = (ordered[int(n * step)] for n in range(min(most, len(ordered))))
    return [round(max(0.0, now - arrival) * 1000, 1) for arrival in picked]


class Telemetry:
    """Emits a batch's metrics and its log line. Safe to share: it keeps nothing between invocations but ColdStart."""

    def __init__(self, service: str, *, level: str = "INFO", stream: TextIO = sys.stdout) -> None:
        self._service = service
        self._stream = stream
        self._cold = True
        self._logger = Logger(
            service=service,
            level=level,
            stream=stream,
            json_serializer=lambda line: orjson.dumps(line, default=str).decode(),
        )
        # At DEBUG, which Lambda's own log level may set for all of us, botocore logs session tokens and whole answers:
        # the keys that KMS opens among them.
        logging.getLogger("botocore").setLevel(logging.INFO)

    def cold_start(self) -> bool:
        """Return True once: for the environment's first invocation."""
        was, self._cold = self._cold, False
        return was

    def metrics(self, values: Mapping[str, tuple[MetricUnit, Sequence[float]]], properties: Mapping[str, Any]) -> None:
        """Emit one EMF blob. values: unit and the values (at most EMF_VALUES) by metric name."""
        # Powertools' Metrics share one set within a process, which concurrent invocations mix up: a new one each time.
        metrics = EphemeralMetrics(namespace=NAMESPACE, service=self._service)
        for name, (unit, each) in values.items():
            metrics.add_metric(name, unit, each[0])
            # Each further call would format all the values so far for a debug line: 13 µs a value.
            metrics.metric_set[name]["Value"] += each[1:EMF_VALUES]
        for name, found in properties.items():
            metrics.add_metadata(name, found)
        self._stream.write(orjson.dumps(metrics.serialize_metric_set(), default=str).decode() + "\n")
        self._stream.flush()

    def log(self, message: str, extra: Mapping[str, Any], *, warning: bool = False) -> None:
        """Write one structured log line."""
        (self._logger.warning if warning else self._logger.info)(message, extra=dict(extra))
