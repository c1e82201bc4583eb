"""Lambda's API as a deployment uses it: what is there, when it may be changed, and its errors explained."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from processor.apex import ALIAS, FunctionConfig
from processor.errors import DeployError

TRIES = 5
WAIT = {"Delay": 1, "MaxAttempts": 300}


def latest_of(client: Any, config: FunctionConfig) -> dict[str, Any]:
    """Return the configuration of the function as it was last updated, published or not."""
    try:
        found: dict[str, Any] = client.get_function(FunctionName=config.name)["Configuration"]
    except client.exceptions.ResourceNotFoundException:
        raise DeployError(
            f"there is no function {config.name} in {client.meta.region_name}: Terraform creates it: run "
            "`terraform apply` in infra/terraform first (or check --env and the region)"
        ) from None
    return found


def served_version(client: Any, config: FunctionConfig) -> str | None:
    """Return the version that the alias serves, None where there is no alias."""
    try:
        return str(client.get_alias(FunctionName=config.name, Name=ALIAS)["FunctionVersion"])
    except client.exceptions.ResourceNotFoundException:
        return None


def published(client: Any, config: FunctionConfig) -> list[dict[str, Any]]:
    """List the published versions, oldest first."""
    pages = client.get_paginator("list_versions_by_function").paginate(FunctionName=config.name)
    found = [version for page in pages for version in page["Versions"] if version["Version"] != "$LATEST"]
    return sorted(found, key=lambda version: int(version["Version"]))


def settled(client: Any, config: FunctionConfig, call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Call when no update of the function is in progress; again if one came between."""
    from botocore.exceptions import ClientError

    for attempt in range(TRIES):
        wait(client, config)
        try:
            return call()
        except ClientError as error:
            if not _busy(error) or attempt == TRIES - 1:
                raise
    raise AssertionError("the last attempt returns or raises")


def wait(client: Any, config: FunctionConfig, *, ours: bool = False) -> None:
    """Wait until the last update is done. One that failed is done too: what comes next may mend it; not if it is ours.

    Raises DeployError, with AWS's reason, when our update failed.
    """
    from botocore.exceptions import WaiterError

    try:
        client.get_waiter("function_updated_v2").wait(FunctionName=config.name, WaiterConfig=WAIT)
    except WaiterError as error:
        answer = error.last_response.get("Configuration", {}) if isinstance(error.last_response, dict) else {}
        if answer.get("LastUpdateStatus") != "Failed":
            raise
        if ours:
            reason = answer.get("LastUpdateStatusReason") or "no reason given"
            raise DeployError(
                f"{config.name}: AWS took the update, but could not carry it out: {reason}. The alias {ALIAS} was not "
                "moved, and serves what it served"
            ) from error


def _busy(error: Any) -> bool:
    """Tell "an update is in progress for resource" from the other conflicts."""
    about = error.response.get("Error", {})
    return about.get("Code") == "ResourceConflictException" and "progress" in about.get("Message", "").lower()


@contextmanager
def explained(config: FunctionConfig) -> Iterator[None]:
    """Turn boto3's errors into ours: what happened, and what to do."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError, WaiterError

    try:
        yield
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise DeployError(f"{error}: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY") from error
    except WaiterError as error:
        raise DeployError(
            f"{config.name}: AWS did not finish the update in time; look at it and try again: {error}"
        ) from error
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if _busy(error):
            hint = (
                ": something else keeps updating it (`terraform apply`, another deployment): try again when it is done"
            )
        elif code in ("ExpiredToken", "ExpiredTokenException"):
            hint = ": renew the credentials (`aws sso login`, or whatever gave them)"
        elif code in ("UnrecognizedClientException", "InvalidSignatureException", "InvalidClientTokenId"):
            hint = ": check the AWS credentials and the region"
        elif code in ("AccessDeniedException", "AccessDenied"):
            hint = (
                ": the credentials need lambda:Get*, List*, Update*, PublishVersion, CreateAlias, DeleteFunction on it"
            )
        else:
            hint = ""
        raise DeployError(f"{config.name}: {error}{hint}") from error
    except BotoCoreError as error:
        raise DeployError(f"{config.name}: {error}") from error
