"""Gateways: what they send to the advertisements in it. One module for each family, told apart by shape.

README.md in this folder lists the families and specifies our own two.
"""

from __future__ import annotations

from typing import Any

from processor.decode.envelope import Envelope, Joined
from processor.decode.gateways import binary, plain, ruuvi
from processor.decode.gateways.heard import Advertisement, Heard, collect, measured_at, refusal
from processor.errors import DecodeError

__all__ = ["Advertisement", "advertisements", "measured_at"]


def advertisements(envelope: Envelope) -> list[Advertisement | DecodeError]:
    """Return what an envelope's payload says was heard, in order; a gateway that heard nothing gives an empty list.

    An advertisement that cannot be read leaves a DecodeError in its place, so that the others are not lost with it.
    Raises DecodeError where the payload as a whole is of no family known here.
    """
    payload, at, imsi, _ = envelope
    if type(payload) is bytes:
        return binary.advertisements(payload, at, imsi)
    if type(payload) is Joined:
        return collect(payload, lambda part: _part(part, envelope))
    if type(payload) is list and (not payload or type(payload[0]) is dict):
        return collect(payload, lambda document: _document(document, at, imsi))
    return _document(payload, at, imsi)


def _document(document: Any, at: int, imsi: str | None) -> Heard:
    """Read one JSON object: a whole message, or one advertisement of a plain list."""
    if type(document) is dict:
        if "gw_mac" in document or "gwts" in document:
            return [ruuvi.message(document, at, imsi)]
        if "advertisements" in document:
            return plain.advertisements(document, at, imsi)
        if "data" in document:
            data = document["data"]
            if type(data) is dict:
                return ruuvi.posted(data, at, imsi)
            return [plain.advertisement(document, at, imsi)]
    raise refusal("shape", "no gateway known here sends this: see decode/gateways/README.md", "gateway", document)


def _part(part: Any, envelope: Envelope) -> Heard:
    """Read one of several messages that came in one record."""
    if isinstance(part, DecodeError):
        raise part
    return advertisements(part if type(part) is Envelope else envelope._replace(payload=part))
