"""What things cost on AWS, in US dollars: us-east-1, on demand, AWS's price lists of 2026-11. Other regions differ.

Sources: aws.amazon.com/dynamodb/pricing/on-demand, /lambda/pricing, /kinesis/data-streams/pricing.
"""

from __future__ import annotations

from typing import Any

REGION = "us-east-1"
WRITE_UNIT = 0.625 / 1_000_000  # a write request unit of DynamoDB: up to 1 KB
INVOCATION = 0.20 / 1_000_000
GB_SECOND = 0.0000166667  # Lambda on x86
SHARD_HOUR = 0.015  # Kinesis, provisioned
NOTE = f"{REGION}, on demand, AWS's price lists: check those of your region"


def costs(
    *,
    write_units: float,
    rollup_units: float,
    readings: int,
    invocations: int,
    gb_seconds: float,
    shard_hours: float,
) -> dict[str, Any]:
    """Return what was used, each with its price, and what a million readings come to in writes alone.

    write_units: of the table of readings. rollup_units: of roll-ups and devices.
    """
    lines = (
        ("Write units: readings", write_units, WRITE_UNIT),
        ("Write units: roll-ups, devices", rollup_units, WRITE_UNIT),
        ("Lambda invocations", invocations, INVOCATION),
        ("Lambda GB-seconds", gb_seconds, GB_SECOND),
        ("Kinesis shard hours", shard_hours, SHARD_HOUR),
    )
    return {
        "note": NOTE,
        "lines": [
            {"what": what, "used": round(used, 3), "each": each, "dollars": used * each} for what, used, each in lines
        ],
        "dollars": sum(used * each for _, used, each in lines),
        "units_per_reading": write_units / readings if readings else None,
        "writes_per_million_readings": 1_000_000 * WRITE_UNIT * write_units / readings if readings else None,
    }
