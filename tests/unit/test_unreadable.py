"""What somebody wrote into the tables by hand, and wrong, is named, counted, and hides nothing beside it."""

from __future__ import annotations

import functools
import json
from importlib import import_module

import pytest
from click.testing import CliRunner

from processor.cli import main
from processor.dashboard.fleet import Fleet
from processor.dashboard.left_out import NAMED
from processor.dashboard.series import Series
from processor.local.memory_dynamodb import MemoryDynamoDB
from processor.reading import Reading
from processor.store.reader import Reader
from processor.store.registry import Calibration, Device, Registry
from processor.store.rollups import Rollups, ranges_of, rollup_of
from processor.store.states import States, state_of
from processor.store.tables import SLOT_SECONDS, cell_name, cell_value, slot_of
from processor.store.unreadable import MOST, Unread, Unreadable
from processor.times import END_MS

A = "CB:B8:33:4C:88:4F"
BASE = 1_700_000_100  # the start of a range
OFFSET, FORMAT = {"o": {"N": "0"}}, {"f": {"S": "ruuvi.5"}}

CELLS = {
    "empty": {"M": {}},
    "no map": {"S": "20.5"},
    "offset no number": {"M": {"o": {"S": "0"}, **FORMAT}},
    "offset a fraction": {"M": {"o": {"N": "0.5"}, **FORMAT}},
    "offset beyond the slot": {"M": {"o": {"N": "15000"}, **FORMAT}},
    "offset negative": {"M": {"o": {"N": "-1"}, **FORMAT}},
    "no format": {"M": OFFSET},
    "format a number": {"M": {**OFFSET, "f": {"N": "5"}}},
    "a list": {"M": {**OFFSET, **FORMAT, "t": {"L": [{"N": "20.5"}]}}},
    "a text for a number": {"M": {**OFFSET, **FORMAT, "t": {"S": "warm"}}},
    "null": {"M": {**OFFSET, **FORMAT, "t": {"NULL": True}}},
}
GOOD = {"M": {**OFFSET, **FORMAT, "t": {"N": "20.5"}}}
NAMES = ("c1.", "c1.AAAAA", "cx.AAAA", "t.AAAA", "t0.A", "c-1.AAAA", "c1.A+/A", "calibration.by hand")


class Tables(MemoryDynamoDB):
    """Three readings of one device, rolled up; all of it can be spoilt."""

    def __init__(self):
        super().__init__()
        self.unread = Unread()
        self.reader = Reader(self, "processor-readings", note=self.unread.add, threads=2)
        self.rollups = Rollups(self, "processor-rollups", note=self.unread.add)
        self.measured = [
            Reading(A, (BASE + 20 * n) * 1000, "ruuvi.5", {"temperature": 20.5 + n}, n, n, "G1", -60) for n in range(3)
        ]
        for each in self.measured:
            slot = slot_of(each.at)
            self.tables["readings"][A, str(slot)] = {
                "device": {"S": A}, "slot": {"N": str(slot)}, "gG1": {"N": "-60"},
                cell_name(each, each.at - slot * 1000): cell_value(each, each.at - slot * 1000),
            }  # fmt: skip
        slots = list(self.reader.stored(A, 0, 1 << 50))
        for start in {start for slot in slots for start in ranges_of(slot.start)}:
            if (rollup := rollup_of(A, start, slots)) is not None:
                self.rollups.put(rollup)
        States(self, "processor-devices").join(state_of(A, slots))

    @property
    def slot(self):
        return self.tables["readings"][A, str(BASE)]


@pytest.fixture
def tables():
    return Tables()


@pytest.fixture
def run(tables, monkeypatch):
    """Runs a command over these tables."""
    for module, name in (("ask.store", "connected"), ("cli.devices", "client"), ("cli.verify", "client")):
        monkeypatch.setattr(import_module(f"processor.{module}"), name, lambda _settings: tables)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    return lambda *arguments: CliRunner().invoke(main, arguments, catch_exceptions=False)


def rows(done):
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("kind", CELLS)
def test_a_cell_that_is_none_is_named_and_its_neighbours_are_read(tables, kind):
    tables.slot["c9.AAAA"] = CELLS[kind]
    assert tables.reader.readings(A, 0, 1 << 50) == tables.measured
    (found,) = tables.unread
    assert (found.table, found.device, found.start, found.part) == ("readings", A, BASE, "c9.AAAA")
    assert "2023-11-14T22:15:00.000Z" in str(found)
    assert str(found).endswith("correct that attribute, or remove it")


@pytest.mark.parametrize("name", NAMES)
def test_a_cell_with_a_name_of_its_own_is_told_of(tables, name):
    tables.slot[name] = GOOD
    assert tables.reader.readings(A, 0, 1 << 50) == tables.measured
    assert [each.part for each in tables.unread] == [name]


@pytest.mark.parametrize("item", [{"note.x": {"S": "by hand"}}, {"comment.x": {"S": "n"}}, {"c7": {"M": {}}}], ids=str)
def test_an_attribute_that_is_no_cell_is_passed_over(tables, item):
    tables.slot.update(item)
    assert tables.reader.readings(A, 0, 1 << 50) == tables.measured
    assert not tables.unread


@pytest.mark.parametrize("rssi", ["1.5", "-1E+30", "9" * 30])
def test_a_gateway_whose_rssi_is_none_is_told_of(tables, rssi):
    tables.slot["gG2"] = {"N": rssi}
    assert tables.reader.readings(A, 0, 1 << 50) == tables.measured
    assert [each.part for each in tables.unread] == ["gG2"]


@pytest.mark.parametrize("expires", [{"S": "never"}, {"NULL": True}, {"N": "1e120"}, {"N": "1900000000.5"}], ids=str)
def test_an_expiry_that_is_none_is_none(tables, expires):
    tables.slot["expires"] = expires
    assert tables.reader.readings(A, 0, 1 << 50) == tables.measured


@pytest.mark.parametrize("slot", [f"{BASE + 1}", f"{BASE}.5", f"{END_MS}", "-15"])
def test_an_item_whose_slot_is_none_hides_no_other(tables, slot, run):
    """A listing, the latest readings, an export and a verification meet it; each of them goes on."""
    tables.tables["readings"][A, slot] = {"device": {"S": A}, "slot": {"N": slot}, "c9.AAAA": GOOD}
    if slot.isdigit():  # the tables in memory order by whole numbers
        assert tables.reader.latest(A, 3) == tables.measured
    (seen,) = tables.reader.devices()
    assert seen == (A, BASE, BASE + 40 // SLOT_SECONDS * SLOT_SECONDS, 3)
    assert {each.part for each in tables.unread} == {f"the item of slot {slot}"}
    assert f"slot {slot}" in run("devices").stderr


def test_query_prints_the_rest_and_says_on_stderr_what_is_left_out(tables, run):
    for n in range(12):
        tables.slot[f"c{n + 90}.AAAA"] = {"M": {}}
    done = run("query", A, "--from", "2023-11-14", "--to", "2023-11-15", "--format", "json")
    assert [row["temperature"] for row in rows(done)] == [20.5, 21.5, 22.5]
    lines = done.stderr.splitlines()
    assert len(lines) == 11
    assert lines[0].startswith(f"left out: readings, {A}, slot {BASE} (2023-11-14T22:15:00.000Z): c90.AAAA: ")
    assert lines[-1] == "left out: 12 in all, of which these are the first"
    last = run("query", A, "--last", "1", "--format", "json")
    assert [row["temperature"] for row in rows(last)] == [22.5]


@pytest.mark.parametrize("broken", [{"q": {"S": "x"}}, {"n": {"N": "1.5"}}, {"q": {"M": {"t": {"M": {}}}}}], ids=str)
def test_a_roll_up_that_is_none_is_computed_from_the_readings(tables, run, broken):
    arguments = ("query", A, "--from", "2023-11-14", "--to", "2023-11-15", "--resolution", "hour", "--format", "json")
    right = rows(run(*arguments))
    tables.tables["rollups"][A, str(BASE)] |= broken
    done = run(*arguments)
    assert rows(done) == right
    assert f"left out: rollups, {A}, range {BASE}" in done.stderr
    assert "processor verify --fix" in done.stderr


def test_a_quantity_of_a_newer_version_is_passed_over(tables):
    for key in ("zzz", "t_x"):
        tables.slot["c0.AAAA"]["M"][key] = {"N": "1"}
        tables.tables["rollups"][A, str(BASE)]["q"]["M"][key] = tables.tables["rollups"][A, str(BASE)]["q"]["M"]["t"]
        tables.tables["devices"][A,]["latest"]["M"][key] = {"M": {"at": {"N": "1"}, "v": {"N": "1"}}}
    assert tables.reader.readings(A, 0, 1 << 50) == tables.measured
    (rollup,) = tables.rollups.read(A, BASE, BASE + 300)
    assert set(rollup.quantities) == {"temperature"}
    ((state, _),) = States(tables, "processor-devices").known([A], note=tables.unread.add).values()
    assert set(state.latest) == {"temperature"}
    assert not tables.unread


@pytest.mark.parametrize("by", ["scan", "query"])
def test_an_export_has_the_rest(tables, run, tmp_path, by):
    tables.slot["c9.AAAA"] = {"M": {}}
    tables.tables["readings"][A, f"{BASE + 1}"] = {"device": {"S": A}, "slot": {"N": f"{BASE + 1}"}}
    tables.tables["rollups"][A, f"{BASE + 8}"] = {"device": {"S": A}, "start": {"N": f"{BASE + 8}"}}
    tables.tables["rollups"][A, str(BASE)]["n"] = {"S": "many"}
    done = run("export", str(tmp_path / "out"), "--by", by, "--from", "2023-11-14", "--to", "2023-11-16")
    assert done.exit_code == 0, done.output
    assert "3 readings, 1 rollups, 1 devices" in done.stderr
    assert done.stderr.count("left out: ") == 4


@pytest.mark.parametrize("last_seen", [{"S": "today"}, {"N": str(END_MS)}, {"N": "-1"}], ids=str)
def test_a_state_that_is_none_is_as_good_as_none(tables, run, last_seen):
    tables.tables["devices"][A,]["last_seen"] = last_seen
    done = run("query", "--all", "--from", "2023-11-14", "--to", "2023-11-15", "--format", "json")
    assert len(rows(done)) == 3
    assert f"left out: devices, {A}: the state: " in done.stderr


PARTS = {
    "name": {"N": "5"},
    "calibration": {"M": {"temperature": {"M": {"factor": {"N": "1"}}}}},
    "key": {"S": "00112233445566778899AABBCCDDEEFF"},
}


@pytest.mark.parametrize("part", PARTS)
def test_an_entry_of_the_registry_that_is_wrong_in_part_says_the_rest(tables, run, part):
    """It counts as registered, so that what is encrypted goes into quarantine instead of away."""
    tables.tables["devices"][A,] |= {"site": {"S": "Home"}, part: PARTS[part]}
    device = Registry(tables, "processor-devices").get(A)
    assert (device.site, [each.part for each in device.unreadable]) == ("Home", [part])
    del tables.tables["devices"][A,]["site"]
    assert Registry(tables, "processor-devices").get(A).registered
    for command in (("devices", "show"), ("devices",), ("query", A, "--last", "1")):
        done = run(*command)
        assert done.exit_code == 0
        assert f"left out: devices, {A}: {part}: " in done.stderr
    done = run("verify", A, "--wait", "0", "--lag", "0")
    assert done.exit_code == 1
    assert f"left out: devices, {A}: {part}: " in done.stderr


def test_the_page_shows_the_rest_and_says_what_it_left_out(tables):
    tables.slot["c9.AAAA"] = {"M": {}}
    tables.tables["devices"][A,] |= {"last_seen": {"S": "today"}, "calibration": {"S": "x"}}
    fleet = Fleet(tables, "processor-devices")
    row = fleet.rows()[A]
    assert (row["seen"], row["unreadable"]) == (None, 2)
    said = fleet.one(A)[0]["left_out"]
    assert said["count"] == 2
    assert all("`processor" in each for each in said["first"])  # what to do
    found = Series(tables, "processor-readings", "processor-rollups").read(Device(A), BASE * 1000, (BASE + 300) * 1000)
    assert found["quantities"][0]["mean"] == [20.5, 21.5, 22.5]
    assert found["left_out"]["count"] == 1
    (words,) = found["left_out"]["first"]
    assert words.startswith(
        f"readings, {A}, slot {BASE} (2023-11-14T22:15:00.000Z): c9.AAAA: its offset, o, is a number"
    )
    assert words.endswith("correct that attribute, or remove it")


def test_the_page_says_of_rollups_that_cannot_be_read_what_to_do_and_shows_what_they_would_have_said(tables):
    """They are computed from the readings, as those that are missing are."""
    rolled = functools.partial(Series(tables, "processor-readings", "processor-rollups").read, Device(A))
    right = rolled(BASE * 1000, (BASE + 300) * 1000, resolution="5m")
    assert right["left_out"] == {"count": 0, "first": []}
    tables.tables["rollups"][A, str(BASE)] = {"device": {"S": A}, "start": {"N": str(BASE)}}
    found = rolled(BASE * 1000, (BASE + 300) * 1000, resolution="5m")
    assert found["quantities"] == right["quantities"]
    assert found["left_out"]["count"] == 1
    assert "`processor verify --fix` writes it anew" in found["left_out"]["first"][0]


def test_of_many_parts_the_page_names_a_few_and_counts_all(tables):
    tables.slot.update({f"c{n}.AAAA": {"M": {}} for n in range(100, 120)})
    found = Series(tables, "processor-readings", "processor-rollups").read(Device(A), BASE * 1000, (BASE + 300) * 1000)
    assert (found["left_out"]["count"], len(found["left_out"]["first"])) == (20, NAMED)


def test_verify_says_what_cannot_be_read_and_ends_with_1(tables, run):
    tables.slot["c9.AAAA"] = {"M": {}}
    tables.tables["rollups"][A, str(BASE + 600)] = {"device": {"S": A}, "start": {"N": str(BASE + 600)}}
    done = run("verify", "--wait", "0", "--lag", "0", "--fix")
    assert done.exit_code == 1
    assert "1 cannot be read" in done.stdout
    assert "c9.AAAA" in done.stderr
    assert "1 unreadable: somebody wrote it by hand" in done.stdout
    assert "2023-11-14T22:25:00.000Z" in done.stdout
    said = json.loads(run("verify", "--wait", "0", "--lag", "0", "--format", "json").stdout)
    assert len(said["unreadable"]) == 1
    assert said["differences"] == {"unreadable": 1}


def test_only_so_many_are_kept():
    unread = Unread()
    for n in range(MOST + 5):
        unread.add(Unreadable("readings", A, n, "c1.AAAA", "why", "what"))
    assert len(unread) == len(list(unread)) == MOST


def test_what_is_right_is_not_told_of(tables, run):
    Registry(tables, "processor-devices").put(Device(A, "Sauna", calibration={"temperature": Calibration()}))
    tables.tables["devices"][A,]["key"] = {"B": "c2VhbGVk"}
    done = run("verify", "--wait", "0", "--lag", "0")
    assert (done.exit_code, done.stderr) == (0, "")
    assert run("query", A, "--from", "2023-11-14", "--to", "2023-11-15").stderr == ""
