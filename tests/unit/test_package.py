"""The package builder, its dependencies made up: what goes in, what stays out, what it refuses."""

from __future__ import annotations

import ast
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest

from processor import package
from processor.deploy.archive import archive
from processor.package import PackageError, Target, build, clean

ROOT = Path(__file__).parents[2]

WHEELS = {
    "tool/__init__.py": "import tool.core",
    "tool/core.py": "x = 1",
    "tool/core.pyi": "x: int",
    "tool/tests/test_core.py": "import pytest",
    "tool/tests/__init__.py": "",
    "tool-1.0.dist-info/METADATA": "Name: tool\nVersion: 1.0\n\nA long README.",
    "tool-1.0.dist-info/RECORD": "tool/core.py,,",
    "tool-1.0.dist-info/licenses/LICENSE": "MIT",
    "bin/tool": "#!python",
    "aws_lambda_powertools/__init__.py": "",
    "aws_lambda_powertools/event_handler/__init__.py": "",
    "aws_lambda_powertools/utilities/parser/__init__.py": "",
    "aws_lambda_powertools/metrics/__init__.py": "",
    "orjson/__init__.py": "",
    "cryptography/exceptions.py": "",
    "cryptography/hazmat/primitives/ciphers/aead.py": "",
    "cryptography/hazmat/primitives/kdf/__init__.py": "",
}


@pytest.fixture
def function(tmp_path, monkeypatch):
    """A function's folder that imports one dependency and the decoders, and an installer that makes up wheels."""

    def install(requirements, into, target):
        for name, content in WHEELS.items():
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            (into / name).write_text(content)

    monkeypatch.setattr(package, "_install", install)
    monkeypatch.setattr(package, "_interpreter", lambda version: None)
    folder = tmp_path / "functions" / "example"
    folder.mkdir(parents=True)
    (tmp_path / "project.json").write_text('{"runtime": "python3.13"}')
    (folder / "main.py").write_text("import json\nimport tool.core\nfrom processor.errors import DecodeError\n")
    (folder / "function.json").write_text("{}")
    return folder


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_it_holds_what_is_imported_and_leaves_out_what_nobody_needs(function):
    build(function)
    assert {"main.py", "tool/__init__.py", "tool/core.py", "processor/errors.py", "processor/__init__.py"} <= files(
        function
    )
    left_out = {"tool/core.pyi", "tool/tests/test_core.py", "bin/tool",
                "cryptography/hazmat/primitives/kdf/__init__.py",
                "aws_lambda_powertools/event_handler/__init__.py", "aws_lambda_powertools/utilities/parser/__init__.py",
                "processor/ingest.py", "processor/package.py",
                "tool-1.0.dist-info/RECORD", "tool-1.0.dist-info/licenses/LICENSE"}  # fmt: skip
    assert not left_out & files(function)
    assert not (function / "tool/tests").exists()


def test_a_distributions_name_and_version_stay_for_importlib_metadata_without_the_readme(function):
    build(function)
    assert (function / "tool-1.0.dist-info/METADATA").read_text() == "Name: tool\nVersion: 1.0\n"


def test_without_an_interpreter_of_the_version_it_ships_sources_and_says_so(function):
    built = build(function)
    assert not list(function.rglob("*.pyc"))
    assert "sources only: no Python 3.13 is at hand" in str(built)


def test_with_an_interpreter_every_module_is_compiled_and_names_lambdas_folder(function, monkeypatch):
    monkeypatch.setattr(package, "_interpreter", lambda version: (sys.executable, "3.13.99"))
    built = build(function)
    assert "compiled by 3.13.99" in str(built)
    ours = next((function / "__pycache__").glob("main.*.pyc"))
    theirs = function / "tool/core.pyc"
    for compiled, name in ((ours, "main.py"), (theirs, "tool/core.py")):
        assert f"/var/task/{name}".encode() in compiled.read_bytes()
        assert str(function).encode() not in compiled.read_bytes()
    assert not (function / "tool/core.py").exists()
    assert (function / "processor/errors.py").exists()


def test_bytecode_has_no_docstrings_and_runs_all_the_same(function, monkeypatch):
    monkeypatch.setattr(package, "_interpreter", lambda version: (sys.executable, "3.13.99"))
    (function / "main.py").write_text(
        '"""A docstring of the module."""\nfrom __future__ import annotations\n'
        'def f():\n    """A docstring alone."""\n'
        'class C:\n    """A docstring of a class."""\n    x: nowhere = 1\n    def g(self): return "kept"\n'
    )
    build(function)
    (compiled,) = (function / "__pycache__").glob("main.*.pyc")
    assert b"docstring" not in compiled.read_bytes()
    code = (
        f"import sys; sys.path.insert(0, {str(function)!r}); import main; print(main.f(), main.C().g(), main.__doc__)"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["None", "kept", "None"], done.stderr


def test_a_release_candidate_compiles_nothing(monkeypatch):
    answer = SimpleNamespace(returncode=0, stdout="cpython 3.13.0rc1 /usr/bin/python3.13\n")
    monkeypatch.setattr(package, "_run", lambda command, **_: answer)
    assert package._interpreter("3.13") is None


def test_an_interpreter_of_another_version_is_not_taken():
    mine = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert package._interpreter(mine)[1].startswith(mine)
    assert package._interpreter("3.1") is None


@pytest.mark.parametrize(
    "import_", ["import nowhere", "def f():\n    from aws_lambda_powertools.event_handler import x"]
)
def test_an_import_that_the_package_could_not_satisfy_fails_the_build(function, import_):
    (function / "main.py").write_text(import_)
    with pytest.raises(
        PackageError, match=r"main\.py imports (nowhere|aws_lambda_powertools\.event_handler), which is"
    ):
        build(function)
    assert files(function) == {"main.py", "function.json"}


@pytest.mark.parametrize("import_", [
    "import boto3", "import botocore.config", "import tool", "from processor import decode",
    "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import nowhere",
])  # fmt: skip
def test_lambdas_own_the_packages_and_a_type_checkers_imports_are_fine(function, import_):
    (function / "main.py").write_text(import_)
    build(function)


def test_a_file_of_the_functions_own_is_never_overwritten(function):
    (function / "tool").mkdir()
    (function / "tool/mine.py").write_text("precious")
    with pytest.raises(PackageError, match="tool would be overwritten by the package"):
        build(function)
    clean(function)
    assert (function / "tool/mine.py").read_text() == "precious"


def test_clean_removes_what_the_build_made_and_only_that(function):
    (function / "data.csv").write_text("1")
    before = files(function)
    build(function)
    clean(function)
    assert files(function) == before
    clean(function)  # apex cleans whether or not it built
    assert files(function) == before


def test_a_table_of_readings_beside_the_handler_is_in_the_package(function):
    """GATEWAY_READINGS names it: decode/gateways/README.md says to put it there."""
    (function / "acme.json").write_text("[]")
    build(function)
    ignored = (ROOT / "apex/.apexignore").read_text().splitlines()
    with zipfile.ZipFile(io.BytesIO(archive(function, ignored).data)) as zipped:
        assert zipped.read("acme.json") == b"[]"


def test_clean_never_leaves_the_functions_folder(function):
    (function / "function.json").write_text("{}")
    (function / package.MANIFEST).write_text("../../project.json\n..\n\n.\nmain.py/../function.json\n")
    clean(function)
    assert (function.parent.parent / "project.json").exists()
    assert (function / "main.py").exists()


def test_every_file_can_be_read_by_lambdas_user(function):
    (function / "main.py").chmod(0o600)
    build(function)
    assert {path.stat().st_mode & 0o777 for path in function.rglob("*")} == {0o644, 0o755}
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in function.rglob("*") if path.is_file())


@pytest.mark.parametrize(("project", "own", "expected"), [
    ({"runtime": "python3.13"}, {}, Target("3.13", "x86_64")),
    ({"runtime": "python3.13", "architecture": "arm64"}, {}, Target("3.13", "arm64")),
    ({"runtime": "python3.13"}, {"runtime": "python3.14", "architecture": "arm64"}, Target("3.14", "arm64")),
])  # fmt: skip
def test_the_target_is_the_functions_over_the_projects(function, project, own, expected):
    (function.parent.parent / "project.json").write_text(json.dumps(project))
    (function / "function.json").write_text(json.dumps(own))
    assert Target.of(function) == expected


@pytest.mark.parametrize(("own", "complaint"), [
    ({"runtime": "nodejs22.x"}, "must be one of Lambda's, like python3.13, not 'nodejs22.x'"),
    ({"architecture": "sparc"}, "must be x86_64 or arm64, not 'sparc'"),
])  # fmt: skip
def test_a_target_that_lambda_does_not_have_is_refused(function, own, complaint):
    (function / "function.json").write_text(json.dumps(own))
    with pytest.raises(PackageError, match=re.escape(complaint)):
        build(function)


def test_neither_uv_nor_pip_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(package.shutil, "which", lambda name: None)
    monkeypatch.setattr(package.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PackageError, match="neither uv nor pip is here"):
        package._install(tmp_path / "requirements.txt", tmp_path, Target("3.13", "x86_64"))


@pytest.mark.parametrize("arguments", [[], ["biuld"], ["build", "extra"]])
def test_the_script_says_how_it_is_used(arguments):
    done = subprocess.run([sys.executable, package.__file__, *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: package.py build|clean")


def test_the_script_says_what_is_wrong_and_fails(tmp_path):
    done = subprocess.run([sys.executable, package.__file__, "build"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert '"runtime" must be one of' in done.stderr
    assert "Traceback" not in done.stderr


def test_the_script_needs_nothing_but_the_standard_library():
    imported = package._imports(ast.parse(Path(package.__file__).read_text()))
    assert {name.partition(".")[0] for name in imported} <= sys.stdlib_module_names


def test_what_is_shipped_is_what_is_tested():
    """apex/requirements.txt pins the very versions that the tests run with, and pyproject's lower bounds allow."""
    text = (ROOT / "apex/requirements.txt").read_text()
    pinned = dict(re.findall(r"^([a-z0-9-]+)==(\S+) \\$", text, re.M))
    assert {"aws-lambda-powertools", "cryptography", "orjson"} <= pinned.keys()
    assert not {"boto3", "botocore"} & pinned.keys()
    assert pinned == {name: version(name) for name in pinned}
    assert "://" not in text


@pytest.mark.parametrize(("pattern", "left"), [
    ("*.csv", {"main.py", "data/a.txt", "data/deep/b.csv2"}),
    ("data/", {"main.py", "c.csv"}),
    ("/data/deep", {"main.py", "c.csv", "data/a.txt", "data/b.csv"}),
    ("data/*.csv", {"main.py", "c.csv", "data/a.txt", "data/deep/b.csv2"}),
    ("# main.py", {"main.py", "c.csv", "data/a.txt", "data/b.csv", "data/deep/b.csv2"}),
])  # fmt: skip
def test_apexignore_leaves_out_files_and_folders(tmp_path, pattern, left):
    for name in ("main.py", "c.csv", "data/a.txt", "data/b.csv", "data/deep/b.csv2"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert names_of(archive(tmp_path, ["", pattern]), tmp_path) == left


def test_the_zip_has_no_times_modes_or_order_of_this_machine(tmp_path):
    for name in ("b.py", "a.py"):
        (tmp_path / name).write_text("x")
        (tmp_path / name).chmod(0o600)
    first = archive(tmp_path, [])
    (tmp_path / "a.py").chmod(0o755)
    os.utime(tmp_path / "b.py", (1_000_000_000, 1_000_000_000))
    assert archive(tmp_path, []) == first
    with zipfile.ZipFile(io.BytesIO(first.data)) as target:
        assert [(entry.filename, entry.external_attr >> 16) for entry in target.infolist()] == [
            ("a.py", 0o100644), ("b.py", 0o100644),
        ]  # fmt: skip


def test_links_are_followed_into_the_zip(tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "a.py").write_text("a")
    function = tmp_path / "function"
    function.mkdir()
    (function / "lib").symlink_to(shared)
    assert names_of(archive(function, []), tmp_path) == {"lib/a.py"}


def names_of(zipped, folder):
    (folder / "x.zip").write_bytes(zipped.data)
    with zipfile.ZipFile(folder / "x.zip") as target:
        return set(target.namelist())
