"""OMRON environment sensors 2JCIE-BU (USB) and 2JCIE-BL (bag, board): manufacturer data of company 0x02D5.

Sources: OMRON, "2JCIE-BU01 User's Manual" A279, advertise format; "2JCIE-BL01 User's Manual" A278 and A280, section 3;
the maker's samples github.com/OmronMicroDevices/envsensor-observer-py and github.com/omron-devhub/
2jciebl-bu-ble-raspberrypi, whose texts drop signs and leading zeros; github.com/archetypesc/2jcie-ble-decode and its
captures. All but section 3.4 of A280 was read as these programs have it, not in the manuals.

A BU starts with its data type: 1 sensor data, 2 calculation data, 3 both, 4 flags of both (sensor data in the
advertisement; calculation data, longer, in the scan response), 5 its serial number. A BL in broadcaster mode starts
with its sequence number and says by the local name `IM` or `EP` what follows the sound level. The acceleration of `IM`
is left out: the maker's sample calls it mg and others Gal. What has just booted sends zeros: neither a pressure nor a
discomfort index (one of air at -57 °C) can be that, so where they are there is nothing.

A BL in its other modes is named `Env`. What it sends starts with a page number
(github.com/futomi/node-omron-envsensor, README), and no more of its bytes is known: so as not to take a page for a data
type, nothing of that name is read. That is why these tables have no short way, which does not ask for the name.

The sequence number rises with every measurement.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from processor.decode.advertisement import local_name
from processor.decode.fields import Codec, Decoded, Field, Format
from processor.errors import DecodeError
from processor.reading import Value

COMPANY = 0x02D5
_BU, _BL = "OMRON, 2JCIE-BU01 User's Manual A279, advertise format", "OMRON, 2JCIE-BL01 User's Manual A278, section 3"
SHORT, LONG, BROADCAST = 19, 27, 20
"""The lengths: advertisement and scan response of a BU, advertisement of a BL."""
RECORDING = "Env"
"""How a BL is named where it records, and advertises something else."""
FLAG = (False, True)


def _ascii(data: bytes) -> str:
    try:
        return data.decode("ascii")
    except UnicodeDecodeError as error:
        raise DecodeError("range", f"the serial number is ASCII: {error}", where="omron.bu.5", payload=data) from None


def _ascii_bytes(value: Value) -> bytes:
    return str(value).encode("ascii")


_SENSOR = (
    Field("sequence", at=1, type="u8"),
    Field("temperature", at=2, type="i16", scale="0.01"),
    Field("humidity", at=4, type="u16", scale="0.01"),
    Field("illuminance", at=6, type="u16"),
    Field("pressure", at=8, type="u32", scale="0.1", invalid=0),  # 0.001 hPa
    Field("sound_level", at=12, type="u16", scale="0.01"),
    Field("etvoc", at=14, type="u16"),
    Field("eco2", at=16, type="u16"),
)
_CALCULATION = (
    Field("sequence", at=1, type="u8"),
    Field("discomfort_index", at=2, type="u16", scale="0.01", invalid=0),
    Field("heat_stroke", at=4, type="i16", scale="0.01"),
    Field("vibration", at=6, type="u8", bits=(0, 1), lookup=FLAG),  # 1: vibrates, an earthquake or not
    Field("earthquake", at=6, type="u8", bits=(1, 1), lookup=FLAG),  # 2: it is one
    Field("si_value", at=7, type="u16", scale="0.1"),
    Field("pga", at=9, type="u16", scale="0.1"),
    Field("seismic_intensity", at=11, type="u16", scale="0.001"),
    Field("acceleration_x_gal", at=13, type="i16", scale="0.1"),
    Field("acceleration_y_gal", at=15, type="i16", scale="0.1"),
    Field("acceleration_z_gal", at=17, type="i16", scale="0.1"),
)


def _bu(
    name: str, length: int, data_type: int, fields: tuple[Field, ...], essential: str | None = None,
    counter: str | None = "sequence",
) -> Format:  # fmt: skip
    """Return a BU's format. essential: the quantity that is zero where the sensor has just booted."""
    return Format(
        name=name, source=_BU, endian="little", length=length, magic=bytes([data_type]), fields=fields, counter=counter,
        essential=essential, products="2JCIE-BU01 (USB)",
    )  # fmt: skip


SENSOR = _bu("omron.bu.1", SHORT, 1, _SENSOR, "pressure")
CALCULATION = _bu("omron.bu.2", SHORT, 2, _CALCULATION, "discomfort_index")
BOTH_SENSOR = _bu("omron.bu.3.sensor", SHORT, 3, _SENSOR, "pressure")
BOTH_CALCULATION = _bu("omron.bu.3.calculation", LONG, 3, _CALCULATION, "discomfort_index")
# Which of the thresholds that the user set each quantity has crossed, as it comes.
SENSOR_FLAGS = _bu(
    "omron.bu.4.sensor", SHORT, 4, (Field("sequence", at=1, type="u8"), Field("raw", at=2, type="bytes", size=14))
)
CALCULATION_FLAGS = _bu(
    "omron.bu.4.calculation", LONG, 4, (Field("sequence", at=1, type="u8"), Field("raw", at=2, type="bytes", size=7))
)
SERIAL = _bu(
    "omron.bu.5", SHORT, 5,
    (
        Field("serial_number", at=1, type="bytes", size=10, codec=Codec(_ascii, _ascii_bytes)),
        Field("memory_index", at=11, type="u32"),
    ),
    counter=None,
)  # fmt: skip

_BROADCAST = (
    Field("sequence", at=0, type="u8"),
    Field("temperature", at=1, type="i16", scale="0.01"),
    Field("humidity", at=3, type="u16", scale="0.01"),
    Field("illuminance", at=5, type="u16"),
    Field("uv_index", at=7, type="u16", scale="0.01"),
    Field("pressure", at=9, type="u16", scale="10", invalid=0),  # 0.1 hPa
    Field("sound_level", at=11, type="u16", scale="0.01"),
)
_SUPPLY = Field("battery_voltage", at=19, type="u8", scale="0.01", offset="1")

IM = Format(
    name="omron.bl.im", products="2JCIE-BL01 (bag), 2JCIE-BL01-P1 (board), named IM",
    source=_BL, endian="little", length=BROADCAST, magic=b"", counter="sequence",
    essential="pressure", fields=(*_BROADCAST, _SUPPLY),
)  # fmt: skip
EP = Format(
    name="omron.bl.ep", products="2JCIE-BL01 (bag), 2JCIE-BL01-P1 (board), named EP",
    source=_BL, endian="little", length=BROADCAST, magic=b"", counter="sequence",
    essential="pressure",
    fields=(
        *_BROADCAST,
        Field("discomfort_index", at=13, type="i16", scale="0.01"),
        Field("heat_stroke", at=15, type="i16", scale="0.01"),
        _SUPPLY,
    ),
)  # fmt: skip

SENSORS = (SENSOR, CALCULATION, BOTH_SENSOR, BOTH_CALCULATION, SENSOR_FLAGS, CALCULATION_FLAGS, SERIAL)
"""A BU's: the first byte and the length tell which."""
FORMATS = (*SENSORS, IM, EP)

Read = Callable[[bytes, str | None], Decoded]


_READERS: dict[tuple[int, int], Read] = {
    (SHORT, 1): SENSOR.compile(), (SHORT, 3): BOTH_SENSOR.compile(),
    (SHORT, 2): CALCULATION.compile(), (LONG, 3): BOTH_CALCULATION.compile(),
    (SHORT, 4): SENSOR_FLAGS.compile(), (LONG, 4): CALCULATION_FLAGS.compile(), (SHORT, 5): SERIAL.compile(),
}  # fmt: skip
_BROADCASTS: dict[str, Read] = {"IM": IM.compile(), "EP": EP.compile()}


def decode(
    data: bytes, address: str | None, keys: Mapping[str, bytes], whole: bytes = b"", model: str | None = None
) -> Decoded | None:
    """Decode OMRON's manufacturer data, after the company identifier. None for what is not known here.

    A BL's is known by its local name, in `whole` or, where the gateway leaves it out, remembered as `model`.
    """
    size, name = len(data), local_name(whole) or model or ""
    if size == BROADCAST:
        read = _BROADCASTS.get(name[:2])
    else:
        read = _READERS.get((size, data[0])) if size and not name.startswith(RECORDING) else None
    return None if read is None else read(data, address)
