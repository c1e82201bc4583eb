"""The table of the mapping's rules: each row names code and a test that are there."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "processor" / "local" / "README.md"
ROW = re.compile(r"^\| (?P<rule>[^|]+) \| (?P<source>[^|]+) \| `(?P<code>[\w.]+)` \| `(?P<test>[\w.]+)` \|$")


def rows():
    table = [line for line in README.read_text().splitlines() if line.startswith("| ")][1:]
    found = [ROW.match(line) for line in table]
    assert [line for line, match in zip(table, found, strict=True) if match is None] == []
    return [match.groupdict() for match in found]


def test_there_is_a_row_for_every_rule():
    rules = " ".join(row["rule"] for row in rows())
    for word in (
        "10,000", "6 MB", "batching window", "partition key", "item of DynamoDB", "TRIM_HORIZON", "LATEST", "timestamp",
        "checkpoint", "null", "misnamed", "halved", "returned sequence number", "retried", "record age",
        "metadata alone", "aws/lambda/", "Filters", "state", "isFinalInvokeForWindow", "1 MB", "split", "merge",
        "expired iterator", "closed shards", "disabled", "timeout", "throttled", "2 minutes", "several minutes",
        "4,096",
    ):  # fmt: skip
        assert word in rules, word


@pytest.mark.parametrize("row", rows(), ids=lambda row: row["test"])
def test_a_rows_code_and_test_exist(row):
    module, _, name = row["code"].partition(".")
    found = importlib.import_module(f"processor.local.{module}")
    for part in name.split("."):
        assert hasattr(found, part), row["code"]
        found = getattr(found, part)
    file, _, test = row["test"].partition(".")
    paths = (ROOT / "tests").glob(f"*/{file}.py")
    names = {node.name for path in paths for node in ast.parse(path.read_text()).body if hasattr(node, "name")}
    assert test in names


@pytest.mark.parametrize("row", rows(), ids=lambda row: row["test"])
def test_a_row_names_its_source_or_says_that_there_is_none(row):
    assert row["source"] != "–" or "(ours)" in row["rule"]
