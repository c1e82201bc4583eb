"""Which kind of stream an ARN means."""

from __future__ import annotations

from typing import Any

from processor.errors import SettingsError
from processor.local.dynamodb_stream import DynamoDBStream
from processor.local.kinesis_stream import KinesisStream
from processor.local.mapping_settings import MappingSettings
from processor.local.stream import Stream


def stream_of(client: Any, stream: str, function_name: str, settings: MappingSettings) -> Stream:
    """Return the stream of that ARN, or of that name in Kinesis, behind its boto3 client."""
    if not stream.startswith("arn:") or stream.split(":")[2] != "dynamodb":
        return KinesisStream(client, stream, function_name)
    if settings.starting_position == "AT_TIMESTAMP":
        raise SettingsError("a DynamoDB stream is read from TRIM_HORIZON or LATEST, not AT_TIMESTAMP")
    return DynamoDBStream(client, stream, function_name)
