"""`processor cache create-table`: the table that a cache needs."""

from __future__ import annotations

import click

from processor.errors import CacheError, StoreError
from processor.settings import Settings
from processor.store import tables
from processor.store.failures import failure


@click.group()
def cache() -> None:
    """Set up the cache's table."""


@cache.command("create-table")
@click.option("--table", help="The table's name. Default: TABLE_PREFIX and cache, processor-cache.")
def create_table(table: str | None) -> None:
    """Create the cache's table, on demand capacity, with expiry; leave it as it is if it is there.

    It needs dynamodb:CreateTable, DescribeTable, DescribeTimeToLive and UpdateTimeToLive.
    """
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    settings = Settings.read()
    name = table or f"{settings.table_prefix}cache"
    try:
        dynamodb = boto3.client("dynamodb", region_name=settings.region, endpoint_url=settings.endpoint)
        created = tables.create_table(dynamodb, name, "cache")
        schema = dynamodb.describe_table(TableName=name)["Table"]["KeySchema"]
    except ClientError as error:
        raise CacheError(f"{name}: {_reason(error.response.get('Error', {}), settings)}") from error
    except BotoCoreError as error:
        raise CacheError(f"{name}: {error}: check AWS_ENDPOINT_URL, the region and the credentials") from error
    if schema != [{"AttributeName": "key", "KeyType": "HASH"}]:
        raise CacheError(f"{name} is another kind of table: a cache's has the partition key 'key' and no sort key")
    click.echo(f"{name}: created, items expire by their attribute expires" if created else f"{name}: is there already")


def _reason(said: dict[str, str], settings: Settings) -> StoreError:
    """Return AWS's refusal with what can be done about it."""
    where = settings.endpoint or settings.region
    return failure(said.get("Code", ""), said.get("Message", ""), operation="create-table", host=where)
