"""Kinesis → DynamoDB: `processor/ingest.py` with its clients."""

from typing import Any

from processor.ingest import Ingest, Limits, known_gateways
from processor.quarantine import Quarantine
from processor.settings import Settings
from processor.store import client
from processor.store.writer import Writer
from processor.telemetry import Telemetry

settings = Settings.read()


def s3() -> Any:
    """Make the S3 client when the first record is rejected: nearly no batch needs boto3.

    Its two tries fit into ingest's MARGIN_SECONDS: a hanging S3 must not take the answer with it.
    """
    import boto3
    from botocore.config import Config

    bounds = Config(connect_timeout=1, read_timeout=2, retries={"total_max_attempts": 2})
    return boto3.client("s3", region_name=settings.region or None, config=bounds)


handle = Ingest(
    Writer(
        client(settings),
        settings.readings_table,
        threads=settings.writer_threads,
        measure=settings.count_units == "items",
    ),
    Quarantine(settings.quarantine_bucket, s3),
    Telemetry("ingest", level=settings.log_level),
    Limits.of(settings),
    keys=settings.bindkeys,
    samples=settings.ignored_samples,
    known=known_gateways(settings),
).handle
