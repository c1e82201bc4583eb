"""The layers hold: imports go downward only, the environment is read in one place, the hot path stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]

LAYERS = {
    "processor.errors": 0,
    "processor.reading": 1,
    "processor.package": 1,
    "processor.apex": 2,
    "processor.settings": 2,
    "processor.decode": 2,
    "processor.store": 3,
    "processor.cache": 3,
    "processor.telemetry": 3,
    "processor.objects": 3,
    "processor.rules": 3,
    "processor.times": 1,
    "processor.lock": 1,
    "processor.background": 1,
    "processor.ask": 4,
    "processor.batch": 4,
    "processor.ledger": 4,
    "processor.waiting": 4,
    "processor.devices": 4,
    "processor.vault": 4,
    "processor.ingest": 4,
    "processor.rollup": 4,
    "processor.runs": 4,
    "processor.bulk": 4,
    "processor.sync": 4,
    "processor.restore": 4,
    "processor.verify": 4,
    "processor.audit": 4,
    "processor.quarantine": 4,
    "processor.planner": 4,
    "processor.selection": 4,
    "processor.redrive": 4,
    "processor.failures": 4,
    "processor.archive": 4,
    "processor.checkpoint": 4,
    "processor.replay": 4,
    "processor.deploy": 4,
    "processor.local": 5,
    "processor.dashboard": 5,
    "processor.cli": 5,
    "apex": 5,
}
SIDEWAYS = {
    ("processor.ingest", "processor.batch"),  # the handler's own part
    ("processor.ingest", "processor.quarantine"),  # the handler is given a quarantine …
    ("processor.rollup", "processor.runs"),  # the same of the stream's handler
    ("processor.devices", "processor.vault"),
    ("processor.batch", "processor.ledger"),
    ("processor.batch", "processor.waiting"),
    ("processor.waiting", "processor.ledger"),
    ("processor.ledger", "processor.quarantine"),  # … and its batch's ledger makes the rejections
    ("processor.redrive", "processor.batch"),  # what was rejected goes the way of what comes …
    ("processor.redrive", "processor.quarantine"),  # … out of quarantine, and what fails again back into it
    ("processor.redrive", "processor.ledger"),
    ("processor.redrive", "processor.selection"),
    ("processor.failures", "processor.batch"),  # the same for what the mapping gave up
    ("processor.failures", "processor.quarantine"),
    ("processor.failures", "processor.selection"),
    ("processor.failures", "processor.redrive"),
    ("processor.failures", "processor.rollup"),  # … of the table's stream
    ("processor.replay", "processor.archive"),  # records of the archive …
    ("processor.replay", "processor.checkpoint"),
    ("processor.checkpoint", "processor.archive"),  # … of whose pieces it knows how far they are …
    ("processor.replay", "processor.batch"),  # … handled as ingest handles them
    ("processor.objects", "processor.store"),  # what S3's answers broke off of is read again as DynamoDB is asked again
    ("processor.cache", "processor.store"),  # a cache is a table, and speaks to it over the same wire
    ("processor.cli", "processor.local"),  # the command line composes the local run
    ("processor.cli", "processor.dashboard"),  # … and serves the page
}
FILES = sorted((*(ROOT / "processor").rglob("*.py"), *(ROOT / "apex").rglob("*.py")))


def part_of(module: str) -> str | None:
    """The entry of LAYERS that a module belongs to."""
    return next((name for name in LAYERS if module == name or module.startswith(name + ".")), None)


def imports(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_what_lies_below_it(path):
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    own = part_of(module)
    if module == "processor.__init__":
        own, layer = "processor", 3  # the public API: decode and what lies below
    else:
        assert own, f"{module} has no layer: give it one in LAYERS"
        layer = LAYERS[own]
    for imported in imports(path):
        other = part_of(imported)
        if other is None or other == own or (own, other) in SIDEWAYS:
            continue
        assert LAYERS[other] < layer, f"{module} (layer {layer}) imports {imported} (layer {LAYERS[other]})"


def reads_environment(path: Path) -> bool:
    return any(
        isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv")
        for node in ast.walk(ast.parse(path.read_text()))
    )


def test_settings_is_the_only_reader_of_the_environment():
    """Child processes get an environment from local/, which therefore may look at it too."""
    readers = {path.relative_to(ROOT).as_posix() for path in FILES if reads_environment(path)}
    assert {path for path in readers if not path.startswith("processor/local/")} == {"processor/settings.py"}


def test_decode_is_pure():
    """No AWS, no clock, no environment, no logging, no files."""
    forbidden = {"boto3", "botocore", "os", "time", "logging", "socket", "pathlib", "subprocess", "random"}
    for path in (ROOT / "processor" / "decode").rglob("*.py"):
        assert not {name.partition(".")[0] for name in imports(path)} & forbidden, path


def test_the_audit_shares_no_code_with_what_it_audits():
    """It makes readings by the decoder's tables backwards; it counts them without the store."""
    found = {name for path in (ROOT / "processor" / "audit").rglob("*.py") for name in imports(path)}
    assert {name for name in found if name.startswith("processor.store")} == {"processor.store.tables.SLOT_SECONDS"}


@pytest.mark.parametrize("function", ["ingest", "rollup"])
def test_a_function_imports_neither_boto3_nor_cryptography_nor_the_command_line(function):
    code = (
        f"import sys; sys.path.insert(0, 'apex/functions/{function}'); import main;"
        "print(sorted({'boto3', 'botocore.session', 'cryptography', 'click', 'rich'} & set(sys.modules)))"
    )
    environment = {
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "PATH": "/usr/bin:/bin",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_package_exports_what_it_says():
    import processor

    public = {
        name
        for name, value in vars(processor).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert set(processor.__all__) == public | {"Store"}  # imported when it is asked for
    assert processor.Store.__module__ == "processor.ask.store"
    assert processor.decode("1BFF99040512FC5394C37C0004FFFC040CAC364200CDCBB8334C884F")[0].values["temperature"] == 24.3
