"""The Lambda package of a function: what apex's build hook puts into the function's folder, and the zip made of it.

    python3 ../../../processor/package.py build|clean       (in apex/functions/NAME)

The package is the function's own files, the modules of `processor` that they import, and the dependencies of
`apex/requirements.txt` as wheels for Lambda's platform, whatever machine builds it. boto3 is not shipped: Lambda's
Python runtime has it, the hot path does not import it, and the one call that needs it (quarantine's PutObject) is the
same in every version. Same input, same bytes: sorted names, fixed times and modes, versions pinned by hash.

This file needs nothing but Python 3.10 and uv or pip, and imports nothing of `processor`: apex runs it on machines
where the dependencies are not installed. Sources: AWS Lambda Developer Guide, "Working with .zip file archives for
Python Lambda functions"; apex 1.0.0-rc4, plugins/hooks and archive (hooks run with `sh -c` in the function's folder,
and a zip is every file there but what .apexignore names).
"""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

PROCESSOR = Path(__file__).resolve().parent
MANIFEST = ".package"
"""Names what the build put into a function's folder, for the clean-up."""
RUNTIME = frozenset({"boto3", "botocore", "urllib3"})
"""What Lambda's Python runtime brings."""
TASK_ROOT = "/var/task"
"""Where Lambda unpacks the zip; tracebacks name it."""

PLATFORMS = {"x86_64": "x86_64", "arm64": "aarch64"}
GLIBC = ("2_28", "2_17")
"""The manylinux generations that Lambda's Amazon Linux 2023 (glibc 2.34) runs, newest first."""

UNUSED = (
    "*.dist-info/*",  # but METADATA
    "*.pyi", "py.typed", "*.h", "*.c", "*.pyx",
    "bin/*",
    "tests/*", "test/*",
    # AES-CCM is all we use of cryptography, and it uses no more of cffi than the compiled backend.
    "cffi/*", "pycparser/*", "cryptography/x509/*", "cryptography/fernet.py", "cryptography/hazmat/asn1/*",
    "cryptography/hazmat/backends/*", "cryptography/hazmat/bindings/openssl/*", "cryptography/hazmat/_oid.py",
    *(f"cryptography/hazmat/primitives/{name}/*" for name in ("asymmetric", "kdf", "serialization", "twofactor")),
    # Powertools is used for logs and metrics. The rest of it is several times that.
    "aws_lambda_powertools/event_handler/*", "aws_lambda_powertools/metrics/provider/datadog/*",
    *(
        f"aws_lambda_powertools/utilities/{name}/*"
        for name in (
            "auth_alpha", "batch", "circuit_breaker", "data_classes", "data_masking", "feature_flags", "idempotency",
            "kafka", "metadata", "parameters", "parser", "streaming", "validation",
        )
    ),
)  # fmt: skip
"""What of the dependencies is left out. `check_imports` fails the build if anything in the package imports it."""

COMPILE = """
import ast, importlib.util, marshal, sys
from pathlib import Path
root, shown, ours = Path(sys.argv[1]), sys.argv[2], set(sys.argv[3:])
documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
for name in sys.stdin.read().splitlines():
    path = root / name
    source = path.read_bytes()
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            node.body[:1] = [] if len(node.body) > 1 else [ast.copy_location(ast.Pass(), node.body[0])]
    code = compile(tree, f"{shown}/{name}", "exec", dont_inherit=True)
    # PEP 552: a hash of the source that is never checked.
    data = importlib.util.MAGIC_NUMBER + bytes([1, 0, 0, 0]) + importlib.util.source_hash(source) + marshal.dumps(code)
    if name.partition("/")[0] in ours:
        target = Path(importlib.util.cache_from_source(path))
        target.parent.mkdir(exist_ok=True)
    else:
        target = path.with_suffix(".pyc")
        path.unlink()
    target.write_bytes(data)
"""
"""Compiles modules, without their docstrings. Of a dependency the bytecode alone is left; what is ours keeps its
sources, for the lines in a traceback."""


class PackageError(Exception):
    """A package cannot be built; the message says what to do."""


@dataclass(frozen=True)
class Target:
    """What a package is built for: Lambda's runtime version (`3.13`) and architecture (`x86_64` or `arm64`)."""

    version: str
    architecture: str

    @classmethod
    def of(cls, function: Path) -> Target:
        """Read a function's target: `runtime` and `architecture` of function.json, else of the project's file.

        Raises PackageError for a runtime that is not Python's, or an architecture that Lambda does not have.
        """
        found: dict[str, object] = {}
        for file in (function.parent.parent / "project.json", function / "function.json"):
            if file.is_file():
                try:
                    found.update(json.loads(file.read_text(encoding="utf-8")))
                except ValueError as error:
                    raise PackageError(f"{file}: expected a JSON object: {error}") from error
        runtime, architecture = found.get("runtime"), found.get("architecture", "x86_64")
        match = re.fullmatch(r"python(3\.\d+)", str(runtime))
        if not match:
            raise PackageError(f'{function}: "runtime" must be one of Lambda\'s, like python3.13, not {runtime!r}')
        if architecture not in PLATFORMS:
            raise PackageError(f'{function}: "architecture" must be x86_64 or arm64, not {architecture!r}')
        return cls(match[1], str(architecture))


@dataclass(frozen=True)
class Built:
    """What a build made: files and their bytes, and the interpreter that compiled them, or None where none could."""

    target: Target
    files: int
    size: int
    interpreter: str | None

    def __str__(self) -> str:
        compiled = f"compiled by {self.interpreter}" if self.interpreter else (
            f"sources only: no Python {self.target.version} is at hand to compile them, so cold starts take longer"
        )  # fmt: skip
        return (
            f"python{self.target.version} {self.target.architecture}: {self.files} files, {self.size / 1e6:.1f} MB, "
            f"{compiled}"
        )


def build(function: Path) -> Built:
    """Put the package of a function into its folder, beside its own files, and return what was made.

    What an earlier build left is removed first. Raises PackageError when a dependency cannot be had, when something
    in the package imports what is not in it, or when a file of the function's own has the name of a packaged one.
    """
    clean(function)
    for stale in sorted(function.rglob("__pycache__")):
        shutil.rmtree(stale)  # a local run's, for another interpreter
    target = Target.of(function)
    requirements = function.parent.parent / "requirements.txt"
    own = {path.name for path in function.iterdir()}
    modules = sorted(name for name in own if name.endswith(".py"))
    with tempfile.TemporaryDirectory(prefix="processor-package-") as folder:
        staged = Path(folder)
        _install(requirements, staged, target)
        _strip(staged)
        _copy_processor(staged / PROCESSOR.name, function)
        for name in modules:
            shutil.copyfile(function / name, staged / name)
        check_imports(staged, modules)
        interpreter = _compile(staged, target, [PROCESSOR.name, *modules])
        for name in modules:
            (staged / name).unlink()
        made = sorted(path.name for path in staged.iterdir())
        if taken := own.intersection(made):
            raise PackageError(f"{function}: {', '.join(sorted(taken))} would be overwritten by the package: rename it")
        (function / MANIFEST).write_text("\n".join(made) + "\n")
        for name in made:
            (shutil.copytree if (staged / name).is_dir() else shutil.copyfile)(staged / name, function / name)
    sizes = []
    for path in _walk(function):
        path.chmod(0o755 if path.is_dir() else 0o644)  # apex's zip keeps modes, and Lambda runs as another user
        if path.is_file():
            sizes.append(path.stat().st_size)
    return Built(target, len(sizes), sum(sizes), interpreter)


def clean(function: Path) -> None:
    """Remove what a build put into a function's folder; does nothing where there was none."""
    manifest = function / MANIFEST
    if not manifest.is_file():
        return
    for name in manifest.read_text().splitlines():
        path = function / name
        if name in ("", ".", "..") or "/" in name:
            continue  # nothing that a build makes, and nothing that is ours to remove
        if path.is_dir():
            shutil.rmtree(path)
        elif path.is_file():
            path.unlink()
    manifest.unlink()


def check_imports(staged: Path, names: Iterable[str]) -> None:
    """Raise PackageError if `processor`, or a module of these names, imports what neither the package nor Lambda has.

    It reads every import statement, those within functions too, but not what is imported for type checkers only.
    """
    for path in sorted((*(staged / name for name in names), *(staged / "processor").rglob("*.py"))):
        for name in _imports(ast.parse(path.read_text(encoding="utf-8"))):
            top = name.partition(".")[0]
            if top in RUNTIME or top in sys.stdlib_module_names:
                continue
            if top == PROCESSOR.name:
                continue  # copied because it is imported
            place = staged.joinpath(*name.split("."))
            if not (place.is_dir() or place.with_suffix(".py").is_file() or any(staged.glob(f"{top}.*.so"))):
                raise PackageError(
                    f"{path.relative_to(staged)} imports {name}, which is not in the package: add it to "
                    "apex/requirements.txt, or take it out of UNUSED in processor/package.py"
                )


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            if node.module.partition(".")[0] == PROCESSOR.name:
                yield from (f"{node.module}.{alias.name}" for alias in node.names)  # modules, or names in one
        else:
            yield from _imports(node)


def _install(requirements: Path, into: Path, target: Target) -> None:
    """Install the pinned wheels for the target, with uv, or with pip where there is no uv."""
    machine, version = PLATFORMS[target.architecture], target.version
    wanted = ["--no-deps", "--require-hashes", "--only-binary", ":all:", "--target", str(into), "-r", str(requirements)]
    if shutil.which("uv"):
        uv = ["uv"]
    elif importlib.util.find_spec("uv"):
        uv = [sys.executable, "-m", "uv"]
    else:
        uv = []
    if uv:
        command = [
            *uv, "pip", "install", "--quiet", "--python", sys.executable, "--python-version", version,
            "--python-platform", f"{machine}-manylinux_{GLIBC[0]}",
            "--link-mode", "copy",  # the files are changed below, and uv's cache must not be
        ]  # fmt: skip
    elif importlib.util.find_spec("pip"):
        tag = f"cp{version.replace('.', '')}"
        platforms = [*(f"manylinux_{glibc}_{machine}" for glibc in GLIBC), f"manylinux2014_{machine}"]
        command = [
            sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check",
            "--python-version", version, "--implementation", "cp",
            *(argument for abi in (tag, "abi3", "none") for argument in ("--abi", abi)),
            *(argument for platform in platforms for argument in ("--platform", platform)),
        ]  # fmt: skip
    else:
        raise PackageError(f"neither uv nor pip is here to fetch the dependencies: {sys.executable} -m ensurepip")
    done = _run([*command, *wanted])
    if done.returncode:
        raise PackageError(f"the dependencies cannot be installed: {' '.join(command[:4])} … said\n{done.stderr}")


def _strip(staged: Path) -> None:
    """Remove what no function needs of the dependencies, and the folders that are empty then."""
    for path in sorted(_walk(staged), reverse=True):
        name = path.relative_to(staged).as_posix()
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif path.name == ".lock" or ("/" in name and path.name != "METADATA" and any(
            fnmatch(name, pattern) or fnmatch(name, f"*/{pattern}") for pattern in UNUSED
        )):  # fmt: skip
            path.unlink()
        elif path.name == "METADATA":
            # Name and version, for importlib.metadata and for scanners of vulnerabilities; not the whole README.
            path.write_bytes(path.read_bytes().partition(b"\n\n")[0] + b"\n")


def _copy_processor(into: Path, function: Path) -> None:
    """Copy the modules of `processor` that the function imports, directly or not, and the JSON files beside them.

    What other functions import is left out, so that a function's package changes when its own code does.
    """
    found: set[Path] = set()
    waiting = sorted(function.glob("*.py"))
    while waiting:
        for name in _imports(ast.parse(waiting.pop().read_text(encoding="utf-8"))):
            parts = name.split(".")
            if parts[0] != PROCESSOR.name:
                continue
            # Importing a module imports the packages above it. The last part may be a name in one instead.
            for depth in range(1, len(parts) + 1):
                named = PROCESSOR.joinpath(*parts[1:depth])
                module = named / "__init__.py" if named.is_dir() else named.with_suffix(".py")
                if module.is_file() and module not in found:
                    found.add(module)
                    waiting.append(module)
    data = {path for module in found for path in module.parent.glob("*.json")}
    for path in sorted(found | data):
        target = into / path.relative_to(PROCESSOR)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def _compile(staged: Path, target: Target, ours: Iterable[str]) -> str | None:
    """Compile every module, for Lambda cannot keep what it compiles; return the interpreter's version.

    None where there is no interpreter of the target's version: its bytecode is nobody else's.
    """
    found = _interpreter(target.version)
    if found is None:
        return None
    path, version = found
    names = sorted(module.relative_to(staged).as_posix() for module in staged.rglob("*.py"))
    done = _run(
        [path, "-S", "-c", COMPILE, str(staged), TASK_ROOT, *ours],
        env={"PYTHONHASHSEED": "0"},  # the order of a frozen set in the bytecode depends on it
        text="\n".join(names),
    )
    if done.returncode:
        raise PackageError(f"{path} cannot compile the package:\n{done.stderr}")
    return version


def _interpreter(version: str) -> tuple[str, str] | None:
    """Find a released CPython of this version (a candidate's bytecode may differ): its path, and its whole version."""
    name = f"python{version}"
    candidates = [sys.executable]
    if shim := shutil.which(name):
        # pyenv's shim answers only where the version is selected; the interpreter itself lies beside the shims.
        candidates += [shim, *map(str, sorted(Path(shim).parent.parent.glob(f"versions/{version}*/bin/{name}")))]
    if uv := shutil.which("uv"):
        done = _run([uv, "python", "find", "--no-python-downloads", "--no-project", version])
        candidates += done.stdout.split("\n")[:1] if done.returncode == 0 else []
    about = "import sys; print(sys.implementation.name, sys.version.split()[0], sys.executable)"
    for candidate in candidates:
        done = _run([candidate, "-c", about])
        words = done.stdout.strip().split(" ", 2)
        if done.returncode == 0 and words[0] == "cpython" and re.fullmatch(rf"{re.escape(version)}\.\d+", words[1]):
            return words[2], words[1]
    return None


def _run(command: list[str], *, env: dict[str, str] | None = None, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=env, input=text, capture_output=True, text=True, check=False)  # noqa: S603 (ours)


def _walk(folder: Path) -> Iterator[Path]:
    """Yield everything below a folder, links followed, but nobody's bytecode of another place."""
    for path in sorted(folder.iterdir()):
        yield path
        if path.is_dir():
            yield from _walk(path)


def main(arguments: list[str]) -> int:
    """Run a hook in the function's folder, which is the present one; return the exit status."""
    if arguments not in (["build"], ["clean"]):
        print(f"usage: {Path(__file__).name} build|clean, in apex/functions/NAME", file=sys.stderr)  # noqa: T201
        return 2
    if sys.version_info < (3, 10):  # noqa: UP036 (whatever `python3` is on a machine that only deploys)
        print(f"this needs Python 3.10 or newer, and {sys.executable} is older", file=sys.stderr)  # noqa: T201
        return 1
    try:
        if arguments == ["build"]:
            print(build(Path.cwd()))  # noqa: T201
        else:
            clean(Path.cwd())
    except PackageError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.path.pop(0)  # this folder: its modules' names are ours alone
    sys.exit(main(sys.argv[1:]))
