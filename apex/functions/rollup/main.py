"""DynamoDB Streams → DynamoDB: `processor/rollup.py` with its clients."""

from concurrent.futures import ThreadPoolExecutor

from processor.rollup import Aggregator
from processor.settings import Settings
from processor.store import client
from processor.telemetry import Telemetry

settings = Settings.read()
handle = Aggregator.of(
    settings,
    client(settings),
    Telemetry(settings.function, level=settings.log_level),
    ThreadPoolExecutor(settings.writer_threads),
).handle
