"""Who decodes what: company identifiers and service UUIDs to the module of their maker."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from functools import lru_cache, partial
from typing import Protocol

from processor.decode.advertisement import MANUFACTURER_DATA, MAX_LEGACY, SERVICE_DATA_16, local_name
from processor.decode.fields import Decoded
from processor.decode.formats import (
    airthings,
    aranet,
    atc,
    bluemaestro,
    bthome,
    eddystone,
    ela,
    gatt,
    govee,
    ibeacon,
    inkbird,
    jaalee,
    mesh,
    mibeacon,
    minew,
    moko,
    mopeka,
    omron,
    qingping,
    ruuvi,
    sensorpush,
    switchbot,
    teltonika,
    thermopro,
)
from processor.decode.short import HEAD, Alone, Whole, row_by_row
from processor.reading import Reading


class Table(Protocol):
    """What every kind of format tells of itself."""

    @property
    def name(self) -> str:
        """The format's name."""

    @property
    def source(self) -> str:
        """Where its facts come from."""

    @property
    def products(self) -> str:
        """Which devices send it."""

    @property
    def resolutions(self) -> Mapping[str, str | None]:
        """Its quantities, each with its step where it has one."""

    @property
    def counter(self) -> str | None:
        """The quantity that counts its measurements, if one does."""

    @property
    def encrypted(self) -> bool:
        """Whether it may be encrypted."""


class Fixed(Protocol):
    """A table whose advertisements can be known by how they start."""

    @property
    def length(self) -> int:
        """Its payload's length."""

    @property
    def starts(self) -> list[bytes]:
        """What its payload's first byte can be."""

    def compile_whole(self) -> Whole:
        """Return its short way."""

    def compile_alone(self, size: int) -> Alone:
        """Return its short way where nothing but flags stands beside it."""


class Decoder(Protocol):
    """Decodes one payload, which comes without its company identifier or UUID, but see `BY_NAME`."""

    def __call__(
        self, data: bytes, address: str | None, keys: Mapping[str, bytes], whole: bytes = b"", model: str | None = None
    ) -> Decoded | None:
        """Return what the payload says, or None where the format is not known. Raises DecodeError.

        keys: bindkeys by address. whole: all of the advertisement's AD structures, for formats that need another one.
        model: what is remembered of the sensor from an earlier advertisement, for formats that do not say it each time.
        """


def _nordic(
    data: bytes, address: str | None, keys: Mapping[str, bytes], whole: bytes = b"", model: str | None = None
) -> Decoded | None:
    """Decode manufacturer data of 0x0059 (Nordic): Mopeka's ten bytes beside its service UUID, else SwitchBot's."""
    decoder = mopeka.decode if mopeka.is_ours(data, whole) else switchbot.decode_manufacturer
    return decoder(data, address, keys, whole, model)


def _apple(
    data: bytes, address: str | None, keys: Mapping[str, bytes], whole: bytes = b"", model: str | None = None
) -> Decoded | None:
    """Decode manufacturer data of 0x004C (Apple): Jaalee's iBeacon with one byte more, else an iBeacon."""
    decoder = jaalee.decode_beacon if jaalee.is_ours(data) else ibeacon.decode
    return decoder(data, address, keys, whole, model)


MANUFACTURERS: dict[int, Decoder] = {
    airthings.COMPANY: airthings.decode,
    aranet.COMPANY: aranet.decode,
    bluemaestro.COMPANY: bluemaestro.decode,
    ela.COMPANY: ela.decode,
    govee.COMPANY: govee.decode,
    govee.COMPANY_H5179: govee.decode_h5179,
    govee.COMPANY_NOKIA: govee.decode_nokia,
    ibeacon.COMPANY: _apple,
    minew.COMPANY: minew.decode_manufacturer,
    mopeka.COMPANY: _nordic,
    omron.COMPANY: omron.decode,
    ruuvi.COMPANY: ruuvi.decode,
    switchbot.COMPANY: switchbot.decode_manufacturer,
    teltonika.COMPANY: teltonika.decode,
}

SERVICES: dict[int, Decoder] = {
    atc.UUID: atc.decode,
    bthome.UUID: bthome.decode,
    eddystone.UUID: eddystone.decode,
    jaalee.UUID: jaalee.decode,
    jaalee.UUID_NEW: jaalee.decode,
    mibeacon.UUID: mibeacon.decode,
    minew.UUID: minew.decode,
    moko.UUID: moko.decode,
    qingping.UUID: qingping.decode,
    switchbot.UUID: switchbot.decode,
    switchbot.UUID_OLD: switchbot.decode,
    **gatt.SERVICES,
}

FIXED: tuple[tuple[int, int, tuple[Fixed, ...]], ...] = (
    (MANUFACTURER_DATA, aranet.COMPANY, aranet.FORMATS),
    (MANUFACTURER_DATA, bluemaestro.COMPANY, bluemaestro.FORMATS),
    (MANUFACTURER_DATA, ela.COMPANY, ela.FORMATS),
    (MANUFACTURER_DATA, govee.COMPANY, (govee.H5051, govee.H5074, govee.H5075)),
    (MANUFACTURER_DATA, govee.COMPANY_H5179, (govee.H5179,)),
    (MANUFACTURER_DATA, ibeacon.COMPANY, ibeacon.FORMATS),
    (MANUFACTURER_DATA, ruuvi.COMPANY, ruuvi.FORMATS),
    (SERVICE_DATA_16, atc.UUID, atc.PLAIN),
    (SERVICE_DATA_16, eddystone.UUID, (eddystone.UID, eddystone.TLM, eddystone.EID, eddystone.ETLM)),
    (SERVICE_DATA_16, switchbot.UUID, switchbot.SERVICE),
)
"""Formats that their length and first byte tell, and whose values are the table's and nothing else."""

_TABLES: dict[Whole, Fixed] = {}
"""The tables of the short ways that follow."""


def _compiled(table: Fixed) -> Whole:
    way = table.compile_whole()
    _TABLES[way] = table
    return way


WHOLE: dict[bytes, Whole] = {
    bytes([HEAD - 1 + table.length, ad_type]) + number.to_bytes(2, "little") + first: way
    for ad_type, number, tables in FIXED
    for table, way in [(table, _compiled(table)) for table in tables]
    for first in table.starts
}
"""The short way of those formats: by the AD structure's length, type, identifier and the payload's first byte. It takes
half of the time; for what it leaves (something is not as it should be), their modules' decoders are asked."""

MODELLED: dict[tuple[str, bytes], Whole] = {
    (model, bytes([HEAD - 1 + length, MANUFACTURER_DATA]) + company.to_bytes(2, "little")): way
    for table, way in [(table, _compiled(table)) for table in switchbot.MANUFACTURER]
    for model in table.models
    for length in range(table.length, MAX_LEGACY - HEAD + 1)
    for company in (switchbot.COMPANY, switchbot.COMPANY_NORDIC)
}
"""The short way where neither the payload nor anything beside it tells the model: by the one that is remembered, and
the AD structure's length, type and identifier. What follows the bytes of the table is not known, but may be there."""


@lru_cache(maxsize=1024)
def alone_of(way: Whole, size: int) -> Alone | None:
    """Return the shorter way where nothing but flags stands beside the AD structure, and all are `size` bytes."""
    table = _TABLES.get(way)
    return None if table is None else table.compile_alone(size)


BY_NAME: dict[bytes, Decoder] = {
    **dict.fromkeys(inkbird.NAMES, inkbird.decode),
    **dict.fromkeys(sensorpush.NAMES, sensorpush.decode),
    **dict.fromkeys(thermopro.NAMES, thermopro.decode),
}
"""By the first three bytes of the local name, makers that put data in the place of the company identifier: they get all
of the manufacturer data, and as `model` the local name, the advertisement's own or the one remembered."""

BY_UUID: dict[bytes, Decoder] = {
    **govee.MEAT,
    sensorpush.UUID: sensorpush.decode,
    sensorpush.UUID_HT1: sensorpush.decode,
}
"""The same by a service UUID of 2 or 16 bytes, as advertised."""

STARTS: dict[Decoder | None, Container[int]] = {_apple: ibeacon.IBEACON.magic[:1]}
"""What a payload must start with, that its decoder may know it: Apple's devices say something else all day."""

OBJECTS: dict[Decoder | None, Callable[[], Alone]] = {
    decoder: partial(row_by_row, decoder, table_of)
    for decoder, table_of in (
        (bthome.decode, bthome.table_of), (mibeacon.decode, mibeacon.table_of), (qingping.decode, qingping.table_of)
    )
}  # fmt: skip
"""What makes the shorter ways of formats whose payload is a row of objects."""

NO_WAYS: Mapping[int, Whole] = {}
_BORROWED_WAYS: dict[Decoder, Callable[[str], Mapping[int, Whole]]] = {
    inkbird.decode: inkbird.ways, thermopro.decode: thermopro.ways
}  # fmt: skip


def borrowed_ways(decoder: Decoder | None, model: str) -> Mapping[int, Whole]:
    """Return the short ways of what `BY_NAME` or `BY_UUID` told, by the length of the AD structure."""
    if decoder is None:
        return NO_WAYS
    ways = _BORROWED_WAYS.get(decoder)
    return govee.MEAT_WAYS.get(decoder, NO_WAYS) if ways is None else ways(model)


FORMATS: tuple[Table, ...] = (
    *ruuvi.FORMATS, *bthome.FORMATS, *ibeacon.FORMATS, *eddystone.FORMATS, *govee.FORMATS, *omron.FORMATS,
    *minew.FORMATS, *inkbird.FORMATS, *thermopro.FORMATS, *sensorpush.FORMATS, *aranet.FORMATS, *teltonika.FORMATS,
    *bluemaestro.FORMATS, *mopeka.FORMATS, *ela.FORMATS, *moko.FORMATS, *airthings.FORMATS, *jaalee.FORMATS,
    *atc.FORMATS, *mibeacon.FORMATS, *qingping.FORMATS, *switchbot.FORMATS, *mesh.FORMATS, *gatt.FORMATS,
)  # fmt: skip
"""Every format's table: its name, source, devices, quantities and steps, counter, whether it may be encrypted."""

REMEMBERED = ("GV", "Govee_", "B5178", "sps", "tps", "TP3", "TP9", "SensorPush")
"""How the local names start that a decoder asks for, or that tell models apart."""
_OMRON_STARTS = ("IM", "EP", omron.RECORDING)
_OMRON_NAMES = ("IM", "IM-BL01", "EP", "EP-BL01", "Env", "EnvSensor-BL01")
"""A 2JCIE-BL's names, short and whole (OMRON, Communication Interface Manual, 1.3.2; node-omron-envsensor's README for
the last two). Others' names start with the same letters: EPSON-ABCD."""
_OMRON = bytes([MANUFACTURER_DATA]) + omron.COMPANY.to_bytes(2, "little")
"""How its manufacturer data start. Where another's bytes are the same, one name too many is remembered."""


def model_of(whole: bytes) -> str | None:
    """Return what to remember of the sensor that sent this advertisement: later ones may not say it. None for nothing.

    SwitchBot's product; for Govee, Inkbird, OMRON's 2JCIE-BL, SensorPush and ThermoPro the local name.
    """
    model = switchbot.model_of(whole)
    if model is None:
        name = local_name(whole)
        if name is not None and (
            name.startswith(REMEMBERED) or (name.startswith(_OMRON_STARTS) and _is_bl(name, whole))
        ):
            model = name
    return model


def _is_bl(name: str, whole: bytes) -> bool:
    return name in _OMRON_NAMES or _OMRON in whole


DOUBTFUL: frozenset[str] = frozenset({govee.H5101.name, *(table.name for table in omron.SENSORS)})
"""Formats that are taken for granted where no name says otherwise, though a sensor that has another name sends the same
bytes: a Govee H5106, an OMRON 2JCIE-BL that records. Whoever remembers names asks for one before these are believed."""

SUPERSEDED: dict[str, tuple[str, int]] = ruuvi.SUPERSEDED
"""Formats that say less of a sample than another one the same sensor also sends: the other one's name, and the bits of
its counter that they share. Where both of a sample were heard, the lesser one is left out."""

BETTER: dict[str, int] = dict(SUPERSEDED.values())


def sample_of(reading: Reading) -> tuple[str, str, int] | None:
    """Return what readings of one sample in a better and a lesser format have in common; None for others."""
    counter, name = reading.counter, reading.format
    if counter is None:
        return None
    if name in BETTER:
        return reading.device, name, counter & BETTER[name]
    if name in SUPERSEDED:
        return reading.device, SUPERSEDED[name][0], counter
    return None
