"""Kinesis → DynamoDB: `processor/ingest.py` with its clients."""

from typing import Any

from processor.devices import Devices
from processor.ingest import Ingest
from processor.quarantine import Quarantine
from processor.rules import Rules
from processor.settings import Settings
from processor.store import client
from processor.store.registry import Registry
from processor.store.writer import Writer
from processor.telemetry import Telemetry
from processor.vault import Vault

settings = Settings.read()


def aws(service: str) -> Any:
    """Make a boto3 client when it is first needed: nearly no batch needs one.

    Its two tries fit into ingest's MARGIN_SECONDS: a service that hangs must not take the answer with it.
    """
    import boto3
    from botocore.config import Config

    bounds = Config(connect_timeout=1, read_timeout=2, retries={"total_max_attempts": 2})
    return boto3.client(service, region_name=settings.region or None, config=bounds)


dynamodb = client(settings)
devices = Devices(
    Registry(dynamodb, settings.devices_table),
    Vault(lambda: aws("kms"), lambda: aws("secretsmanager")),
    fixed=settings.bindkeys,
)
handle = Ingest(
    Writer(
        dynamodb,
        settings.readings_table,
        threads=settings.writer_threads,
        measure=settings.count_units == "items",
    ),
    Quarantine(settings.quarantine_bucket, lambda: aws("s3")),
    Telemetry(settings.function, level=settings.log_level),
    Rules.of(settings, devices, keys=devices),
).handle
