"""A function's configuration: apex's project.json and function.json, read as apex reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from processor.apex import FunctionConfig, read_function
from processor.errors import LocalError, SettingsError
from processor.local import function as function_module
from processor.local.function import Function, native_runtime, worker_variables


def write(root: Path, function: Any, project: Any = None) -> Path:
    directory = root / "functions" / "ingest"
    directory.mkdir(parents=True)
    (directory / "function.json").write_text(function if isinstance(function, str) else json.dumps(function))
    if project is not None:
        (root / "project.json").write_text(json.dumps(project))
    return directory


def test_function_json_says_everything(tmp_path: Path) -> None:
    content = {
        "description": "x",
        "runtime": "python3.12",
        "memory": 512,
        "timeout": 60,
        "handler": "main.go",
        "environment": {"A": "b"},
    }
    directory = write(tmp_path, content)
    assert read_function(directory) == FunctionConfig(
        name="ingest",
        directory=directory.resolve(),
        handler="main.go",
        runtime="python3.12",
        memory_mb=512,
        timeout_s=60,
        environment={"A": "b"},
        description="x",
    )


def test_project_json_gives_the_defaults_and_the_name(tmp_path: Path) -> None:
    project = {
        "name": "shop",
        "memory": 256,
        "timeout": 7,
        "runtime": "python3.13",
        "environment": {"A": "p", "B": "p"},
    }
    config = read_function(write(tmp_path, {"memory": 1024, "environment": {"A": "f"}}, project))
    assert (config.name, config.memory_mb, config.timeout_s) == ("shop_ingest", 1024, 7)
    assert config.environment == {"A": "f", "B": "p"}


def test_the_name_template_is_followed(tmp_path: Path) -> None:
    project = {"name": "shop", "nameTemplate": "{{.Function.Name}}-of-{{.Project.Name}}"}
    assert read_function(write(tmp_path, {}, project)).name == "ingest-of-shop"


def test_apex_defaults_fill_what_nobody_says(tmp_path: Path) -> None:
    config = read_function(write(tmp_path, {}))
    assert (config.memory_mb, config.timeout_s, config.handler) == (128, 3, "main.handle")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "expected a JSON object"),
        ("[]", "expected a JSON object, not list"),
        ({"memory": "128"}, "\"memory\" must be of type int, not '128'"),
        ({"timeout": True}, '"timeout" must be of type int, not True'),
        ({"timeout": 0}, "must be above zero"),
        ({"handler": "main"}, "must be module.function"),
        ({"environment": []}, '"environment" must be of type dict'),
    ],
)
def test_a_wrong_field_is_named_with_its_file(tmp_path: Path, content: Any, complaint: str) -> None:
    with pytest.raises(SettingsError, match=r"function\.json") as caught:
        read_function(write(tmp_path, content))
    assert complaint in str(caught.value)


def test_a_missing_function_json_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"function\.json: expected apex's configuration there"):
        read_function(tmp_path)


def test_arguments_override_the_files(tmp_path: Path) -> None:
    directory = write(tmp_path, {"memory": 512, "environment": {"A": "f", "B": "f"}})
    function = Function(
        directory, environment={"A": "a"}, sink=print, name="other", memory_mb=64, timeout_s=0.5, plain=True
    )
    config = function.config
    assert (config.name, config.memory_mb, config.timeout_s) == ("other", 64, 0.5)
    assert config.environment == {"A": "a", "B": "f"}


def test_workers_get_the_variables_of_lambda_and_cannot_override_them(tmp_path: Path) -> None:
    environment = {"AWS_REGION": "ap-northeast-1", "AWS_LAMBDA_FUNCTION_NAME": "liar", "TZ": "Asia/Tokyo"}
    config = read_function(write(tmp_path, {"runtime": "python3.13", "environment": environment}))
    variables = worker_variables(config)
    assert variables["AWS_LAMBDA_FUNCTION_NAME"] == "ingest"
    assert variables["AWS_DEFAULT_REGION"] == variables["AWS_REGION"] == "ap-northeast-1"
    assert variables["AWS_EXECUTION_ENV"] == "AWS_Lambda_python3.13"
    assert variables["TZ"] == "Asia/Tokyo"
    assert variables["LAMBDA_TASK_ROOT"] == str(config.directory)
    assert variables["AWS_LAMBDA_LOG_STREAM_NAME"] != worker_variables(config)["AWS_LAMBDA_LOG_STREAM_NAME"]


def test_a_package_that_apex_left_is_not_run(tmp_path: Path) -> None:
    directory = write(tmp_path, {})
    (directory / ".package").touch()
    with pytest.raises(LocalError, match=r"package\.py clean"):
        Function(directory, environment={}, sink=print)


def test_the_plain_runtime_is_taken_where_the_compiled_part_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        function_module.importlib.util, "find_spec", lambda name: None if name == "runtime_client" else object()
    )
    assert not native_runtime()
    assert Function(write(tmp_path, {}), environment={}, sink=print).plain
