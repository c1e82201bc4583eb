"""Who decodes what: company identifiers and service UUIDs to the module of their maker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from processor.decode.fields import Decoded
from processor.decode.formats import bthome, eddystone, ibeacon, ruuvi


class Decoder(Protocol):
    """Decodes one payload, which comes without its company identifier or UUID."""

    def __call__(
        self, data: bytes, address: str | None, keys: Mapping[str, bytes], whole: bytes = b"", model: str | None = None
    ) -> Decoded | None:
        """Return what the payload says, or None where the format is not known. Raises DecodeError.

        keys: bindkeys by address. whole: all of the advertisement's AD structures, for formats that need another one.
        model: what is remembered of the sensor from an earlier advertisement, for formats that do not say it each time.
        """


MANUFACTURERS: dict[int, Decoder] = {
    ibeacon.COMPANY: ibeacon.decode,
    ruuvi.COMPANY: ruuvi.decode,
}

SERVICES: dict[int, Decoder] = {
    bthome.UUID: bthome.decode,
    eddystone.UUID: eddystone.decode,
}

FORMATS = (*ruuvi.FORMATS, *bthome.FORMATS, *ibeacon.FORMATS, *eddystone.FORMATS)
"""Every format's table: its name, source, quantities with their resolutions, counter, whether it may be encrypted."""

SUPERSEDED: dict[str, str] = ruuvi.SUPERSEDED
"""Formats that say less than another one the same sensor also sends: where that one was heard, they are ignored."""
