"""A page over a real store on this machine, and the system's Chromium to look at it with.

Collected only when named: they need a system package (Debian's `chromium`) and the dependency group `browser`.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from processor.dashboard.health import RunHealth
from processor.dashboard.server import Dashboard, sources
from processor.decode.advertisement import manufacturer_data
from processor.decode.formats import ruuvi
from processor.ingest import Ingest
from processor.local.aws import EmbeddedAws
from processor.local.totals import RollupTotals, Totals
from processor.quarantine import Quarantine, Rejection
from processor.rollup import Aggregator
from processor.rules import Rules
from processor.settings import Settings
from processor.store import client, tables
from processor.store.reader import Reader
from processor.store.registry import Device, Registry
from processor.store.rollups import Rollups
from processor.store.states import States
from processor.store.tables import cell_name, slot_of
from processor.store.writer import Group, Writer
from processor.telemetry import Telemetry

HERE = Path(__file__).resolve().parent
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ONE, TWO, THREE = (f"CB:B8:33:4C:88:4{n}" for n in "FAB")
HOUR = 3600


def pytest_ignore_collect(collection_path, config):
    """Collect these tests only where they are asked for."""
    paths = [Path(config.invocation_params.dir, argument.partition("::")[0]).resolve() for argument in config.args]
    return None if any(path.is_relative_to(HERE) for path in paths) else True


class Lines:
    """What a function prints, given to the totals of a run."""

    def __init__(self, totals):
        self._totals = totals

    def write(self, text):
        for line in text.splitlines():
            self._totals.line(line)

    def flush(self):
        pass


class Site:
    """Tables and a bucket on an embedded AWS, filled by the real handlers; and the page over them."""

    CONTEXT = SimpleNamespace(aws_request_id="r", memory_limit_in_mb=256, get_remaining_time_in_millis=lambda: 900_000)

    def __init__(self, stack, kinesis_event):
        aws = stack.enter_context(EmbeddedAws())
        self.settings = Settings.read(aws.environment() | {"COUNT_UNITS": "items"})
        tables.create(aws.client("dynamodb"), self.settings.table_prefix)
        aws.client("s3").create_bucket(Bucket=self.settings.quarantine_bucket)
        dynamodb = stack.enter_context(contextlib.closing(client(self.settings)))
        self.event = kinesis_event
        self.dynamodb = dynamodb
        self.reader = Reader(dynamodb, self.settings.readings_table)
        self.registry = Registry(dynamodb, self.settings.devices_table)
        self.quarantine = Quarantine(self.settings.quarantine_bucket, lambda: aws.client("s3"))
        self.writer = stack.enter_context(
            contextlib.closing(Writer(dynamodb, self.settings.readings_table, measure=True))
        )
        totals, rolled = Totals(), RollupTotals()
        rules = Rules.of(self.settings)
        telemetry = Telemetry("site-ingest", stream=Lines(totals))
        self.ingest = Ingest(self.writer, self.quarantine, telemetry, rules).handle
        pool = stack.enter_context(ThreadPoolExecutor(4))  # more wait too long for an answer on a busy machine
        self.roll_up = Aggregator(
            self.reader,
            Rollups(dynamodb, self.settings.rollups_table),
            States(dynamodb, self.settings.devices_table),
            Telemetry("site-rollup", stream=Lines(rolled)),
            pool,
            retention=self.settings.retention_days * 86_400,
        ).handle
        stats = SimpleNamespace(errors=0, iterator_age_ms={"shardId-000000000000": 120.0})
        self.health = stack.enter_context(
            RunHealth(
                totals,
                lambda: stats,
                rollup=rolled,
                rollup_stats=lambda: stats,
                memory_mb={"ingest": 256, "rollup": 256},
            )
        )
        self.sources = sources(self.settings, dynamodb, aws.client, self.health, refresh=0.5)
        self._sequence = itertools.count(1)

    def envelope(self, device, at, values, rssi=-60):
        """Return Funnel's envelope around a Ruuvi tag's advertisement, `at` in ms."""
        values = {"sequence": next(self._sequence) % 65_000, "humidity": 50.0, **values}
        data = manufacturer_data(0x0499, ruuvi.RAWV2.encode(values, address=device))
        entry = {"address": device, "rssi": rssi, "timestamp": at, "data": data.hex()}
        return json.dumps({"payloads": [entry], "timestamp": at, "imsi": "295050000000001"}).encode()

    def send(self, readings):
        """Have (device, time in seconds, values) stored and rolled up, as the two functions do it."""
        readings = [(device, round(at * 1000), values) for device, at, values in readings]
        records = [self.envelope(*reading) for reading in readings]
        event = self.event(*records, arrived_at=round(time.time() * 1000), first=next(self._sequence) * 100_000)
        assert self.ingest(event, self.CONTEXT) == {"batchItemFailures": []}
        self.changed({(device, slot_of(at)) for device, at, _ in readings})

    def store(self, readings):
        """Write readings as they are into the table, as ingest does, and have them rolled up."""
        groups = {}
        for reading in readings:
            start = slot_of(reading.at)
            group = groups.setdefault((reading.device, start), Group(reading.device, start, round(time.time()) + 10**6))
            group.cells[cell_name(reading, reading.at - start * 1000)] = reading
        assert not self.writer.write(groups.values(), deadline=time.monotonic() + 600).error
        self.changed(groups)

    def changed(self, touched):
        """Have what changed, (device, slot), rolled up, as the table's stream does it."""
        changes = [
            {
                "eventName": "MODIFY",
                "dynamodb": {
                    "Keys": {"device": {"S": device}, "slot": {"N": str(slot)}},
                    "SequenceNumber": str(n),
                    "ApproximateCreationDateTime": time.time(),
                },
            }
            for n, (device, slot) in enumerate(sorted(touched), 1)
        ]
        assert self.roll_up({"Records": changes}, self.CONTEXT) == {"batchItemFailures": []}

    def forget(self, device):
        """Take a device off the fleet."""
        self.dynamodb.call("DeleteItem", {"TableName": self.settings.devices_table, "Key": {"device": {"S": device}}})

    def put(self, table, key, values):
        """Write attributes of an item by hand; None takes one away."""
        names = {f"#{n}": name for n, name in enumerate(values)}
        kept = {name: values[names[name]] for name in names if values[names[name]] is not None}
        body = {"TableName": table, "Key": key, "ExpressionAttributeNames": names}
        if kept:
            body["UpdateExpression"] = "SET " + ",".join(f"{name}=:{name[1:]}" for name in kept)
            body["ExpressionAttributeValues"] = {f":{name[1:]}": value for name, value in kept.items()}
        else:
            body["UpdateExpression"] = "REMOVE " + ",".join(names)
        self.dynamodb.call("UpdateItem", body)

    def reject(self, *records, reason="unknown"):
        """Put records into quarantine as an older decoder would have, which did not understand them."""
        event = self.event(*records, arrived_at=round(time.time() * 1000), first=next(self._sequence) * 100_000)
        rejection = Rejection(0, reason, "this format is not known yet")
        self.quarantine.put((record, [rejection]) for record in event["Records"])


@pytest.fixture(scope="session")
def site(kinesis_event):
    """Two devices with a history of thirty hours, one of them named; a third that is silent."""
    with contextlib.ExitStack() as stack:
        site = Site(stack, kinesis_event)
        now = time.time()
        site.registry.put(Device(ONE, "Cellar", "House"))
        site.registry.put(Device(THREE, "<img src=x onerror=alert(1)>", "<b>Attic</b>"))
        minutes = range(int(30 * HOUR / 60))
        site.send((ONE, now - 60 * n - 30, {"temperature": 20 + (n % 60) / 20}) for n in minutes)
        site.send((TWO, now - 600 * n - 20, {"temperature": 5 + n % 7}) for n in range(180))
        site.send([(THREE, now - 2 * HOUR, {"temperature": 11.0})])
        yield site


@pytest.fixture(scope="session")
def url(site):
    """Where the page is."""
    with Dashboard(site.sources, port=0) as page:
        yield page.url.rstrip("/")


@pytest.fixture(scope="session")
def browser():
    """The system's Chromium."""
    from playwright import sync_api  # in the group `browser`: uv run --group browser pytest tests/browser

    if CHROMIUM is None:
        pytest.fail("no Chromium on the PATH: apt-get install chromium")
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => {
  violations.push(`${event.violatedDirective} ${event.blockedURI}`);
});
"""


@pytest.fixture
def open_page(browser):
    """Opens pages; at the end none may have asked anybody else, broken the policy or had an error."""
    troubles, contexts = [], []

    def opened(address, *, strict=True, script="", **options):
        context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.add_init_script(WATCH + script)
        origin = re.match(r"https?://[^/]+", address)[0]
        page.asked = []
        page.on("request", lambda request: page.asked.append(request.url))
        if strict:
            page.on("request", lambda request: request.url.startswith(origin + "/") or troubles.append(request.url))
            page.on("console", lambda message: message.type in ("error", "warning") and troubles.append(message.text))
            page.on("pageerror", lambda error: troubles.append(str(error)))
        page.goto(address)
        return page

    yield opened
    for context in contexts:
        for page in context.pages:
            troubles += page.evaluate("window.violations") if page.url.startswith("http") else []
        context.close()
    assert troubles == []
