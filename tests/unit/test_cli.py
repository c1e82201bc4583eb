"""The commands that need no AWS: what they print, and how they end."""

from __future__ import annotations

import json
import time
from decimal import Decimal
from pathlib import Path

import pytest
from click.testing import CliRunner

from processor.cli import main
from processor.cli.show import _csv
from processor.cli.times import When, iso
from processor.decode.formats import FORMATS

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests" / "vectors"
RAWV2 = "0201061BFF99040512FC5394C37C0004FFFC040CAC364200CDCBB8334C884F"


def run(*arguments, stdin=None):
    return CliRunner().invoke(main, arguments, input=stdin)


def objects(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_decode_shows_names_values_and_units():
    done = run("decode", RAWV2)
    assert done.exit_code == 0
    assert done.stdout.startswith("ruuvi.5  CB:B8:33:4C:88:4F  identity 205.")
    assert "temperature       24.3 °C" in done.stdout


def test_decode_as_json_gives_format_address_values_and_identity():
    (found,) = objects(run("decode", "--json", RAWV2))
    assert sorted(found) == ["address", "format", "identity", "values"]
    assert found["values"]["pressure"] == 100044


@pytest.mark.parametrize("vector", json.loads((VECTORS / "ruuvi.json").read_text())["vectors"],
                         ids=lambda v: f"{v['format']}-{v['case']}")  # fmt: skip
def test_decode_gives_ruuvis_vectors_from_bare_manufacturer_data(vector):
    (found,) = objects(run("decode", "--json", "--company", "0x0499", vector["hex"].replace("XX", "5A")))
    mac = vector["values"].pop("mac", None)
    assert found["values"] == vector["values"]
    assert mac is None or found["address"] == mac


def test_every_format_is_listed_with_its_quantities_and_its_source():
    rows = {row["format"]: row for row in objects(run("formats", "--format", "json"))}
    assert set(rows) == {table.name for table in FORMATS}
    assert "temperature 0.005" in rows["ruuvi.5"]["quantities"]
    assert rows["ruuvi.5"]["counter"] == "sequence"
    assert rows["bthome.2"]["key"] == "may be encrypted"
    assert all(row["source"] for row in rows.values())
    assert "H5075" in rows["govee.h5075"]["models"]
    assert [name for name, row in rows.items() if not row["models"]] == []


def test_the_page_of_formats_is_what_the_tables_say():
    """Where it is not: processor formats --format markdown > processor/decode/formats/FORMATS.md."""
    made = run("formats", "--format", "markdown").output
    path = ROOT / "processor" / "decode" / "formats" / "FORMATS.md"
    assert path.read_text() == made
    assert made.count("\n| ") == len(FORMATS) + 1  # the heading's
    assert "processor/decode/formats/FORMATS.md" in (ROOT / "README.md").read_text()


def test_decode_takes_a_key_for_encrypted_service_data():
    vector = json.loads((VECTORS / "bthome.json").read_text())["vectors"][-1]
    arguments = ("decode", "--json", "--service", "fcd2", "--address", vector["mac"], vector["hex"])
    (found,) = objects(run(*arguments, "--key", vector["key"]))
    assert found["values"] == vector["values"]
    without = run(*arguments)
    assert without.exit_code == 1
    assert objects(without)[0]["reason"] == "key_missing"
    assert "key" in objects(run(*arguments, "--key", "00" * 16))[0]["error"]


def test_decode_takes_several_and_standard_input_and_fails_at_the_end():
    done = run("decode", "--json", stdin=f"{RAWV2}\n\n0201\nzz\n03FF0000\n{RAWV2.lower()}\n")
    first, cut, hexadecimal, unknown, last = objects(done)
    assert first == last
    assert "byte 0" in cut["error"]
    assert "hex" in hexadecimal["reason"]
    assert unknown == {"format": None}
    assert done.exit_code == 1
    assert len(objects(run("decode", "--json", RAWV2, RAWV2))) == 2


def test_decode_without_an_address_still_shows_the_values():
    (found,) = objects(run("decode", "--json", "--service", "FCD2", "4002C40903BF13"))
    assert found["address"] is None
    assert found["values"] == {"temperature": 25.0, "humidity": 50.55}


CARRIERS = {
    "atc1441": ("--service", "181A"), "pvvx": ("--service", "181A"), "mibeacon": ("--service", "FE95"),
    "eddystone": ("--service", "FEAA"), "ibeacon": ("--company", "004C"), "switchbot": ("--service", "FD3D"),
    "omron": ("--company", "02D5"), "minew": ("--service", "FFE1"), "govee": ("--company", "EC88"),
    "bluetooth": ("--mesh",),
}  # fmt: skip
OURS = {
    "pressure_hPa": ("pressure", 100), "sound_level_dB": ("sound_level", 1), "etvoc_ppb": ("etvoc", 1),
    "eco2_ppm": ("eco2", 1), "counter": ("packet_id", 1), "property 0x0057": ("current", 1),
    "property 0x0059": ("voltage", 1),
}  # fmt: skip
"""The shared vectors' names: ours, and what to multiply theirs by."""


@pytest.mark.parametrize(
    "vector", json.loads((VECTORS / "others.json").read_text())["vectors"], ids=lambda v: f"{v['format']}-{v['hex']}"
)
def test_decode_names_the_format_and_gives_exact_values_of_every_shared_vector(vector):
    """Through the command itself, as a user types it."""
    maker = vector["format"].split()[0]
    bare = vector["hex"].removeprefix("4C00") if maker == "ibeacon" else vector["hex"]
    keys = ("--address", vector["mac"], "--key", vector["key"]) if "key" in vector else ()
    (found,) = objects(run("decode", "--json", *CARRIERS[maker], *keys, bare))
    assert found["format"].startswith("mesh" if maker == "bluetooth" else maker)
    for theirs, value in vector["values"].items():
        name, factor = OURS.get(theirs, (theirs, 1))
        exact = value if isinstance(value, str) else float(Decimal(repr(value)) * factor)
        assert found["values"][name] == exact


def test_decode_of_another_mesh_message_knows_no_format_and_a_cut_one_is_an_error():
    assert objects(run("decode", "--json", "--mesh", "8201")) == [{"format": None}]
    done = run("decode", "--json", "--mesh", "52e20ac8", "zz")
    assert [each["reason"] for each in objects(done)] == ["truncated", "hex"]
    assert done.exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--service", "FCD2", "--company", "0499", "00"), "exclude each other"),
        (("--service", "FCD2", "--mesh", "00"), "exclude each other"),
        (("--service", "hello", "00"), "hexadecimal"),
        (("--company", "12345", "00"), "hexadecimal"),
        (("--key", "00" * 16, "00"), "--address"),
        (("--address", "CBB8334C884F", "--key", "00", "00"), "32 hexadecimal digits"),
    ],
)
def test_decode_says_what_its_options_take(arguments, message):
    done = run("decode", *arguments)
    assert done.exit_code == 2
    assert message in done.stderr


def test_an_address_that_is_none_is_a_clear_error():
    done = run("decode", "--address", "nobody", RAWV2)
    assert done.exit_code == 1
    assert "12 hexadecimal digits" in done.stderr


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-11-20T19:00:00Z", 1_795_201_200_000),
        ("2026-11-20T19:00", 1_795_201_200_000),
        ("2026-11-20T20:00:00.250+01:00", 1_795_201_200_250),
        ("2026-11-20", 1_795_132_800_000),
    ],
)
def test_times_are_iso_8601_in_utc_unless_they_say_otherwise(text, at, monkeypatch):
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        assert When().convert(text, None, None) == at
    time.tzset()


def test_offsets_count_from_now(monkeypatch):
    monkeypatch.setattr("processor.cli.times.time.time", lambda: 1_000_000.0)
    assert When().convert("-2h", None, None) == (1_000_000 - 7200) * 1000
    assert When().convert("-1.5d", None, None) == (1_000_000 - 129_600) * 1000
    assert When().convert("now", None, None) == 1_000_000_000
    assert iso(1_000_000_000) == "1970-01-12T13:46:40.000Z"


def test_a_text_that_a_spreadsheet_would_run_is_quoted_in_csv():
    assert _csv([{"text": "=1+1", "t": -3.5}], ["text", "t"]) == "text,t\n'=1+1,-3.5\n"
