"""How answers look: rows as they come, sparklines, and devices named in a file."""

from __future__ import annotations

import io

import click
import pytest
from rich.console import Console

from processor.ask.choice import Choice
from processor.cli.asked import choice_of
from processor.cli.show import PIECE, show
from processor.cli.sparkline import BARS, MOST, WIDTH, Sparklines

A, B = "CB:B8:33:4C:88:4F", "C0:00:00:00:00:01"


def test_json_and_csv_of_known_columns_are_printed_as_rows_come(capsys):
    for form, columns in (("json", None), ("csv", ("a", "b"))):
        seen = []

        def rows(seen=seen):
            for n in range(3 * PIECE):
                seen.append(capsys.readouterr().out)
                yield {"a": n, "b": f"text {n}"}

        assert show(rows(), form, "title", columns) == 3 * PIECE
        assert any("text 0" in each for each in seen[1 : 2 * PIECE]), form


def test_csv_of_unknown_columns_has_those_of_the_last_row_too(capsys, monkeypatch):
    monkeypatch.setattr("processor.cli.show.SPOOLED", 10)  # the rest waits in a file
    show(({"a": n} | ({"b": "=2"} if n == 4 else {}) for n in range(5)), "csv", "")
    assert capsys.readouterr().out == "a,b\n0,\n1,\n2,\n3,\n4,'=2\n"


def test_a_long_table_comes_in_pieces_each_with_its_heads(capsys):
    assert show(({"at": n, "temperature": 1.5} for n in range(2 * PIECE + 1)), "table", "readings") == 2 * PIECE + 1
    out = capsys.readouterr().out
    assert out.count("temperature °C") == 3
    assert out.count("readings") == 1
    assert show([], "table", "readings") == 0


@pytest.mark.parametrize("text", ["the key '[/a]' comes twice", "[red]hot[/red]", "[", "[link=x]y", ":smile:"])
def test_a_table_shows_a_text_as_it_is_whatever_it_says_to_rich(capsys, text):
    assert show([{"message": text, f"{text}s": 1}], "table", text) == 1
    title, *out = capsys.readouterr().out.splitlines()
    assert title.rstrip() == text
    assert f" {text}s " in out[1]
    assert f" {text} " in out[3]


@pytest.mark.parametrize(
    ("text", "seen"), [("\x1b[2Jx", "\\x1b[2Jx"), ("a\rb\t\x9b", "a\\rb\\t\\x9b"), ("\u202e", "\\u202e")]
)
def test_a_table_shows_what_would_move_the_cursor(capsys, text, seen):
    show([{"message": text}], "table", "")
    out = capsys.readouterr().out
    assert seen in out
    assert text not in out


def printed(lines, encoding="utf-8"):
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    lines.show(Console(file=out, width=120, force_terminal=False))
    out.flush()
    return out.buffer.getvalue().decode(encoding)


def test_a_sparkline_names_a_device_as_it_is():
    lines = Sparklines(0, 1000)
    for device in ("acme:[/a]", "acme:[red]"):
        for n in range(3):
            lines.add(device, "temperature", n, float(n))
    assert "acme:[/a]" in printed(lines)
    assert "acme:[red]" in printed(lines)


def test_a_sparkline_goes_from_the_least_to_the_most_over_the_time_asked_for():
    lines = Sparklines(0, WIDTH * 1000)
    for n in range(8):
        lines.add(A, "temperature", n * 1000, float(n))
    lines.add(A, "temperature", 20_000, 3.5)
    lines.add(A, "humidity", 5000, 1.0)  # one number makes no line
    ((device, quantity, line, least, most),) = lines.lines()
    assert (device, quantity, least, most) == (A, "temperature", 0.0, 7.0)
    assert line == BARS + " " * 12 + BARS[round(3.5 / 7 * 7)]
    assert "▁▂▃▄▅▆▇█" in printed(lines)


def test_no_sparkline_where_the_terminal_has_no_such_characters_and_not_too_many():
    lines = Sparklines(0, 10)
    for n in range(MOST + 5):
        lines.add(f"device {n}", "temperature", 1, 1.0)
        lines.add(f"device {n}", "temperature", 2, 2.0)
    assert printed(lines, "ascii") == ""
    assert "… and 5 more lines" in printed(lines)


def test_devices_are_named_on_the_line_and_in_files(tmp_path):
    listed = tmp_path / "some.csv"
    listed.write_text(f"\ufeffaddress,name\n{B.lower()},x\n# note\n\n{A} # mine\n", encoding="utf-8")
    assert choice_of((A, f"@{listed}"), (), (), False) == Choice((A, B))
    listed.write_text("address\n")
    with pytest.raises(click.BadParameter, match="names no device"):
        choice_of((f"@{listed}",), (), (), False)
    listed.write_text(f"{A}\nnobody\n")
    with pytest.raises(click.BadParameter, match=r"line 2.*12 hexadecimal"):
        choice_of((f"@{listed}",), (), (), False)
