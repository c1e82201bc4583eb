"""Functions and tables are found, not listed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

NOWHERE = SimpleNamespace(endpoint="http://127.0.0.1:9", region="us-east-1")


def test_a_function_and_a_table_that_are_added_are_made_with_all_that_belongs_to_them(new_terraform):
    """`terraform test` with a function and a table that the repository does not have."""
    module = new_terraform("report", NOWHERE)
    (module.module / "local_override.tf").unlink()
    folder = module.root / "apex" / "functions" / "report"
    folder.mkdir()
    function = {
        "description": "Readings to a report",
        "memory": 512,
        "timeout": 60,
        "hooks": {"build": "make"},
    }
    (folder / "function.json").write_text(json.dumps(function))
    tables = module.root / "processor" / "store" / "tables.json"
    device = {"name": "device", "type": "S"}
    reports = {"hash_key": device, "range_key": {"name": "start", "type": "N"}, "ttl": "expires"}
    tables.write_text(json.dumps(json.loads(tables.read_text()) | {"reports": reports}))
    shutil.copy(Path(__file__).with_name("report.tftest.hcl"), module.module / "tests")
    module("init", "-backend=false")
    said = module("test", "-no-color", "-filter=tests/report.tftest.hcl")[1]
    assert "Success! 2 passed" in said
