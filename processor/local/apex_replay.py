"""apex's own deployment, replayed: the calls that its binary makes to Lambda, in its order, for contract tests.

apex itself is a Go program of 2018 and cannot be had everywhere. What it would do to a function that Terraform
created is told by its source (apex 1.0.0-rc4, function/function.go), and this does the same with boto3. It waits for
nothing, as apex does not: two updates in a row are what AWS answers with ResourceConflictException.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from processor.apex import ALIAS, FunctionConfig


def replay(client: Any, config: FunctionConfig, data: bytes) -> list[str]:
    """Deploy a zip as `apex deploy` does, and return the operations called, in order. client: boto3's for Lambda."""
    calls: list[str] = []

    def call(operation: str, **arguments: Any) -> dict[str, Any]:
        calls.append(client.meta.method_to_api_mapping[operation])
        answer: dict[str, Any] = getattr(client, operation)(FunctionName=config.name, **arguments)
        return answer

    def point(version: str) -> None:
        """Create the alias; move it where there is one (only ResourceConflictException says so)."""
        target = {"Name": ALIAS, "FunctionVersion": version}
        try:
            call("create_alias", **target)
        except client.exceptions.ResourceConflictException:
            call("update_alias", **target)

    def versions() -> list[str]:
        """List the versions, oldest first, but $LATEST, which comes first."""
        found: list[str] = []
        marker: dict[str, Any] = {}
        while True:
            page = call("list_versions_by_function", **marker)
            found += [version["Version"] for version in page["Versions"]]
            if not page.get("NextMarker"):
                return found[1:]
            marker = {"Marker": page["NextMarker"]}

    try:
        deployed = call("get_function")["Configuration"]
    except client.exceptions.ResourceNotFoundException:
        code = {"Code": {"ZipFile": data}, "Publish": True}
        point(call("create_function", **_configuration(config), **code)["Version"])
        return calls
    changed = _compared(_configuration(config)) != _compared(deployed)
    if changed:
        call("update_function_configuration", **_configuration(config))
    elif deployed["CodeSha256"] == base64.b64encode(hashlib.sha256(data).digest()).decode():
        point(versions()[-1])
        return calls
    point(call("update_function_code", ZipFile=data, Publish=True)["Version"])
    kept = config.retained_versions
    published = versions()
    for version in published[: len(published) - kept if kept else None] if len(published) > kept else []:
        call("delete_function", Qualifier=version)
    return calls


def _configuration(config: FunctionConfig) -> dict[str, Any]:
    dead_letters = {"DeadLetterConfig": {"TargetArn": config.dead_letter_arn}} if config.dead_letter_arn else {}
    return {
        "Description": config.description,
        "MemorySize": config.memory_mb,
        "Timeout": config.timeout_s,
        "Role": config.role,
        "Runtime": config.runtime,
        "Handler": config.handler,
        "KMSKeyArn": config.kms_arn,
        "Environment": {"Variables": config.variables},
        "VpcConfig": {"SubnetIds": list(config.subnets), "SecurityGroupIds": list(config.security_groups)},
        **dead_letters,
    }


def _compared(configuration: dict[str, Any]) -> tuple[Any, ...]:
    """Give what apex's `configChanged` compares, absent and empty being the same to it."""
    vpc = configuration.get("VpcConfig") or {}
    return (
        *(configuration[name] for name in ("Description", "MemorySize", "Timeout", "Role", "Runtime", "Handler")),
        sorted(vpc.get("SubnetIds") or ()),
        sorted(vpc.get("SecurityGroupIds") or ()),
        (configuration.get("Environment") or {}).get("Variables") or {},
        configuration.get("KMSKeyArn") or "",
        (configuration.get("DeadLetterConfig") or {}).get("TargetArn"),
    )
