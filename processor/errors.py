"""The exceptions of this package, and what each means for a record.

ProcessorError
├── DecodeError          permanent: these bytes will never decode; the record is quarantined
│   └── KeyMissing       no key for an encrypted advertisement; usually a neighbour's sensor
├── StoreError           DynamoDB refused or could not be reached, or S3 did not give an object whole
│   ├── InvalidWrite     permanent: DynamoDB calls the request itself invalid
│   └── TransientError   throttling, 5xx, connection, access, missing table: worth a retry
├── CacheError           the cache's table failed, and the cache was told to report that
├── SourceError          a capture, an archive or an object in S3 is not what it should be; nothing of it was changed
├── QueryError           a question that cannot be answered: its SQL, its devices, its export
├── SettingsError        a setting is missing or makes no sense
├── DeployError          a function cannot be packaged or deployed; nothing was changed that it does not name
└── LocalError           the embedded AWS or one of its workers did not do its part
"""

from __future__ import annotations

SHOWN_BYTES = 64


class ProcessorError(Exception):
    """Anything this package raises on purpose."""


class DecodeError(ProcessorError, ValueError):
    """Bytes that cannot mean what they claim to be.

    `reason` is a short fixed word for counters (`json`, `base64`, `truncated`, `length`, `key`, …);
    `where` names the layer or format; `offset` is the first byte at fault, where that can be told;
    `payload` is what was being read. The message holds all of them, the payload as (shortened) hex.
    """

    def __init__(
        self, reason: str, message: str, *, where: str, offset: int | None = None, payload: bytes = b""
    ) -> None:
        self.reason = reason
        self.where = where
        self.offset = offset
        self.payload = payload
        at = "" if offset is None else f" at byte {offset}"
        shown = payload[:SHOWN_BYTES].hex() + ("…" if len(payload) > SHOWN_BYTES else "")
        super().__init__(f"{where}{at}: {message}" + (f" [{shown}]" if shown else ""))


class KeyMissing(DecodeError):
    """An encrypted advertisement whose device has no key here. `device` is its address, which the payload may tell."""

    def __init__(self, device: str, *, where: str, payload: bytes) -> None:
        self.device = device
        super().__init__("key_missing", f"no bindkey for {device}", where=where, payload=payload)


class StoreError(ProcessorError):
    """DynamoDB refused a request or could not be reached, or S3 did not give an object whole.

    `code` is AWS's error code (`ThrottlingException`, …) or `ConnectionError` for what never got an answer.
    """

    def __init__(self, code: str, message: str, *, status: int = 0) -> None:
        self.code = code
        self.status = status
        super().__init__(f"{code}: {message}" + (f" (HTTP {status})" if status else ""))


class InvalidWrite(StoreError):
    """DynamoDB calls the request invalid: sending it again cannot help."""


class TransientError(StoreError):
    """Worth another try: throttling, 5xx, a broken connection, access denied, a missing table."""


class CacheError(ProcessorError):
    """The table behind a cache failed: `__cause__` is its StoreError."""


class QueryError(ProcessorError, ValueError):
    """A question that cannot be answered as it is asked; the message says what to ask instead."""


class SettingsError(ProcessorError, ValueError):
    """A setting is missing or makes no sense; the message names it and what it takes."""


class SourceError(ProcessorError, ValueError):
    """A capture, an archive or an object in S3 cannot be read; the message names it and the place in it."""


class DeployError(ProcessorError, RuntimeError):
    """A function's package or deployment failed; the message says what to type."""


class LocalError(ProcessorError, RuntimeError):
    """The embedded AWS or one of its workers did not start, or died when it should not have."""
