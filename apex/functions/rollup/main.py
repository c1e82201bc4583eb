"""DynamoDB Streams → DynamoDB: `processor/rollup.py` with its clients."""

from concurrent.futures import ThreadPoolExecutor

from processor.rollup import Aggregator
from processor.settings import Settings
from processor.store import client
from processor.store.reader import Reader
from processor.store.rollups import Rollups
from processor.store.states import States
from processor.telemetry import Telemetry

settings = Settings.read()
dynamodb = client(settings)
handle = Aggregator(
    Reader(dynamodb, settings.readings_table),
    Rollups(dynamodb, settings.rollups_table),
    States(dynamodb, settings.devices_table),
    Telemetry(settings.function, level=settings.log_level),
    ThreadPoolExecutor(settings.writer_threads),
    retention=settings.retention_days * 86_400,
).handle
