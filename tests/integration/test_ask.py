"""Query, export and SQL as typed, over a real socket, against what the table holds; killed and taken up again."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from decimal import Decimal

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from processor import Store
from processor.ask.choice import Choice
from processor.ask.export import Export
from processor.ask.plan import TABLES
from processor.cli import main
from processor.errors import QueryError
from processor.local.aws import EmbeddedAws
from processor.reading import Reading
from processor.settings import Settings
from processor.store import client, tables
from processor.store.reader import Reader
from processor.store.registry import Calibration, Device, Registry
from processor.store.rollups import RANGE_SECONDS, folded, item_of, ranges_of, rollup_of
from processor.store.states import States, state_of
from processor.store.tables import cell_name, cell_value, slot, slot_of

DAY = 86_400
FIRST = int(time.time()) // DAY * DAY - 4 * DAY + 7200  # at two, so long ago that all of it is past at any time of day
DAYS = 3
STEP = 400
DEVICES = [f"AA:00:00:00:00:{n:02X}" for n in range(1, 8)]
NEVER = 4_000_000_000


def fleet():
    """Readings of seven devices over three days, each with copies in the next slot; the last sends other quantities."""
    chance = random.Random(7)
    for number, device in enumerate(DEVICES):
        for n in range(DAYS * DAY // STEP):
            at = FIRST * 1000 + n * STEP * 1000 + chance.randrange(STEP * 900)
            values = {
                "temperature": chance.randrange(1000, 3000) / 100 + number,
                "humidity": float(chance.randrange(99)),
            }
            if number == 6:
                values = {"door": chance.random() < 0.5, "text": "=1+1"}
            reading = Reading(device, at, "ruuvi.5", values, n, chance.randrange(1 << 24))
            yield reading
            if chance.random() < 0.3:
                yield reading._replace(at=at + 16_000)  # heard by a gateway whose clock is ahead


def items_of(readings):
    items = {}
    for reading in readings:
        start = slot_of(reading.at)
        offset = reading.at - start * 1000
        key = {"device": {"S": reading.device}, "slot": {"N": str(start)}}
        item = items.setdefault((reading.device, start), {**key, "expires": {"N": str(NEVER)}, "gG1": {"N": "-60"}})
        item.setdefault(cell_name(reading, offset), cell_value(reading, offset))
    return items


def put(dynamodb, table, items):
    items = list(items)
    for at in range(0, len(items), 25):
        requests = [{"PutRequest": {"Item": item}} for item in items[at : at + 25]]
        dynamodb.batch_write_item(RequestItems={table: requests})


@pytest.fixture(scope="module")
def aws():
    """An AWS with a fleet in its tables: all rolled up but the last six hours, and two hours in between."""
    with EmbeddedAws() as found:
        settings = Settings.read(found.environment())
        dynamodb = found.client("dynamodb")
        tables.create(dynamodb, "processor-")
        items = items_of(fleet())
        put(dynamodb, settings.readings_table, items.values())
        with closing(client(settings)) as wire:
            rollups, states = [], States(wire, settings.devices_table)
            for device in DEVICES:
                slots = [slot(items[key]) for key in sorted(items) if key[0] == device]
                starts = sorted({start for each in slots for start in ranges_of(each.start)})
                every = filter(None, (rollup_of(device, start, slots) for start in starts))
                lost = range(FIRST + 40_000, FIRST + 47_200)
                last = FIRST + DAYS * DAY - 6 * 3600
                rollups += [item_of(each) for each in every if each.start < last and each.start not in lost]
                states.join(state_of(device, slots))
            put(dynamodb, settings.rollups_table, rollups)
            registry = Registry(wire, settings.devices_table)
            for n, device in enumerate(DEVICES[:4]):
                site = "Home" if n < 3 else "Work"
                registry.put(Device(device, f"Sensor {n}", site, calibration={"temperature": HALVED} if n == 1 else {}))
        yield found


HALVED = Calibration(Decimal("-0.5"), Decimal("100"))


@pytest.fixture
def typed(aws, monkeypatch):
    for name, value in (aws.environment() | {"COUNT_UNITS": "items"}).items():
        monkeypatch.setenv(name, value)

    def run(*arguments, status=0):
        done = CliRunner().invoke(main, [str(each) for each in arguments])
        assert done.exit_code == status, done.output + repr(done.exception)
        return done

    return run


@pytest.fixture
def store(aws):
    settings = replace(Settings.read(aws.environment()), count_units="items")
    with Store.open(settings, threads=20) as found:
        yield found


def objects(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


def table_holds(aws, devices, start=FIRST * 1000, end=(FIRST + (DAYS + 1) * DAY) * 1000, raw=False):
    """The readings by the plain reader, one device after the other, calibrated."""
    settings = Settings.read(aws.environment())
    with closing(client(settings)) as wire:
        reader, registry = Reader(wire, settings.readings_table), Registry(wire, settings.devices_table)
        known = registry.many(devices)
        return [
            each if raw or device not in known else known[device].calibrated(each)
            for device in devices
            for each in reader.readings(device, start, end)
        ]


def plain(readings):
    return [(r.device, r.at, r.identity, dict(r.values)) for r in readings]


def test_many_devices_are_queried_by_site_file_and_all(aws, typed, tmp_path):
    start, end = (FIRST + DAY) * 1000, (FIRST + DAY + 7000) * 1000
    times = ("--from", "1970-01-01", "--to", "2100-01-01", "--format", "json")
    rows = objects(typed("query", "--site", "home", *times))
    expected = table_holds(aws, DEVICES[:3])
    assert [(row["device"], row["identity"], row["temperature"]) for row in rows] == [
        (each.device, each.identity, each.values["temperature"]) for each in expected
    ]
    every = objects(typed("query", "--all", *times, "--quantity", "humidity"))
    assert len(every) == len(table_holds(aws, DEVICES[:6]))
    assert all(row.keys() >= {"humidity"} and "temperature" not in row for row in every)
    listed = tmp_path / "some.csv"
    listed.write_text(f"address,name\n{DEVICES[2].lower()},x\n# a note\n\n{DEVICES[5]}\n")
    between = ("--from", iso(start), "--to", iso(end), "--format", "json")
    some = objects(typed("query", f"@{listed}", *between, "--raw"))
    assert len(some) == len(table_holds(aws, [DEVICES[2], DEVICES[5]], start, end, raw=True)) > 10
    latest = objects(typed("query", DEVICES[0], DEVICES[3], "--last", 3, "--format", "json"))
    assert [row["device"] for row in latest] == [DEVICES[0]] * 3 + [DEVICES[3]] * 3


def iso(ms):
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ms / 1000)) + f".{ms % 1000:03d}Z"


def recomputed(aws, device, start, end, seconds):
    settings = Settings.read(aws.environment())
    with closing(client(settings)) as wire:
        slots = list(Reader(wire, settings.readings_table).slots(device, start - 400_000, end + 400_000))
    ranges = range(start // 300_000 * 300, -(-end // 300_000) * 300, RANGE_SECONDS)
    every = filter(None, (rollup_of(device, each, slots, within=(start, end)) for each in ranges))
    return [each for each in folded(every, seconds) if each.readings]


@pytest.mark.parametrize(("resolution", "seconds"), [("5m", 300), ("hour", 3600), ("day", DAY)])
def test_summaries_are_the_recomputation_where_roll_ups_are_missing_and_times_cut_ranges(
    aws, typed, resolution, seconds
):
    start, end = (FIRST + 30_123) * 1000 + 7, (FIRST + DAYS * DAY - 3333) * 1000
    command = ("query", DEVICES[0], "--from", iso(start), "--to", iso(end), "--resolution", resolution)
    rows = objects(typed(*command, "--format", "json"))
    assert [(row["quantity"], row["count"], row["min"], row["max"]) for row in rows] == [
        (name, each.count, float(each.min), float(each.max))
        for rollup in recomputed(aws, DEVICES[0], start, end, seconds)
        for name, each in rollup.quantities.items()
    ]


def test_summaries_are_calibrated_exactly(aws, typed):
    start, end = (FIRST + DAY) * 1000, (FIRST + 2 * DAY) * 1000
    command = ("query", DEVICES[1], "--from", iso(start), "--to", iso(end), "--resolution", "hour")
    rows = objects(typed(*command, "--quantity", "temperature", "--format", "json"))
    raw = objects(typed(*command, "--quantity", "temperature", "--format", "json", "--raw"))
    assert len(rows) == 24
    for mine, stored in zip(rows, raw, strict=True):
        assert mine["max"] == pytest.approx(100 - stored["min"] / 2, abs=1e-12)
        assert mine["min"] == pytest.approx(100 - stored["max"] / 2, abs=1e-12)
        assert mine["mean"] == pytest.approx(100 - stored["mean"] / 2, abs=1e-12)


def test_csv_has_every_column_and_no_formula(typed):
    done = typed("query", DEVICES[0], DEVICES[6], "--from", "1970-01-01", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert {"temperature", "door", "text"} <= rows[0].keys()
    assert {row["text"] for row in rows} == {"", "'=1+1"}
    streamed = typed("query", DEVICES[6], "--from", "1970-01-01", "--format", "csv", "--quantity", "text")
    assert streamed.stdout.splitlines()[0] == "at,device,format,identity,gateway,rssi,text"
    assert "'=1+1" in streamed.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "whose readings"),
        (("--all", "--site", "Home"), "excludes"),
        (("--site", "Nowhere"), "the sites Home, Work"),
        (("nobody",), "12 hexadecimal digits"),
        (("@/nonexistent",), "No such file"),
        (("--all", "--quantity", "warmth"), "no quantity is called 'warmth'"),
        (("--all", "--last", "2", "--resolution", "hour"), "--resolution raw"),
        (("--all", "--from", "-1h", "--to", "-2h"), "is not before"),
        (("--all", "--read-units", "0"), "x>=1"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused_in_words(typed, arguments, message):
    done = CliRunner().invoke(main, ["query", *arguments])
    assert done.exit_code in (1, 2)
    assert message in done.stderr


def test_a_time_that_is_none_is_refused_by_the_name_of_its_option(typed, tmp_path):
    done = CliRunner().invoke(main, ["export", str(tmp_path / "data"), "--to", "yesterday"])
    assert (done.exit_code, "--to: 'yesterday' is neither" in done.stderr) == (2, True)


def exported(folder, table="readings"):
    rows = []
    for file in sorted((folder / table).rglob("*.parquet")):
        rows += pq.ParquetFile(file).read().to_pylist()
    return rows


def key(row):
    return row["device"], row["time"]


def as_exported(readings):
    rows = [(r.device, r.at, r.identity, dict(r.values)) for r in readings]
    return sorted(rows, key=lambda row: (row[0], row[1], row[2]))


def comparable(rows):
    fixed = {"device", "time", "format", "identity", "gateway", "rssi", "name", "site", "model"}
    found = [
        (
            row["device"], round(row["time"].timestamp() * 1000), row["identity"],
            {name: value for name, value in row.items() if name not in fixed and value is not None},
        )
        for row in rows
    ]  # fmt: skip
    return sorted(found, key=lambda row: row[:3])


@pytest.mark.parametrize("by", ["scan", "query"])
def test_an_export_holds_what_the_table_holds(aws, typed, tmp_path, by):
    """Whichever way: every reading once, calibrated, in the file of its day; the roll-ups of all; the devices."""
    folder = tmp_path / "out"
    done = typed("export", folder, "--by", by)
    assert f"by {by}" in done.stderr
    rows = exported(folder)
    assert comparable(rows) == as_exported(table_holds(aws, DEVICES))
    assert {row["name"] for row in rows if row["device"] == DEVICES[1]} == {"Sensor 1"}
    for file in (folder / "readings").rglob("*.parquet"):
        days = {str(row["time"].date()) for row in pq.ParquetFile(file).read().to_pylist()}
        assert days == {file.parent.name.removeprefix("day=")}
    rollups = exported(folder, "rollups")
    for device in (DEVICES[0], DEVICES[6]):
        expected = recomputed(aws, device, FIRST * 1000 - 7_200_000, (FIRST + (DAYS + 1) * DAY) * 1000, 300)
        mine = sorted(
            (r["start"].timestamp(), r["quantity"], r["count"], r["sum"]) for r in rollups if r["device"] == device
        )
        assert mine == sorted(
            (float(each.start), name, summary.count, float(summary.sum))
            for each in expected
            for name, summary in each.quantities.items()
        )
    devices = pq.read_table(folder / "devices" / "devices.parquet").to_pylist()
    assert [row["device"] for row in devices] == DEVICES
    assert not list(folder.rglob("*.tmp"))
    assert not (folder / "scan").exists()


def test_an_export_in_part_is_cut_where_it_says(aws, typed, tmp_path):
    start, end = (FIRST + 80_000) * 1000 + 123, (FIRST + DAY + 50_001) * 1000
    times = ("--from", iso(start), "--to", iso(end))
    for by in ("scan", "query"):
        typed("export", tmp_path / by, *times, "--site", "Home", "--by", by, "--raw", "--quantity", "temperature")
        rows = comparable(exported(tmp_path / by))
        expected = [
            each._replace(values={"temperature": each.values["temperature"]})
            for each in table_holds(aws, DEVICES[:3], start, end, raw=True)
        ]
        assert rows == as_exported(expected)
        counts = {}
        for row in exported(tmp_path / by, "rollups"):
            counts[row["device"]] = counts.get(row["device"], 0) + row["count"]
        assert counts == {device: sum(each.device == device for each in expected) for device in DEVICES[:3]}


CHILD = """
import os, signal, sys
from processor.cli import main

left, fsync = int(sys.argv.pop(1)), os.fsync

def dying(descriptor):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    fsync(descriptor)

os.fsync = dying
main()
"""


@pytest.mark.parametrize(("by", "deaths"), [("scan", (2, 6, 14, 5, 8, 7)), ("query", (2, 4, 5, 6))])
def test_a_killed_export_goes_on_and_ends_with_what_the_table_holds(aws, typed, tmp_path, by, deaths):
    """Killed with SIGKILL wherever it was about to make something last: plan, log, checkpoint or file.

    In between, whatever has a file's name is a whole file.
    """
    folder = tmp_path / "out"
    environment = {**os.environ, **aws.environment(), "COUNT_UNITS": "items"}
    for times in deaths:
        command = [sys.executable, "-c", CHILD, str(times), "export", str(folder), "--by", by]
        child = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert child.returncode == -signal.SIGKILL, child.stderr
        for file in folder.rglob("*.parquet"):
            assert pq.ParquetFile(file).read().num_rows
    with (folder / "export.log").open("ab") as log:
        log.write(b'{"day": 1')  # a line that was cut short
    assert list(folder.rglob("*.parquet"))
    done = typed("export", folder, "--by", by)
    assert "continuing" in done.stderr
    assert comparable(exported(folder)) == as_exported(table_holds(aws, DEVICES))
    assert not list(folder.rglob("*.tmp"))


def test_a_finished_export_is_brought_up_to_date_and_another_kind_is_refused(aws, typed, tmp_path):
    folder = tmp_path / "out"
    first = ("--from", iso(FIRST * 1000), "--to", iso((FIRST + DAY + 5000) * 1000))
    typed("export", folder, *first)
    whole = sorted((folder / "readings").rglob("*.parquet"))[0]
    before = whole.stat().st_mtime_ns
    done = typed("export", folder, "--from", iso(FIRST * 1000))
    assert "exporting" in done.stderr
    assert whole.stat().st_mtime_ns == before  # a day that was over stays
    assert comparable(exported(folder)) == as_exported(table_holds(aws, DEVICES))
    assert "another choice of devices" in typed("export", folder, "--site", "Home", status=1).stderr
    other = tmp_path / "photos"
    other.mkdir()
    (other / "cat.jpg").write_bytes(b"")
    assert "other things" in typed("export", other, status=1).stderr


@pytest.fixture(scope="module")
def export(aws, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "out"
    settings = replace(Settings.read(aws.environment()), count_units="items")
    with Store.open(settings, threads=20) as store:
        Export(store, folder, Choice(everyone=True), tables=TABLES).run()
    return folder


RANKED = """
    SELECT device, hour, mean, rank() OVER (PARTITION BY hour ORDER BY mean DESC) AS place
    FROM (SELECT device, date_trunc('hour', time) AS hour, avg(temperature) AS mean FROM readings
          WHERE temperature IS NOT NULL GROUP BY ALL)
    ORDER BY hour, place, device
"""


def test_sql_ranks_devices_by_hourly_mean_over_an_export(aws, typed, export):
    rows = objects(typed("sql", RANKED, "--over", export, "--format", "json"))
    hours = {}
    for reading in table_holds(aws, DEVICES[:6]):
        hour = iso(reading.at // 3_600_000 * 3_600_000)
        hours.setdefault(hour, {}).setdefault(reading.device, []).append(reading.values["temperature"])
    assert {row["hour"] for row in rows} == set(hours)
    for hour, values in hours.items():
        means = {device: statistics.fmean(each) for device, each in values.items()}
        ranked = [(row["device"], row["place"]) for row in rows if row["hour"] == hour]
        assert ranked == [(d, n) for n, d in enumerate(sorted(means, key=lambda d: -means[d]), 1)]


def test_sql_sees_three_views_and_their_days(typed, export):
    (row,) = objects(
        typed("sql", "SELECT (SELECT count(*) FROM rollups) AS n, (SELECT count(DISTINCT day) FROM readings) AS days, "
              "(SELECT count(*) FROM devices) AS devices", "--over", export, "--format", "json")
    )  # fmt: skip
    assert row["n"] > 1000
    assert (row["days"], row["devices"]) == (4, 7)
    done = typed("sql", "SELECT text FROM readings WHERE text IS NOT NULL LIMIT 1", "--over", export, "--format", "csv")
    assert done.stdout == "text\n'=1+1\n"
    assert "temperature" in typed("sql", "DESCRIBE readings", "--over", export).stdout


def test_sql_answers_directly_and_roll_ups_alone_are_cheaper(store, typed):
    times = ("--from", iso((FIRST + DAY) * 1000), "--to", iso((FIRST + 2 * DAY) * 1000), "--format", "json")
    statement = "SELECT device, sum(count)::INT AS n FROM rollups WHERE quantity = 'temperature' GROUP BY device"
    by_rollups = objects(typed("sql", f"{statement} ORDER BY device", "--all", *times))
    by_readings = objects(
        typed("sql", "SELECT device, count(temperature)::INT AS n FROM readings WHERE temperature IS NOT NULL "
              "GROUP BY device ORDER BY device", "--all", *times)
    )  # fmt: skip
    assert by_rollups == by_readings
    assert len(by_rollups) == 6


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('{elsewhere}')",
        "SELECT * FROM '{elsewhere}'",
        "COPY (SELECT 1) TO '{folder}/x.csv'",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{folder}/devices/devices.parquet'",
        "WITH x AS (COPY (SELECT 1) TO '{folder}/devices/devices.parquet') SELECT * FROM x",
        "EXPLAIN ANALYZE CREATE TABLE x AS SELECT 1",
        "ATTACH '{folder}/x.db'",
        "SET enable_external_access = true",
        "INSTALL httpfs",
        "LOAD httpfs",
        "CREATE TABLE x (a INT)",
        "DROP VIEW readings",
        "SELECT 1; SELECT 2",
        "",
        "SELEC 1",
        "SELECT nosuch FROM readings",
    ],
)
def test_sql_reads_the_export_and_nothing_else(typed, export, tmp_path, statement):
    elsewhere = tmp_path / "secret.csv"
    elsewhere.write_text("secret\n1\n")
    before = {file: file.is_file() and file.read_bytes() for file in export.rglob("*")}
    done = typed("sql", statement.format(elsewhere=elsewhere, folder=export), "--over", export, status=1)
    assert done.stderr.startswith("Error: ")
    assert "secret\n1" not in done.output
    assert "Traceback" not in done.output
    assert {file: file.is_file() and file.read_bytes() for file in export.rglob("*")} == before


def test_sql_over_nothing_says_what_to_do(typed, tmp_path):
    assert "processor export" in typed("sql", "SELECT 1", "--over", tmp_path, status=1).stderr
    assert "over what?" in typed("sql", "SELECT 1 FROM readings", status=2).stderr
    assert "does nothing with --over" in typed("sql", "SELECT 1", "--over", tmp_path, "--all", status=2).stderr


def test_python_gets_rows_arrow_pandas_and_polars(aws, store):
    start, end = (FIRST + DAY) * 1000, (FIRST + DAY + 9000) * 1000
    result = store.query(DEVICES[0], DEVICES[6], start=start, end=end)
    expected = table_holds(aws, [DEVICES[0], DEVICES[6]], start, end)
    rows = result.rows()
    assert [(row["device"], row["identity"]) for row in rows] == [(each.device, each.identity) for each in expected]
    frame = result.to_pandas()
    assert list(frame["temperature"].dropna()) == [r.values["temperature"] for r in expected if r.device == DEVICES[0]]
    polars = result.to_polars()
    assert polars.shape == frame.shape
    assert polars["door"].drop_nulls().to_list() == [r.values["door"] for r in expected if r.device == DEVICES[6]]
    hourly = store.query(site="Home", start=start, end=end, quantities="temperature", resolution="hour").to_polars()
    assert sorted(set(hourly["device"])) == DEVICES[:3]
    assert store.query(DEVICES[0], start=0, end=1).to_arrow().num_rows == 0
    with pytest.raises(QueryError, match="neither ISO 8601"):
        store.query(start="yesterday")
    with pytest.raises(QueryError, match="one of raw, 5m, hour, day"):
        store.query(resolution="week")


def test_without_roll_ups_the_table_itself_tells_who_is_there(aws):
    settings = replace(Settings.read(aws.environment()), table_prefix="bare-", count_units="items")
    tables.create(aws.client("dynamodb"), "bare-")
    put(aws.client("dynamodb"), settings.readings_table, items_of(list(fleet())[:50]).values())
    with Store.open(settings, threads=4) as store:
        result = store.query(start=0, end=NEVER * 1000, resolution="day")
        assert {row["device"] for row in result} == {DEVICES[0]}
