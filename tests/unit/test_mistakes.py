"""Mistakes on the command line end with a line that says what is wrong, where, and what to do; never a traceback."""

from __future__ import annotations

import errno
import json
import time
from datetime import datetime
from importlib import import_module

import pytest
from click.testing import CliRunner

from processor.ask.store import span
from processor.cli import main
from processor.dashboard.server import _listen
from processor.errors import LocalError, QueryError, TransientError
from processor.local.memory_dynamodb import MemoryDynamoDB
from processor.store.failures import name_tables
from processor.times import END_MS, iso, moment

A = "CB:B8:33:4C:88:4F"


@pytest.fixture
def run(monkeypatch):
    """Runs a command over empty tables."""
    tables = MemoryDynamoDB()
    for module, name in (("ask.store", "connected"), ("cli.devices", "client"), ("cli.verify", "client")):
        monkeypatch.setattr(import_module(f"processor.{module}"), name, lambda _settings: tables)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    return lambda *arguments, stdin=None: CliRunner().invoke(main, arguments, input=stdin, catch_exceptions=False)


@pytest.fixture
def exported(run, tmp_path):
    assert run("export", str(tmp_path / "out")).exit_code == 0
    return tmp_path / "out"


@pytest.mark.parametrize("text", ["0001-01-01", "-99999999d", f"-{'9' * 400}d", "1969-12-31T23:59Z"])
def test_a_time_before_all_readings_is_the_first_there_is(text):
    assert moment(text, time.time()) == 0


@pytest.mark.parametrize("text", ["9999-12-31T23:59:59.9999Z", "+99999999w", f"+{'9' * 400}d"])
def test_a_time_that_cannot_be_written_is_the_last_that_can(text):
    assert moment(text, time.time()) == END_MS - 1
    assert iso(END_MS - 1).startswith("9999-12-31T23:59:59")


@pytest.mark.parametrize(
    "command", [("query", A), ("export", "out"), ("verify", "--wait", "0"), ("sql", "SELECT 1", "--all")]
)
def test_the_longest_times_are_taken_by_every_command(run, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(*command, "--from", "-99999999d", "--to", "9999-12-31T23:59:59.9999Z").exit_code == 0


def test_a_program_too_may_not_ask_for_a_time_that_there_is_not():
    for start, end in ((-1, None), (0, END_MS), (1 << 80, None)):
        with pytest.raises(QueryError, match="is no time"):
            span(start, end)
    assert span(datetime(2026, 11, 20), datetime(2026, 11, 21)) == (1_795_132_800_000, 1_795_219_200_000)


def test_an_address_that_is_none_is_named_once(run):
    done = run("query", "CB:B8")
    assert done.exit_code == 2
    assert "Invalid value for DEVICE: address: a Bluetooth address has 12" in done.stderr


@pytest.mark.parametrize("text", ['{"version": 1}', '{"version": 1, "choice": {}}', "[]", "x"])
def test_an_exports_plan_that_is_none_is_left_alone(run, exported, text):
    (exported / "export.json").write_text(text)
    done = run("export", str(exported))
    assert done.exit_code == 1
    assert f"{exported}/export.json is" in done.stderr
    assert (exported / "export.json").read_text() == text


def test_a_plan_with_more_in_it_than_a_plan_has_is_none(run, exported):
    plan = json.loads((exported / "export.json").read_text())
    (exported / "export.json").write_text(json.dumps(plan | {"extra": 1}))
    assert "is not an export's plan" in run("export", str(exported)).stderr


@pytest.mark.parametrize("line", ["x", "{}", "[]", '{"day": 1, "bucket": 0}'])
def test_a_log_with_a_line_that_is_no_part_is_named(run, exported, line):
    (exported / "export.log").write_text(f"{line}\n")
    done = run("export", str(exported))
    assert done.exit_code == 1
    assert f"{exported}/export.log, line 1: no part of an export" in done.stderr


def test_an_export_leaves_files_of_others_alone(run, exported):
    for place in ("readings/day=monday/part-00000-0.parquet", "rollups/day=2026-11-20/part-mine.parquet"):
        (exported / place).parent.mkdir(parents=True)
        (exported / place).write_text("mine")
    (exported / "readings/day=2026-11-20").mkdir()
    (exported / "readings/day=2026-11-20/part-00000-0.parquet.tmp").write_text("half")
    assert run("export", str(exported)).exit_code == 0
    assert sorted(each.name for each in exported.glob("r*/*/*")) == ["part-00000-0.parquet", "part-mine.parquet"]


def test_an_export_of_which_a_file_is_damaged_is_said_by_sql_too(run, exported):
    day = exported / "readings" / "day=2026-11-20"
    day.mkdir(parents=True)
    (day / "part-00000-0.parquet").write_bytes(b"PAR1 cut short")
    done = run("sql", "SELECT * FROM readings", "--over", str(exported))
    assert done.exit_code == 1
    assert "Error: SQL: " in done.stderr
    assert "part-00000-0.parquet" in done.stderr


def test_a_date_that_no_row_can_show_is_refused(run):
    done = run("sql", "SELECT DATE '20000-01-01'", "--all")
    assert done.exit_code == 1
    assert "none that JSON, CSV and tables can show" in done.stderr


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "locked/out"), "Error: locked/out: Permission denied\n"),
        (OSError(errno.ENOSPC, "No space left on device"), "Error: No space left on device\n"),
        (ValueError("Invalid endpoint: localhost:1"), "Error: AWS: Invalid endpoint: localhost:1\n"),
    ],
)
def test_what_the_user_can_put_right_is_a_line(run, monkeypatch, error, says):
    def fail(*_arguments, **_more):
        raise error

    monkeypatch.setattr(import_module("processor.cli.export"), "Export", fail)
    done = run("export", "out")
    assert (done.exit_code, done.stderr) == (1, says)


def test_what_is_a_mistake_of_ours_keeps_its_traceback(run, monkeypatch):
    def fail(*_arguments, **_more):
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(import_module("processor.cli.export"), "Export", fail)
    with pytest.raises(OSError, match="Bad file descriptor"):
        run("export", "out")


def test_a_list_of_devices_that_is_nested_too_deeply_is_none(run, tmp_path):
    (tmp_path / "devices.json").write_text("[" * 200_000)
    assert "nested too deeply" in run("devices", "import", str(tmp_path / "devices.json")).stderr


def test_a_line_that_is_no_text_is_no_advertisement_and_the_next_is_decoded(run):
    done = run("decode", "--json", stdin=b"\xff\xfe\n0201061BFF99040512FC5394C37C0004FFFC040CAC364200CDCBB8334C884F\n")
    first, second = map(json.loads, done.stdout.splitlines())
    assert (first["reason"], second["address"]) == ("hex", A)


def test_a_missing_table_is_named():
    for body in ({"TableName": "processor-x"}, {"RequestItems": {"processor-x": {}}}):
        error = TransientError("ResourceNotFoundException", "Requested resource not found", status=400)
        name_tables(error, body)
        assert str(error).endswith("(HTTP 400): processor-x")


def test_a_host_that_there_is_not_is_no_matter_of_the_port():
    with pytest.raises(LocalError, match="choose another --host"):
        _listen("256.1.1.1", 0, exactly=True)


@pytest.mark.parametrize("name", ["capture.json", "sub/../capture.json", "symlink", "hardlink"])
def test_a_replay_does_not_note_what_is_done_in_its_own_source(run, tmp_path, name):
    capture = tmp_path / "capture.json"
    capture.write_bytes(b'{"payloads":[]}')
    (tmp_path / "sub").mkdir()
    (tmp_path / "symlink").symlink_to(capture)
    (tmp_path / "hardlink").hardlink_to(capture)
    for source, state in ((capture, tmp_path / name), (tmp_path / name, capture)):
        done = run("replay", str(source), "--resume", str(state))
        assert done.exit_code == 2
        assert f"--resume would write into the source itself ({state}): give another file" in done.output
    assert capture.read_bytes() == b'{"payloads":[]}'


def test_a_capture_is_no_file_to_note_in_what_a_replay_has_done(run, tmp_path):
    capture, other = tmp_path / "capture.json", tmp_path / "other.json"
    for each in (capture, other):
        each.write_bytes(b'{"payloads":[]}')
    done = run("replay", str(capture), "--resume", str(other))
    assert done.exit_code == 1
    assert f"{other} is no checkpoint of a replay" in done.output
    assert other.read_bytes() == b'{"payloads":[]}'
