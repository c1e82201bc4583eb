"""apex's files, read as apex reads them: `project.json`, `function.json`, and what replaces them per environment.

They are the one place where a function's memory, timeout, handler and runtime are written down: apex deploys by them,
Terraform reads them, `processor deploy` follows them, and the local run obeys them. What holds an account's ids (role,
environment) is in `project.ENV.json` and `functions/NAME/function.ENV.json`, which Terraform generates whole, because
apex reads them *instead of* the plain files.

Source: apex 1.0.0-rc4, project/project.go and function/function.go.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from processor.errors import SettingsError

ALIAS = "current"
LOCAL = "local"
"""The environment of the local run: it needs no files of its own."""

# apex's own defaults, where no file has a value.
MEMORY_MB = 128
TIMEOUT_S = 3
HANDLER = "main.handle"
RUNTIME = "python3.13"
RETAINED_VERSIONS = 25
NAME_TEMPLATE = "{{.Project.Name}}_{{.Function.Name}}"
IGNORED = (".apexignore", "function.json")


@dataclass(frozen=True, slots=True)
class FunctionConfig:
    """A function as deployed: `directory` is its code's folder, `timeout_s` in seconds, `memory_mb` in MiB.

    `name` is the deployed name (by apex's name template), `handler` is `module.function`, `environment` is whole but
    for the two variables that apex adds (`variables`). `ignored` are the lines of .apexignore, apex's own first.
    """

    name: str
    directory: Path
    handler: str
    runtime: str
    memory_mb: int
    timeout_s: float
    environment: Mapping[str, str]
    description: str = ""
    role: str = ""
    kms_arn: str = ""
    dead_letter_arn: str = ""
    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    architecture: str = "x86_64"
    retained_versions: int = RETAINED_VERSIONS
    hooks: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = IGNORED
    region: str | None = None
    profile: str | None = None

    @property
    def variables(self) -> dict[str, str]:
        """The environment that apex sets: it always adds the function's two names."""
        return {"APEX_FUNCTION_NAME": self.directory.name, "LAMBDA_FUNCTION_NAME": self.name, **self.environment}


def read_function(directory: Path, environment: str = LOCAL) -> FunctionConfig:
    """Read a function's configuration from its folder, `apex/functions/NAME`.

    `project.ENV.json`, two levels up, gives defaults; the environment `local` needs none, and takes `project.json`
    where there is one. `function.ENV.json` replaces `function.json`. Raises SettingsError naming file and field.
    """
    directory = directory.resolve()
    project_file = _project_file(directory.parent.parent, environment)
    project = _read(project_file) if project_file.is_file() or environment != LOCAL else {}
    source = directory / f"function.{environment}.json"
    if not source.is_file():
        source = directory / "function.json"
    function = _read(source)
    merged = project | function

    def value(key: str, kind: type, default: Any) -> Any:
        return _field(merged, key, kind, default, source)

    def both(key: str) -> dict[str, Any]:
        """Merge what both files say, as Go's decoder does with maps and structures."""
        return {**_field(project, key, dict, {}, project_file), **_field(function, key, dict, {}, source)}

    handler = value("handler", str, HANDLER)
    if "." not in handler:
        raise SettingsError(f'{source}: "handler" must be module.function, like {HANDLER}, not {handler!r}')
    memory_mb, timeout_s = value("memory", int, MEMORY_MB), value("timeout", int, TIMEOUT_S)
    if memory_mb <= 0 or timeout_s <= 0:
        raise SettingsError(f'{source}: "memory" and "timeout" must be above zero, not {memory_mb} and {timeout_s}')
    vpc = both("vpc")
    return FunctionConfig(
        name=_name(project, project_file, environment, directory.name),
        directory=directory,
        handler=handler,
        runtime=value("runtime", str, RUNTIME),
        memory_mb=memory_mb,
        timeout_s=timeout_s,
        environment={key: str(each) for key, each in both("environment").items()},
        description=_field(function, "description", str, "", source),  # the project's is the project's
        role=value("role", str, ""),
        kms_arn=_field(function, "kms_arn", str, "", source),
        dead_letter_arn=_field(function, "deadletter_arn", str, "", source),
        subnets=tuple(_field(vpc, "subnets", list, [], source)),
        security_groups=tuple(_field(vpc, "securityGroups", list, [], source)),
        architecture=value("architecture", str, "x86_64"),
        retained_versions=value("retainedVersions", int, RETAINED_VERSIONS),
        hooks=both("hooks"),
        ignored=(*IGNORED, *_lines(directory.parent.parent), *_lines(directory)),
        region=_field(project, "region", str, "", project_file) or None,
        profile=_field(project, "profile", str, "", project_file) or None,
    )


def deployed_function(directory: Path, environment: str) -> FunctionConfig:
    """Read a function as it is to be deployed: as `read_function`, but nothing that deployment needs may be missing.

    Raises SettingsError where the environment's generated files are missing, have no role, or are older than
    `function.json`: what that says goes through Terraform, so that both tools give the same value.
    """
    root = directory.resolve().parent.parent
    if not _project_file(root, environment).is_file():
        raise SettingsError(
            f"{_project_file(root, environment)}: no such file; Terraform generates it: run `terraform apply` in "
            f"infra/terraform, then `processor apex-files`"
        )
    config = read_function(directory, environment)
    if not config.role:
        raise SettingsError(f'{config.directory}: "role" must be set, in function.{environment}.json or the project\'s')
    if (config.directory / f"function.{environment}.json").is_file() and (config.directory / "function.json").is_file():
        plain = read_function(directory)
        for key in ("memory_mb", "timeout_s", "handler", "runtime", "description"):
            ours, theirs = getattr(config, key), getattr(plain, key)
            if ours != theirs and theirs != "":  # without a description, Terraform takes the project's
                word = key.partition("_")[0]
                raise SettingsError(
                    f"{config.directory}: function.json says {word} {theirs!r}, but function.{environment}.json, which "
                    f"Terraform generated from it, says {ours!r}: run `terraform apply`, then `processor apex-files`"
                )
    return config


def function_names(root: Path, patterns: Iterable[str] = ()) -> list[str]:
    """List the functions of an apex project that any of the patterns matches (`*`, `?`), all without patterns.

    Raises SettingsError for a folder that is no apex project, and for a pattern that matches none.
    """
    folder = root / "functions"
    if not folder.is_dir():
        raise SettingsError(f"{root}: no apex project, which has a folder `functions`: see --apex")
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    patterns = list(patterns)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise SettingsError(f"no function is called {pattern}: {root} has {', '.join(names) or 'none'}")
    return [name for name in names if not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)]


def write_files(root: Path, files: Any) -> list[tuple[Path, bool]]:
    """Write an environment's generated files into an apex project; tell of each whether it changed.

    files: what Terraform's output `apex_files` holds: the content, a JSON object as text, by path below `root`. All are
    looked at before the first is written. Raises SettingsError for anything that is no such file.
    """
    if not isinstance(files, dict) or not files:
        raise SettingsError(
            f"expected apex's files by path, as Terraform's output apex_files has them, not {files!r:.80}"
        )
    names = set(function_names(root))
    environments = set()
    for path, content in files.items():
        match = re.fullmatch(r"(?:project|functions/([^/]+)/function)\.([A-Za-z0-9_-]+)\.json", path)
        if not match or (match[1] is not None and match[1] not in names):
            raise SettingsError(
                f"{path!r} is neither project.ENV.json nor functions/NAME/function.ENV.json of a function in {root}"
            )
        environments.add(match[2])
        _object(content, path)
        if match[1] and not _object(content, path).get("role"):
            raise SettingsError(f'{path}: "role" must be set')
    if len(environments) != 1 or f"project.{min(environments)}.json" not in files:
        raise SettingsError(f"expected the project's file and the functions' of one environment, not {sorted(files)}")
    return [(root / path, _write(root / path, content)) for path, content in sorted(files.items())]


def _write(file: Path, content: str) -> bool:
    """Write a file unless it says so already, whole or not at all; readable to its owner: it holds an environment."""
    text = json.dumps(json.loads(content), indent=2, ensure_ascii=False) + "\n"
    if file.is_file() and file.read_text(encoding="utf-8") == text:
        return False
    new = file.with_name(f".{file.name}.new")
    new.touch(mode=0o600)
    new.write_text(text, encoding="utf-8")
    new.replace(file)
    return True


def _project_file(root: Path, environment: str) -> Path:
    own = root / f"project.{environment}.json"
    return root / "project.json" if environment == LOCAL and not own.is_file() else own


def _name(project: Mapping[str, Any], source: Path, environment: str, function: str) -> str:
    """Give a function's deployed name. The template is Go's, of which apex's users write fields only."""
    default = NAME_TEMPLATE if "name" in project else "{{.Function.Name}}"
    template: str = _field(project, "nameTemplate", str, default, source)
    values: dict[str, str] = {
        ".Project.Name": _field(project, "name", str, "", source),
        ".Project.Environment": environment,
        ".Function.Name": function,
    }

    def replaced(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise SettingsError(f'{source}: "nameTemplate" takes {", ".join(values)}, not {match[1]}')
        return values[match[1]]

    return re.sub(r"\{\{\s*(.*?)\s*\}\}", replaced, template)


def _lines(folder: Path) -> list[str]:
    file = folder / ".apexignore"
    return file.read_text(encoding="utf-8").splitlines() if file.is_file() else []


def _read(file: Path) -> dict[str, Any]:
    try:
        return _object(file.read_text(encoding="utf-8"), file)
    except OSError as error:
        raise SettingsError(f"{file}: expected apex's configuration there: {error.strerror}") from error


def _object(text: Any, source: Path | str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (TypeError, ValueError) as error:
        raise SettingsError(f"{source}: expected a JSON object: {error}") from error
    if not isinstance(content, dict):
        raise SettingsError(f"{source}: expected a JSON object, not {type(content).__name__}")
    return content


def _field(content: Mapping[str, Any], key: str, kind: type, default: Any, source: Path) -> Any:
    value = content.get(key, default)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise SettingsError(f'{source}: "{key}" must be of type {kind.__name__}, not {value!r}')
    return value
