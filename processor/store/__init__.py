"""DynamoDB: table specifications, and readings written and read back."""

from __future__ import annotations

from processor.settings import Settings
from processor.store.wire import Client, Credentials, connect


def client(settings: Settings) -> Client:
    """Return the DynamoDB client that the settings ask for, with a connection for each thread that writes."""
    keys = Credentials(settings.access_key, settings.secret_key, settings.session_token or None)
    return connect(
        region=settings.region,
        endpoint=settings.endpoint,
        implementation=settings.dynamodb_client,
        credentials=keys if settings.access_key else None,
        connections=settings.writer_threads,
    )
