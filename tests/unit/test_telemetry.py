"""Telemetry: one EMF blob of its own for each invocation, memory from the process's own accounting."""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path

from aws_lambda_powertools.metrics import MetricUnit

from processor import telemetry
from processor.telemetry import EMF_VALUES, Telemetry, memory


def test_memory_is_what_the_kernel_says():
    found = memory()
    status = Path("/proc/self/status").read_text()
    assert f"VmHWM:\t{found.peak // 1024:>8} kB" in status
    assert 0 < found.used <= found.peak


def test_without_proc_the_peak_stands_for_both(monkeypatch):
    monkeypatch.setattr(telemetry, "STATUS", Path("/nowhere"))
    found = memory()
    assert found.used == found.peak > 1_000_000


def test_memory_in_use_is_seen_at_once():
    before = memory()
    ballast = bytearray(b"x" * 60_000_000)
    during = memory()
    assert during.peak - before.used > 50_000_000
    assert len(ballast) == 60_000_000


def test_a_blob_holds_its_metrics_and_properties_in_one_line():
    stream = io.StringIO()
    Telemetry("test-blob", stream=stream).metrics({"A": (MetricUnit.Count, [1, 2])}, {"P": {"x": 1}})
    (line,) = stream.getvalue().splitlines()
    blob = json.loads(line)
    assert blob["A"] == [1.0, 2.0]
    assert blob["P"] == {"x": 1}
    assert blob["service"] == "test-blob"
    assert blob["_aws"]["CloudWatchMetrics"] == [
        {"Namespace": "Processor", "Dimensions": [["service"]], "Metrics": [{"Name": "A", "Unit": "Count"}]}
    ]


def test_more_values_than_a_blob_takes_do_not_make_another_blob(capsys):
    stream = io.StringIO()
    Telemetry("test-many", stream=stream).metrics({"A": (MetricUnit.Count, [1.0] * 500)}, {})
    assert len(json.loads(stream.getvalue())["A"]) == EMF_VALUES
    assert capsys.readouterr().out == ""


def test_concurrent_invocations_do_not_mix_their_metrics():
    stream = io.StringIO()
    shared = Telemetry("test-threads", stream=stream)

    def emit(number):
        for _ in range(50):
            shared.metrics({"A": (MetricUnit.Count, [number]), "B": (MetricUnit.Count, [number])}, {"N": number})

    threads = [threading.Thread(target=emit, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    blobs = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert len(blobs) == 400
    assert all(blob["A"] == blob["B"] == [blob["N"]] for blob in blobs)


def test_cold_start_is_told_once():
    shared = Telemetry("test-cold", stream=io.StringIO())
    assert [shared.cold_start() for _ in range(3)] == [True, False, False]
