"""A cold start's imports: the package that the build hook makes, against one made without a thought.

The naive package has sources only, as pip leaves them, boto3 among them, and its handler imports everything at the
top: boto3 with the two clients, Powertools, orjson, cryptography. Each turn is a process of its own, of Lambda's Python
where it is at hand, which may write no bytecode, as on Lambda, where the folder is read-only; what is counted is the
CPU time of importing the handler, without that of starting Python.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import zipfile
from io import BytesIO
from pathlib import Path
from statistics import median
from sysconfig import get_path

from processor import package
from processor.apex import read_function
from processor.deploy import package as built
from tests.benchmarks.measure import show, verdict

ROOT = Path(__file__).parents[2]
FUNCTION = ROOT / "apex/functions/ingest"
RUNTIME = ("boto3", "botocore", "s3transfer", "dateutil", "urllib3", "six.py", "jmespath")
LARGEST = 6_000_000
TARGET = 1 / 3

NAIVE = """
import boto3
from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from cryptography.hazmat.primitives.ciphers.aead import AESCCM
import orjson
import processor.ingest, processor.quarantine, processor.settings, processor.telemetry
dynamodb = boto3.client("dynamodb")
s3 = boto3.client("s3")
"""
IMPORT = """
import sys, time
sys.path[:0] = sys.argv[1:]
started = time.process_time()
import main
print(time.process_time() - started)
"""
VARIABLES = {
    "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
}  # fmt: skip


def run(rounds: int, _count: int, *, least: float) -> None:
    """Print the packages' sizes, and the CPU time of importing each."""
    config = read_function(FUNCTION)
    target = package.Target.of(FUNCTION)
    found = package._interpreter(target.version)
    if found is None:
        print(f"no Python {target.version} is at hand: its wheels cannot be imported, so there is nothing to measure")
        return
    python, version = found
    with tempfile.TemporaryDirectory() as folder:
        zipped = built(config).data
        ours = Path(folder) / "ours"
        with zipfile.ZipFile(BytesIO(zipped)) as archive:
            archive.extractall(ours)
        naive = _naive(Path(folder) / "naive", target)
        contenders = {"ours": [ours], "naive": [naive]}
        seconds: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(rounds + 1):  # the first one warms the file cache
            for name, path in contenders.items():
                seconds[name].append(_import(python, path))
        sizes = {"ours": len(zipped), "naive": _zipped(naive)}
    ratio = median(mine / other for mine, other in list(zip(seconds["ours"], seconds["naive"], strict=True))[1:])
    show(
        f"Importing the handler of `ingest` with Python {version}",
        ("package", "zipped", "CPU", "ratio", "target"),
        [
            ("naive", f"{sizes['naive'] / 1e6:.2f} MB", f"{median(seconds['naive'][1:]) * 1e3:.0f} ms", "1.00", ""),
            (
                "ours", f"{sizes['ours'] / 1e6:.2f} MB", f"{median(seconds['ours'][1:]) * 1e3:.0f} ms", f"{ratio:.2f}",
                f"CPU {verdict(ratio, most=TARGET)}, size {verdict(sizes['ours'] / 1e6, most=LARGEST / 1e6)}",
            ),
        ],
    )  # fmt: skip


def _naive(folder: Path, target: package.Target) -> Path:
    folder.mkdir()
    package._install(ROOT / "apex/requirements.txt", folder, target)
    for name in RUNTIME:
        source = Path(get_path("purelib")) / name
        if source.is_dir():
            shutil.copytree(source, folder / name, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, folder / name)
    shutil.copytree(ROOT / "processor", folder / "processor", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "main.py").write_text(NAIVE)
    return folder


def _import(python: str, path: list[Path]) -> float:
    command = [python, "-I", "-S", "-B", "-c", IMPORT, *map(str, path)]
    return float(subprocess.run(command, env=VARIABLES, stdout=subprocess.PIPE, text=True, check=True).stdout)


def _zipped(folder: Path) -> int:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in folder.rglob("*"):
            archive.write(path, path.relative_to(folder))
    return buffer.tell()
