"""What apex's `project.json` and `function.json` say about a function.

The two files are the one place where a function's memory, timeout, handler and runtime are written down: apex
deploys by them, Terraform reads them, and the local run obeys them. Source: apex.run, "Projects", "Functions".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processor.errors import LocalError

# apex's own defaults, where neither file has a value.
MEMORY_MB = 128
TIMEOUT_S = 3
HANDLER = "main.handle"
RUNTIME = "python3.13"


@dataclass(frozen=True, slots=True)
class FunctionConfig:
    """A function as deployed: `directory` is its code's folder, `timeout_s` in seconds, `memory_mb` in MiB.

    `name` is the deployed name (by apex's name template), `handler` is `module.function`.
    """

    name: str
    directory: Path
    handler: str
    runtime: str
    memory_mb: int
    timeout_s: float
    environment: Mapping[str, str]


def read_function(directory: Path) -> FunctionConfig:
    """Read a function's configuration from its folder, `apex/functions/<name>`.

    `project.json`, two levels up, gives defaults where there is one. Raises LocalError naming the file and the field.
    """
    directory = directory.resolve()
    project_file = directory.parent.parent / "project.json"
    project = _read(project_file) if project_file.is_file() else {}
    function = _read(directory / "function.json")
    source = directory / "function.json"
    merged = project | function
    default_template = "{{.Project.Name}}_{{.Function.Name}}" if "name" in project else "{{.Function.Name}}"
    template = _field(project, "nameTemplate", str, default_template, project_file)
    project_name = _field(project, "name", str, "", project_file)
    handler = _field(merged, "handler", str, HANDLER, source)
    if "." not in handler:
        raise LocalError(f'{source}: "handler" must be module.function, like {HANDLER}, not {handler!r}')
    memory_mb = _field(merged, "memory", int, MEMORY_MB, source)
    timeout_s = _field(merged, "timeout", int, TIMEOUT_S, source)
    if memory_mb <= 0 or timeout_s <= 0:
        raise LocalError(f'{source}: "memory" and "timeout" must be above zero, not {memory_mb} and {timeout_s}')
    return FunctionConfig(
        name=template.replace("{{.Project.Name}}", project_name).replace("{{.Function.Name}}", directory.name),
        directory=directory,
        handler=handler,
        runtime=_field(merged, "runtime", str, RUNTIME, source),
        memory_mb=memory_mb,
        timeout_s=timeout_s,
        environment={
            key: str(value)
            for file in (project, function)
            for key, value in _field(file, "environment", dict, {}, source).items()
        },
    )


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise LocalError(f"{file}: expected apex's configuration there: {error.strerror}") from error
    except ValueError as error:
        raise LocalError(f"{file}: expected a JSON object: {error}") from error
    if not isinstance(content, dict):
        raise LocalError(f"{file}: expected a JSON object, not {type(content).__name__}")
    return content


def _field(content: Mapping[str, Any], key: str, kind: type, default: Any, source: Path) -> Any:
    value = content.get(key, default)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise LocalError(f'{source}: "{key}" must be of type {kind.__name__}, not {value!r}')
    return value
