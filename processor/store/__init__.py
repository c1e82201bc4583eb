"""DynamoDB: table specifications, and readings written and read back."""

from __future__ import annotations

from processor.errors import SettingsError
from processor.settings import Settings
from processor.store.wire import Client, Credentials, connect


def _configured_region() -> str:
    """Return the region of the user's profile, as every AWS SDK does where the environment names none."""
    import boto3  # on Lambda the environment names one, so that this is not imported there

    found: str | None = boto3.Session().region_name
    if found is None:
        raise SettingsError("no region: set AWS_REGION, or a region in the AWS profile")
    return found


def region_of(settings: Settings) -> str:
    """Return the region that DynamoDB is called in. Raises SettingsError where nobody says it."""
    return settings.region or _configured_region()


def client(settings: Settings) -> Client:
    """Return the DynamoDB client that the settings ask for, with a connection for each thread that writes."""
    keys = Credentials(settings.access_key, settings.secret_key, settings.session_token or None)
    return connect(
        region=region_of(settings),
        endpoint=settings.endpoint,
        implementation=settings.dynamodb_client,
        credentials=keys if settings.access_key else None,
        connections=settings.writer_threads,
    )
