"""Aranet4, Aranet2, Aranet Radiation and Aranet Radon: manufacturer data of company 0x0702 (SAF Tehnika).

Source: github.com/Anrijs/Aranet4-Python 2.6 (aranet4/client.py and its vectors), which the maker's own page names. Only
with "Smart Home integrations" on (bit 5 of the flags) do they send measurements. An Aranet4's data starts with its
flags, that of the others with a byte for the model.

`measurement_age` is how old the measurement is, which grows with every advertisement: a measurement is known by the
rest, and by its count where there is one.
"""

from __future__ import annotations

from collections.abc import Mapping

from processor.decode.fields import Decoded, Field, Format

COMPANY = 0x0702
INTEGRATIONS = 0x20
_SOURCE = "github.com/Anrijs/Aranet4-Python 2.6, aranet4/client.py"


def _temperature(at: int) -> Field:
    return Field("temperature", at=at, type="u16", scale="0.05", invalid_from=0x4000)


def _pressure(at: int) -> Field:
    return Field("pressure", at=at, type="u16", scale="10", invalid_from=0x8000)  # 0.1 hPa


def _humidity(at: int) -> Field:
    return Field("humidity", at=at, type="u16", scale="0.1", invalid_from=0x8000)


def _times(at: int) -> tuple[Field, ...]:
    return (
        Field("measurement_interval", at=at, type="u16"),
        Field("measurement_age", at=at + 2, type="u16"),
        Field("measurement_count", at=at + 4, type="u8"),
    )


def _table(
    name: str, products: str, length: int, magic: bytes, *fields: Field, unmeasured: tuple[tuple[str, ...], ...] = ()
) -> Format:
    return Format(
        name=name, source=_SOURCE, endian="little", length=length, magic=magic, fields=fields,
        mask=b"\xff" * (len(magic) - 1) + bytes([INTEGRATIONS]), counter="measurement_count",
        unmeasured=unmeasured, passing="measurement_age", products=products,
    )  # fmt: skip


ARANET4 = _table(
    "aranet.4", "Aranet4", 22, b"\x20",
    Field("co2", at=8, type="u16", invalid_from=0x8000),
    _temperature(10), _pressure(12),
    Field("humidity", at=14, type="u8"),
    Field("battery", at=15, type="u8"),
    *_times(17),
)  # fmt: skip
ARANET2 = _table(
    "aranet.2", "Aranet2", 24, b"\x01\x20",
    _temperature(10), _humidity(14), Field("battery", at=17, type="u8"), *_times(19),
)  # fmt: skip
RADIATION = _table(
    "aranet.radiation", "Aranet Radiation", 24, b"\x02\x20",
    Field("radiation_dose", at=6, type="u32"),
    Field("duration", at=10, type="u32"),
    Field("radiation_dose_rate", at=14, type="u16", invalid_from=0x8000),
    Field("battery", at=17, type="u8"),
    *_times(19),
)  # fmt: skip
RADON = _table(
    "aranet.radon", "Aranet Radon, AranetRn1", 24, b"\x03\x20",
    Field("radon", at=8, type="u16", invalid_from=0x1F00),  # from there on they are errors
    _temperature(10), _pressure(12), _humidity(14), Field("battery", at=17, type="u8"), *_times(19),
    unmeasured=(("temperature", "humidity"),),  # an AranetRn1 has neither
)  # fmt: skip

FORMATS = (ARANET4, ARANET2, RADIATION, RADON)
_aranet4 = ARANET4.compile()
_OTHERS = {table.magic[0]: table.compile() for table in (ARANET2, RADIATION, RADON)}


def decode(
    data: bytes, address: str | None, keys: Mapping[str, bytes], whole: bytes = b"", model: str | None = None
) -> Decoded | None:
    """Decode Aranet's manufacturer data, after the company identifier. None for one that says no measurement."""
    size = len(data)
    if size == ARANET4.length:
        return _without_age(_aranet4(data, None), data, ARANET4) if data[0] & INTEGRATIONS else None
    if size != ARANET2.length or not data[1] & INTEGRATIONS:
        return None
    read = _OTHERS.get(data[0])
    return None if read is None else _without_age(read(data, None), data, ARANET2)


def _without_age(decoded: Decoded, data: bytes, table: Format) -> Decoded:
    start, end = table.passes
    return decoded._replace(plain=data[:start] + data[end:])
