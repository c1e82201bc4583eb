"""The parts of asking: work ahead in bounded memory, plans and files that survive a kill, columns of one type."""

from __future__ import annotations

import shutil
import threading
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import orjson
import pyarrow.parquet as pq
import pytest

from processor.ask.choice import Choice, Member
from processor.ask.columns import readings_table, rollups_table
from processor.ask.export import Export
from processor.ask.parquet import Files
from processor.ask.plan import CLOSED_MS, TABLES, Log, Part, Plan
from processor.ask.query import Question, Source
from processor.ask.spool import DAY_MS, Spool, days_of_range, days_of_slot, parsed
from processor.ask.sql import tables_of
from processor.ask.store import Store
from processor.errors import QueryError, StoreError, TransientError
from processor.local.memory_dynamodb import MemoryDynamoDB
from processor.reading import Reading
from processor.settings import Settings
from processor.store.budget import Budget, Metered
from processor.store.parallel import FIRST, ahead
from processor.store.reader import Reader
from processor.store.registry import Device
from processor.store.rollups import Rollup, Rollups, Summary, item_of, rollup_of
from processor.store.states import States, state_of
from processor.store.tables import cell_name, cell_value, slot, slot_of
from processor.store.units import item_size, read_units

A, B = "CB:B8:33:4C:88:4F", "C0:00:00:00:00:01"
BASE = 1_700_006_400  # a midnight


def reading(at=BASE * 1000, device=A, counter=None, **values):
    return Reading(device, at, "ruuvi.5", values or {"temperature": 20.5}, counter, 7, "G1", -60)


# Work ahead


def test_results_come_in_order_however_long_each_takes():
    held = threading.Event()

    def work(job):
        if job == 0:
            held.wait(10)
        elif job == 5:
            held.set()
        return -job

    assert list(ahead(range(50), work, threads=8, weigh=lambda _: 1, most=100)) == [(n, -n) for n in range(50)]


def test_no_more_is_begun_than_fits_what_results_weigh():
    """A first few, then as many as the weight allows; where one alone is too heavy, one at a time."""
    for most, allowed in ((1000, 10), (50, 1)):
        begun, taken, high = [], 0, 0
        for _ in ahead(range(60), begun.append, threads=40, weigh=lambda _: 100, most=most):
            taken += 1
            if taken > FIRST:
                high = max(high, len(begun) - taken)
        assert taken == 60
        assert high <= allowed


def test_what_fails_is_raised_and_nothing_more_is_begun():
    begun = []

    def work(job):
        begun.append(job)
        if job == 3:
            raise TransientError("InternalServerError", "broken")

    with pytest.raises(TransientError):
        list(ahead(range(10_000), work, threads=2, weigh=lambda _: 1, most=10))
    assert len(begun) < 20


def test_who_leaves_does_not_wait_for_what_is_under_way():
    held, finished = threading.Event(), []

    def work(job):
        if job:
            held.wait(10)
            finished.append(job)

    found = ahead(range(3), work, threads=3, weigh=lambda _: 1, most=10)
    next(found)
    found.close()
    assert finished == []
    held.set()


# Read units


class Service:
    """Answers every read with so many units."""

    def __init__(self, units):
        self.units = units

    def call(self, operation, body, *, deadline=None):
        assert body["ReturnConsumedCapacity"] == "TOTAL"
        return {"Items": [], "ConsumedCapacity": {"CapacityUnits": self.units}}

    def close(self):
        pass


@pytest.mark.parametrize("each", [0.5, 8, 128])
def test_reads_take_no_more_units_than_the_seconds_allow(each, stopwatch):
    """In all, one read's debt aside."""
    budget = Budget(20, clock=stopwatch, sleep=stopwatch.sleep)
    client = Metered(Service(each), budget)
    for _ in range(50):
        client.call("Query", {})
        assert budget.units <= 20 * stopwatch.now + each + 1e-6
    assert budget.units == 50 * each
    assert stopwatch.now <= 50 * each / 20  # and it does not dawdle


def test_reads_begun_at_once_are_held_by_what_those_before_them_took(stopwatch):
    budget = Budget(100, clock=stopwatch, sleep=stopwatch.sleep)
    for _ in range(12):
        budget.take(10)
    assert stopwatch.now == pytest.approx(1.1)  # eleven of them waited, with none of them answered


def test_a_closed_budget_lets_nobody_wait():
    budget = Budget(1)
    budget.settle(0, 1_000_000)
    budget.close()
    with pytest.raises(StoreError, match="was closed"):
        budget.take(1)


def test_a_throttled_read_pauses_all_and_goes_on_and_another_failure_does_not(stopwatch):
    fails = [TransientError("ThrottlingException", "Rate exceeded")] * 5

    class Busy(Service):
        def call(self, operation, body, *, deadline=None):
            if fails:
                raise fails.pop()
            return super().call(operation, body)

    budget = Budget(clock=stopwatch, sleep=stopwatch.sleep)
    client = Metered(Busy(2.0), budget)
    client.call("Query", {})
    assert (stopwatch.now, budget.units) == (5.0, 2.0)
    fails.append(TransientError("ResourceNotFoundException", "no table"))
    with pytest.raises(TransientError, match="no table"):
        client.call("Query", {})
    fails.extend([TransientError("ThrottlingException", "Rate exceeded")] * 1000)
    with pytest.raises(TransientError, match="Rate exceeded"):
        client.call("Query", {})


def test_units_are_computed_from_sizes_where_the_service_does_not_count():
    big = {"device": {"S": A}, "x": {"S": "y" * 9000}}
    answers = {
        "Query": {"Items": [big, big]},
        "BatchGetItem": {"Responses": {"t": [big]}, "UnprocessedKeys": {"t": {"Keys": [1]}}},
        "GetItem": {"Item": big},
    }
    client = SimpleNamespace(call=lambda operation, body, deadline=None: answers[operation])
    for operation, body, units in (
        ("Query", {}, 2.5),
        ("Query", {"ConsistentRead": True}, 5.0),
        ("GetItem", {}, 1.5),
        ("BatchGetItem", {"RequestItems": {"t": {"Keys": [1, 2, 3], "ConsistentRead": True}}}, 3.0 + 1.0),
    ):
        budget = Budget()
        Metered(client, budget, measure=True).call(operation, body)
        assert (budget.units, budget.reads) == (units, 1)
    assert (read_units(0), read_units(4096), read_units(4097), read_units(4097, consistent=True)) == (0.5, 0.5, 1, 2)


# What a day costs to read


@pytest.mark.parametrize(("interval", "hours", "most"), [(2, 6, 0.02), (10, 24, 0.1)])
def test_summaries_cost_at_most_a_tenth_of_an_item_for_each_reading_of_every_ten_seconds(interval, hours, most):
    """One device, through the queries themselves; where the tenth ends, tests/benchmarks/queries.py shows."""
    memory, items, single = MemoryDynamoDB(page=10_000), {}, 0  # a page of 1 MB holds thousands of items
    count, end = hours * 3600 // interval, (BASE + hours * 3600) * 1000
    for n in range(count):
        values = {"temperature": 20 + n % 700 / 100, "humidity": n % 99 / 2, "pressure": 98_000 + n % 4000,
                  "acceleration_x": n % 999 / 1000, "acceleration_y": -n % 999 / 1000, "acceleration_z": 1.001,
                  "battery_voltage": 2.977, "tx_power": 4, "movement_counter": n % 256, "sequence": n}  # fmt: skip
        each = reading((BASE + n * interval) * 1000, counter=n, **values)
        plain = {name: {"N": repr(value)} for name, value in values.items()}
        single += item_size(
            {"device": {"S": A}, "at": {"N": str(each.at)}, "gateway": {"S": A}, "rssi": {"N": "-60"}, **plain}
        )
        put(items, each)
    roll_up(memory, items)
    for resolution, rows in (("5m", hours * 12), ("hour", hours), ("day", 1)):
        budget = Budget()
        client = Metered(memory, budget, measure=True)
        source = Source(Reader(client, "processor-readings"), Rollups(client, "processor-rollups"), threads=2)
        found = list(source.summaries(Question([Member(Device(A))], BASE * 1000, end, resolution)))
        assert (len(found), sum(rollup.readings for rollup in found)) == (rows, count)
        assert 0 < budget.units <= most * read_units(single), resolution


def put(items, each):
    start = slot_of(each.at)
    key = {"device": {"S": each.device}, "slot": {"N": str(start)}}
    item = items.setdefault((each.device, str(start)), key)
    offset = each.at - start * 1000
    item[cell_name(each, offset)] = cell_value(each, offset)


def roll_up(memory, items):
    memory.tables["readings"] = dict(sorted(items.items()))
    states = States(memory, "processor-devices")
    for device in sorted({device for device, _ in items}):
        slots = sorted((slot(item) for key, item in items.items() if key[0] == device), key=lambda each: each.start)
        for start in sorted({each.start // 300 * 300 for each in slots}):
            near = [each for each in slots if abs(each.start - start) < 600]
            memory.tables["rollups"][device, str(start)] = item_of(rollup_of(device, start, near))
        states.join(state_of(device, slots))


# Columns and files


def test_a_column_has_one_type_and_an_absent_value_is_none():
    table = readings_table(
        [reading(temperature=20, door=True, button="press", sequence=4), reading(device=B, firmware_version="1.2")],
        {A: Device(A, "Cellar", "Home", heard="RuuviTag")},
    )
    types = {field.name: str(field.type) for field in table.schema}
    some = ("time", "temperature", "door", "button", "sequence", "firmware_version")
    assert {name: types[name] for name in some} == {
        "time": "timestamp[ms, tz=UTC]", "temperature": "double", "door": "bool", "button": "string",
        "sequence": "double", "firmware_version": "string",
    }  # fmt: skip
    assert table["name"].to_pylist() == ["Cellar", None]
    assert table["model"].to_pylist() == ["RuuviTag", None]
    assert table["temperature"].to_pylist() == [20.0, None]
    summary = Summary(2, Decimal("3"), Decimal("1"), Decimal("2"), Decimal("2"))
    (row,) = rollups_table([Rollup(A, BASE, 2, 2, {"humidity": summary})], {}).to_pylist()
    assert (row["quantity"], row["unit"], row["mean"], row["count"]) == ("humidity", "%", 1.5, 2)


def test_files_have_their_names_when_they_are_whole_and_a_new_column_begins_another(tmp_path, monkeypatch):
    monkeypatch.setattr("processor.ask.parquet.GROUP", 2)
    files = Files(tmp_path, "part-00000")
    for values in ({"temperature": 1.0}, {"humidity": 2.0}, {"temperature": 3.0}, {"humidity": 4.0}, {"co2": 5.0}):
        files.add(readings_table([reading(**values)], {}))
    assert not list(tmp_path.glob("*.parquet"))
    files.finish()
    first, second = sorted(tmp_path.iterdir())
    assert pq.ParquetFile(first).read().column("temperature").to_pylist() == [1.0, None, 3.0, None]
    assert pq.ParquetFile(second).read().column("co2").to_pylist() == [5.0]
    abandoned = Files(tmp_path / "other", "part-00000")
    for _ in range(2):
        abandoned.add(readings_table([reading()], {}))
    abandoned.abandon()
    assert not list((tmp_path / "other").iterdir())


# Plans, logs and spools


def plan(**changes):
    known = {"start": 0, "end": 10 * DAY_MS, "typed": ("-10d", ""), "choice": Choice(everyone=True), "quantities": (),
             "tables": TABLES, "raw": False, "by": "query", "buckets": 2, "begun": 11 * DAY_MS}  # fmt: skip
    return Plan(**known | changes)


def test_a_plan_is_read_back_and_an_unfinished_one_goes_on_with_its_own_times(tmp_path):
    first = plan(choice=Choice((A,), ("Home",), ()), quantities=("humidity",))
    first.write(tmp_path)
    there = Plan.read(tmp_path)
    assert there == first
    later = plan(choice=first.choice, quantities=("humidity",), start=1, end=11 * DAY_MS, begun=12 * DAY_MS)
    assert there.continued(later, tmp_path) is there  # -10d again, an hour later
    with pytest.raises(QueryError, match="unfinished export from 1970"):
        there.continued(plan(choice=first.choice, quantities=("humidity",), start=1, typed=("-9d", "")), tmp_path)
    for other in ({"choice": Choice((B,))}, {"quantities": ()}, {"raw": True}, {"tables": ("rollups",)}):
        with pytest.raises(QueryError, match="another"):
            there.continued(plan(**{"choice": first.choice, "quantities": ("humidity",)} | other), tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [(b"{", "no JSON|not an export's plan"), (b"[]", "another version"), (b'{"version": 0}', "another")],
)
def test_a_file_that_is_no_plan_is_refused(tmp_path, text, message):
    (tmp_path / "export.json").write_bytes(text)
    with pytest.raises(QueryError, match=message):
        Plan.read(tmp_path)


def test_a_log_counts_whole_lines_and_forgets_days_that_were_hardly_over(tmp_path):
    begun = 3 * DAY_MS + CLOSED_MS // 2
    log = Log(tmp_path)
    parts = [Part(day, 0, day * DAY_MS, (day + 1) * DAY_MS) for day in range(4)]
    for part in parts[:3]:
        log.add(part, begun, {"readings": 10})
    with (tmp_path / "export.log").open("ab") as file:
        file.write(orjson.dumps({"day": 3, "bucket": 0}))  # a line that was cut short
    log = Log(tmp_path)
    assert [log.done(part.day, 0) for part in parts] == [True, True, True, False]
    log.keep(lambda part: part.day != 0, begun)
    assert (Log(tmp_path).done(0, 0), Log(tmp_path).total("readings")) == (False, 20)
    log.keep(lambda part: True, begun + 1)  # a later export: the third day was over for half an hour only
    assert [Log(tmp_path).done(part.day, 0) for part in parts] == [False, True, False, False]


def scanned(spool, memory, **options):
    spool.scan(memory, "processor-readings", "readings", sort_key="slot", days=days_of_slot,
               wanted=options.get("wanted", lambda item: True), report=lambda items: None)  # fmt: skip


def test_an_interrupted_scan_goes_on_from_its_checkpoint_and_brings_every_item_once(tmp_path, monkeypatch):
    """Killed in the middle of a write, that is: what stands behind the checkpoint is cut off and read again."""
    monkeypatch.setattr("processor.ask.spool.BUFFERED", 0)  # a checkpoint after each round of pages
    items = {}
    for n in range(300):
        put(items, reading((BASE + n * 900) * 1000, device=A if n % 3 else B, counter=n))
    memory = MemoryDynamoDB()
    memory.tables["readings"] = items
    calls = iter(range(105))  # some segments are at their end by then

    def fault(operation, body):
        if next(calls, None) is None:
            raise TransientError("InternalServerError", "broken")

    memory.fault = fault
    with pytest.raises(TransientError):
        scanned(Spool(tmp_path, 2), memory)
    for file in tmp_path.glob("*.spool"):
        with file.open("ab") as torn:
            torn.write(b"\x00\x00\x00\x99half a block")
    read = []
    memory.fault = lambda operation, body: read.append(operation)
    spool = Spool(tmp_path, 2)
    before = spool.items
    assert 0 < before < 300
    scanned(spool, memory)
    assert spool.items == 300
    assert len(read) <= (300 - before) / 3 + 16  # it did not begin anew
    found = {}
    for day in spool.days():
        for bucket in range(2):
            for device, texts in spool.load("readings", day, bucket).items():
                for item in parsed(texts):
                    if int(item["slot"]["N"]) // 86_400 == day:
                        assert found.setdefault((device, item["slot"]["N"]), item) is item
    assert found == items
    spool.remove()
    assert not tmp_path.exists()


def test_a_scan_that_wrote_its_lines_in_another_form_begins_anew(tmp_path):
    memory = MemoryDynamoDB()
    put(memory.tables["readings"], reading())
    scanned(Spool(tmp_path, 1), memory)
    state = orjson.loads((tmp_path / "state.json").read_bytes())
    del state["form"]
    (tmp_path / "state.json").write_bytes(orjson.dumps(state))
    spool = Spool(tmp_path, 1)
    assert (spool.items, spool.days()) == (0, [])
    scanned(spool, memory)
    assert list(spool.load("readings", BASE // 86_400, 0)) == [A]


def test_a_slot_by_midnight_counts_for_both_days():
    day = BASE // 86_400
    assert list(days_of_slot(BASE + 43_200)) == [day]
    assert list(days_of_slot(BASE)) == [day - 1, day]
    assert list(days_of_slot(BASE - 15)) == [day - 1, day]
    assert list(days_of_range(BASE)) == [day]


# An export in memory


@pytest.fixture
def memory():
    found, items = MemoryDynamoDB(), {}
    for n in range(60):
        put(items, reading((BASE - 9_000 + n * 300) * 1000, device=A, counter=n, temperature=n / 10))
        put(items, reading((BASE - 9_000 + n * 300) * 1000 + 500, device=B, counter=n, humidity=n / 10))
    roll_up(found, items)
    return found


def read_back(folder):
    return sorted(
        (row["device"], row["time"].timestamp(), row["identity"])
        for file in (folder / "readings").rglob("*.parquet")
        for row in pq.ParquetFile(file).read().to_pylist()
    )


@pytest.mark.parametrize("by", ["scan", "query"])
def test_an_export_that_fails_anywhere_ends_as_one_that_does_not(memory, tmp_path, by, monkeypatch):
    """Whichever request fails: what is there is whole, and the next run completes it."""
    monkeypatch.setattr("processor.ask.spool.BUFFERED", 0)

    def run(folder):
        store = Store(Settings(), memory, threads=2)
        Export(store, folder, Choice(everyone=True), end=(BASE + DAY_MS) * 1000, by=by).run()

    run(tmp_path / "whole")
    expected = read_back(tmp_path / "whole")
    assert len(expected) == 120
    for at in range(3, 120, 9):
        folder, calls = tmp_path / f"broken{at}", iter(range(at))

        def fault(operation, body, calls=calls):
            if next(calls, None) is None:
                raise TransientError("InternalServerError", "broken")

        memory.fault = fault
        with suppress(TransientError):
            run(folder)
        memory.fault = None
        assert set(read_back(folder)) <= set(expected)
        run(folder)
        assert read_back(folder) == expected
        assert not list(folder.rglob("*.tmp"))


@pytest.mark.parametrize("by", ["scan", "query"])
@pytest.mark.parametrize("name", ["acme:Cold room 1", 'acme.th:{"a": 1} 7', "acme:Kühl\u202fraum"])
def test_devices_are_exported_under_whatever_name_they_have(tmp_path, by, name):
    items, memory = {}, MemoryDynamoDB()
    for n in range(3):
        put(items, reading((BASE + n * 20) * 1000, device=name, counter=n))
    roll_up(memory, items)
    Export(Store(Settings(), memory, threads=2), tmp_path / "x", Choice(everyone=True), by=by).run()
    assert [(device, at) for device, at, _ in read_back(tmp_path / "x")] == [(name, BASE + n * 20) for n in range(3)]
    [rollups] = (tmp_path / "x" / "rollups").rglob("*.parquet")
    assert set(pq.ParquetFile(rollups).read().column("device").to_pylist()) == {name}


def contents(folder):
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def everything(memory, folder, **options):
    """An export of all there is in memory, not run yet."""
    return Export(Store(Settings(), memory, threads=2), folder, Choice(everyone=True), end=BASE * 2000, **options)


@pytest.mark.parametrize("by", ["scan", "query"])
def test_an_export_is_alone_in_its_directory(memory, tmp_path, by, monkeypatch):
    """Another one that begins whenever it says how far it is, is refused and changes nothing; and so it ends well."""
    monkeypatch.setattr("processor.ask.spool.BUFFERED", 0)
    everything(memory, tmp_path / "alone", by=by).run()
    folder, refused = tmp_path / "out", []

    def another(progress):
        before = contents(folder)
        with pytest.raises(QueryError, match=r"out is in use by another export: wait until that ends, or give"):
            everything(MemoryDynamoDB(), folder, by=by).run()
        assert contents(folder) == before
        refused.append(progress.what)

    everything(memory, folder, by=by, report=another).run()
    assert set(refused) == {"exporting"} | ({"scanning"} if by == "scan" else set())
    assert read_back(folder) == read_back(tmp_path / "alone")


def test_an_export_that_was_planned_before_another_one_ran_is_refused(memory, tmp_path):
    """What it found in the directory is not there any more: it would go on with what is finished."""
    late = everything(memory, tmp_path / "out", by="query", raw=True)
    everything(memory, tmp_path / "out", by="query").run()
    before = contents(tmp_path / "out")
    with pytest.raises(QueryError, match=r"another export was at work in .*out just now: run the command again"):
        late.run()
    assert contents(tmp_path / "out") == before


def test_a_directory_that_an_export_only_locked_is_as_good_as_an_empty_one(memory, tmp_path):
    (tmp_path / "export.lock").touch()
    everything(memory, tmp_path).run()
    assert len(read_back(tmp_path)) == 120


class Stopped(Exception):
    pass


DAMAGES = {
    "missing": lambda file: file.unlink(),
    "emptied": lambda file: file.write_bytes(b""),
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-1]),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("stops", ["scanning", "exporting"])
def test_a_scan_that_lost_something_on_disk_is_refused_and_begins_anew_as_is_said(
    memory, tmp_path, monkeypatch, stops, damage
):
    """Amid the scan, what comes next would hide it; after it, a part would be noted as done with rows missing."""
    monkeypatch.setattr("processor.ask.spool.BUFFERED", 0)
    everything(memory, tmp_path / "whole", by="scan").run()
    folder, scan = tmp_path / "out", tmp_path / "out" / "scan"

    def report(progress):
        if progress.what == stops and list(scan.glob("*.spool")):
            raise Stopped

    with pytest.raises(Stopped):
        everything(memory, folder, by="scan", report=report).run()
    file = max(scan.glob("readings-*.spool"), key=lambda file: int(file.name.split("-")[1]))
    DAMAGES[damage](file)
    before = contents(folder)
    with pytest.raises(
        QueryError, match=rf"{file.name} (is missing|has [\d,]+ bytes), and had .* Remove {scan} and run"
    ):
        everything(memory, folder, by="scan").run()
    assert contents(folder) == before
    shutil.rmtree(scan)
    everything(memory, folder, by="scan").run()
    assert read_back(folder) == read_back(tmp_path / "whole")


def test_what_a_scan_loses_on_disk_meanwhile_is_missed_when_it_is_needed(memory, tmp_path):
    def report(progress):
        for file in (tmp_path / "scan").glob("*.spool"):
            if progress.what == "exporting":
                file.write_bytes(b"")

    with pytest.raises(QueryError, match=r"\.spool has 0 bytes, and had "):
        everything(memory, tmp_path, by="scan", report=report).run()


def test_a_scan_whose_removal_was_interrupted_has_lost_nothing(memory, tmp_path, monkeypatch):
    """All parts are there by then: the next run removes the rest, and reads no table for it."""
    remove, removed = Path.unlink, []

    def unlink(file, **options):
        if file.suffix == ".spool":
            if removed:
                raise Stopped
            removed.append(file)
        remove(file, **options)

    monkeypatch.setattr(Path, "unlink", unlink)
    with pytest.raises(Stopped):
        everything(memory, tmp_path, by="scan").run()
    monkeypatch.undo()
    assert removed
    assert list((tmp_path / "scan").glob("*.spool"))
    operations = []
    memory.fault = lambda operation, body: operations.append((operation, body.get("Segment")))
    rows = everything(memory, tmp_path, by="scan").run()
    assert rows["readings"] == len(read_back(tmp_path)) == 120
    assert not (tmp_path / "scan").exists()
    assert "Scan" not in {operation for operation, segment in operations if segment is not None}


def test_what_no_log_knows_of_is_removed(memory, tmp_path):
    """Killed after the files of a part had their names, and before the log had its line; or within a file."""
    folder = tmp_path / "out"

    def run():
        Export(Store(Settings(), memory, threads=2), folder, Choice(everyone=True), end=BASE * 2000, by="query").run()

    run()
    expected = read_back(folder)
    lines = (folder / "export.log").read_bytes().splitlines(keepends=True)
    (folder / "export.log").write_bytes(b"".join(lines[:-1]))
    last = sorted((folder / "readings").rglob("*.parquet"))[-1]
    last.with_name("part-00000-1.parquet").write_bytes(last.read_bytes())
    last.with_name("part-00000-2.parquet.tmp").write_bytes(b"PAR1")
    run()
    assert read_back(folder) == expected
    assert not list(folder.rglob("*.tmp"))


def test_the_way_of_an_export_is_the_one_that_takes_fewer_units(memory, tmp_path):
    sizes = {}

    class Described(MemoryDynamoDB):
        def call(self, operation, body, *, deadline=None):
            if operation == "DescribeTable":
                return {"Table": sizes}
            return super().call(operation, body, deadline=deadline)

    described = Described()
    described.tables = memory.tables
    end = BASE * 1000 + DAY_MS

    def way(choice=Choice(everyone=True), **options):  # noqa: B008 - it is frozen
        return Export(Store(Settings(), described, threads=2), tmp_path / "x", choice, end=end, **options).plan.by

    sizes["TableSizeBytes"] = 10_000_000
    assert way() == "scan"  # all of the table in one go
    assert way(start=BASE * 1000) == "query"  # two thirds of the time, at two thirds of the price
    assert way(Choice((A,))) == "query"
    described.tables["devices"].clear()
    assert way() == "scan"  # nobody knows the devices
    assert way(by="query") == "query"


def test_a_table_that_cannot_be_described_is_queried(memory, tmp_path):
    with pytest.raises(StoreError):
        memory.call("DescribeTable", {})
    assert Export(Store(Settings(), memory, threads=2), tmp_path / "x", Choice(everyone=True)).plan.by == "query"


# SQL


def test_a_statement_tells_which_views_it_reads():
    assert tables_of("SELECT * FROM Rollups r JOIN devices USING (device)") == ("rollups", "devices")
    assert tables_of("SELECT 1") == TABLES
    with pytest.raises(QueryError, match="one statement"):
        tables_of("SELECT 1; SELECT 2")
    with pytest.raises(QueryError, match="must read"):
        tables_of("DROP TABLE readings")


WRITES = {
    "COPY": "COPY (SELECT 1) TO 'x.csv'",
    "CREATE": "CREATE TABLE x AS SELECT 1",
    "INSERT": "INSERT INTO readings VALUES (1)",
    "PRAGMA": "PRAGMA version",
}


@pytest.mark.parametrize(
    "before", ["", "EXPLAIN ", "/* é */ explain -- a\n ANALYZE ", "EXPLAIN (ANALYZE, FORMAT json) "]
)
@pytest.mark.parametrize("kind", WRITES)
def test_what_writes_is_refused_by_its_kind_also_where_it_is_explained(before, kind):
    """EXPLAIN ANALYZE does what it explains."""
    with pytest.raises(QueryError, match=f"must read .* not {kind};"):
        tables_of(before + WRITES[kind])


@pytest.mark.parametrize("before", ["", "EXPLAIN ", "EXPLAIN ANALYZE "])
@pytest.mark.parametrize("kind", ["COPY", "INSERT"])
def test_what_writes_is_refused_within_a_with(before, kind):
    """DuckDB takes such a statement for a SELECT."""
    with pytest.raises(QueryError, match=f"must read .* not {kind};"):
        tables_of(f"{before}WITH x AS ({WRITES[kind]}) SELECT * FROM x")


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 'COPY', '\"type\":\"COPY_QUERY_NODE\"'",
        "WITH RECURSIVE t AS (SELECT 1 a UNION ALL SELECT a + 1 FROM t WHERE a < 5) (SELECT * FROM t) UNION SELECT 1",
        "SELECT " + "+".join("1" * 900),
        "(SELECT 1)",
        "FROM readings",
        "SUMMARIZE readings",
        "SHOW TABLES",
    ],
    ids=lambda statement: statement[:30],
)
@pytest.mark.parametrize("before", ["", "EXPLAIN ", "explain /* é */ analyze ", "EXPLAIN (FORMAT json, ANALYZE) "])
def test_what_reads_may_be_explained_and_analysed(before, statement):
    assert tables_of(before + statement + "; -- ;")
