"""Terraform on a copy of the module, pointed at a local AWS by an override file."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import boto3
import pytest
from botocore.config import Config

from processor.local.aws import EmbeddedAws

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
COPIED = ("infra/terraform", "apex", "processor")
SERVICES = (
    *("applicationautoscaling", "cloudwatch", "dynamodb", "firehose", "iam", "kinesis", "kms", "lambda", "logs"),
    *("s3", "sns", "sts"),
)
OVERRIDE = """
provider "aws" {{
  region                      = "{region}"
  access_key                  = "local"
  secret_key                  = "local"
  s3_use_path_style           = true
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_region_validation      = true
  skip_requesting_account_id  = true
  max_retries                 = 2

  endpoints {{
{endpoints}
  }}
}}
"""


def pytest_ignore_collect(collection_path, config):
    """Collect these tests only where they are asked for, and where terraform is.

    Terraform and its provider are system packages, which plain `uv run pytest` must not need, and applying takes
    minutes. `.ci/terraform` asks for them (and finds the provider); so does `uv run pytest tests/terraform`.
    """
    paths = [Path(config.invocation_params.dir, argument.partition("::")[0]).resolve() for argument in config.args]
    asked = any(path.is_relative_to(HERE) for path in paths)
    return None if asked and shutil.which("terraform") else True


class Terraform:
    """The root module in a folder of its own, with everything it reads, and its state."""

    def __init__(self, folder, aws):
        ignored = shutil.ignore_patterns(
            ".terraform*",
            "*.tfstate*",
            "*.tfvars.json",
            "__pycache__",
            "*.egg-info",
            "function.*.json",
            "project.*.json",
        )
        for name in COPIED:
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        self.root = folder
        self.module = folder / "infra" / "terraform"
        endpoints = "\n".join(f'    {service} = "{aws.endpoint}"' for service in SERVICES)
        (self.module / "local_override.tf").write_text(OVERRIDE.format(region=aws.region, endpoints=endpoints))
        # Neither the user's account nor the user's Terraform settings, and no proxy on the way to this machine.
        own = ("AWS_", "TF_VAR_", "TF_CLI_ARGS", "TF_DATA_DIR", "TF_WORKSPACE")
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(own)}
        self.environment |= {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": os.devnull}
        self.environment |= {"AWS_SHARED_CREDENTIALS_FILE": os.devnull, "TF_IN_AUTOMATION": "1"}
        self.environment |= {"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}

    def __call__(self, *arguments, check=True):
        """Run terraform; return its exit status and everything it said."""
        done = subprocess.run(
            ["terraform", f"-chdir={self.module}", *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=400,
        )
        if check and done.returncode not in (0, 2 if "-detailed-exitcode" in arguments else 0):
            pytest.fail(f"terraform {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout[-6000:]}")
        return done.returncode, done.stdout

    def variables(self, **values):
        """Set variables, as a user does in a file of variables."""
        (self.module / "test.auto.tfvars.json").write_text(json.dumps(values))

    @staticmethod
    def failures(said):
        """What an apply could not create, by address, and why, from what it said (without colours)."""
        errors = re.split(r"^Error: ", said, flags=re.MULTILINE)[1:]
        return {(re.search(r"^  with (.+),$", error, re.MULTILINE) or [None, error])[1]: error for error in errors}

    def apply(self, *arguments):
        """Apply; return what could not be created, by address, and what the server answered."""
        return self.failures(self("apply", "-no-color", "-auto-approve", "-input=false", *arguments, check=False)[1])

    def outputs(self):
        """Return the outputs' values by name."""
        return {name: each["value"] for name, each in json.loads(self("output", "-json")[1]).items()}

    def state(self):
        """Return the addresses of everything that Terraform has created."""
        return [line for line in self("state", "list")[1].splitlines() if not re.match(r"(.+\.)?data\.", line)]

    def plan(self, *arguments):
        """Return what a plan would change: by address, the actions and the attributes that differ."""
        self("plan", "-no-color", "-input=false", "-out=next.tfplan", "-detailed-exitcode", *arguments)
        changes = {}
        for each in self._planned().get("resource_changes", ()):
            actions = each["change"]["actions"]
            if actions not in (["no-op"], ["read"]):
                before, after = each["change"]["before"] or {}, each["change"]["after"] or {}
                differing = {name for name in before | after if before.get(name) != after.get(name)}
                changes[each["address"]] = (tuple(actions), frozenset(differing))
        return changes

    def planned(self):
        """Return what the last plan comes to: resources' attributes by address, and the outputs' values."""
        plan = self._planned()
        return {
            "resources": {each["address"]: each["change"]["after"] for each in plan["resource_changes"]},
            "outputs": {name: each.get("value") for name, each in plan["planned_values"]["outputs"].items()},
        }

    def _planned(self):
        return json.loads(self("show", "-json", "next.tfplan")[1])


class Moto:
    """moto's server, with what the tests use of EmbeddedAws."""

    region = "us-east-1"

    def __init__(self, log):
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        self._server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        self._clients = {}
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                return
            assert self._server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def client(self, service):
        if service not in self._clients:
            self._clients[service] = boto3.client(
                service,
                self.region,
                endpoint_url=self.endpoint,
                aws_access_key_id="local",
                aws_secret_access_key="local",
                config=Config(proxies={}),
            )
        return self._clients[service]

    def stop(self):
        for client in self._clients.values():
            client.close()
        self._server.terminate()
        self._server.wait(30)


@pytest.fixture(scope="session")
def new_terraform(tmp_path_factory):
    """Makes copies of the module that create in a server."""
    return lambda name, aws: Terraform(tmp_path_factory.mktemp(name), aws)


@pytest.fixture(scope="session")
def servers(tmp_path_factory):
    """The local servers by name."""
    with EmbeddedAws() as ministack, (tmp_path_factory.mktemp("moto") / "log").open("wb") as log:
        moto = Moto(log)
        try:
            yield {"ministack": ministack, "moto": moto}
        finally:
            moto.stop()
