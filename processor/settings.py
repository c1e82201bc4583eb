"""Settings: the only reader of the environment. Read once, at the top, and passed down.

name                    default                what it sets
AWS_REGION              the SDK's own chain    as every AWS SDK has it (AWS_DEFAULT_REGION too)
AWS_ENDPOINT_URL        AWS's own              as every AWS SDK has it (AWS_ENDPOINT_URL_DYNAMODB too)
AWS_ACCESS_KEY_ID, …    the SDK's own chain    as every AWS SDK has it
AWS_LAMBDA_FUNCTION_NAME  processor            as Lambda sets it: the metrics' dimension `service`
TABLE_PREFIX            processor-             tables are called prefix + noun: processor-readings
QUARANTINE_BUCKET       processor-quarantine   S3 bucket of rejected records
RETENTION_DAYS          400                    how long a reading is kept; older ones are rejected on arrival
EXPIRES_FROM            reading                what RETENTION_DAYS counts from: reading, or arrival (old captures)
FUTURE_SECONDS          3600                   readings further ahead of their arrival are rejected
BINDKEYS                none                   keys of encrypted sensors: ADDRESS=32 hex digits, comma-separated
GATEWAY_FAMILIES        told by shape          family by SIM or account: imsi:29505*=cassia,operator:OP123=moko
GATEWAY_READINGS        none                   a JSON file: what readings that come decoded mean, before our own table
DEVICES                 any                    whose readings are stored: any, or registered (processor devices import)
KEYS_KMS_KEY            none                   the KMS key under which the registry keeps bindkeys: id, ARN or alias
IGNORED_SAMPLES         0                      so many ignored advertisements are shown in each batch's log line
DYNAMODB_CLIENT         wire                   wire (own, fast), or boto3
WRITER_THREADS          16                     parallel writes
COUNT_UNITS             service                who counts units: service (DynamoDB), or items (their sizes)
LOG_LEVEL               INFO                   as Powertools has it (POWERTOOLS_LOG_LEVEL too)
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self, TypeVar

from processor.errors import DecodeError, SettingsError
from processor.reading import address

T = TypeVar("T", bound=str)

_PATTERN = re.compile(r"imsi:([0-9]{1,15}|[0-9]{0,14}\*)|operator:[A-Za-z0-9]{1,64}")

OWN = (
    "RETENTION_DAYS",
    "FUTURE_SECONDS",
    "BINDKEYS",
    "GATEWAY_FAMILIES",
    "GATEWAY_READINGS",
    "IGNORED_SAMPLES",
    "DYNAMODB_CLIENT",
    "WRITER_THREADS",
    "LOG_LEVEL",
)
"""What a user may set for a local run too; the rest of it says where things are, which the run decides."""


def own(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return those of the OWN variables that are set, a file's name from the root: functions work in other folders."""
    found = {name: environment[name] for name in OWN if name in environment}
    if found.get("GATEWAY_READINGS"):
        found["GATEWAY_READINGS"] = str(Path(found["GATEWAY_READINGS"]).absolute())
    return found


class Bindkeys(dict[str, bytes]):
    """Keys by address, which no representation shows: wherever they are passed on to, it may end in a log."""

    def __repr__(self) -> str:
        """Say how many there are."""
        return f"<{len(self)} bindkeys>"


@dataclass(frozen=True)
class Settings:
    """What the processor's functions and commands can be told, each with its default."""

    region: str = ""
    endpoint: str | None = None
    access_key: str = ""
    secret_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    table_prefix: str = "processor-"
    quarantine_bucket: str = "processor-quarantine"
    retention_days: int = 400
    expires_from: Literal["reading", "arrival"] = "reading"
    future_seconds: int = 3600
    bindkeys: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    gateway_families: Mapping[str, str] = field(default_factory=dict)
    gateway_readings: str = ""
    ignored_samples: int = 0
    dynamodb_client: Literal["wire", "boto3"] = "wire"
    writer_threads: int = 16
    count_units: Literal["service", "items"] = "service"
    devices: Literal["any", "registered"] = "any"
    keys_kms_key: str = ""
    log_level: str = "INFO"
    function: str = "processor"
    """The function that runs here, as AWS names it: two environments in one account have two."""

    @property
    def devices_table(self) -> str:
        """The name of the table of devices."""
        return f"{self.table_prefix}devices"

    @property
    def rollups_table(self) -> str:
        """The name of the table of roll-ups."""
        return f"{self.table_prefix}rollups"

    @property
    def readings_table(self) -> str:
        """The name of the table of readings."""
        return f"{self.table_prefix}readings"

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Read the environment. Raises SettingsError, naming the variable and what it takes."""
        get = environment.get
        return cls(
            region=get("AWS_REGION") or get("AWS_DEFAULT_REGION") or cls.region,
            endpoint=get("AWS_ENDPOINT_URL_DYNAMODB") or get("AWS_ENDPOINT_URL"),
            access_key=get("AWS_ACCESS_KEY_ID", ""),
            secret_key=get("AWS_SECRET_ACCESS_KEY", ""),
            session_token=get("AWS_SESSION_TOKEN", ""),
            table_prefix=get("TABLE_PREFIX", cls.table_prefix),
            quarantine_bucket=get("QUARANTINE_BUCKET", cls.quarantine_bucket),
            retention_days=_integer(environment, "RETENTION_DAYS", cls.retention_days, 1),
            expires_from=_choice(environment, "EXPIRES_FROM", cls.expires_from, ("reading", "arrival")),
            future_seconds=_integer(environment, "FUTURE_SECONDS", cls.future_seconds, 0),
            bindkeys=_bindkeys(get("BINDKEYS", "")),
            gateway_families=_families(get("GATEWAY_FAMILIES", "")),
            gateway_readings=get("GATEWAY_READINGS", cls.gateway_readings),
            ignored_samples=_integer(environment, "IGNORED_SAMPLES", cls.ignored_samples, 0),
            dynamodb_client=_choice(environment, "DYNAMODB_CLIENT", cls.dynamodb_client, ("wire", "boto3")),
            writer_threads=_integer(environment, "WRITER_THREADS", cls.writer_threads, 1),
            count_units=_choice(environment, "COUNT_UNITS", cls.count_units, ("service", "items")),
            devices=_choice(environment, "DEVICES", cls.devices, ("any", "registered")),
            keys_kms_key=get("KEYS_KMS_KEY", cls.keys_kms_key),
            function=get("AWS_LAMBDA_FUNCTION_NAME", cls.function),
            log_level=get("POWERTOOLS_LOG_LEVEL") or get("LOG_LEVEL") or cls.log_level,
        )


def _integer(environment: Mapping[str, str], name: str, default: int, least: int) -> int:
    text = environment.get(name, "")
    if not text:
        return default
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise SettingsError(f"{name} takes a whole number of at least {least}, not {text!r}")
    return value


def _choice(environment: Mapping[str, str], name: str, default: T, choices: tuple[T, ...]) -> T:
    text = environment.get(name, "")
    for choice in choices:
        if text == choice:
            return choice
    if text:
        raise SettingsError(f"{name} is one of {', '.join(choices)}, not {text!r}")
    return default


def _families(text: str) -> dict[str, str]:
    """Return families by pattern; whether there is such a family, the decoder says."""
    families = {}
    for pair in filter(None, map(str.strip, text.split(","))):
        pattern, _, family = pair.partition("=")
        if not _PATTERN.fullmatch(pattern) or not family:
            raise SettingsError(
                f"GATEWAY_FAMILIES: {pair!r} is none of imsi:DIGITS=FAMILY, imsi:DIGITS*=FAMILY, operator:ID=FAMILY"
            )
        families[pattern] = family
    return families


def _bindkeys(text: str) -> Bindkeys:
    keys = Bindkeys()
    for number, pair in enumerate(filter(None, map(str.strip, text.split(","))), 1):
        device, _, digits = pair.partition("=")
        try:
            keys[address(device.strip())] = key = bytes.fromhex(digits)
        except (DecodeError, ValueError):
            key = b""
        if len(key) != 16:  # the text itself is a secret: name its place, not its content
            raise SettingsError(f"BINDKEYS: entry {number} is not ADDRESS=32 hexadecimal digits")
    return keys
