"""Who decodes what: company identifiers and service UUIDs to the module of their maker."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from processor.decode.fields import Decoded
from processor.decode.formats import bthome, eddystone, ibeacon, ruuvi

Decoder = Callable[[bytes, "str | None", Mapping[str, bytes]], "Decoded | None"]
"""(payload, address, keys by address) → what it says, or None where the format is not known.

The payload comes without its company identifier or UUID. Raises DecodeError."""

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
