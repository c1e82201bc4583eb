"""Carrying a plan out, and taking it back: configuration, code, version, alias, and the versions kept."""

from __future__ import annotations

from typing import Any

from processor.apex import ALIAS, FunctionConfig
from processor.deploy.plan import Plan, wanted
from processor.deploy.service import explained, latest_of, published, served_version, settled, wait
from processor.errors import DeployError


def deploy(client: Any, plan: Plan) -> str:
    """Carry out a plan and return the version that the alias then serves. Raises DeployError, saying how far it got."""
    config = plan.config
    if plan.unchanged:
        return str(plan.served)
    version = plan.version
    with explained(config):
        if plan.configuration:
            settled(client, config, lambda: client.update_function_configuration(**_update(config)))
            version = None
        if plan.code:
            data = plan.archive.data
            code = {"FunctionName": config.name, "ZipFile": data, "Publish": True}
            version = settled(client, config, lambda: client.update_function_code(**code))["Version"]
        elif version is None:
            same = {"FunctionName": config.name, "CodeSha256": plan.archive.sha256}
            version = settled(client, config, lambda: client.publish_version(**same))["Version"]
        if plan.configuration or plan.code or plan.version is None:
            wait(client, config, ours=True)
        _point(client, config, str(version), exists=plan.served is not None)
        _forget(client, config)
    return str(version)


def previous(client: Any, config: FunctionConfig) -> tuple[str, dict[str, Any]]:
    """Return the version that the alias serves, and the one published before it, as AWS describes it.

    Raises DeployError where no earlier version is kept.
    """
    with explained(config):
        latest_of(client, config)
        served = served_version(client, config)
        versions = published(client, config)
    if served is None:
        raise DeployError(f"{config.name} has no alias {ALIAS} to roll back: run `terraform apply`, or deploy it")
    if not served.isdecimal():
        raise DeployError(f"{config.name}: the alias {ALIAS} serves {served}, not a version: deploy it first")
    earlier = [version for version in versions if int(version["Version"]) < int(served)]
    if not earlier:
        raise DeployError(f"{config.name}: no version before {served} is kept, so there is nothing to roll back to")
    return served, earlier[-1]


def serve(client: Any, config: FunctionConfig, version: str) -> None:
    """Make the alias serve an existing version."""
    with explained(config):
        _point(client, config, version, exists=True)


def _update(config: FunctionConfig) -> dict[str, Any]:
    """Give UpdateFunctionConfiguration's arguments as apex sends them: whole, so that what is absent is removed."""
    values = wanted(config)
    vpc = {name: values.pop(name) for name in ("SubnetIds", "SecurityGroupIds")}
    dead_letters = values.pop("DeadLetterConfig")
    return {
        **values,
        "FunctionName": config.name,
        "Environment": {"Variables": config.variables},
        "VpcConfig": vpc,
        "DeadLetterConfig": {"TargetArn": dead_letters},
    }


def _point(client: Any, config: FunctionConfig, version: str, *, exists: bool) -> None:
    change = client.update_alias if exists else client.create_alias
    change(FunctionName=config.name, Name=ALIAS, FunctionVersion=version)


def _forget(client: Any, config: FunctionConfig) -> None:
    """Delete the oldest versions beyond those to keep, but none that an alias serves (apex would fail there)."""
    pages = client.get_paginator("list_aliases").paginate(FunctionName=config.name)
    aliases = [alias for page in pages for alias in page["Aliases"]]
    used = {alias["FunctionVersion"] for alias in aliases}
    for alias in aliases:
        used.update((alias.get("RoutingConfig") or {}).get("AdditionalVersionWeights", ()))
    versions = [version["Version"] for version in published(client, config)]
    for version in versions[: max(0, len(versions) - config.retained_versions)]:
        if version not in used:
            client.delete_function(FunctionName=config.name, Qualifier=version)
