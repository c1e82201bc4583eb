"""What ingest needs to know of the devices it hears, remembered for a while: are they registered, what is their key.

The registry is asked once for each device in REMEMBERED_SECONDS, for absent ones too, and for many at once. A key is
opened once (vault.py), as long as the registry has the same, and kept in memory only. The registry is a table already:
another cache between would only copy it.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice

from processor.errors import SettingsError, TransientError
from processor.store.failures import DEADLINE
from processor.store.registry import Device, Registry
from processor.vault import REMEMBERED_SECONDS, Opened, Vault

REMEMBERED_DEVICES = 10_000
SOON_SECONDS = 10.0
"""What is forgotten within so many seconds is asked for with the rest: else each would be, alone, a moment later."""
LEARNED_AT_ONCE = 100
"""So many models are written down in one go: a flood of names must not take the time that a batch has."""


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
