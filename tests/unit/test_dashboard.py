"""What the page is given: the fleet, a device's history, health, rejected records, what changed; over real sockets."""

from __future__ import annotations

import base64
import http.client
import io
import json
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from itertools import islice
from types import SimpleNamespace
from urllib.parse import quote
from urllib.request import urlopen

import pytest

from processor.dashboard.cloudwatch import Names, queries
from processor.dashboard.fleet import Fleet
from processor.dashboard.health import RunHealth, nothing
from processor.dashboard.prices import WRITE_UNIT, costs
from processor.dashboard.rejected import Rejected
from processor.dashboard.series import THREADS, Series
from processor.dashboard.server import Dashboard, sources
from processor.decode.advertisement import manufacturer_data
from processor.decode.formats import ruuvi
from processor.errors import SettingsError, TransientError
from processor.ingest import Ingest
from processor.local.memory_dynamodb import MemoryDynamoDB
from processor.quarantine import Quarantine
from processor.reading import Reading
from processor.redrive import Redrive
from processor.rollup import Aggregator
from processor.rules import Limits, Rules
from processor.settings import Settings
from processor.store.reader import Reader
from processor.store.registry import Calibration, Device, Registry
from processor.store.rollups import Rollups
from processor.store.states import States
from processor.store.tables import cell_name, slot_of
from processor.store.writer import Group, Writer
from processor.telemetry import Telemetry

NOW = 1_700_000_100
ONE, OTHER = "CB:B8:33:4C:88:4F", "C0:00:00:00:00:01"
CONTEXT = SimpleNamespace(aws_request_id="r", memory_limit_in_mb=256, get_remaining_time_in_millis=lambda: 600_000)


class Store:
    """Tables in memory, filled as ingest and rollup fill them."""

    def __init__(self):
        self.touched = set()
        self.dynamodb = MemoryDynamoDB(changed=self._changed)
        self.reader = Reader(self.dynamodb, "processor-readings", clock=lambda: NOW)
        self.rollups = Rollups(self.dynamodb, "processor-rollups")
        self.registry = Registry(self.dynamodb, "processor-devices")
        self.writer = Writer(self.dynamodb, "processor-readings", threads=1)
        self.states = States(self.dynamodb, "processor-devices")
        telemetry = Telemetry("page-test", stream=io.StringIO())
        pool = ThreadPoolExecutor(1)
        self.aggregator = Aggregator(self.reader, self.rollups, self.states, telemetry, pool, retention=10**9)

    def _changed(self, noun, event, key):
        if noun == "readings":
            self.touched.add((key["device"]["S"], int(key["slot"]["N"])))

    def put(self, device, at, gateways=(("gw", -60),), **values):
        """Store one reading, `at` in seconds."""
        reading = Reading(device, round(at * 1000), "ruuvi.5", values, None, hash((at, device)) & 0xFFFFFF)
        start = slot_of(reading.at)
        name = cell_name(reading, reading.at - start * 1000)
        group = Group(device, start, NOW + 10**8, {name: reading}, dict(gateways))
        assert not self.writer.write([group], deadline=time.monotonic() + 60).error

    def roll_up(self):
        """Deliver what changed, as the table's stream does."""
        records = [
            {
                "eventName": "MODIFY",
                "dynamodb": {
                    "Keys": {"device": {"S": device}, "slot": {"N": str(slot)}},
                    "SequenceNumber": str(n),
                    "ApproximateCreationDateTime": NOW,
                },
            }
            for n, (device, slot) in enumerate(sorted(self.touched), 1)
        ]
        assert self.aggregator.handle({"Records": records}, CONTEXT) == {"batchItemFailures": []}
        self.touched.clear()

    def fleet(self, now=NOW, **options):
        return Fleet(self.dynamodb, "processor-devices", clock=lambda: now, **options)

    def series(self, now=NOW):
        return Series(self.dynamodb, "processor-readings", "processor-rollups", clock=lambda: now)


@pytest.fixture
def store():
    return Store()


def row(store, device=ONE, **options):
    return store.fleet(**options).rows()[device]


def test_a_row_has_what_is_known_of_a_device(store):
    """Registry and state together; the values calibrated; the signal that of the nearest gateway that heard it last."""
    store.registry.put(Device(ONE, "Cellar", "House", "RuuviTag", calibration={"temperature": Calibration(offset=-1)}))
    store.put(ONE, NOW - 400, gateways=[("old", -20)], temperature=20.0)
    store.put(ONE, NOW - 5, gateways=[("near", -50), ("far", -88)], temperature=21.5, humidity=40, battery=80)
    store.roll_up()
    assert row(store) == {
        "device": ONE, "name": "Cellar", "site": "House", "model": "RuuviTag", "seen": (NOW - 5) * 1000,
        "battery": 80, "voltage": None, "signal": -50, "gateways": 2,
        "values": [["temperature", 20.5, "°C"], ["humidity", 40, "%"]], "alarms": [], "unreadable": 0,
    }  # fmt: skip
    found, known = store.fleet().one(ONE)
    assert found["first"] == (NOW - 400) * 1000
    assert found["calibrated"] is True
    assert ["near", -50] in [each[:2] for each in found["heard_by"]]
    assert known.device.name == "Cellar"
    assert store.fleet().one(OTHER) is None


def test_a_registered_device_that_was_never_heard_is_there_too(store):
    store.registry.put(Device(ONE, "Cellar"))
    assert row(store)["seen"] is None
    assert row(store)["alarms"] == []
    assert store.fleet().one(ONE)[0]["latest"] == []


@pytest.mark.parametrize(
    ("values", "rssi", "later", "alarms"),
    [
        ({"battery": 15}, -60, 0, ["Battery low"]),
        ({"battery": 16}, -60, 0, []),
        ({"battery_low": True}, -60, 0, ["Battery low"]),
        ({"battery_low": False, "smoke": False}, -60, 0, []),
        ({"smoke": True}, -60, 0, ["Smoke"]),
        ({"temperature": 1.0}, -91, 0, ["Weak signal"]),
        ({"temperature": 1.0}, -90, 0, []),
        ({"temperature": 1.0}, None, 0, []),
        ({"temperature": 1.0}, -60, 900, []),
        ({"temperature": 1.0}, -60, 901, ["Silent"]),
        ({"tamper": True, "battery": 1}, -95, 901, ["Tampered with", "Silent", "Battery low", "Weak signal"]),
    ],
)
def test_alarms(store, values, rssi, later, alarms):
    store.put(ONE, NOW, gateways=[("gw", rssi)], **values)
    store.roll_up()
    assert [words for _, words in row(store, now=NOW + later)["alarms"]] == alarms


def test_silence_is_after_so_long_as_was_asked(store):
    store.put(ONE, NOW, temperature=1.0)
    store.roll_up()
    assert row(store, now=NOW + 61, silent_seconds=60)["alarms"] == [["silent", "Silent"]]


def test_bindkeys_and_secrets_are_not_even_read(store):
    sealed = base64.b64encode(b"sealed").decode()
    store.dynamodb.tables["devices"][(ONE,)] = {"device": {"S": ONE}, "name": {"S": "Cellar"}, "key": {"B": sealed}}
    asked = []
    store.dynamodb.fault = lambda operation, body: asked.append(body)
    answer = json.dumps([store.fleet().rows(), store.fleet().one(ONE)[0]])
    bodies = [body.get("RequestItems", {}).get("processor-devices", body) for body in asked]
    for body in bodies:
        wanted = {body["ExpressionAttributeNames"][name] for name in body["ProjectionExpression"].split(",")}
        assert not wanted & {"key", "secret"}
    assert "Cellar" in answer
    assert "sealed" not in answer
    assert sealed not in answer


def columns(answer, name):
    return next(each for each in answer["quantities"] if each["name"] == name)


def test_a_short_time_is_answered_with_its_readings_and_each_gateways_signal(store):
    store.put(ONE, NOW - 30, [("a", -50), ("b", -70)], temperature=20.5, smoke=True, text="x")
    store.put(ONE, NOW - 10, [("a", -55)], temperature=21.5)
    answer = store.series().read(Device(ONE), (NOW - 60) * 1000, NOW * 1000)
    assert answer["resolution"] == "raw"
    assert columns(answer, "temperature") == {
        "name": "temperature", "unit": "°C", "kind": "number", "t": [NOW - 30, NOW - 10], "mean": [20.5, 21.5],
    }  # fmt: skip
    assert columns(answer, "smoke")["mean"] == [1.0]
    assert [each["name"] for each in answer["quantities"]] == ["temperature", "smoke"]
    assert answer["signal"]["gateways"] == [{"name": "a", "rssi": [-50, -55]}, {"name": "b", "rssi": [-70, None]}]


@pytest.mark.parametrize("points", [10, 50, 99])
def test_thinned_readings_lose_no_peak_and_keep_the_mean(store, points):
    """A minute and a half of values with one peak: fewer points, but least, greatest and mean are all still there."""
    values = [20 + (n % 7) * 0.25 for n in range(100)]
    values[37] = 99.0
    for n, each in enumerate(values):
        store.put(ONE, NOW - 200 + 2 * n, temperature=each)
    answer = store.series().read(Device(ONE), (NOW - 200) * 1000, NOW * 1000, points=points)
    found = columns(answer, "temperature")
    assert 5 <= len(found["t"]) <= points
    assert max(found["max"]) == 99.0
    assert min(found["min"]) == 20.0
    assert all(low <= mean <= high for low, mean, high in zip(found["min"], found["mean"], found["max"], strict=True))
    assert found["t"] == sorted(found["t"])


def test_a_long_time_is_answered_from_rollups_and_its_end_from_the_readings(store):
    """What the roll-up function has not seen yet is there all the same; what it has is not read again."""
    for n in range(40):
        store.put(ONE, NOW - 6 * 3600 - 600 + n * 60, temperature=20 + n % 5)
    store.roll_up()
    store.put(ONE, NOW - 20, temperature=42.0)
    asked = []
    store.dynamodb.fault = lambda operation, body: asked.append((body["TableName"], "ExclusiveStartKey" in body))
    answer = store.series().read(Device(ONE), (NOW - 7 * 3600) * 1000, NOW * 1000)
    found = columns(answer, "temperature")
    assert answer["resolution"] == "5m"
    assert answer["signal"] is None
    assert found["mean"][-1] == 42.0
    assert (min(found["min"]), max(found["max"][:-1])) == (20.0, 24.0)
    assert asked.count(("processor-readings", False)) == 2  # before the first roll-up, and from the last one on
    hours = columns(
        store.series().read(Device(ONE), (NOW - 7 * 3600) * 1000, NOW * 1000, resolution="hour"), "temperature"
    )
    assert len(hours["t"]) < len(found["t"])
    assert all(t % 3600 == 0 for t in hours["t"])


def drop_rollups(store, wanted=lambda start: True):
    """Take roll-ups out of the table: their function was down, or somebody deleted them."""
    table = store.dynamodb.tables["rollups"]
    for key in [key for key in table if wanted(int(key[1]))]:
        del table[key]


@pytest.mark.parametrize(
    "gone",
    [
        lambda start: True,
        lambda start: start % 1500 == 0,
        lambda start: start < NOW - 5 * 3600,
        lambda start: start > NOW - 3 * 3600,
    ],
    ids=["all", "some", "the earlier", "the later"],
)
@pytest.mark.parametrize("resolution", ["5m", "hour"])
def test_what_the_table_of_rollups_lacks_is_computed_from_the_readings(store, resolution, gone):
    """So a chart is the same whether they are there or not."""
    for n in range(8 * 60):
        store.put(ONE, NOW - 8 * 3600 + n * 60, temperature=20 + n % 7)
    store.roll_up()
    span = (NOW - 9 * 3600) * 1000, NOW * 1000
    complete = store.series().read(Device(ONE), *span, resolution=resolution)
    assert len(columns(complete, "temperature")["t"]) >= 8
    drop_rollups(store, gone)
    assert store.series().read(Device(ONE), *span, resolution=resolution) == complete


def test_not_more_is_read_in_place_of_rollups_than_a_page_can_wait_for(store, monkeypatch):
    """The latest first; before that what the table has, and the answer says that it is not complete."""
    monkeypatch.setattr("processor.dashboard.series.FILLED", 500)
    days, day = 8, 86_400 // 300
    begun = NOW // 86_400 * 86_400 - (days - 1) * 86_400
    for n in range(days * day):
        store.put(ONE, begun + n * 300, temperature=20.0)
    store.roll_up()
    drop_rollups(store, lambda start: start >= begun + 86_400)
    answer = store.series(begun + days * 86_400).read(
        Device(ONE), begun * 1000, (begun + days * 86_400) * 1000, resolution="5m"
    )
    times = columns(answer, "temperature")["t"]
    assert answer["complete"] is False
    assert [t for t in times if t < begun + 86_400] == [begun + n * 300 for n in range(day)]
    computed = [t for t in times if t >= begun + 86_400]
    assert computed == [begun + n * 300 for n in range(days * day)][-len(computed) :]
    assert 500 <= len(computed) <= 500 + THREADS * day


def test_a_device_that_is_seldom_heard_is_complete(store):
    """Most of its ranges have no roll-up, for there is nothing to sum up; that is nothing left out."""
    for n in range(300):
        store.put(ONE, NOW - n * 7200, temperature=20.0)
    store.roll_up()
    answer = store.series().read(Device(ONE), (NOW - 400 * 86_400) * 1000, NOW * 1000)
    assert (answer["resolution"], answer["complete"]) == ("day", True)
    assert len(columns(answer, "temperature")["t"]) == 25


@pytest.mark.parametrize("scale", ["1", "-2"])
def test_history_is_calibrated_as_the_readings_are(store, scale):
    """From readings and from roll-ups alike; a negative scale turns least and greatest round."""
    calibrated = Device(ONE, calibration={"temperature": Calibration(scale=Decimal(scale), offset=3)})
    for n in range(3):
        store.put(ONE, NOW - 40_000 + n, temperature=10.0 + n)
    store.roll_up()
    expected = sorted(float(scale) * value + 3 for value in (10, 11, 12))
    raw = store.series().read(calibrated, (NOW - 40_100) * 1000, (NOW - 39_000) * 1000)
    assert sorted(columns(raw, "temperature")["mean"]) == expected
    rolled = columns(store.series().read(calibrated, (NOW - 80_000) * 1000, NOW * 1000), "temperature")
    assert (rolled["min"], rolled["max"], rolled["mean"]) == ([expected[0]], [expected[2]], [expected[1]])


def test_times_and_resolutions_that_make_no_sense_are_refused(store):
    for start, end, resolution in ((5, 5, "auto"), (9, 5, "auto"), (-1, 5, "auto"), (0, 5, "week")):
        with pytest.raises(SettingsError):
            store.series().read(Device(ONE), start, end, resolution=resolution)


def run_health(clock, **changes):
    totals = SimpleNamespace(
        batches=0, records=0, ledger=Counter(), reasons=Counter(), ignored=Counter(), write_units=0.0,
        memory_mb=60.5, duration_ms=0.0, troubles=[],
    )  # fmt: skip
    stats = SimpleNamespace(errors=0, iterator_age_ms={"shard-0": 1500.0, "shard-1": 20.0})
    counts = Counter(records=9, written=5, stale=1, devices=2)
    rollup = SimpleNamespace(batches=3, memory_mb=40.0, duration_ms=300.0, troubles=[], counts=counts)
    health = RunHealth(
        totals, lambda: stats, rollup=rollup, rollup_stats=lambda: SimpleNamespace(errors=1),
        memory_mb={"ingest": 256, "rollup": 128}, clock=clock,
    )  # fmt: skip
    return health, totals


def test_a_runs_health_is_what_happened_since_the_last_sample_and_the_sums(stopwatch):
    health, totals = run_health(stopwatch)
    totals.records, totals.batches, totals.duration_ms, totals.write_units = 20, 4, 200.0, 30.0
    totals.ledger.update(received=50, stored=40, duplicates=6, rejected=4)
    totals.reasons.update(timestamp=4)
    totals.troubles = ["[WARNING] slow", *map(str, range(4))]
    stopwatch.now += 2
    health.sample()
    totals.records += 10
    stopwatch.now += 5
    health.sample()
    found = health.snapshot()
    assert found["history"] == {
        "t": [2.0, 7.0], "records": [10.0, 2.0], "stored": [20.0, 0.0], "duplicates": [3.0, 0.0],
        "rejected": [2.0, 0.0], "failed": [0.0, 0.0], "age_ms": [1500.0, 1500.0], "duration_ms": [50.0, 0.0],
        "write_units": [15.0, 0.0],
    }  # fmt: skip
    assert found["ledger"]["stored"] == 40
    assert found["reasons"] == {"timestamp": 4}
    assert found["shards"] == [{"shard": "shard-0", "age_ms": 1500}, {"shard": "shard-1", "age_ms": 20}]
    ingest, rollup = found["functions"]
    assert (ingest["duration_ms"], ingest["memory_mb"], ingest["limit_mb"]) == (50.0, 60.5, 256)
    assert (rollup["invocations"], rollup["errors"], rollup["duration_ms"]) == (3, 1, 100.0)
    assert found["costs"]["units_per_reading"] == 0.75
    assert [line["used"] for line in found["costs"]["lines"]][:2] == [30.0, 8]
    assert found["troubles"] == ["[WARNING] slow", "0", "1", "2", "3"]


def test_costs_are_used_times_price():
    found = costs(write_units=2e6, rollup_units=1e6, readings=4_000_000, invocations=0, gb_seconds=0, shard_hours=10)
    assert found["dollars"] == pytest.approx(3e6 * WRITE_UNIT + 10 * 0.015)
    assert found["writes_per_million_readings"] == pytest.approx(0.3125)
    found = costs(write_units=0, rollup_units=0, readings=0, invocations=0, gb_seconds=0, shard_hours=0)
    assert found["units_per_reading"] is None


def test_cloudwatch_is_asked_for_the_metrics_that_telemetry_emits_and_the_alarms_watch():
    """The names are those of a table prefix, as Terraform makes them; each alarm's metric is among those asked for."""
    import re
    from pathlib import Path

    names = Names.of("processor-prod-")
    assert (names.stream, names.functions["ingest"]) == ("processor-prod", "processor-prod-ingest")
    asked = {(query.namespace, query.metric) for query in queries(names)}
    alarms = (Path(__file__).parents[2] / "infra" / "terraform" / "alarms.tf").read_text()
    assert {"GetRecords.IteratorAgeMilliseconds", "IteratorAge", "RecordsRejected"} <= set(
        re.findall(r'metric(?:_name)? *= "([\w.]+)"', alarms)
    )
    assert ("AWS/Kinesis", "GetRecords.IteratorAgeMilliseconds") in asked
    assert ("AWS/Lambda", "IteratorAge") in asked
    assert ("Processor", "RecordsRejected") in asked


def rawv2(sequence):
    return manufacturer_data(0x0499, ruuvi.RAWV2.encode({"temperature": 24.3, "sequence": sequence}, address=ONE))


def envelope(data, at):
    entry = {"address": ONE, "rssi": -60, "timestamp": at, "data": data.hex()}
    return json.dumps({"payloads": [entry], "timestamp": at, "imsi": "295050000000001"}).encode()


class Page:
    """The whole page over tables and a bucket in memory, asked over sockets."""

    def __init__(self, store, bucket, kinesis_event):
        self.store = store
        self.bucket = bucket
        self.at = round(time.time() * 1000)
        self.quarantine = Quarantine("bucket", lambda: bucket)
        health = SimpleNamespace(snapshot=lambda: nothing("none", "nobody knows"))
        found = sources(Settings(region="us-east-1"), store.dynamodb, lambda service: bucket, health, refresh=0.2)
        rules = Rules(Limits(400 * 86400))
        rejected = Rejected(self.quarantine, Redrive(self.quarantine, store.writer, rules))
        self.dashboard = Dashboard(found._replace(rejected=rejected), port=0)
        self.event = kinesis_event

    def reject(self, *data, first=1):
        """Reject records, as ingest does; in quarantine then lies what it was given."""
        telemetry = Telemetry("page-ingest", stream=io.StringIO())
        handle = Ingest(self.store.writer, self.quarantine, telemetry, Rules(Limits(400 * 86400))).handle
        handle(self.event(*data, arrived_at=self.at, first=first), CONTEXT)

    def reject_good(self, *data, first=1):
        """Put records into quarantine that today's decoder understands: an older one did not."""
        from processor.quarantine import Rejection

        records = self.event(*data, arrived_at=self.at, first=first)["Records"]
        self.quarantine.put((record, [Rejection(0, "unknown", "not known yet")]) for record in records)

    def ask(self, path, body=None):
        port = int(self.dashboard.url.rstrip("/").rpartition(":")[2])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        try:
            headers = {"Content-Type": "application/json", "Origin": f"http://127.0.0.1:{port}"}
            connection.request(
                "GET" if body is None else "POST", path, None if body is None else json.dumps(body), headers
            )
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def events(self):
        """Yield (name, data) as they come."""
        port = int(self.dashboard.url.rstrip("/").rpartition(":")[2])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", "/api/events")
        answer = connection.getresponse()
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        name, deadline = "", time.monotonic() + 20
        try:
            for line in answer:
                assert time.monotonic() < deadline, "no such event comes"
                if line.startswith(b"event: "):
                    name = line[7:].strip().decode()
                elif line.startswith(b"data: "):
                    yield name, json.loads(line[6:])
        finally:
            answer.close()
            connection.close()


@pytest.fixture
def page(store, bucket, kinesis_event):
    found = Page(store, bucket, kinesis_event)
    with found.dashboard:
        yield found


def test_the_api_gives_devices_history_and_health_as_json(page):
    page.store.put(ONE, time.time() - 5, temperature=21.0)
    page.store.roll_up()
    status, answer = page.ask("/api/devices")
    assert (status, [each["device"] for each in answer["rows"]]) == (200, [ONE])
    assert page.ask(f"/api/devices/{ONE.lower()}")[1]["device"] == ONE
    assert columns(page.ask(f"/api/series/{ONE}")[1], "temperature")["mean"] == [21.0]
    assert page.ask("/api/pipeline")[1]["note"] == "nobody knows"
    assert page.ask("/api/rejected")[1] == {"records": [], "reasons": {}, "objects": 0, "complete": True}


@pytest.mark.parametrize("device", ["acme:a/b", "acme:A 17/x?y", "imsi:295050000000001", "acme:b/series", "acme:a/"])
def test_a_device_has_a_page_whatever_its_id_holds(page, device):
    """A slash, which reaches the routes decoded, among them; the same where somebody types it as it is."""
    page.store.put(device, time.time() - 5, temperature=21.0)
    page.store.roll_up()
    for spelled in (quote(device, safe=""), quote(device, safe=":/")):
        assert page.ask(f"/api/devices/{spelled}")[1]["device"] == device
        answer = page.ask(f"/api/series/{spelled}")[1]
        assert (answer["device"], columns(answer, "temperature")["mean"]) == (device, [21.0])
        assert urlopen(f"{page.dashboard.url}devices/{spelled}").status == 200


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/api/devices/nonsense", 400, "12 hexadecimal digits"),
        (f"/api/devices/{OTHER}", 404, "does not know it"),
        (f"/api/series/{OTHER}", 404, "does not know it"),
        (f"/api/series/{ONE}?from=x", 400, "from is a whole number"),
        (f"/api/series/{ONE}?from=9&to=3", 400, "from is before to"),
        (f"/api/series/{ONE}?resolution=week", 400, "auto or one of"),
    ],
)
def test_what_makes_no_sense_is_answered_in_words(page, path, status, words):
    page.store.registry.put(Device(ONE, "Cellar"))
    found, answer = page.ask(path)
    assert found == status
    assert words in answer["error"]


def test_a_table_that_cannot_be_read_is_said_and_the_page_goes_on(page):
    def fail(operation, body):
        raise TransientError("ThrottlingException", "Rate exceeded", status=400)

    page.store.dynamodb.fault = fail
    assert page.ask("/api/devices") == (502, {"error": "ThrottlingException: Rate exceeded (HTTP 400)"})
    told = dict(islice(page.events(), 3))
    assert "Rate exceeded" in told["trouble"]["error"]


def test_rejected_records_are_listed_with_their_reasons_newest_first(page):
    page.reject(b"\xff\xfe not JSON", envelope(rawv2(1), page.at - 10**12), first=1)
    status, answer = page.ask("/api/rejected")
    assert status == 200
    assert answer["reasons"] == {"version": 1, "timestamp": 1}
    assert answer["complete"] is True
    one, other = sorted(answer["records"], key=lambda record: record["name"])
    assert (one["rejected"][0]["index"], other["rejected"][0]["index"]) == (None, 0)
    assert other["devices"] == [ONE]
    assert one["payload"] == b"\xff\xfe not JSON".hex()
    assert other["payload"].startswith('{"payloads"')


def test_a_redrive_stores_what_is_understood_now_and_the_list_loses_it(page):
    """Tried out first, without changing anything; then done; then there is nothing left to do."""
    page.reject_good(envelope(rawv2(1), page.at), envelope(rawv2(2), page.at))
    page.reject(b"nonsense", first=9)
    names = [
        record["name"]
        for record in page.ask("/api/rejected")[1]["records"]
        if record["rejected"][0]["reason"] == "unknown"
    ]
    assert page.ask("/api/redrive", {"records": names[:1], "dry_run": True})[1]["ready"] == 1
    assert len(page.ask("/api/rejected")[1]["records"]) == 3
    assert page.ask("/api/redrive", {"records": names[:1]})[1]["stored"] == 1
    assert len(page.ask("/api/rejected")[1]["records"]) == 2
    assert page.store.reader.latest(ONE)[0].values["temperature"] == 24.3
    again = page.ask("/api/redrive", {"records": names[:1]})[1]
    assert (again["redriven"], again["stored"]) == (0, 0)
    by_reason = page.ask("/api/redrive", {"reasons": ["unknown"]})[1]
    assert (by_reason["redriven"], by_reason["stored"]) == (1, 1)
    everything = page.ask("/api/redrive", {})[1]
    assert (everything["failed_again"], everything["reasons"]) == (1, {"version": 1})
    assert page.ask("/api/rejected")[1]["records"][0]["attempts"] == 2


@pytest.mark.parametrize(
    "asked",
    [{"records": ["nonsense"]}, {"records": []}, {"records": "a"}, {"reasons": [1]}, {"device": "x"}, {"from": "y"},
     {"all": True}, {"dry_run": "no"}],
)  # fmt: skip
def test_a_redrive_of_what_makes_no_sense_does_nothing(page, asked):
    page.reject_good(envelope(rawv2(1), page.at))
    status, answer = page.ask("/api/redrive", asked)
    assert status == 400
    assert answer["error"]
    assert len(page.ask("/api/rejected")[1]["records"]) == 1


def test_one_redrive_at_a_time(page):
    page.reject_good(envelope(rawv2(1), page.at))
    during = []

    def before(operation, key):
        if operation == "GetObject" and not during:
            during.append(None)
            during[0] = page.ask("/api/redrive", {})

    page.bucket.before = before
    assert page.ask("/api/redrive", {})[0] == 200
    assert during[0][0] == 409
    assert "under way" in during[0][1]["error"]


def test_events_begin_with_everything_and_then_tell_what_changed(page):
    """A device that is heard again, a new one, one that is gone, a record that is rejected."""
    page.store.put(ONE, time.time() - 60, temperature=20.0)
    page.store.roll_up()
    events = page.events()
    told = dict(next(events) for _ in range(3))
    assert [each["device"] for each in told["fleet"]["rows"]] == [ONE]
    assert told["health"]["note"] == "nobody knows"
    assert told["rejected"] == {"records": 0, "objects": 0}
    page.store.put(ONE, time.time() - 1, temperature=33.0)
    page.store.roll_up()
    name, news = next(events)
    assert (name, [each["values"] for each in news["rows"]]) == ("devices", [[["temperature", 33.0, "°C"]]])
    page.store.put(OTHER, time.time() - 1, temperature=1.0)
    page.store.roll_up()
    assert [each["device"] for each in next(events)[1]["rows"]] == [OTHER]
    page.store.dynamodb.call("DeleteItem", {"TableName": "processor-devices", "Key": {"device": {"S": OTHER}}})
    assert next(events)[1]["gone"] == [OTHER]
    page.reject(b"nonsense")
    assert next(events) == ("rejected", {"records": 1, "objects": 1})
    events.close()


def test_without_the_extra_the_command_says_what_to_install():
    """The command line itself needs no web framework."""
    code = "import sys; sys.modules['starlette'] = None; from processor.cli import main; main(['dashboard'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == "Error: the page needs starlette and uvicorn: pip install 'processor[dashboard]'\n"


def test_nobody_looks_while_no_page_is_open(page):
    """The table of devices costs read units."""
    looked = []
    events = page.events()
    next(events)
    events.close()
    time.sleep(1.5)
    page.store.dynamodb.fault = lambda operation, body: looked.append(operation)
    time.sleep(1)
    assert looked == []


def test_the_server_ends_although_a_page_is_open(capfd, page):
    """The stream of events ends by itself; uvicorn would say that it had to cut it off."""
    events = page.events()
    next(events)
    page.dashboard.__exit__(None, None, None)
    list(events)
    assert capfd.readouterr().err == ""
