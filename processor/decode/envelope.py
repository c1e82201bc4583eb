"""SORACOM Funnel's envelope, in all its shapes: a record's bytes to its payload and when it came.

Source: users.soracom.io, "SORACOM Funnel": data format, protocols. The reference spells `operatorid` and
`credentialId`, its examples `operatorId` and `credentialsId`. Content that Funnel was not told to be JSON comes as
text or, in Base64, as binary, even if it is JSON; with "payloads only" the record is the content itself.
"""

from __future__ import annotations

import json
import re
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import orjson

from processor.errors import DecodeError

WHERE = "envelope"
MAX_BROKEN = 1000
"""So many bad entries of one record are told apart; then the rest of it is refused as one, so that ten megabytes
of nothing cost neither minutes nor gigabytes."""

MAX_VALUES = 500_000
"""So many values (or a few less: what separates them is counted, in texts too) may a record's JSON have. A record of
three bytes a value would take ninety times its size in memory; the fullest one of a gateway has one in twenty bytes."""

_JSON_STARTS = (b"{", b"[")
_SEPARATORS = (b"{", b"[", b",")
_PRINTABLE = 33
_BLANKS = b" \t\r\n\0"
"""What may stand around JSON: its white space, and the NUL that gateways written in C like to send along."""

_BOM = b"\xef\xbb\xbf"
_DIGITS = re.compile(r"[0-9]{10}|[0-9]{13}")
_ESCAPED_COLON = re.compile(rb"\\u003[aA]")
_NOTHING: Mapping[str, Any] = {}

# Possessive, and content with an unclosed string: one pass over any input, however broken.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[{}\[\]]', re.DOTALL)


class Envelope(NamedTuple):
    """A record's payload, and what Funnel says of it.

    payload: an object or a list (parsed JSON), bytes (binary, or text that is not JSON), or Joined.
    at: when Funnel had it, in ms since 1970; the record's arrival where no usable time is given.
    imsi: the SIM's. fields: the envelope's own fields as they came; none for a payload-only record.
    """

    payload: Any
    at: int
    imsi: str | None = None
    fields: Mapping[str, Any] = _NOTHING

    @property
    def source_protocol(self) -> str | None:
        """How the payload came to Funnel: tcp, udp, http, sigfox, lora or unspecified."""
        return _text(self.fields.get("sourceProtocol"))

    @property
    def imei(self) -> str | None:
        """The modem's number."""
        return _text(self.fields.get("imei"))

    @property
    def sim_id(self) -> str | None:
        """The SIM's id, where SORACOM is set to send it."""
        return _text(self.fields.get("simId"))

    @property
    def operator_id(self) -> str | None:
        """The SORACOM account."""
        return _text(self.fields.get("operatorId", self.fields.get("operatorid")))

    @property
    def credentials_id(self) -> str | None:
        """The name of the credentials that Funnel writes to the stream with."""
        return _text(self.fields.get("credentialsId", self.fields.get("credentialId")))


class Joined(list[Any]):
    """The messages of a payload that TCP joined, in order: parsed JSON, or the DecodeError of a broken one.

    Where whole envelopes were joined, their Envelopes.
    """


def open_record(data: bytes, arrived_at: int) -> Envelope:
    """Return the envelope of one Kinesis record (one user record, where it was aggregated).

    arrived_at is the record's approximate arrival, in ms since 1970. Raises DecodeError where nothing is there
    (`empty`), or where JSON is claimed and it is cut off (`truncated`), broken (`json`, `utf-8`), more than 254
    levels deep (`nesting`), has a key twice in one object (`keys`) or more values than any gateway sends (`many`).
    """
    content = _content(data)
    if type(content) is dict:
        return _opened(content, arrived_at)
    if type(content) is Joined:
        content = _opened_parts(content, arrived_at)
    elif type(content) is bytes and content[0] >= _PRINTABLE:
        content = _decoded(_unquoted(content))
    return Envelope(content, arrived_at)


def _opened(document: dict[str, Any], arrived_at: int) -> Envelope:
    """Return the envelope that a JSON object is; an object without `payloads` is a payload itself."""
    if "payloads" not in document:
        return Envelope(document, arrived_at)
    payload = document["payloads"]
    kind = type(payload)
    if kind is str:
        payload = _content(payload.encode()) if payload.startswith(("{", "[")) else _decoded(payload)
    elif kind is not dict and kind is not list:
        message = "`payloads` is an object, a list or text"
        raise DecodeError("payload", message, where=WHERE, payload=orjson.dumps(payload))
    return Envelope(payload, _time(document.get("timestamp"), arrived_at), _text(document.get("imsi")), document)


def _opened_parts(parts: Joined, arrived_at: int) -> Joined:
    """Return several messages, the envelopes among them opened; after MAX_BROKEN bad ones the rest is one."""
    found = Joined()
    broken = 0
    for part in parts:
        found.append(_opened_part(part, arrived_at))
        broken += isinstance(found[-1], DecodeError)
        if broken == MAX_BROKEN:
            found.append(too_many(WHERE))
            break
    return found


def _opened_part(part: Any, arrived_at: int) -> Any:
    """Return one of several messages; an Envelope where it is one, the DecodeError where that makes no sense."""
    if type(part) is not dict or "payloads" not in part:
        return part
    try:
        return _opened(part, arrived_at)
    except DecodeError as error:
        return kept(error)


def _unquoted(content: bytes) -> str | bytes:
    """Return the text of a JSON string, and anything else as it is."""
    if not content.startswith(b'"'):
        return content
    try:
        text = orjson.loads(content)
    except orjson.JSONDecodeError:
        return content
    return str(text)


def _decoded(text: str | bytes) -> Any:
    """Return the content of Base64; text that is not Base64 is the content."""
    try:
        content = a2b_base64(text, strict_mode=True)
    except ValueError:
        content = text.encode() if isinstance(text, str) else text
    return _content(content)


def _content(data: bytes) -> Any:
    """Return JSON parsed, and anything else as it is."""
    if data[:1] not in _JSON_STARTS:
        bare = data.removeprefix(_BOM).lstrip(_BLANKS)
        if not bare:
            raise DecodeError("empty", "nothing but white space", where=WHERE, payload=data)
        if bare[:1] not in _JSON_STARTS:
            return data
        data = bare
    if len(data) > MAX_VALUES and sum(map(data.count, _SEPARATORS)) > MAX_VALUES:
        raise DecodeError("many", f"more than {MAX_VALUES} values in one record", where=WHERE, payload=data)
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError:
        document = None
    return _several(data) if document is None else _checked(document, data)


def _checked(document: Any, data: bytes) -> Any:
    """Return the document, if no object in it has a key twice: every parser would drop one of the values in silence.

    RFC 8259, section 4, leaves open what it means; here a dropped value could be an advertisement.
    """
    try:
        again = orjson.dumps(document)
    except orjson.JSONEncodeError:  # orjson reads 1,024 levels and writes 254
        raise DecodeError("nesting", "more than 254 levels deep", where=WHERE, payload=data) from None
    # Nothing is dropped where it is written the same again, as most envelopes are, or with as many colons: a dropped
    # key takes its own along. (Only an escaped colon could make up for that.)
    if again != data and (again.count(b":") != data.count(b":") or (b"\\" in data and _ESCAPED_COLON.search(data))):
        _check_keys(data)
    return document


def _check_keys(data: bytes) -> None:
    def check(pairs: list[tuple[str, Any]]) -> None:
        seen = set()
        for key, _ in pairs:
            if key in seen:
                message = f"the key {key[:40]!r} comes twice in one object: which one is meant?"
                raise DecodeError("keys", message, where=WHERE, payload=data)
            seen.add(key)

    json.loads(data, object_pairs_hook=check, parse_int=str, parse_float=str)


def _several(data: bytes) -> Any:
    """Return the messages in what is not one JSON document, as Joined. Raises DecodeError where none is whole."""
    found = Joined()
    broken = 0
    for start, end, whole in _pieces(data):
        try:
            found.append(_parsed(data, start, end, whole))
        except DecodeError as error:
            found.append(kept(error))
            broken += 1
            if broken == MAX_BROKEN:
                found.append(too_many("envelope"))
                break
    if all(isinstance(part, DecodeError) for part in found):
        raise found[0]
    return found[0] if len(found) == 1 else found


def kept(error: DecodeError) -> DecodeError:
    """Return an error that can be kept: without its traceback, whose frames hold on to the whole record."""
    error.__context__ = None
    return error.with_traceback(None)


def too_many(where: str) -> DecodeError:
    """Return the error that stands for the rest of a record with too many bad entries."""
    return DecodeError("many", f"{MAX_BROKEN} bad entries: the rest of the record was not read", where=where)


def _pieces(data: bytes) -> Iterator[tuple[int, int, bool]]:
    """Yield (start, end, whether it is closed) of what could be a JSON document each, in one pass."""
    start = depth = 0
    for token in _TOKEN.finditer(data):
        mark = data[token.start()]
        if mark in b"{[":
            depth += 1
        elif mark in b"}]":
            depth -= 1
            if depth == 0:
                yield start, token.end(), True
                start = token.end()
    if data[start:].strip(_BLANKS):
        yield start, len(data), depth <= 0


def _parsed(data: bytes, start: int, end: int, whole: bool) -> Any:
    piece = data[start:end]
    bare = piece.strip(_BLANKS)
    start += len(piece) - len(piece.lstrip(_BLANKS))
    try:
        return _checked(orjson.loads(bare), bare)
    except orjson.JSONDecodeError as error:
        message, at = error.msg, error.pos
    if not whole:
        message = "the JSON ends before it is complete: TCP may have split it"
        raise DecodeError("truncated", message, where=WHERE, offset=start, payload=data)
    try:
        at = len(bare.decode()[:at].encode())  # orjson counts characters
    except UnicodeDecodeError as error:
        message, at = error.reason, error.start
        reason = "utf-8"
    else:
        reason = "json"
    raise DecodeError(reason, message, where=WHERE, offset=start + at, payload=data)


def _time(value: Any, arrived_at: int) -> int:
    """Return Funnel's time in ms since 1970; the record's arrival for anything but a time from 2001 to 2286."""
    if type(value) is str and _DIGITS.fullmatch(value):
        value = int(value)
    if type(value) is int or type(value) is float:
        if 10**12 <= value < 10**13:
            return round(value)
        if 10**9 <= value < 10**10:  # Funnel sends milliseconds; a capture made by hand may hold seconds
            return round(value * 1000)
    return arrived_at


def _text(value: Any) -> str | None:
    """Return a field that is short text (or a number meant as text), else None."""
    if type(value) is int:
        value = str(value)
    return value if type(value) is str and 0 < len(value) <= 64 else None


def seal(payload: Any, *, at: int, imsi: str, source_protocol: str = "http", stream: str = "stream") -> bytes:
    """Return the record that Funnel makes of a payload: `open_record` backwards.

    payload: an object, a list, text, or bytes, which go as Base64. at: Funnel's time, in ms since 1970.
    """
    return orjson.dumps(
        {
            "operatorId": "OP0000000000",
            "credentialsId": "credentials",
            "destination": {
                "provider": "aws",
                "service": "kinesis",
                "resourceUrl": f"https://kinesis.ap-northeast-1.amazonaws.com/{stream}",
                "payloadsOnly": False,
                "randomizePartitionKey": True,
            },
            "sourceProtocol": source_protocol,
            "payloads": b2a_base64(payload, newline=False).decode() if isinstance(payload, bytes) else payload,
            "timestamp": at,
            "imsi": imsi,
        }
    )
