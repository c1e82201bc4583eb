"""The rules by which records are handled: which times are believed, whose readings are stored, with which keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol, Self, TypeVar, cast, runtime_checkable

from processor.decode import NO_KEYS
from processor.decode.gateways import ALL, Known
from processor.errors import SettingsError
from processor.settings import Settings

T = TypeVar("T")


class Limits(NamedTuple):
    """Which times are believed, and how long readings are kept (DynamoDB's TTL).

    retention_seconds: readings older than this on arrival are rejected. future_seconds: so are those further ahead.
    expires_from_arrival: count retention from the record's arrival, and take readings of any age.
    """

    retention_seconds: int
    future_seconds: int = 3600
    expires_from_arrival: bool = False

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """Return the limits that the settings ask for."""
        return cls(settings.retention_days * 86400, settings.future_seconds, settings.expires_from == "arrival")

    def allowed(self, arrived: int) -> tuple[int, int]:
        """Return the earliest and the latest time believed of what arrived at `arrived`, all in ms since 1970."""
        earliest = 0 if self.expires_from_arrival else arrived - self.retention_seconds * 1000
        return earliest, arrived + self.future_seconds * 1000


class Directory(Protocol):
    """Who is known of the devices, as ingest asks for it (processor/devices.py)."""

    def load(self, addresses: Iterable[str]) -> None:
        """Prepare to be asked for these devices, all at once."""

    def ready(self, address: str, *, key: bool = False) -> bool:
        """Tell whether the device, or at least its key, can be told without asking the registry first."""

    def registered(self, address: str) -> bool:
        """Tell whether somebody registered the device."""

    def lacking(self, address: str) -> str:
        """Tell why a device's key cannot be had, if that is known."""

    def heard(self, address: str) -> str | None:
        """Return what the device once said of its model."""

    def learn(self, models: Mapping[str, str]) -> None:
        """Remember what devices say of their models."""


@runtime_checkable
class Asked(Protocol):
    """A directory, or keys, that others have to be asked for: by one batch, for a while (devices.Lookups)."""

    def within(self, deadline: float | None, share: float) -> Self:
        """Return the same as one batch asks for it: for a share of the time until `deadline` (time.monotonic())."""


class Historic:
    """A directory for records of the past: what they say of a model is learned only where nothing is known yet.

    learn: False learns nothing at all.
    """

    def __init__(self, devices: Directory, *, learn: bool = True) -> None:
        self._devices = devices
        self._learn = learn
        self.load, self.ready, self.lacking = devices.load, devices.ready, devices.lacking
        self.registered, self.heard = devices.registered, devices.heard

    def within(self, deadline: float | None, share: float) -> Historic:
        """Return the same as one batch asks for it."""
        return Historic(_within(self._devices, deadline, share), learn=self._learn)

    def learn(self, models: Mapping[str, str]) -> None:
        """Remember the models of those devices that have said nothing so far."""
        if self._learn:
            self.load(models)
            self._devices.learn({address: model for address, model in models.items() if self.heard(address) is None})


class Rules(NamedTuple):
    """How a batch is handled.

    limits: which times are believed. keys: bindkeys by address. known: the gateway families that a setting pins.
    devices: the registry, where there is one. registered_only: store no others' readings. samples: so many ignored
    advertisements are kept for the log.
    """

    limits: Limits
    keys: Mapping[str, bytes] = NO_KEYS
    known: Known = ALL
    devices: Directory | None = None
    registered_only: bool = False
    samples: int = 0

    @classmethod
    def of(cls, settings: Settings, devices: Directory | None = None, keys: Mapping[str, bytes] | None = None) -> Rules:
        """Return the rules that the settings make; `keys`, where given, stand for the settings' own.

        Raises SettingsError for gateway settings, or their file, that make no sense.
        """
        return cls(
            Limits.of(settings),
            settings.bindkeys if keys is None else keys,
            known_gateways(settings),
            devices,
            settings.devices == "registered",
            settings.ignored_samples,
        )

    def historic(self, *, learn: bool = True) -> Rules:
        """Return the same rules for records of the past, which teach the registry nothing that it knows better."""
        return self if self.devices is None else self._replace(devices=Historic(self.devices, learn=learn))

    def within(self, deadline: float | None, share: float) -> Rules:
        """Return the same rules for one batch, which waits for its registry and keys for a share of its time.

        deadline: when that ends, in time.monotonic() seconds; None: there is no end.
        """
        if self.devices is None:
            return self
        devices = _within(self.devices, deadline, share)
        keys: object = self.keys
        # The same ones, where they are: so they spend the same time.
        keys = devices if keys is self.devices else _within(self.keys, deadline, share)
        return self._replace(devices=devices, keys=cast("Mapping[str, bytes]", keys))


def _within(asked: T, deadline: float | None, share: float) -> T:
    return asked.within(deadline, share) if isinstance(asked, Asked) else asked


def known_gateways(settings: Settings) -> Known:
    """Return what the settings say of the gateways. Raises SettingsError where they, or the file, make no sense."""
    path = settings.gateway_readings
    try:
        table = Path(path).read_bytes() if path else None
    except OSError as error:
        raise SettingsError(f"GATEWAY_READINGS: {error}") from None
    return Known.of(settings.gateway_families, table)
