"""Settings: read once, with defaults; a bad value names its variable and what it takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from processor import settings
from processor.errors import SettingsError
from processor.settings import Settings, own


def test_an_empty_environment_gives_the_defaults():
    assert Settings.read({}) == Settings()


def test_every_variable_is_read():
    found = Settings.read(
        {
            "AWS_DEFAULT_REGION": "eu-west-1",
            "AWS_REGION": "ap-northeast-1",
            "AWS_ENDPOINT_URL": "http://a",
            "AWS_ENDPOINT_URL_DYNAMODB": "http://b",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_SESSION_TOKEN": "token",
            "TABLE_PREFIX": "test-",
            "QUARANTINE_BUCKET": "bucket",
            "RETENTION_DAYS": "7",
            "EXPIRES_FROM": "arrival",
            "FUTURE_SECONDS": "0",
            "BINDKEYS": "5448e68f80a5=231d39c1d7cc1ab1aee224cd096db932, "
            "A4:C1:38:02:83:F4=e9ea895fac7cca6d30532432a516f3a8",
            "GATEWAY_FAMILIES": "imsi:29505*=cassia, operator:OP123=moko",
            "GATEWAY_READINGS": "mine.json",
            "IGNORED_SAMPLES": "3",
            "DYNAMODB_CLIENT": "boto3",
            "WRITER_THREADS": "4",
            "COUNT_UNITS": "items",
            "DEVICES": "registered",
            "KEYS_KMS_KEY": "alias/processor",
            "LOG_LEVEL": "DEBUG",
            "AWS_LAMBDA_FUNCTION_NAME": "processor-prod-ingest",
        }
    )
    assert found == Settings(
        region="ap-northeast-1",
        endpoint="http://b",
        access_key="key",
        secret_key="secret",
        session_token="token",
        table_prefix="test-",
        quarantine_bucket="bucket",
        retention_days=7,
        expires_from="arrival",
        future_seconds=0,
        bindkeys={
            "54:48:E6:8F:80:A5": bytes.fromhex("231d39c1d7cc1ab1aee224cd096db932"),
            "A4:C1:38:02:83:F4": bytes.fromhex("e9ea895fac7cca6d30532432a516f3a8"),
        },
        gateway_families={"imsi:29505*": "cassia", "operator:OP123": "moko"},
        gateway_readings="mine.json",
        ignored_samples=3,
        dynamodb_client="boto3",
        writer_threads=4,
        count_units="items",
        devices="registered",
        keys_kms_key="alias/processor",
        log_level="DEBUG",
        function="processor-prod-ingest",
    )
    assert found.readings_table == "test-readings"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RETENTION_DAYS", "0"),
        ("RETENTION_DAYS", "a year"),
        ("FUTURE_SECONDS", "-1"),
        ("WRITER_THREADS", "0"),
        ("EXPIRES_FROM", "birth"),
        ("DYNAMODB_CLIENT", "curl"),
        ("COUNT_UNITS", "nobody"),
        ("DEVICES", "mine"),
        ("GATEWAY_FAMILIES", "imsi:29505*"),
        ("GATEWAY_FAMILIES", "29505=moko"),
        ("GATEWAY_FAMILIES", "imsi:29*505=moko"),
        ("BINDKEYS", "CBB8334C884F=00"),
        ("BINDKEYS", "somebody=231d39c1d7cc1ab1aee224cd096db932"),
    ],
)
def test_a_value_that_makes_no_sense_is_named(name, value):
    with pytest.raises(SettingsError, match=name):
        Settings.read({name: value})


def test_a_local_run_finds_a_file_named_from_where_the_command_was_typed(tmp_path, monkeypatch):
    """Its functions work in their own folders, as on Lambda."""
    monkeypatch.chdir(tmp_path)
    assert own({"GATEWAY_READINGS": "mine.json"}) == {"GATEWAY_READINGS": str(tmp_path / "mine.json")}
    assert own({"GATEWAY_READINGS": "", "RETENTION_DAYS": "7"}) == {"GATEWAY_READINGS": "", "RETENTION_DAYS": "7"}


def test_secrets_are_not_shown():
    secret = "231d39c1d7cc1ab1aee224cd096db932"
    found = Settings.read(
        {"AWS_SECRET_ACCESS_KEY": "s3cr3t", "AWS_SESSION_TOKEN": "t0k3n", "BINDKEYS": f"CBB8334C884F={secret}"}
    )
    assert not re.search(f"s3cr3t|t0k3n|{secret}|{bytes.fromhex(secret)!r}", repr(found))
    with pytest.raises(SettingsError) as error:
        Settings.read({"BINDKEYS": f"CBB8334C884={secret}"})
    assert secret not in str(error.value)


def test_the_list_of_variables_is_complete():
    source = Path(settings.__file__).read_text()
    listed = set(re.findall(r"^ *([A-Z][A-Z_]+)", settings.__doc__, re.MULTILINE))
    read = set(re.findall(r'"([A-Z][A-Z_]{4,})"', source))
    told = {name for name in read if name in settings.__doc__}
    assert len(listed) >= 14
    assert listed <= read
    assert read - told == {"AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}  # "AWS_ACCESS_KEY_ID, …"
