"""What the sources may not have: unpickling, code made of data, a second way to CSV. And what CSV may not hold."""

from __future__ import annotations

import ast
import csv
import io
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.cli.show import _csv, show
from processor.reading import Reading, identity

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(path for top in ("processor", "apex", "infra", ".ci") for path in (ROOT / top).rglob("*.py"))
FORBIDDEN = {
    *("pickle", "cPickle", "_pickle", "marshal", "shelve", "dbm", "dill", "cloudpickle", "joblib", "jsonpickle"),
    *("yaml", "numpy.load", "pandas.read_pickle"),
}
"""Modules that run, or may run, what they read."""

CALLS = {"eval", "exec", "compile", "__import__"}
REASONED = {
    ("processor/decode/compiler.py", "exec"): "the tables of formats, ours, become functions at import",
    ("processor/decode/compiler.py", "compile"): "the same",
}


def imported(tree):
    """The modules that a source imports, by their whole names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def calls(tree):
    """The builtins that a source calls to run text, and attributes of any other name for them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in CALLS:
                yield node.func.id
            elif isinstance(node.func, ast.Attribute) and node.func.attr in {
                "read_pickle",
                "to_pickle",
                "loads_pickle",
            }:
                yield node.func.attr


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_unpickled_and_no_text_is_run(path):
    """The package's build writes bytecode (marshal, in a text that it runs elsewhere), and reads none."""
    tree, name = ast.parse(path.read_text()), path.relative_to(ROOT).as_posix()
    found = set(imported(tree))
    assert not {each for each in found if each in FORBIDDEN or each.partition(".")[0] in FORBIDDEN}
    assert {each for each in calls(tree) if (name, each) not in REASONED} == set()


def test_what_is_forbidden_would_be_found():
    source = (
        "import pickle\nfrom shelve import open as o\ndef f(x):\n    import yaml\n    return eval(x), pickle.loads(x)"
    )
    tree = ast.parse(source)
    assert {"pickle", "shelve", "yaml"} <= set(imported(tree)) & FORBIDDEN
    assert list(calls(tree)) == ["eval"]
    for place in REASONED:
        assert place[1] in set(calls(ast.parse((ROOT / place[0]).read_text()))), f"{place} is reasoned for nothing"


def test_csv_is_written_in_one_place():
    """So that what follows holds for every command: in cli/show.py, and nowhere by pandas, polars or DuckDB."""
    writers = set()
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and (
                node.attr in {"DictWriter", "to_csv", "write_csv"}
                or (node.attr == "writer" and getattr(node.value, "id", "") == "csv")
            ):
                writers.add(path.relative_to(ROOT).as_posix())
    assert writers == {"processor/cli/show.py"}


def shown(rows, columns=None, capsys=None):
    show(rows, "csv", "", columns)
    return list(csv.reader(io.StringIO(capsys.readouterr().out, newline="")))


STARTS = ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"]


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("columns", [None, ["text", "identity", "=1+1"]], ids=["gathered", "streamed"])
def test_a_cell_that_a_spreadsheet_would_run_is_quoted(capsys, start, columns):
    """A text, the head of a column, and a list of one: whatever is not a number."""
    text = f"{start}cmd|' /C calc'!A0"
    head, row = shown([{"text": text, "identity": text, "=1+1": text}], columns, capsys)
    assert head == ["text", "identity", "'=1+1"]
    assert row == [f"'{text}"] * 3


def test_numbers_and_identities_stay_what_they_are(capsys):
    names = [identity(None, 0xF80000), identity(205, 0xF80000)]
    assert names[0].startswith("-")
    rows = [{"a": -3.5, "b": -7, "c": Decimal("-1.5"), "d": None, "e": True, "identity": name} for name in names]
    assert shown(rows, list(rows[0]), capsys)[1:] == [["-3.5", "-7", "-1.5", "", "True", name] for name in names]
    assert Reading("x", 0, "f", {}, None, 0xF80000).identity == names[0]


@given(st.lists(st.text(st.sampled_from("=+-@\t\r\n＝\"',; a0"), max_size=6), min_size=2, max_size=2))
def test_no_text_begins_as_a_formula_does_ends_a_line_or_is_lost(texts):
    """A carriage return in a text is one of its characters: it must not begin another row, and a cell with it."""
    (found,) = csv.reader(io.StringIO(_csv([{"x": texts[0], "y": texts[1]}], ["x", "y"], header=False), newline=""))
    for cell, text in zip(found, texts, strict=True):
        assert not cell.startswith(tuple(STARTS))
        assert cell in (text, f"'{text}")
