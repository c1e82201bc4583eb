"""The device registry, the table `devices`: what people say of a device, and what its advertisements said of its model.

    device (S)            the sensor's address                               partition key
    name, site, model (S) as somebody registered them
    heard (S)             the local name or model that its own scan response said, for formats that need it
    calibration (M)       by quantity: {"scale": N, "offset": N}; applied on read, what is stored stays raw
    key (B)               the bindkey, encrypted by KMS under the encryption context {"device": address}
    secret (S)            … or the name of the Secrets Manager secret that holds it

A device is registered when it has anything but `heard`.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

from processor.errors import StoreError
from processor.reading import Reading, Value
from processor.store.items import answers, pages
from processor.store.tables import AttributeValue
from processor.store.unreadable import Unreadable
from processor.store.wire import Client


class Calibration(NamedTuple):
    """A quantity's correction: corrected = measured × scale + offset, in the quantity's unit."""

    scale: Decimal = Decimal(1)
    offset: Decimal = Decimal(0)

    def apply(self, value: Value) -> Value:
        """Return the corrected value; flags and texts stay as they are."""
        if isinstance(value, bool | str):
            return value
        corrected = Decimal(repr(value)) * self.scale + self.offset
        return int(corrected) if isinstance(value, int) and corrected == int(corrected) else float(corrected)


@dataclass(frozen=True)
class Device:
    """One entry of the registry. `key` is the encrypted bindkey; it and `secret` are never shown.

    unreadable: what of the entry somebody wrote by hand, and wrong; it counts as not said.
    """

    address: str
    name: str | None = None
    site: str | None = None
    model: str | None = None
    heard: str | None = None
    calibration: Mapping[str, Calibration] = field(default_factory=dict)
    key: bytes | None = field(default=None, repr=False)
    secret: str | None = field(default=None, repr=False)
    unreadable: tuple[Unreadable, ...] = field(default=(), repr=False)

    @property
    def registered(self) -> bool:
        """Tell whether somebody registered the device."""
        said = (self.name, self.site, self.model, self.calibration, self.key, self.secret, self.unreadable)
        return any(said)

    def calibrated(self, reading: Reading) -> Reading:
        """Return a reading with the device's corrections applied."""
        if not self.calibration:
            return reading
        values = dict(reading.values)
        for name in self.calibration.keys() & values.keys():
            values[name] = self.calibration[name].apply(values[name])
        return reading._replace(values=values)


TEXTS = ("name", "site", "model", "heard", "secret")


class Registry:
    """Reads and writes the table through one client."""

    def __init__(self, client: Client, table: str) -> None:
        self._client = client
        self._table = table

    def get(self, address: str, *, deadline: float | None = None) -> Device | None:
        """Return one device; None where the table does not know it."""
        (found,) = self.answers([address], deadline=deadline)
        return found[address]

    def many(self, addresses: Iterable[str]) -> dict[str, Device]:
        """Return those of the devices that the table knows, by address."""
        found = (each for answer in self.answers(addresses) for each in answer.items())
        return {address: device for address, device in found if device is not None}

    def answers(self, addresses: Iterable[str], *, deadline: float | None = None) -> Iterator[dict[str, Device | None]]:
        """Yield the devices, answer by answer, as they are read; None for those that the table does not know.

        Raises what `Client.call` does, after what was read before it; none is asked for after `deadline`.
        """
        keys: list[dict[str, AttributeValue]] = [{"device": {"S": address}} for address in dict.fromkeys(addresses)]
        for read, items in answers(self._client, self._table, keys, deadline=deadline):
            found: dict[str, Device | None] = dict.fromkeys(key["device"]["S"] for key in read)
            found.update((item["device"]["S"], device_of(item)) for item in items)
            yield found

    def all(self) -> Iterator[Device]:
        """Yield every device, in no order."""
        for items in pages(self._client, "Scan", {"TableName": self._table}):
            yield from map(device_of, items)

    def put(self, device: Device, *, deadline: float | None = None) -> None:
        """Set what `device` says; what it leaves out stays as it is in the table."""
        values = {name: {"S": text} for name in TEXTS if (text := getattr(device, name))}
        if device.calibration:
            values["calibration"] = {"M": {name: _calibration(each) for name, each in device.calibration.items()}}
        if device.key:
            values["key"] = {"B": b64encode(device.key).decode()}
        names = {f"#{n}": name for n, name in enumerate(values)}
        expression = "SET " + ",".join(f"#{n}=:{n}" for n in range(len(values)))
        drop = {"key": "secret", "secret": "key"}  # one place has its key  # pragma: allowlist secret
        gone = next((drop[name] for name in drop if name in values), None)
        if gone is not None:
            names["#gone"] = gone
            expression += " REMOVE #gone"
        if not values:
            raise StoreError("ValidationException", f"{device.address}: there is nothing to set")
        self._client.call(
            "UpdateItem",
            {
                "TableName": self._table,
                "Key": {"device": {"S": device.address}},
                "UpdateExpression": expression,
                "ExpressionAttributeNames": names,
                "ExpressionAttributeValues": {f":{n}": value for n, value in enumerate(values.values())},
            },
            deadline=deadline,
        )


def _calibration(calibration: Calibration) -> AttributeValue:
    return {"M": {name: {"N": str(getattr(calibration, name))} for name in Calibration._fields}}


def device_of(item: Mapping[str, AttributeValue]) -> Device:
    """Return an item of `devices` as a Device. Attributes not named above are passed over."""
    address = item["device"]["S"]
    found: dict[str, Any] = {}
    wrong: list[Unreadable] = []
    for name in [name for name in PARTS if name in item]:
        try:
            found[name] = PARTS[name](item[name])
        except (LookupError, TypeError, ValueError) as error:
            why = f"it is not as the registry writes it ({error!r})"
            wrong.append(Unreadable("devices", address, None, name, why, "`processor devices set` writes it anew"))
    return Device(address, unreadable=tuple(wrong), **found)


def _text(value: AttributeValue) -> str:
    text: str = value["S"]
    return text


def _calibrations(value: AttributeValue) -> dict[str, Calibration]:
    return {
        name: Calibration(**{part: Decimal(number["N"]) for part, number in each["M"].items()})
        for name, each in value["M"].items()
    }


def _key(value: AttributeValue) -> bytes:
    return b64decode(value["B"])


PARTS: Mapping[str, Callable[[AttributeValue], Any]] = {
    **dict.fromkeys(TEXTS, _text), "calibration": _calibrations, "key": _key,
}  # fmt: skip
"""How each attribute is read."""
