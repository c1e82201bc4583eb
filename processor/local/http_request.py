"""One HTTP request from an asyncio stream, bounded in size and time: what a gateway's post needs, no more.

RFC 9112: Content-Length and chunked bodies, persistent connections, `Expect: 100-continue`.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import NamedTuple

MAXIMUM_HEAD = 16 * 1024
IDLE_SECONDS = 60.0
"""How long a connection may take for the head of its next request."""

BODY_SECONDS = 60.0


class Request(NamedTuple):
    """A request: its method, its body, and whether the client means to send another."""

    method: str
    body: bytes
    keep_alive: bool


class Refused(Exception):
    """A request that cannot be read; `status` says why, the connection ends."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        self.status = status
        super().__init__(message)


async def read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, maximum_body: int) -> Request | None:
    """Return the next request, None where the client closed instead. Raises Refused, TimeoutError, ConnectionError."""
    async with asyncio.timeout(IDLE_SECONDS):
        head = await _head(reader)
    if head is None:
        return None
    method, version, headers = _parsed(head)
    async with asyncio.timeout(BODY_SECONDS):
        if method == "POST" and headers.get("expect", "").lower() == "100-continue":
            _length(headers, maximum_body)  # refuse before the body is sent
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            if "transfer-encoding" in headers:
                body = await _chunked(reader, headers, maximum_body)
            else:
                body = await reader.readexactly(_length(headers, maximum_body))
        except asyncio.IncompleteReadError as error:
            raise Refused(HTTPStatus.BAD_REQUEST, "the connection ended amid the body") from error
    tokens = [token.strip() for token in headers.get("connection", "").lower().split(",")]
    keep_alive = "close" not in tokens and (version == "HTTP/1.1" or "keep-alive" in tokens)
    return Request(method, body, keep_alive)


async def _head(reader: asyncio.StreamReader) -> bytes | None:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if not error.partial.strip():
            return None
        raise Refused(HTTPStatus.BAD_REQUEST, "the connection ended amid the head") from error
    except asyncio.LimitOverrunError as error:
        raise Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"at most {MAXIMUM_HEAD} bytes of head") from error


def _parsed(head: bytes) -> tuple[str, str, dict[str, str]]:
    """Return method, version and the headers by their lower-case names."""
    first, *lines = head.decode("latin-1").strip("\r\n").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or words[2] not in ("HTTP/1.1", "HTTP/1.0"):
        raise Refused(HTTPStatus.BAD_REQUEST, "a request begins like POST / HTTP/1.1")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise Refused(HTTPStatus.BAD_REQUEST, "a header looks like Name: value")
        name = name.lower()
        if name in ("content-length", "transfer-encoding") and name in headers:
            raise Refused(HTTPStatus.BAD_REQUEST, f"{name} twice")
        headers[name] = value.strip()
    return words[0], words[2], headers


def _length(headers: dict[str, str], maximum: int) -> int:
    text = headers.get("content-length", "0")
    if not (text.isascii() and text.isdigit()):
        raise Refused(HTTPStatus.BAD_REQUEST, "Content-Length is a number")
    if len(text) > 18 or int(text) > maximum:
        raise _too_large(maximum)
    return int(text)


async def _chunked(reader: asyncio.StreamReader, headers: dict[str, str], maximum: int) -> bytes:
    if headers["transfer-encoding"].lower() != "chunked" or "content-length" in headers:
        raise Refused(HTTPStatus.BAD_REQUEST, "the only transfer encoding is chunked, without a Content-Length")
    body = bytearray()
    try:
        while size := _chunk_size(await reader.readuntil(b"\r\n")):
            if len(body) + size > maximum:
                raise _too_large(maximum)
            body += await reader.readexactly(size)
            if await reader.readexactly(2) != b"\r\n":
                raise Refused(HTTPStatus.BAD_REQUEST, "a chunk is longer than its size")
        while await reader.readuntil(b"\r\n") != b"\r\n":
            pass  # trailers say nothing here
    except asyncio.LimitOverrunError as error:
        raise Refused(HTTPStatus.BAD_REQUEST, "a line without an end among the chunks") from error
    return bytes(body)


def _chunk_size(line: bytes) -> int:
    digits = line.partition(b";")[0].strip()
    if not digits or len(digits) > 15 or digits.strip(b"0123456789abcdefABCDEF"):
        raise Refused(HTTPStatus.BAD_REQUEST, "a chunk begins with its size in hexadecimal")
    return int(digits, 16)


def _too_large(maximum: int) -> Refused:
    return Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {maximum} bytes of body")
