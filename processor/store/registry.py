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
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

from processor.errors import StoreError
from processor.reading import Reading, Value
from processor.store.items import get_items
from processor.store.tables import AttributeValue
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
    """One entry of the registry. `key` is the encrypted bindkey; it and `secret` are never shown."""

    address: str
    name: str | None = None
    site: str | None = None
    model: str | None = None
    heard: str | None = None
    calibration: Mapping[str, Calibration] = field(default_factory=dict)
    key: bytes | None = field(default=None, repr=False)
    secret: str | None = field(default=None, repr=False)

    @property
    def registered(self) -> bool:
        """Tell whether somebody registered the device."""
        return bool(self.name or self.site or self.model or self.calibration or self.key or self.secret)

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

    def get(self, address: str) -> Device | None:
        """Return one device; None where the table does not know it."""
        return self.many([address]).get(address)

    def many(self, addresses: Iterable[str]) -> dict[str, Device]:
        """Return those of the devices that the table knows, by address."""
        keys = [{"device": {"S": address}} for address in dict.fromkeys(addresses)]
        return {item["device"]["S"]: device_of(item) for item in get_items(self._client, self._table, keys)}

    def all(self) -> Iterator[Device]:
        """Yield every device, in no order."""
        body: dict[str, Any] = {"TableName": self._table}
        while True:
            page = self._client.call("Scan", body)
            yield from map(device_of, page["Items"])
            if "LastEvaluatedKey" not in page:
                return
            body["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    def put(self, device: Device) -> None:
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
        )


def _calibration(calibration: Calibration) -> AttributeValue:
    return {"M": {name: {"N": str(getattr(calibration, name))} for name in Calibration._fields}}


def device_of(item: Mapping[str, AttributeValue]) -> Device:
    """Return an item of `devices` as a Device. Attributes not named above are passed over."""
    texts = {name: item[name]["S"] for name in TEXTS if name in item}
    corrections = item.get("calibration", {"M": {}})["M"]
    return Device(
        item["device"]["S"],
        calibration={
            name: Calibration(**{part: Decimal(number["N"]) for part, number in each["M"].items()})
            for name, each in corrections.items()
        },
        key=b64decode(item["key"]["B"]) if "key" in item else None,
        **texts,
    )
