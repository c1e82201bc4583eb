"""What a deployment would change: a function's files against what AWS has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from processor.apex import ALIAS, FunctionConfig
from processor.deploy.archive import Archive
from processor.deploy.service import explained, latest_of, published, served_version
from processor.errors import DeployError


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between what is deployed and what is to be: `what`, before and after, as shown."""

    what: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.what}: {self.before} → {self.after}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a deployment would change. `version` is an existing version to serve, None where one is to be published."""

    config: FunctionConfig
    archive: Archive
    configuration: tuple[Change, ...]
    code: tuple[Change, ...]
    served: str | None
    version: str | None

    @property
    def unchanged(self) -> bool:
        """True when the alias serves this code under this configuration already."""
        return not self.configuration and not self.code and self.served is not None and self.served == self.version

    @property
    def lines(self) -> list[str]:
        """The plan for a reader: a line for each change."""
        if self.unchanged:
            return [f"unchanged: {ALIAS} serves version {self.served}, with this code and configuration"]
        moved = Change(f"alias {ALIAS}", _version(self.served), _version(self.version, "a new version"))
        return [str(change) for change in (*self.configuration, *self.code, moved)]


def compare(client: Any, config: FunctionConfig, zipped: Archive) -> Plan:
    """Compare a function with what AWS has. client: boto3's for Lambda. Raises DeployError where there is none yet."""
    with explained(config):
        latest = latest_of(client, config)
        served = served_version(client, config)
        versions = published(client, config)
    built = latest.get("Architectures", ["x86_64"])[0]
    if built != config.architecture:
        raise DeployError(
            f'{config.name} runs on {built}, but apex\'s files say "architecture": "{config.architecture}", which its '
            "package is built for: run `terraform apply`, or correct project.json"
        )
    code = []
    if latest["CodeSha256"] != zipped.sha256:
        before, after = latest["CodeSha256"][:12], zipped.sha256[:12]
        code.append(
            Change("code", f"{before}… ({latest['CodeSize']:,} bytes)", f"{after}… ({len(zipped.data):,} bytes)")
        )
    configuration = tuple(differences(config, latest))
    fitting = [
        version["Version"]
        for version in versions
        if version["CodeSha256"] == zipped.sha256 and not any(differences(config, version))
    ]
    version = served if served in fitting else next(reversed(fitting), None)
    return Plan(config, zipped, configuration, tuple(code), served, version)


def differences(config: FunctionConfig, deployed: Mapping[str, Any]) -> Iterator[Change]:
    """Yield how a function's configuration (as GetFunction has it) differs from apex's files, in what apex compares."""
    found = _found(deployed)
    for name, after in wanted(config).items():
        before = found[name]
        if name == "Environment":
            for variable in sorted({*before, *after}):
                if before.get(variable) != after.get(variable):
                    # Values may be secrets: a plan says that one changes, not what it is.
                    new = "another value" if variable in before else "set"
                    yield Change(
                        f"environment {variable}",
                        "set" if variable in before else "unset",
                        new if variable in after else "unset",
                    )
        elif before != after:
            yield Change(name, _shown(before), _shown(after))


def wanted(config: FunctionConfig) -> dict[str, Any]:
    """Give what apex's files say, under the names that Lambda's API has for it."""
    return {
        "Description": config.description,
        "MemorySize": config.memory_mb,
        "Timeout": config.timeout_s,
        "Role": config.role,
        "Runtime": config.runtime,
        "Handler": config.handler,
        "KMSKeyArn": config.kms_arn,
        "DeadLetterConfig": config.dead_letter_arn,
        "SubnetIds": sorted(config.subnets),
        "SecurityGroupIds": sorted(config.security_groups),
        "Environment": config.variables,
    }


def _found(deployed: Mapping[str, Any]) -> dict[str, Any]:
    vpc = deployed.get("VpcConfig") or {}
    return {
        **{
            name: deployed.get(name, "")
            for name in ("Description", "MemorySize", "Timeout", "Role", "Runtime", "Handler")
        },
        "KMSKeyArn": deployed.get("KMSKeyArn") or "",
        "DeadLetterConfig": (deployed.get("DeadLetterConfig") or {}).get("TargetArn", ""),
        "SubnetIds": sorted(vpc.get("SubnetIds") or ()),
        "SecurityGroupIds": sorted(vpc.get("SecurityGroupIds") or ()),
        "Environment": (deployed.get("Environment") or {}).get("Variables") or {},
    }


def _shown(value: Any) -> str:
    return (", ".join(value) if isinstance(value, list) else str(value)) or "none"


def _version(version: str | None, none: str = "none") -> str:
    return none if version is None else f"version {version}"
