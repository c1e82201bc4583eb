"""Which devices are meant: by address, site or model, or all; with what the table `devices` knows of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from processor.errors import DecodeError, QueryError
from processor.reading import device_id
from processor.store.items import get_items, pages
from processor.store.reader import Reader
from processor.store.registry import Device, device_of
from processor.store.states import State, state_from
from processor.store.tables import AttributeValue
from processor.store.unreadable import Note, passed_over
from processor.store.wire import Client


class Member(NamedTuple):
    """A device: what is registered of it, and what its readings said. None where none was rolled up yet."""

    device: Device
    state: State | None = None


@dataclass(frozen=True)
class Choice:
    """Devices that fit everything that is said: among the addresses, at one of the sites, of one of the models.

    everyone: all devices are meant, which must be said where nothing else is. Sites and models are compared without
    regard to capitals; a device's model is the registered one, or the one that it said itself.
    """

    addresses: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    everyone: bool = False

    @property
    def whole(self) -> bool:
        """Tell whether it leaves no device out."""
        return not (self.addresses or self.sites or self.models)

    def members(self, client: Client, table: str, reader: Reader | None, note: Note = passed_over) -> list[Member]:
        """Return the devices, by address; those named by address even if nothing is known of them.

        table: the table `devices`. Where nothing was rolled up yet, the keys of the whole table of readings tell who
        is there; with no reader, nobody does. note: is told of what cannot be read. Raises QueryError where nobody
        fits.
        """
        if self.whole and not self.everyone:
            raise QueryError("whose readings? Name devices, sites or models, or ask for all")
        if self.addresses:
            found = _named(self.addresses, client, table, note)
        else:
            found = {member.device.address: member for member in _known(client, table, note)}
            if reader is not None and not any(member.state for member in found.values()):
                found |= {seen.device: found.get(seen.device, Member(Device(seen.device))) for seen in reader.devices()}
        fitting = [member for _, member in sorted(found.items()) if self._fits(member.device)]
        if not fitting and not self.whole:
            raise QueryError(self._nobody([member.device for member in found.values()]))
        return fitting

    def _fits(self, device: Device) -> bool:
        return _among(device.site, self.sites) and _among(device.model or device.heard, self.models)

    def _nobody(self, devices: Iterable[Device]) -> str:
        devices = list(devices)
        asked = [f"site {' or '.join(self.sites)}"] * bool(self.sites)
        asked += [f"model {' or '.join(self.models)}"] * bool(self.models)
        sites = sorted({device.site for device in devices if device.site}) or ["none"]
        models = sorted({model for device in devices if (model := device.model or device.heard)}) or ["none"]
        return (
            f"no device has {' and '.join(asked)}: there are the sites {', '.join(sites[:20])}; the models "
            f"{', '.join(models[:20])} (`processor devices set` registers them)"
        )


def _among(text: str | None, wanted: Iterable[str]) -> bool:
    wanted = [each.casefold() for each in wanted]
    return not wanted or (text or "").casefold() in wanted


def _named(addresses: Iterable[str], client: Client, table: str, note: Note) -> dict[str, Member]:
    keys: list[dict[str, AttributeValue]] = [{"device": {"S": each}} for each in dict.fromkeys(addresses)]
    found = {each: Member(Device(each)) for each in addresses}
    return found | {item["device"]["S"]: _member(item, note) for item in get_items(client, table, keys)}


def _known(client: Client, table: str, note: Note) -> Iterator[Member]:
    """Yield every device of the table `devices`."""
    for items in pages(client, "Scan", {"TableName": table}):
        yield from (_member(item, note) for item in items)


def _member(item: dict[str, AttributeValue], note: Note) -> Member:
    device = device_of(item)
    for each in device.unreadable:
        note(each)
    return Member(device, state_from(item, note))


def addresses_of(texts: Iterable[str], place: str) -> tuple[str, ...]:
    """Return devices' ids in their one spelling. Raises QueryError, naming the place."""
    found = []
    for text in texts:
        try:
            found.append(device_id(text))
        except DecodeError as error:
            raise QueryError(f"{place}: {error}") from None
    return tuple(dict.fromkeys(found))
