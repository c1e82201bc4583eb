"""What CloudWatch gives while a minute is not over, or comes late, as the page shows it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from processor.dashboard.cloudwatch import LATE_SECONDS, PERIOD, CloudWatchHealth, Names

RATE = 10  # a second, without a break
COUNTED = ("IncomingRecords", "ReadingsStored", "Invocations")


class CloudWatch:
    """Knows of a steady rate, but only what is `late` seconds old; of a minute under way as much as it has of it."""

    def __init__(self, clock, late):
        self.clock = clock
        self.late = late

    def list_metrics(self, **_):
        return {"Metrics": []}

    def get_paginator(self, _):
        return self

    def paginate(self, *, StartTime, EndTime, MetricDataQueries):  # noqa: N803 - CloudWatch's names
        times = range(round(StartTime.timestamp()), round(EndTime.timestamp()), PERIOD)
        known = {at: min(PERIOD, self.clock.now - self.late - at) for at in times}
        points = {datetime.fromtimestamp(at, UTC): RATE * seconds for at, seconds in known.items() if seconds > 0}
        yield {
            "MetricDataResults": [
                {"Id": query["Id"], "Timestamps": list(points), "Values": list(points.values())}
                for query in MetricDataQueries
                if query["MetricStat"]["Metric"]["MetricName"] in COUNTED
            ]
        }


@pytest.mark.parametrize("late", [0, 30, LATE_SECONDS])
@pytest.mark.parametrize("second", [0, 1, 29, 59])
def test_a_steady_rate_is_shown_as_what_it_is_whenever_it_is_looked_at(stopwatch, late, second):
    """A minute that is not over, or that CloudWatch has only in part, would be a dip that never was."""
    stopwatch.now = 1_700_000_040 + second
    history = CloudWatchHealth(lambda: CloudWatch(stopwatch, late), Names.of("p-"), clock=stopwatch).snapshot()[
        "history"
    ]
    assert len(history["t"]) > 100
    assert stopwatch.now - history["t"][-1] <= 2 * PERIOD + LATE_SECONDS
    assert set(history["records"]) == {RATE}
    assert set(history["stored"]) == {RATE}
