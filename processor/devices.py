"""What ingest needs to know of the devices it hears, remembered for a while: are they registered, what is their key.

The registry is asked once for each device in REMEMBERED_SECONDS, for absent ones too. Keys are decrypted here, kept
in memory only, and never logged. The registry is a table already: another cache between would only copy it.
"""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

from processor.errors import SettingsError, TransientError
from processor.store.registry import Device, Registry

REMEMBERED_SECONDS = 300.0
REMEMBERED_DEVICES = 10_000
LOST = frozenset((
    # Secrets Manager, GetSecretValue. Each secret names the KMS key that protects it: even that is its device's alone.
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
is kept in quarantine, whole, until its registration is put right.

Not among them is what concerns every device alike and mends by itself or by one hand, so that the record waits:
DisabledException and KMSInvalidStateException (the KMS key is disabled, or to be deleted: both can be undone),
KeyUnavailableException, DependencyTimeoutException, KMSInternalException, InternalServiceError, throttling, and
AccessDeniedException (the function's role, or the key's policy). Sources: AWS Secrets Manager API Reference,
GetSecretValue and Common Errors; AWS KMS API Reference, Decrypt; AWS KMS Developer Guide, "Key states".
"""
LEARNED_AT_ONCE = 100
"""So many models are written down in one go: a flood of names must not take the time that a batch has."""


class Vault:
    """Opens bindkeys. kms, secrets: make boto3 clients, once, at the first key: nearly no environment needs both."""

    def __init__(self, kms: Callable[[], Any], secrets: Callable[[], Any]) -> None:
        self._kms = _once(kms)
        self._secrets = _once(secrets)

    def seal(self, address: str, key: bytes, kms_key: str) -> bytes:
        """Encrypt a device's bindkey under a KMS key (its id, ARN or alias)."""
        answer = self._kms().encrypt(KeyId=kms_key, Plaintext=key, EncryptionContext={"device": address})
        found: bytes = answer["CiphertextBlob"]
        return found

    def key(self, device: Device) -> bytes | None:
        """Return a device's bindkey, 16 bytes; None where it has none. Raises SettingsError for what is no key."""
        if device.key:
            context = {"device": device.address}
            key: bytes = self._kms().decrypt(CiphertextBlob=device.key, EncryptionContext=context)["Plaintext"]
        elif device.secret:
            key = _key_in(self._secrets().get_secret_value(SecretId=device.secret).get("SecretString"), device)
        else:
            return None
        if len(key) != 16:
            raise SettingsError(f"the bindkey of {device.address} has {len(key)} bytes, not 16")
        return key


def _once(make: Callable[[], Any]) -> Callable[[], Any]:
    made: list[Any] = []

    def get() -> Any:
        if not made:
            made.append(make())
        return made[0]

    return get


def _key_in(text: str | None, device: Device) -> bytes:
    """Return the key in a secret: 32 hexadecimal digits, or a JSON object of them by address. None: it holds bytes."""
    if text is None:
        raise SettingsError(f"the secret {device.secret} holds bytes (SecretBinary): it takes text (SecretString)")
    try:
        found = json.loads(text) if text.lstrip().startswith("{") else {device.address: text}
        return bytes.fromhex(found[device.address].strip())
    except (ValueError, KeyError, AttributeError, RecursionError):
        raise SettingsError(
            f"the secret {device.secret} holds no bindkey of {device.address}: it takes 32 hexadecimal digits, or a "
            "JSON object of them by address"
        ) from None


class Remembered:
    """What is known of one device until `until` (time.monotonic()); device None: the registry does not know it."""

    __slots__ = ("device", "key", "opened", "until")

    def __init__(self, device: Device | None, until: float) -> None:
        self.device = device
        self.until = until
        self.opened = False
        self.key: bytes | None = None


class Devices(Mapping[str, bytes]):
    """The devices as ingest asks for them; as a mapping, the bindkeys by address.

    fixed: keys that need no registry. The mapping looks a device up when it is asked for; `load` asks for many at once.
    """

    def __init__(
        self,
        registry: Registry,
        vault: Vault,
        *,
        fixed: Mapping[str, bytes] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._vault = vault
        self._fixed = dict(fixed or {})
        self._clock = clock
        self._lock = threading.Lock()
        self._memory: OrderedDict[str, Remembered] = OrderedDict()

    def load(self, addresses: Iterable[str]) -> None:
        """Ask the registry for those of the devices that are not remembered, all at once."""
        now = self._clock()
        missing = [address for address in set(addresses) if self._recall(address, now) is None]
        if missing:
            found = self._registry.many(missing)
            for address in missing:
                self._keep(address, found.get(address), now)

    def registered(self, address: str) -> bool:
        """Tell whether somebody registered the device."""
        device = self._find(address).device
        return device is not None and device.registered

    def heard(self, address: str) -> str | None:
        """Return the local name or model that the device once said."""
        device = self._find(address).device
        return None if device is None else device.heard

    def learn(self, models: Mapping[str, str]) -> None:
        """Write down what devices say of their models, where the registry does not know it yet.

        At most LEARNED_AT_ONCE of them: the others say it again.
        """
        models = dict(islice(models.items(), REMEMBERED_DEVICES))
        self.load(models)
        left = LEARNED_AT_ONCE
        for address, model in models.items():
            device = self._find(address).device or Device(address)
            if device.heard != model and left:
                left -= 1
                self._registry.put(Device(address, heard=model))
                self._keep(address, replace(device, heard=model), self._clock())

    def __getitem__(self, address: str) -> bytes:
        fixed = self._fixed.get(address)
        if fixed is not None:
            return fixed
        found = self._find(address)
        if not found.opened:
            found.key = self._open(found.device)
            found.opened = True
        if found.key is None:
            raise KeyError(address)
        return found.key

    def _open(self, device: Device | None) -> bytes | None:
        """Return a device's key. One that is lost, or is no key, is as good as none: its device alone must suffer."""
        try:
            return None if device is None else self._vault.key(device)
        except SettingsError:
            return None
        except Exception as error:  # KMS or Secrets Manager: the record comes again
            answer = getattr(error, "response", None) or {}  # botocore's ReadTimeoutError has one that is None
            if answer.get("Error", {}).get("Code") in LOST:
                return None
            raise TransientError(type(error).__name__, f"the bindkey cannot be had: {error}") from error

    def __iter__(self) -> Iterator[str]:
        return iter({**self._fixed, **{address: 0 for address, found in self._memory.items() if found.key}})

    def __len__(self) -> int:
        return len(list(iter(self)))

    def _find(self, address: str) -> Remembered:
        now = self._clock()
        return self._recall(address, now) or self._keep(address, self._registry.get(address), now)

    def _recall(self, address: str, now: float) -> Remembered | None:
        found = self._memory.get(address)
        return found if found is not None and found.until > now else None

    def _keep(self, address: str, device: Device | None, now: float) -> Remembered:
        found = Remembered(device, now + REMEMBERED_SECONDS)
        with self._lock:
            self._memory[address] = found
            self._memory.move_to_end(address)
            while len(self._memory) > REMEMBERED_DEVICES:
                self._memory.popitem(last=False)
        return found
