"""Functions and tables are found, not listed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

NOWHERE = SimpleNamespace(endpoint="http://127.0.0.1:9", region="us-east-1")


def test_a_function_added_to_apex_gets_role_logs_alarms_and_a_rollup_its_mapping(new_terraform):
    """`terraform test` with a function and two tables that the repository does not have yet (or has by now)."""
    module = new_terraform("rollup", NOWHERE)
    (module.module / "local_override.tf").unlink()
    folder = module.root / "apex" / "functions" / "rollup"
    folder.mkdir(exist_ok=True)
    function = {
        "description": "Readings to five-minute figures",
        "memory": 512,
        "timeout": 60,
        "hooks": {"build": "make"},
    }
    (folder / "function.json").write_text(json.dumps(function))
    tables = module.root / "processor" / "store" / "tables.json"
    device = {"hash_key": {"name": "device", "type": "S"}}
    rollups = device | {"range_key": {"name": "start", "type": "N"}, "ttl": "expires"}
    tables.write_text(json.dumps({"rollups": rollups, "devices": device} | json.loads(tables.read_text())))
    shutil.copy(Path(__file__).with_name("rollup.tftest.hcl"), module.module / "tests")
    module("init", "-backend=false")
    said = module("test", "-no-color", "-filter=tests/rollup.tftest.hcl")[1]
    assert "Success! 3 passed" in said
