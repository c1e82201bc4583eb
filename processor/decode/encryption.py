"""AES-CCM with a 4-byte MIC, as encrypted advertisements use it.

`cryptography` is imported when the first of them arrives: importing it costs a cold start that most never need.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from processor.errors import DecodeError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESCCM

MIC = 4
KEY = 16


def decrypt(key: bytes, nonce: bytes, encrypted: bytes, where: str, associated: bytes | None = None) -> bytes:
    """Return what `encrypted`, its last 4 bytes the MIC, says under `key`; `associated` data is checked with it.

    Raises DecodeError (`key`) where the MIC does not fit, which is a wrong key or altered bytes.
    """
    cipher = _cipher(key)
    from cryptography.exceptions import InvalidTag

    try:
        return cipher.decrypt(nonce, encrypted, associated)
    except InvalidTag:
        raise DecodeError(
            "key", "the message integrity check fails: the bindkey is not this device's, or the bytes were altered",
            where=where, payload=encrypted,
        ) from None  # fmt: skip


def encrypt(key: bytes, nonce: bytes, plain: bytes, associated: bytes | None = None) -> bytes:
    """Return `plain` encrypted, and its MIC: `decrypt` backwards."""
    return _cipher(key).encrypt(nonce, plain, associated)


@lru_cache(maxsize=1024)
def _cipher(key: bytes) -> AESCCM:
    if len(key) != KEY:
        raise DecodeError("key", f"a bindkey has {KEY} bytes, not {len(key)}", where="encryption")
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESCCM
    except ImportError:
        raise DecodeError(
            "cryptography", "this advertisement is encrypted and cryptography is not installed: "
            "install processor[crypto]", where="encryption",
        ) from None  # fmt: skip
    return AESCCM(key, tag_length=MIC)
