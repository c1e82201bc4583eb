"""BlueMaestro Tempo Disc T, THD and THPD: manufacturer data of company 0x0133.

Sources: Blue Maestro, "Temperature Humidity Data Logger Commands and API", advertising packet, as
github.com/Bluetooth-Devices/bluemaestro-ble 1.2 and github.com/Ernst79/bleparser (bluemaestro.py and its capture) have
it. The first byte is the version, which tells the model: 13 T, 22 and 23 THD, 27 THPD. The count of logged values says
nothing of an advertisement's, which is why it is not used. The Maxi models are left out: their lengths are not known.
"""

from __future__ import annotations

from collections.abc import Mapping

from processor.decode.fields import Decoded, Field, Format

COMPANY = 0x0133
_SOURCE = "github.com/Bluetooth-Devices/bluemaestro-ble 1.2; github.com/Ernst79/bleparser, bluemaestro.py"
_BATTERY, _TEMPERATURE = Field("battery", at=1, type="u8"), Field("temperature", at=6, type="i16", scale="0.1")
_HUMIDITY = Field("humidity", at=8, type="u16", scale="0.1")
_DEW_POINT = Field("dew_point", at=10, type="i16", scale="0.1")


def _table(name: str, products: str, version: int, length: int, *fields: Field) -> Format:
    return Format(
        name=f"bluemaestro.{name}", source=_SOURCE, endian="big", length=length, magic=bytes([version]),
        products=products,
        fields=(_BATTERY, _TEMPERATURE, *fields),
    )  # fmt: skip


T = _table("t", "Tempo Disc T", 13, 10)
THD = _table("thd", "Tempo Disc THD", 23, 14, _HUMIDITY, _DEW_POINT)
THD_OLD = _table("thd.22", "Tempo Disc THD, version 22", 22, 14, _HUMIDITY, _DEW_POINT)
THPD = _table("thpd", "Tempo Disc THPD", 27, 14, _HUMIDITY, Field("pressure", at=10, type="u16", scale="10"))  # 0.1 hPa

FORMATS = (T, THD, THD_OLD, THPD)
_READERS = {table.magic[0]: table.compile() for table in FORMATS}


def decode(
    data: bytes, address: str | None, keys: Mapping[str, bytes], whole: bytes = b"", model: str | None = None
) -> Decoded | None:
    """Decode BlueMaestro's manufacturer data, after the company identifier. None for a version not known here."""
    read = _READERS.get(data[0]) if data else None
    return None if read is None else read(data, address)
