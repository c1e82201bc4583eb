"""What ingest needs to know of the devices it hears, remembered for a while: are they registered, what is their key.

The registry is asked once for each device in REMEMBERED_SECONDS, for absent ones too, and for many at once. A key is
opened once (vault.py), as long as the registry has the same, and kept in memory only. The registry is a table already:
another cache between would only copy it.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice

from processor.errors import SettingsError, TransientError
from processor.store.failures import DEADLINE
from processor.store.registry import Device, Registry
from processor.vault import REMEMBERED_SECONDS, Opened, Vault

REMEMBERED_DEVICES = 10_000
SOON_SECONDS, SOON_AT_MOST = 10.0, 30.0
"""What is forgotten within so many seconds is asked for with the rest: else each would be, alone, a moment later. It is
as long as the rest may take, up to the second."""
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
        """Ask the registry for those of the devices that are not remembered, in their order, until `deadline`.

        Where it raises, what the registry answered until then is remembered: who asks again gets further.
        """
        now = self._clock()
        soon = SOON_SECONDS if deadline is None else min(SOON_AT_MOST, max(SOON_SECONDS, deadline - time.monotonic()))
        missing = []
        with self._lock:
            for address in dict.fromkeys(addresses):
                if self._recall(address, now + soon) is None:
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

    def registered(self, address: str) -> bool:
        """Tell whether somebody registered the device."""
        device = self._find(address).device
        return device is not None and device.registered

    def lacking(self, address: str) -> str:
        """Tell why a device's key cannot be had, if that is known."""
        found = self._recall(address, self._clock())
        return "" if found is None or found.opened is None else found.opened.why

    def heard(self, address: str) -> str | None:
        """Return the local name or model that the device once said."""
        device = self._find(address).device
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

    def within(self, deadline: float | None, share: float) -> Lookups:
        """Return the devices as one batch asks for them."""
        return Lookups(self, deadline, share)

    def __getitem__(self, address: str) -> bytes:
        return self.key(address, Lookups(self))

    def key(self, address: str, lookups: Lookups) -> bytes:
        """Return a device's bindkey. Raises KeyError where it has none, TransientError where it cannot be had now."""
        fixed = self._fixed.get(address)
        if fixed is not None:
            return fixed
        lookups.know(address)
        found = self._find(address)
        opened = found.opened
        if opened is None or opened.until <= self._clock():
            at_hand = found.kept_in is None or (found.device is not None and self._vault.remembers(found.device))
            opened = self._open(found) if at_hand else lookups.once(str(found.kept_in), lambda: self._open(found))
            found.opened = opened
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
    """The devices as one batch asks for them: for a while, and not again for a key that cannot be had now.

    deadline: time.monotonic() seconds; None: for as long as it takes. share: the part of the time until then that may
    be spent in waiting for answers. What is remembered is told after that, too.
    """

    def __init__(self, devices: Devices, deadline: float | None = None, share: float = 1.0) -> None:
        self._devices = devices
        self._deadline = deadline
        self._left = math.inf if deadline is None else max(0.0, deadline - time.monotonic()) * share
        self.ready, self.lacking = devices.ready, devices.lacking
        self._refused: dict[str, TransientError] = {}

    def within(self, deadline: float | None, share: float) -> Lookups:
        """Return the devices as another batch asks for them."""
        return Lookups(self._devices, deadline, share)

    @contextmanager
    def _waiting(self) -> Iterator[float | None]:
        """Give the time until when an answer may be waited for, and count how long that was."""
        begun = time.monotonic()
        try:
            yield None if self._deadline is None else min(self._deadline, begun + self._left)
        finally:
            self._left -= time.monotonic() - begun

    def load(self, addresses: Iterable[str]) -> None:
        """Prepare to be asked for these devices, all at once."""
        with self._waiting() as deadline:
            self._devices.load(addresses, deadline=deadline)

    def know(self, address: str) -> None:
        """Ask the registry for a device that is not remembered."""
        if not self.ready(address):
            self.load((address,))

    def registered(self, address: str) -> bool:
        """Tell whether somebody registered the device."""
        self.know(address)
        return self._devices.registered(address)

    def heard(self, address: str) -> str | None:
        """Return what the device once said of its model."""
        self.know(address)
        return self._devices.heard(address)

    def learn(self, models: Mapping[str, str]) -> None:
        """Remember what devices say of their models."""
        with self._waiting() as deadline:
            self._devices.learn(models, deadline=deadline)

    def once(self, what: str, ask: Callable[[], Opened]) -> Opened:
        """Ask for a key, unless that was refused before, or there is no time. what: where it is kept."""
        if what in self._refused:
            raise self._refused[what].with_traceback(None)
        with self._waiting() as deadline:
            if deadline is not None and time.monotonic() >= deadline:
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
