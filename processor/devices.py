"""What ingest needs to know of the devices it hears, remembered for a while: are they registered, what is their key.

The registry is asked once for each device in REMEMBERED_SECONDS, for absent ones too, and for many at once. A secret is
read once in that time, whoever's keys it holds; a sealed key is opened once, as long as the registry has the same. Keys
are decrypted here, kept in memory only, and never logged. The registry is a table already: another cache between would
only copy it.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import islice
from typing import Any, NamedTuple

from processor.errors import SettingsError, TransientError
from processor.store.failures import DEADLINE
from processor.store.registry import Device, Registry

REMEMBERED_SECONDS = 300.0
REMEMBERED_DEVICES = 10_000
REMEMBERED_SECRETS = 100
"""Secrets that are kept whole, for the devices that share one."""
SOON_SECONDS = 10.0
"""What is forgotten within so many seconds is asked for with the rest: else each would be, alone, a moment later."""
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
LEARNED_AT_ONCE = 100
"""So many models are written down in one go: a flood of names must not take the time that a batch has."""


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


class Remembered:
    """What is known of one device until `until` (time.monotonic()); device None: the registry does not know it."""

    __slots__ = ("device", "opened", "until")

    def __init__(self, device: Device | None, until: float) -> None:
        self.device = device
        self.until = until
        self.opened: Opened | None = None

    @property
    def kept_in(self) -> str | None:
        """What has to be asked for to have the device's key, in words; None: it has none."""
        if self.device is None or not (self.device.key or self.device.secret):
            return None
        return f"the sealed bindkey of {self.device.address}" if self.device.key else f"the secret {self.device.secret}"

    def same_key(self, other: Remembered) -> bool:
        """Tell whether both have their key sealed in the same bytes, or in a secret of the same name."""
        mine, theirs = self.device, other.device
        return mine is not None and theirs is not None and (mine.key, mine.secret) == (theirs.key, theirs.secret)


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

    def load(self, addresses: Iterable[str], *, deadline: float | None = None) -> None:
        """Ask the registry for those of the devices that are not remembered, all at once, until `deadline`.

        Where it raises, what the registry answered until then is remembered: who asks again gets further.
        """
        now = self._clock()
        missing = []
        with self._lock:
            for address in set(addresses):
                if self._recall(address, now + SOON_SECONDS) is None:
                    missing.append(address)
                else:  # what comes now must not drive it out
                    self._memory.move_to_end(address)
        for answer in self._registry.answers(missing, deadline=deadline):
            now = self._clock()
            for address, device in answer.items():
                self._keep(address, device, now)

    def ready(self, address: str, *, key: bool = False) -> bool:
        """Tell whether the device, or at least its key, can be told without asking the registry first."""
        return (key and address in self._fixed) or self._recall(address, self._clock()) is not None

    def registered(self, address: str, *, deadline: float | None = None) -> bool:
        """Tell whether somebody registered the device."""
        device = self._find(address, deadline).device
        return device is not None and device.registered

    def lacking(self, address: str) -> str:
        """Tell why a device's key cannot be had, if that is known."""
        found = self._recall(address, self._clock())
        return "" if found is None or found.opened is None else found.opened.why

    def heard(self, address: str, *, deadline: float | None = None) -> str | None:
        """Return the local name or model that the device once said."""
        device = self._find(address, deadline).device
        return None if device is None else device.heard

    def learn(self, models: Mapping[str, str], *, deadline: float | None = None) -> None:
        """Write down what devices say of their models, where the registry does not know it yet.

        At most LEARNED_AT_ONCE of them: the others say it again.
        """
        models = dict(islice(models.items(), REMEMBERED_DEVICES))
        self.load(models, deadline=deadline)
        left = LEARNED_AT_ONCE
        for address, model in models.items():
            device = self._find(address, deadline).device or Device(address)
            if device.heard != model and left:
                left -= 1
                self._registry.put(Device(address, heard=model), deadline=deadline)
                self._keep(address, replace(device, heard=model), self._clock())

    def within(self, deadline: float | None) -> Lookups:
        """Return the devices as one batch asks for them."""
        return Lookups(self, deadline)

    def __getitem__(self, address: str) -> bytes:
        return self.key(address, self.within(None))

    def key(self, address: str, lookups: Lookups) -> bytes:
        """Return a device's bindkey. Raises KeyError where it has none, TransientError where it cannot be had now."""
        fixed = self._fixed.get(address)
        if fixed is not None:
            return fixed
        found = self._find(address, lookups.deadline)
        opened = found.opened
        if opened is None or opened.until <= self._clock():
            opened = found.opened = lookups.once(found.kept_in, lambda: self._open(found))
        if opened.key is None:
            raise KeyError(address)
        return opened.key

    def _open(self, found: Remembered) -> Opened:
        """Return a device's key. One that is lost, or is no key, is as good as none: its device alone must suffer."""
        try:
            return Opened(None, found.until) if found.device is None else self._vault.open(found.device)
        except SettingsError as error:
            return Opened(None, found.until, str(error))

    def __iter__(self) -> Iterator[str]:
        known = (address for address, found in self._memory.items() if found.opened and found.opened.key)
        return iter(dict.fromkeys((*self._fixed, *known)))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def _find(self, address: str, deadline: float | None = None) -> Remembered:
        now = self._clock()
        found = self._recall(address, now)
        return found or self._keep(address, self._registry.get(address, deadline=deadline), now)

    def _recall(self, address: str, now: float) -> Remembered | None:
        found = self._memory.get(address)
        return found if found is not None and found.until > now else None

    def _keep(self, address: str, device: Device | None, now: float) -> Remembered:
        found = Remembered(device, now + REMEMBERED_SECONDS)
        with self._lock:
            before = self._memory.get(address)
            if before is not None and before.opened is not None and before.same_key(found):
                found.opened = before.opened  # for as long as it counts
            self._memory[address] = found
            self._memory.move_to_end(address)
            while len(self._memory) > REMEMBERED_DEVICES:
                self._memory.popitem(last=False)
        return found


class Lookups(Mapping[str, bytes]):
    """The devices as one batch asks for them: not after `deadline`, and not again for a key that cannot be had now.

    deadline: time.monotonic() seconds, or None. What is remembered, is told after it too.
    """

    def __init__(self, devices: Devices, deadline: float | None) -> None:
        self._devices = devices
        self.deadline = deadline
        self.ready, self.lacking = devices.ready, devices.lacking
        self._refused: dict[str, TransientError] = {}

    def within(self, deadline: float | None) -> Lookups:
        """Return the devices as another batch asks for them."""
        return Lookups(self._devices, deadline)

    def load(self, addresses: Iterable[str]) -> None:
        """Prepare to be asked for these devices, all at once."""
        self._devices.load(addresses, deadline=self.deadline)

    def registered(self, address: str) -> bool:
        """Tell whether somebody registered the device."""
        return self._devices.registered(address, deadline=self.deadline)

    def heard(self, address: str) -> str | None:
        """Return what the device once said of its model."""
        return self._devices.heard(address, deadline=self.deadline)

    def learn(self, models: Mapping[str, str]) -> None:
        """Remember what devices say of their models."""
        self._devices.learn(models, deadline=self.deadline)

    def once(self, what: str | None, ask: Callable[[], Opened]) -> Opened:
        """Ask for a key, unless that was refused before, or it is too late. what: where it is kept, if it is."""
        if what is None:
            return ask()
        if what in self._refused:
            raise self._refused[what].with_traceback(None)
        if self.deadline is not None and time.monotonic() >= self.deadline:
            raise TransientError(DEADLINE, f"no time was left to ask for {what}")
        try:
            return ask()
        except TransientError as error:
            self._refused[what] = error
            raise

    def __getitem__(self, address: str) -> bytes:
        return self._devices.key(address, self)

    def __iter__(self) -> Iterator[str]:
        return iter(self._devices)

    def __len__(self) -> int:
        return len(self._devices)
