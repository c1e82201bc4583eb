"""Who decodes what: company identifiers and service UUIDs to the module of their maker."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from processor.decode.fields import Decoded
from processor.decode.formats import ruuvi

Decoder = Callable[[bytes, "str | None", Mapping[str, bytes]], "Decoded | None"]
"""(payload, address, keys by address) → what it says, or None where the format is not known.

The payload comes without its company identifier or UUID. Raises DecodeError."""

MANUFACTURERS: dict[int, Decoder] = {
    ruuvi.COMPANY: ruuvi.decode,
}

SERVICES: dict[int, Decoder] = {}
