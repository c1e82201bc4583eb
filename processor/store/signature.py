"""AWS Signature Version 4 of DynamoDB requests.

Source: "AWS Signature Version 4 for API requests", AWS Identity and Access Management User Guide. Signed are the body
and the headers that botocore signs: content-type, host, x-amz-date, x-amz-security-token and x-amz-target.
"""

from __future__ import annotations

import time
from hashlib import sha256
from hmac import digest
from typing import TYPE_CHECKING, NamedTuple

from processor.errors import TransientError
from processor.store.credentials import Credentials

CONTENT_TYPE = "application/x-amz-json-1.0"

HELD = 2047
"""So many bytes hashlib hashes without letting go of the interpreter's lock. hmac.digest always lets go. Where sixteen
threads wait for the lock, getting it back costs more than hashing some kilobytes does: 10 % of a call's CPU."""

if TYPE_CHECKING:
    from hashlib import _Hash

    Keyed = tuple[_Hash, _Hash]


class Signature(NamedTuple):
    """The values of the headers `X-Amz-Date` and `Authorization`."""

    date: str
    authorization: str


class Signer:
    """Signs POST requests to one host, as it stands in the Host header, and path.

    The path must already be in its canonical form. Threads share a Signer: its caches are tuples, replaced whole.
    """

    def __init__(self, *, region: str, host: str, path: str = "/") -> None:
        self._region = region
        self._before = f"POST\n{path}\n\ncontent-type:{CONTENT_TYPE}\nhost:{host}\nx-amz-date:"
        self._time = (0, "19700101T000000Z")
        self._key: tuple[Credentials | None, str, Keyed] = (None, "", _keyed(b""))

    def sign(self, target: str, body: bytes, credentials: Credentials, now: float) -> Signature:
        """Return the signature of `body` sent to `target` (`DynamoDB_20120810.UpdateItem`) at `now`, in epoch seconds.

        Raises TransientError for credentials that no header can carry.
        """
        date = self._date(int(now))
        day = date[:8]
        if credentials.token:
            token, signed = (
                f"x-amz-security-token:{credentials.token}\n",
                "x-amz-date;x-amz-security-token;x-amz-target",
            )
        else:
            token, signed = "", "x-amz-date;x-amz-target"
        canonical = (
            f"{self._before}{date}\n{token}x-amz-target:{target}\n\ncontent-type;host;{signed}\n{_hexdigest(body)}"
        )
        scope = f"{day}/{self._region}/dynamodb/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{sha256(canonical.encode()).hexdigest()}"
        inner, outer = self._signing_key(credentials, day)
        inner, outer = inner.copy(), outer.copy()
        inner.update(text.encode())
        outer.update(inner.digest())
        signature = outer.hexdigest()
        return Signature(
            date,
            f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, "
            f"SignedHeaders=content-type;host;{signed}, Signature={signature}",
        )

    def _date(self, second: int) -> str:
        cached, date = self._time
        if cached != second:
            date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
            self._time = (second, date)
        return date

    def _signing_key(self, credentials: Credentials, day: str) -> Keyed:
        """Return the key of a day: six hashes that the day's other requests need not repeat."""
        known, known_day, keyed = self._key
        if known != credentials or known_day != day:
            _check(credentials)
            key = f"AWS4{credentials.secret_key}".encode()
            for part in (day, self._region, "dynamodb", "aws4_request"):
                key = digest(key, part.encode(), "sha256")
            keyed = _keyed(key)
            self._key = (credentials, day, keyed)
        return keyed


def _keyed(key: bytes) -> Keyed:
    """Return the inner and the outer hash of HMAC (RFC 2104) after they have taken the key."""
    block = key.ljust(64, b"\0")
    return sha256(bytes(byte ^ 0x36 for byte in block)), sha256(bytes(byte ^ 0x5C for byte in block))


def _hexdigest(data: bytes) -> str:
    hashed = sha256()
    for at in range(0, len(data), HELD):
        hashed.update(data[at : at + HELD])
    return hashed.hexdigest()


def _check(credentials: Credentials) -> None:
    """Refuse what would break a header: most often a line break that came along when a secret was pasted."""
    for name, value in zip(("access key", "secret key", "session token"), credentials, strict=True):
        if value and not (value.isascii() and value.isprintable() and " " not in value):
            raise TransientError(
                "InvalidCredentials",
                f"the {name} holds a space, a line break or another character that no AWS credential has: "
                "check how the AWS_… variables are set",
            )
