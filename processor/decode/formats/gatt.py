"""Bluetooth's own characteristics as service data: a characteristic's UUID in the place of a service's, and its value.

Sources: Bluetooth SIG, "GATT Specification Supplement": of each characteristic the type, the step, the range and what
is no value, as github.com/embassy-rs/bt-hci has it (src/uuid/characteristic.rs, generated from the SIG's gss/*.yaml);
Noise as github.com/RonanB96/bluetooth-sig-python has it, the battery's range as advlib-ble-services does. That sensors
advertise them so: github.com/reelyactive/advlib-ble-services 1.7 (lib/gatt.js and its vectors), which reads these and
some more; captures of ELA's and Teltonika's Blue PUCK and COIN in github.com/custom-components/ble_monitor
(test_teltonika_parser.py), whose humidity is one byte of whole percents, against the Supplement.

Each is a structure of its own, and so a reading of its own, of one device at one time. Nothing counts, so that what
tells readings apart is their time and their bytes, the UUID's among them. Values that the Supplement prohibits are an
error, as in mesh.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from processor.decode.field import FieldType
from processor.decode.fields import Decoded, Field, Format
from processor.errors import DecodeError
from processor.reading import Value

_GSS = "Bluetooth SIG, GATT Specification Supplement; advlib-ble-services 1.7, lib/gatt.js"
_ANY = "any that sends this characteristic as service data"
_ELA = "github.com/custom-components/ble_monitor, teltonika.py and its captures"

_TAGS = f"ELA and Teltonika Blue PUCK T, RHT and Blue COIN T; {_ANY}"


class Characteristic(Format):
    """The table of a characteristic's value; its encoder refuses what its `check` does."""

    def encode(self, values: Mapping[str, Value], *, address: str | None = None) -> bytes:
        """Return the payload that says `values`. Raises ValueError."""
        data = super().encode(values, address=address)
        if self.check is not None:
            try:
                self.check(data, 0)
            except DecodeError as error:
                raise ValueError(str(error)) from None
        return data


def _table(
    name: str, quantity: str, kind: FieldType, scale: str = "1", invalid: int | None = None,
    invalid_from: int | None = None, allowed: range | None = None, source: str = _GSS,
    products: str = _ANY,
) -> Characteristic:  # fmt: skip
    """Return a characteristic of one value, least significant byte first. allowed: its raw values besides `invalid`."""
    field = Field(quantity, at=0, type=kind, scale=scale, invalid=invalid, invalid_from=invalid_from)

    def check(data: bytes, at: int) -> None:
        raw = int.from_bytes(data[at : at + field.width], "little", signed=kind.startswith("i"))
        if allowed is not None and raw not in allowed and raw != field.sentinel:
            low, high = field.linear.value(allowed[0]), field.linear.value(allowed[-1])
            raise DecodeError(
                "range", f"{quantity} is {low} to {high}, not {field.linear.value(raw)}", where=f"gatt.{name}",
                offset=0, payload=data,
            )  # fmt: skip

    return Characteristic(
        name=f"gatt.{name}", source=source, endian="little", length=field.width, magic=b"", fields=(field,),
        check=None if allowed is None else check, products=products,
    )  # fmt: skip


BATTERY = _table("battery", "battery", "u8", allowed=range(101))
PRESSURE = _table("pressure", "pressure", "u32", "0.1")
TEMPERATURE = _table(
    "temperature", "temperature", "i16", "0.01", 0x8000, allowed=range(-27_315, 0x8000), products=_TAGS
)
HUMIDITY = _table("humidity", "humidity", "u16", "0.01", 0xFFFF, allowed=range(10_001))
HUMIDITY_ELA = _table("humidity.ela", "humidity", "u8", source=_ELA, products="ELA and Teltonika Blue PUCK RHT")
CURRENT = _table("current", "current", "u16", "0.01", 0xFFFF)
ILLUMINANCE = _table("illuminance", "illuminance", "u24", "0.01", 0xFFFFFF)
VOLTAGE = _table("voltage", "voltage", "u16", "0.015625", 0xFFFF, allowed=range(65_409))  # 1022 V
# The code before "not known" is "this or more".
CO2 = _table("co2", "co2", "u16", invalid=0xFFFF, invalid_from=0xFFFE)
NOISE = _table("noise", "sound_level", "u8", invalid=0xFF, invalid_from=0xFE)
VOC = _table("voc", "voc_concentration", "u16", invalid=0xFFFF, invalid_from=0xFFFE)

TABLES: dict[int, tuple[Characteristic, ...]] = {
    0x2A19: (BATTERY,), 0x2A6D: (PRESSURE,), 0x2A6E: (TEMPERATURE,), 0x2A6F: (HUMIDITY, HUMIDITY_ELA),
    0x2AEE: (CURRENT,), 0x2AFB: (ILLUMINANCE,), 0x2B18: (VOLTAGE,), 0x2B8C: (CO2,), 0x2BE4: (NOISE,), 0x2BE7: (VOC,),
}  # fmt: skip
"""By the characteristic's UUID; where there are several, the length tells."""

FORMATS = tuple(table for tables in TABLES.values() for table in tables)


def _decoder(uuid: int, tables: tuple[Characteristic, ...]) -> Callable[..., Decoded]:
    readers = {table.length: table.compile() for table in tables}
    usual = readers[tables[0].length]

    def decode(
        data: bytes, address: str | None, keys: Mapping[str, bytes], whole: bytes = b"", model: str | None = None
    ) -> Decoded:
        """Decode a characteristic's value, after its UUID. Raises DecodeError for another length, or what is none."""
        return readers.get(len(data), usual)(data, address)

    decode.__name__ = f"decode_{uuid:04x}"
    return decode


SERVICES: dict[int, Callable[..., Decoded]] = {uuid: _decoder(uuid, tables) for uuid, tables in TABLES.items()}
