"""The package that the build hook makes: as small, as repeatable and as complete as Lambda needs it."""

from __future__ import annotations

import json
import os
import selectors
import shutil
import subprocess
import sys
import sysconfig
import time
import zipfile
from pathlib import Path

import orjson
import pytest

from processor import package as package_module
from processor.apex import read_function
from processor.deploy.archive import archive
from processor.local import bootstrap
from processor.local.aws import EmbeddedAws
from processor.local.fleet import Fleet
from processor.local.runtime import RuntimeApi
from processor.quarantine import Quarantine
from processor.store import tables

ROOT = Path(__file__).parents[2]
LAMBDA = "3.13"
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
LARGEST = 6_000_000
BOTO3 = ("boto3", "botocore", "s3transfer", "dateutil", "urllib3", "six.py", "jmespath")
"""What Lambda's Python runtime has of its own."""
MACHINES = {"x86_64": 62, "arm64": 183}
"""e_machine in an ELF header."""


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """Copies what a clone has for the hook: apex/ with its functions, and the package; changes the project's file.

    All copies are of one moment: whoever edits the sources meanwhile changes no package.
    """
    clone = tmp_path_factory.mktemp("clone")
    clean = shutil.ignore_patterns("__pycache__", ".build-*", "project.*.json", "function.*.json")
    for name in ("processor", "apex"):
        shutil.copytree(ROOT / name, clone / name, ignore=clean)

    def make(to, **project):
        shutil.copytree(clone, to, dirs_exist_ok=True)
        file = to / "apex/project.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | project))
        return to / "apex/functions/ingest"

    return make


def hook(function, name, path=None):
    """Run a hook as apex does: with `sh -c`, in the function's folder, its output shown only when it fails."""
    command = read_function(function).hooks[name]
    environment = os.environ | {"PATH": f"{path or Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(["sh", "-c", command], cwd=function, env=environment, capture_output=True, text=True)


def build(function, path=None):
    done = hook(function, "build", path)
    assert done.returncode == 0, done.stderr
    return archive(function, read_function(function).ignored)


@pytest.fixture(scope="module")
def interpreter():
    """Lambda's version of Python where it is at hand, else this one: its path, its version."""
    found = package_module._interpreter(LAMBDA)
    return (found[0], LAMBDA) if found else (sys.executable, HERE)


@pytest.fixture(scope="module")
def function(copy, tmp_path_factory, interpreter):
    """A function's folder with its package built in it."""
    function = copy(tmp_path_factory.mktemp("built"), runtime=f"python{interpreter[1]}")
    done = hook(function, "build")
    assert done.returncode == 0, done.stderr
    return function


@pytest.fixture(scope="module")
def built(function):
    return archive(function, read_function(function).ignored)


def test_it_is_small(built):
    assert len(built.data) <= LARGEST


def test_the_same_input_gives_the_same_bytes_wherever_and_however_often_it_is_built(copy, built, tmp_path, interpreter):
    again = copy(tmp_path / "somewhere else", runtime=f"python{interpreter[1]}")
    before = sorted(path.name for path in again.iterdir())
    (again / "__pycache__").mkdir()
    (again / "__pycache__/main.cpython-39.pyc").write_bytes(b"a local run's")
    os.utime(again / "main.py", (1, 1))
    (again / "main.py").chmod(0o600)
    assert build(again).sha256 == built.sha256
    assert build(again).sha256 == built.sha256
    assert hook(again, "clean").returncode == 0
    assert sorted(path.name for path in again.iterdir()) == before


def test_it_holds_the_code_that_the_function_imports_and_nothing_else_of_ours(built, tmp_path):
    (tmp_path / "package.zip").write_bytes(built.data)
    with zipfile.ZipFile(tmp_path / "package.zip") as target:
        names = set(target.namelist())
        modes = {entry.external_attr >> 16 for entry in target.infolist()}
        times = {entry.date_time for entry in target.infolist()}
    assert {"main.py", "processor/ingest.py", "processor/store/tables.json", "orjson/__init__.pyc"} <= names
    assert not [
        name for name in names if name.startswith(("boto3/", "botocore/", "processor/local/", "processor/cli/"))
    ]
    assert not [name for name in names if "/tests/" in name or name.endswith((".pyi", "/RECORD"))]
    assert not {"function.json", "processor/package.py", "processor/apex.py", ".package"} & names
    assert (modes, times) == ({0o100644}, {(1980, 1, 1, 0, 0, 0)})


def test_every_module_is_compiled_for_lambda_never_to_be_checked_against_its_source(function, interpreter):
    if interpreter[1] != LAMBDA:
        assert sysconfig.get_python_version() == interpreter[1]  # compiled by ourselves then
    tag = f"cpython-{interpreter[1].replace('.', '')}"
    compiled = [module for module in function.rglob("*.pyc") if module.parent.name == "__pycache__"]
    sources = [module.parent / "__pycache__" / f"{module.stem}.{tag}.pyc" for module in function.rglob("*.py")]
    assert sorted(compiled) == sorted(sources)
    assert {module.relative_to(function).parts[0] for module in compiled} == {"__pycache__", "processor"}
    for module in function.rglob("*.pyc"):  # a dependency's is all there is of it
        assert module.read_bytes()[4:8] == b"\x01\0\0\0", module  # PEP 552: hash-based, not checked


class Lambda:
    """One execution environment: the package alone, its interpreter without site-packages, and the runtime's boto3."""

    SCRIPT = (
        "import runpy, sys; bootstrap, *sys.path[:0] = sys.argv[1:]; sys.argv = [bootstrap, 'main.handle', 'plain'];"
        "runpy.run_path(bootstrap, run_name='__main__')"
    )

    def __init__(self, python, task_root, runtime, variables, log):
        self._selector = selectors.DefaultSelector()
        self._api = RuntimeApi(self._selector)
        self._process = subprocess.Popen(
            [python, "-I", "-S", "-c", self.SCRIPT, bootstrap.__file__, str(task_root), str(runtime)],
            cwd=task_root, stdout=log, stderr=subprocess.STDOUT,
            env={"AWS_LAMBDA_RUNTIME_API": self._api.address, "AWS_LAMBDA_FUNCTION_NAME": "ingest",
                 "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256", **variables},
        )  # fmt: skip

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._process.kill()
        self._process.wait()
        self._api.close()
        self._selector.close()

    def invoke(self, event):
        self._until(lambda: self._api.waiting)
        deadline = {"Lambda-Runtime-Deadline-Ms": str(int(time.time() * 1000) + 60_000), "Lambda-Runtime-Trace-Id": "1",
                    "Lambda-Runtime-Invoked-Function-Arn": "arn"}  # fmt: skip
        self._api.offer("request-1", orjson.dumps(event), deadline)
        self._until(lambda: self._api.answer)
        return self._api.answer.kind, orjson.loads(self._api.answer.body)

    def _until(self, condition):
        end = time.monotonic() + 60
        while not condition():
            for key, mask in self._selector.select(0.05):
                key.data(mask)
            assert self._process.poll() is None, "the worker ended"
            assert time.monotonic() < end, "the worker hangs"


def test_it_handles_a_fleet_as_lambda_would_run_it(built, interpreter, tmp_path, kinesis_event):
    """Encrypted sensors and rejected records too: cryptography from the package, S3 through the runtime's boto3."""
    task_root, runtime = tmp_path / "task", tmp_path / "runtime"
    (tmp_path / "package.zip").write_bytes(built.data)
    with zipfile.ZipFile(tmp_path / "package.zip") as target:
        target.extractall(task_root)
    runtime.mkdir()
    for name in BOTO3:
        (runtime / name).symlink_to(Path(sysconfig.get_path("purelib")) / name)
    now = int(time.time() * 1000)
    fleet = Fleet(devices=30, gateways=5, rate=30, seed=3, start=now - 30_000, malformed=0.2)
    records = [sent.data for sent in fleet.records(measurements=120)]
    assert fleet.keys
    assert fleet.truth.malformed
    with EmbeddedAws() as aws, (tmp_path / "log").open("wb") as log:
        tables.create(aws.client("dynamodb"), "processor-")
        aws.client("s3").create_bucket(Bucket="processor-quarantine")
        keys = {"BINDKEYS": ",".join(f"{device}={key.hex()}" for device, key in fleet.keys.items())}
        with Lambda(interpreter[0], task_root, runtime, aws.environment() | keys, log) as function:
            answer = function.invoke(kinesis_event(*records, arrived_at=now))
        assert answer == ("response", {"batchItemFailures": []}), (tmp_path / "log").read_text()
        items = aws.client("dynamodb").scan(TableName="processor-readings")["Items"]
        rejected = list(Quarantine("processor-quarantine", lambda: aws.client("s3")).entries())
    heard = {device for device, _ in fleet.truth.measured}
    assert {item["device"]["S"] for item in items} == heard
    assert heard & fleet.keys.keys()
    assert len(rejected) == fleet.truth.malformed
    assert set(task_root.rglob("*.pyc")) == {
        task_root / name for name in zipfile.ZipFile(tmp_path / "package.zip").namelist() if name.endswith(".pyc")
    }, "something was compiled at run time"


def machines(function):
    return [int.from_bytes(library.read_bytes()[18:20], "little") for library in sorted(function.rglob("*.so"))]


def test_the_libraries_are_of_the_architecture_asked_for(copy, function, tmp_path):
    assert machines(function) == [MACHINES["x86_64"]] * 3
    other = copy(tmp_path, architecture="arm64")
    build(other)
    assert machines(other) == [MACHINES["arm64"]] * 3


def test_pip_makes_the_same_package_where_there_is_no_uv(copy, tmp_path, built, interpreter):
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    programs = tmp_path / "bin"
    programs.mkdir()
    found = {
        "python3": tmp_path / "venv/bin/python",
        f"python{interpreter[1]}": interpreter[0],
        "sh": shutil.which("sh"),
    }
    for name, program in found.items():
        # A script, not a link: the virtual environment is found by the path that the interpreter is called by.
        (programs / name).write_text(f'#!/bin/sh\nexec "{program}" "$@"\n')
        (programs / name).chmod(0o755)
    function = copy(tmp_path / "clone", runtime=f"python{interpreter[1]}")
    command = read_function(function).hooks["build"]
    environment = {name: value for name, value in os.environ.items() if name != "PATH"} | {"PATH": str(programs)}
    done = subprocess.run(
        [shutil.which("sh"), "-c", command], cwd=function, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert archive(function, read_function(function).ignored).sha256 == built.sha256
