"""Where the devices' bindkeys are kept: sealed by KMS beside the registration, or in Secrets Manager.

A secret is read once in REMEMBERED_SECONDS, whoever's keys it holds. Keys are decrypted here, and never logged.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from processor.errors import SettingsError, TransientError
from processor.store.registry import Device

REMEMBERED_SECONDS = 300.0
REMEMBERED_SECRETS = 100
"""Secrets that are kept whole, for the devices that share one."""
LOST = frozenset((
    # Secrets Manager, GetSecretValue. Each secret names the KMS key that protects it: even that is its device's alone.
    "AccessDeniedException",  # it is not among those that the function may read; of KMS: that key is not
    "ResourceNotFoundException",  # there is no such secret, or it has no value yet
    "InvalidRequestException",  # it is being deleted, or another service manages it
    "InvalidParameterException",  # its name is none
    "ValidationException",  # its name has characters that no name has; of KMS: these bytes are too many, or none
    "DecryptionFailure",  # the KMS key that protects it does not open it
    # KMS, Decrypt
    "InvalidCiphertextException",  # these bytes were not encrypted by KMS, or not for this device
    "IncorrectKeyException",  # … not under this KMS key
    "InvalidKeyUsageException",  # … under a KMS key that is not for this: it never will be
    "NotFoundException",  # … under a KMS key that was deleted: nothing brings it back
))  # fmt: skip
"""What Secrets Manager and KMS answer about one device's key, and what asking again does not mend. What the device says
is kept in quarantine, whole, until its registration, or a right, is put right: that is noticed within
REMEMBERED_SECONDS.

Access is granted by KMS key and by the names of secrets (infra/terraform/functions.tf). So a key that was sealed under
another one, and a secret of another name (there or not: IAM does not tell), are denied to their own device, while
every other one's can be had; and where a right is taken from all, quarantine loses nothing, as a shard does that waits
for longer than its records are kept.

Not among them is what mends by itself or by one hand, so that the record waits: DisabledException and
KMSInvalidStateException (the KMS key is disabled, or to be deleted: both can be undone), KeyUnavailableException,
DependencyTimeoutException, KMSInternalException, InternalServiceError, and throttling. Sources: AWS Secrets Manager API
Reference, GetSecretValue and Common Errors; AWS KMS API Reference, Decrypt; AWS KMS Developer Guide, "Key states".
"""


class Opened(NamedTuple):
    """A bindkey, or that there is none, until `until` (time.monotonic()): then it has to be opened anew."""

    key: bytes | None
    until: float
    why: str = ""
    """Why it cannot be had, where a device should have one."""

    def __repr__(self) -> str:
        """Say nothing of the key."""
        return f"<a bindkey until {self.until}>"


class Vault:
    """Opens bindkeys. kms, secrets: make boto3 clients, once, at the first key: nearly no environment needs both."""

    def __init__(
        self, kms: Callable[[], Any], secrets: Callable[[], Any], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._kms = _once(kms)
        self._secrets = _once(secrets)
        self._clock = clock
        self._lock = threading.Lock()
        self._read: OrderedDict[str, tuple[Any, float]] = OrderedDict()
        """Secrets by name: what each holds, or the SettingsError that says why it cannot be had; until when."""

    def seal(self, address: str, key: bytes, kms_key: str) -> bytes:
        """Encrypt a device's bindkey under a KMS key (its id, ARN or alias)."""
        answer = self._kms().encrypt(KeyId=kms_key, Plaintext=key, EncryptionContext={"device": address})
        found: bytes = answer["CiphertextBlob"]
        return found

    def open(self, device: Device) -> Opened:
        """Return a device's bindkey, 16 bytes; None where it has none.

        So it is for a secret that is lost. Raises SettingsError for a sealed key that is, and for what is no key, and
        TransientError where it cannot be had now.
        """
        if device.key:
            context = {"device": device.address}
            with _asking(f"the sealed bindkey of {device.address}"):
                key: bytes = self._kms().decrypt(CiphertextBlob=device.key, EncryptionContext=context)["Plaintext"]
            until = math.inf  # the same bytes hold the same key
        elif device.secret:
            held, until = self._secret(device.secret)
            if isinstance(held, SettingsError):
                return Opened(None, until, str(held))
            key = _key_in(held, device)
        else:
            return Opened(None, math.inf)
        if len(key) != 16:
            raise SettingsError(f"the bindkey of {device.address} has {len(key)} bytes, not 16")
        return Opened(key, until)

    def remembers(self, device: Device) -> bool:
        """Tell whether `open` need not ask anybody: the device's secret was read lately, for another one say."""
        found = None if device.key or not device.secret else self._read.get(device.secret)
        return found is not None and found[1] > self._clock()

    def _secret(self, name: str) -> tuple[Any, float]:
        """Return what a secret holds, parsed where it is JSON, or why it cannot be had; and until when that counts."""
        now = self._clock()
        found = self._read.get(name)
        if found is None or found[1] <= now:
            held: Any
            try:
                with _asking(f"the secret {name}"):
                    held = _held(self._secrets().get_secret_value(SecretId=name).get("SecretString"), name)
            except SettingsError as error:
                held = error.with_traceback(None)
            found = held, now + REMEMBERED_SECONDS
            with self._lock:
                self._read[name] = found
                self._read.move_to_end(name)
                while len(self._read) > REMEMBERED_SECRETS:
                    self._read.popitem(last=False)
        return found


@contextmanager
def _asking(what: str) -> Iterator[None]:
    """Tell what KMS or Secrets Manager refuse for good from what they cannot do now."""
    try:
        yield
    except SettingsError:
        raise
    except Exception as error:  # whatever botocore raises
        answer = getattr(error, "response", None) or {}  # botocore's ReadTimeoutError has one that is None
        if answer.get("Error", {}).get("Code") in LOST:
            raise SettingsError(f"{what} cannot be had: {error}") from None
        raise TransientError(type(error).__name__, f"the bindkey cannot be had: {error}") from error


def _once(make: Callable[[], Any]) -> Callable[[], Any]:
    made: list[Any] = []

    def get() -> Any:
        if not made:
            made.append(make())
        return made[0]

    return get


def _held(text: str | None, name: str) -> Any:
    """Return what a secret holds: a JSON object as such, other text as it is. None: it holds bytes."""
    if text is None:
        raise SettingsError(f"the secret {name} holds bytes (SecretBinary): it takes text (SecretString)")
    if not text.lstrip().startswith("{"):
        return text
    with suppress(ValueError, RecursionError):
        return json.loads(text)
    return text


def _key_in(held: Any, device: Device) -> bytes:
    """Return the key in a secret: 32 hexadecimal digits, or a JSON object of them by address."""
    try:
        return bytes.fromhex((held[device.address] if isinstance(held, dict) else held).strip())
    except (ValueError, KeyError, AttributeError):
        raise SettingsError(
            f"the secret {device.secret} holds no bindkey of {device.address}: it takes 32 hexadecimal digits, or a "
            "JSON object of them by address"
        ) from None
