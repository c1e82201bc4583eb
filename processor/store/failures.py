"""What DynamoDB's error codes mean: the exception, whether trying again at once can help, and what the user can do.

Source: "Error handling with DynamoDB", Amazon DynamoDB Developer Guide, and the retry rules of AWS's SDKs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from processor.errors import InvalidWrite, StoreError, TransientError

CONNECTION = "ConnectionError"
"""No whole answer: the connection failed, timed out, or what came was no DynamoDB answer."""
CHECKSUM = "ChecksumError"
"""The answer's bytes are not those that its `x-amz-crc32` was computed from."""
CERTIFICATE = "CertificateError"
"""The server's certificate is not trusted."""
DEADLINE = "DeadlineExceeded"
"""The caller's deadline passed before the first attempt."""

INVALID = frozenset({
    "ItemCollectionSizeLimitExceededException", "RequestEntityTooLarge", "SerializationException",
    "ValidationException",
})  # fmt: skip

THROTTLING = frozenset({
    "BandwidthLimitExceeded", "LimitExceededException", "ProvisionedThroughputExceededException",
    "RequestLimitExceeded", "RequestThrottled", "RequestThrottledException", "SlowDown", "ThrottledException",
    "Throttling", "ThrottlingException", "TooManyRequestsException",
})  # fmt: skip

BUSY = frozenset({
    CHECKSUM, CONNECTION, "InternalFailure", "InternalServerError", "PriorRequestNotComplete",
    "ReplicatedWriteConflictException", "RequestTimeout", "RequestTimeoutException", "ServiceUnavailable",
    "TransactionConflictException", "TransactionInProgressException",
})  # fmt: skip

EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException"})

SKEWED = frozenset({
    "InvalidSignatureException", "RequestExpired", "RequestInTheFuture", "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
})  # fmt: skip
"""How a signature is refused whose time is off: DynamoDB itself says InvalidSignatureException, "Signature expired"."""

DENIED = frozenset({
    "AccessDenied", "AccessDeniedException", "IncompleteSignature", "IncompleteSignatureException",
    "InvalidClientTokenId", "MissingAuthenticationToken", "MissingAuthenticationTokenException", "NotAuthorized",
    "OptInRequired", "UnrecognizedClientException", "UnauthorizedException",
})  # fmt: skip

MISSING = frozenset({"ResourceNotFoundException", "TableNotFoundException"})

NOT_READY = MISSING | {"ResourceInUseException"}

TRANSIENT = THROTTLING | BUSY | EXPIRED | SKEWED | DENIED | NOT_READY

_HINTS = (
    (MISSING, "create the table, or check name and region"),
    (frozenset({"AccessDenied", "AccessDeniedException"}), "let the role do this, on this table and with its KMS key"),
    (EXPIRED, "renew the credentials"),
    (SKEWED, "check the secret key and this machine's clock"),
    (DENIED, "check the AWS credentials and the region"),
    (THROTTLING, "raise the table's capacity, or send less at once"),
)


def failure(code: str, message: str, *, operation: str, host: str, status: int = 0) -> StoreError:
    """Return the exception of a refused request: InvalidWrite, TransientError, or StoreError for any other code.

    `code` is AWS's, or one of this module's; an answer without one (a proxy's error page, say) is transient, for it
    says nothing about the data.
    """
    kind = StoreError
    if code in INVALID or status == 413:
        kind = InvalidWrite
    elif code in TRANSIENT or code.startswith("KMS") or not code or status >= 500 or status in (0, 401, 403, 429):
        kind = TransientError
    hint = next((f"; {hint}" for codes, hint in _HINTS if code in codes), "")
    return kind(code or "UnknownError", f"{operation} at {host}: {message}{hint}", status=status)


def name_tables(error: StoreError, body: Mapping[str, Any]) -> None:
    """Have an error that says a table is missing say which: DynamoDB does not."""
    if error.code in MISSING:
        names = ", ".join(body.get("RequestItems", ())) or body.get("TableName")
        error.args = (f"{error}: {names}",)


def retryable(error: StoreError) -> bool:
    """Tell whether the same request, sent again in a moment, may well succeed."""
    return error.code in THROTTLING or error.code in BUSY or error.status >= 500 or error.status == 429
