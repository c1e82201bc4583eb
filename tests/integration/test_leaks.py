"""Logs at DEBUG, metrics, errors, quarantine's reasons and representations hold no key, token or whole payload."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import pytest

from processor.batch import Batch
from processor.devices import Devices
from processor.errors import SHOWN_BYTES
from processor.local.environment import HandlerError
from processor.rules import Rules
from processor.settings import Settings
from processor.store.credentials import Credentials
from processor.store.registry import Device
from processor.vault import Vault
from tests.integration.handlers import (
    BUCKET,
    BY_KMS,
    KEYS,
    PREFIX,
    SECRET,
    TRUNCATED,
    changed,
    everything,
    function,
    furnish,
    kinesis,
)

SECRET_KEY = "wJalrXUtnFEMI+K7MDENG/bPxRfiCYzzzzzzzzzz"  # pragma: allowlist secret
TOKEN = "FwoGZXIvYXdzEJr//////////wEaDMd9zzzzzzzzzzzzzz"
LOUD = {
    "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    "AWS_SESSION_TOKEN": TOKEN,
    "LOG_LEVEL": "DEBUG",
    "POWERTOOLS_LOG_LEVEL": "DEBUG",
    "AWS_LAMBDA_LOG_LEVEL": "DEBUG",  # Lambda's own switch: the root logger, every library's lines
    "AWS_LAMBDA_LOG_FORMAT": "JSON",
}
PAYLOAD = bytes(range(200, 256)) + bytes(range(100))
"""Longer than what an error shows: a record that nothing can read, and an advertisement too long."""


def spellings(secret):
    """How bytes, or a text, may come out."""
    data = secret.encode() if isinstance(secret, str) else secret
    found = {data.hex(), data.hex().upper(), data.hex(" "), base64.b64encode(data).decode(), repr(data)[2:-1]}
    found |= {data.decode("latin-1"), base64.urlsafe_b64encode(data).decode(), str(list(data))[1:-1]}
    once = {json.dumps(each)[1:-1] for each in found}  # in a log line, which is JSON, or in one that holds another
    return found | once | {json.dumps(each)[1:-1] for each in once}


SECRETS = {name: spellings(secret) for name, secret in {**KEYS, "secret key": SECRET_KEY, "token": TOKEN}.items()}


def leaks(text):
    """The secrets that a text holds, in any spelling."""
    return sorted(name for name, found in SECRETS.items() if any(each in text for each in found))


@pytest.fixture
def said(embedded):
    """Calls ingest with an event, and returns everything that it then has said; `how` changes the world before."""

    def call(event, variables=(), how=lambda aws: None):
        lines = []
        made = furnish(embedded) | LOUD | dict(variables)
        how(embedded)
        with function("ingest", made, lines.append) as ingest:
            try:
                lines.append(json.dumps(ingest.invoke(event)))
            except HandlerError as error:
                lines += [str(error), repr(error), repr(error.trace)]
        return "\n".join(lines)

    return call


def quarantined(aws):
    s3 = aws.client("s3")
    for entry in s3.list_objects_v2(Bucket=BUCKET).get("Contents", ()):
        for line in s3.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read().splitlines():
            yield json.loads(line)


@pytest.mark.parametrize("client", ["wire", "boto3"])
def test_what_is_stored_rejected_and_ignored(said, embedded, client):
    long = [(BY_KMS, PAYLOAD * 20)]
    text = said(kinesis(everything(), PAYLOAD, long), {"DYNAMODB_CLIENT": client})
    assert '"stored":5,' in text, "every kind of key was used"
    assert '"failed":0' in text
    assert '"RecordsRejected"' in text
    assert leaks(text) == []
    assert PAYLOAD.hex() not in text
    assert TRUNCATED.hex() not in text
    kept = list(quarantined(embedded))
    assert len(kept) == 3
    reasons = json.dumps([each["rejected"] for each in kept])
    assert leaks(reasons) == []
    assert PAYLOAD[:SHOWN_BYTES].hex() in reasons
    assert PAYLOAD[: SHOWN_BYTES + 1].hex() not in reasons
    assert leaks(json.dumps(kept)) == []


def delete_keys(aws):
    kms = aws.client("kms")
    for key in kms.list_keys()["Keys"]:
        kms.disable_key(KeyId=key["KeyId"])
    aws.client("secretsmanager").delete_secret(SecretId=SECRET, ForceDeleteWithoutRecovery=True)


@pytest.mark.parametrize(
    "how",
    [
        delete_keys,
        lambda aws: aws.client("dynamodb").delete_table(TableName=f"{PREFIX}-readings"),
        lambda aws: aws.client("s3").delete_bucket(Bucket=BUCKET),
    ],
    ids=["no keys", "no table", "no bucket"],
)
def test_what_fails(said, how):
    text = said(kinesis(everything(), PAYLOAD), how=how)
    assert '"itemIdentifier"' in text
    assert '"error"' in text
    assert leaks(text) == []
    assert PAYLOAD.hex() not in text


@pytest.mark.parametrize(
    ("event", "variables"),
    [
        ({"Records": [{"kinesis": {"data": base64.b64encode(PAYLOAD).decode()}}]}, {}),
        (kinesis(everything()), {"BINDKEYS": f"{BY_KMS}={KEYS[BY_KMS].hex()[:-2]}"}),
        (kinesis(everything()), {"BINDKEYS": f"{BY_KMS}:{KEYS[BY_KMS].hex()}"}),
        (kinesis(everything()), {"WRITER_THREADS": "none"}),
    ],
    ids=["an event of another kind", "a key cut off", "a key after a colon", "another setting"],
)
def test_what_is_an_exception(said, event, variables):
    text = said(event, variables)
    assert "Error" in text
    assert leaks(text.replace(KEYS[BY_KMS].hex()[:-2], KEYS[BY_KMS].hex())) == []
    assert base64.b64encode(PAYLOAD).decode() not in text


@pytest.mark.parametrize("client", ["wire", "boto3"])
def test_rollup(embedded, client):
    """It has no key of a sensor's, but the session's."""
    variables, lines = furnish(embedded) | LOUD | {"DYNAMODB_CLIENT": client}, []
    with function("rollup", variables, lines.append) as rollup:
        assert rollup.invoke(changed(("INSERT", BY_KMS, 1_700_000_100))) == {"batchItemFailures": []}
        embedded.client("dynamodb").delete_table(TableName=f"{PREFIX}-readings")
        assert rollup.invoke(changed(("INSERT", BY_KMS, 1_700_000_100)))["batchItemFailures"]
    text = "\n".join(lines)
    assert '"error"' in text
    assert leaks(text) == []


def test_payloads_are_shown_where_a_setting_says_so(said):
    """IGNORED_SAMPLES alone."""
    unknown = everything()[-1]
    assert unknown[1].hex() not in said(kinesis([unknown]))
    assert unknown[1].hex() in said(kinesis([unknown]), {"IGNORED_SAMPLES": "1"})


def test_representations(embedded):
    settings = Settings.read(furnish(embedded) | LOUD)
    vault = Vault(lambda: embedded.client("kms"), lambda: embedded.client("secretsmanager"))
    device = Device(BY_KMS, key=KEYS[BY_KMS], secret=TOKEN)
    devices = Devices(None, vault, fixed=settings.bindkeys)
    plain, rules = Rules.of(settings), Rules.of(settings, devices, keys=devices)
    credentials = Credentials(settings.access_key, settings.secret_key, settings.session_token)
    batches = [Batch(kinesis(everything())["Records"], each) for each in (plain, rules)]
    for batch in batches[:1]:
        batch.decode()
    shown = (settings, settings.bindkeys, vault, device, replace(device, name="x"), devices, credentials, plain, rules)
    for each in (*shown, *batches):
        for text in (repr(each), str(each), f"{each!a} {each}", repr([each])):
            assert leaks(text) == [], type(each)


def test_a_leak_would_be_found():
    for name, secret in {**KEYS, "token": TOKEN}.items():
        assert leaks(f"x {secret!r} y") == [name]
    assert leaks(json.dumps({"headers": {"X-Amz-Security-Token": TOKEN}})) == ["token"]
    assert leaks(f'b\'{{"Plaintext": "{base64.b64encode(KEYS[BY_KMS]).decode()}"}}\'') == [BY_KMS]
