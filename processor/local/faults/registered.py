"""Sensors of the faults whose bindkeys the functions get from the registry alone: sealed by KMS, or in a secret."""

from __future__ import annotations

import threading

from processor.local.sensors import Sensor
from processor.local.system import System
from processor.store.registry import Device, Registry
from processor.store.wire import Client


class Registered:
    """Registers sensors. keys: the bindkeys of those whose key stays as it is, by address."""

    def __init__(self, system: System, client: Client) -> None:
        self.keys: dict[str, bytes] = {}
        self._aws = system.aws
        self._registry = Registry(client, system.settings.devices_table)
        self._lock = threading.Lock()
        self._kms_key = ""

    def by_kms(self, sensor: Sensor) -> None:
        """Put a sensor into the registry, its bindkey sealed by KMS."""
        kms = self._aws.client("kms")
        with self._lock:
            self._kms_key = self._kms_key or kms.create_key()["KeyMetadata"]["KeyId"]
        context = {"device": sensor.address}
        blob = kms.encrypt(KeyId=self._kms_key, Plaintext=sensor.key, EncryptionContext=context)["CiphertextBlob"]
        self._registry.put(Device(sensor.address, name="fault", key=blob))
        self.keys[sensor.address] = sensor.key

    def by_secret(self, sensor: Sensor) -> None:
        """Put a sensor into the registry, its bindkey in a secret."""
        self._aws.client("secretsmanager").create_secret(Name=_secret(sensor), SecretString=sensor.key.hex())
        self._registry.put(Device(sensor.address, name="fault", secret=_secret(sensor)))

    def rotate(self, sensor: Sensor) -> None:
        """Put the sensor's present key into its secret."""
        self._aws.client("secretsmanager").put_secret_value(SecretId=_secret(sensor), SecretString=sensor.key.hex())


def _secret(sensor: Sensor) -> str:
    return f"bindkey-{sensor.address.replace(':', '')}"
