"""An object of the archive that S3 does not give ends a replay as any interruption does, and the next one goes on."""

from __future__ import annotations

from importlib import import_module

import orjson
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from click.testing import CliRunner

from processor.cli import main
from processor.decode.advertisement import manufacturer_data
from processor.decode.formats import ruuvi
from processor.local.memory_dynamodb import MemoryDynamoDB

NOW = 1_700_000_000_000
DEVICES = [f"CB:B8:33:4C:88:{n:02X}" for n in range(3)]
KEYS = [f"archive/2023/11/14/22/{n}" for n in range(3)]


def envelope(device):
    data = manufacturer_data(0x0499, ruuvi.RAWV2.encode({"temperature": 20, "sequence": 1}, address=device))
    return orjson.dumps({"payloads": [{"address": device, "data": data.hex()}], "timestamp": NOW})


@pytest.fixture
def tables():
    return MemoryDynamoDB()


@pytest.fixture
def replayed(bucket, tables, tmp_path, monkeypatch):
    """Replays an archive of three objects, with a file for --resume or without."""
    monkeypatch.setattr(import_module("processor.cli.replay"), "s3", lambda _settings: bucket)
    monkeypatch.setattr("processor.cli.jobs.client", lambda _settings: tables)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("RETENTION_DAYS", "36500")  # the readings are of 2023
    bucket.objects = {key: envelope(device) for key, device in zip(KEYS, DEVICES, strict=True)}

    def go(*, resume=True):
        more = ("--resume", str(tmp_path / "state")) if resume else ()
        return CliRunner().invoke(main, ["replay", "s3://bucket", *more], catch_exceptions=False)

    return go


def stored(tables):
    return sorted(device for device, _ in tables.tables["readings"])


def failing(error):
    """Fails, instead of S3, where the second object is read."""

    def before(operation, key):
        if (operation, key) == ("GetObject", KEYS[1]):
            raise error

    return before


@pytest.mark.parametrize("resume", [True, False], ids=["noted", "not noted"])
@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ClientError({"Error": {"Code": "AccessDenied", "Message": "Not you"}}, "GetObject"), "AccessDenied"),
        (EndpointConnectionError(endpoint_url="https://s3"), "ConnectionError"),
    ],
    ids=["denied", "no connection"],
)
def test_an_object_that_s3_does_not_give_is_named_and_the_next_run_goes_on_with_it(
    replayed, bucket, tables, error, says, resume
):
    bucket.before = failing(error)
    done = replayed(resume=resume)
    assert done.exit_code == 1
    assert f"Error: {says}: s3://bucket/{KEYS[1]}: {error}. Nothing of this object was taken" in done.stderr
    assert "Replayed   1 of 1 records\n" in done.stdout
    assert ("The same command goes on from here: " in done.stderr) == resume
    assert stored(tables) == DEVICES[:1]
    bucket.before = lambda operation, key: None
    done = replayed(resume=resume)
    assert done.exit_code == 0
    assert ("2 of 2 records; 1 were done before" in done.stdout) == resume
    assert stored(tables) == DEVICES


def test_an_object_that_is_gone_since_it_was_listed_is_named_and_the_next_run_lists_anew(replayed, bucket, tables):
    def before(operation, key):
        if (operation, key) == ("GetObject", KEYS[1]):
            bucket.objects.pop(key, None)

    bucket.before = before
    done = replayed()
    assert done.exit_code == 1
    assert (
        f"Error: NoSuchKey: s3://bucket/{KEYS[1]} is gone since it was listed: the archive's lifecycle" in done.stderr
    )
    assert "Run the command again: it lists anew what is there. The same command goes on from here: " in done.stderr
    assert "Replayed   1 of 1 records\n" in done.stdout
    done = replayed()
    assert (done.exit_code, "1 of 1 records; 1 were done before" in done.stdout) == (0, True)
    assert stored(tables) == [DEVICES[0], DEVICES[2]]
