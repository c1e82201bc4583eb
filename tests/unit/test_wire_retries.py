"""Which errors are which, and how often a request is tried again."""

from __future__ import annotations

import pytest

from processor.errors import InvalidWrite, StoreError, TransientError
from processor.store.failures import failure, retryable
from processor.store.retries import BASE, CAP, Retries

CODES = [
    ("ValidationException", 400, InvalidWrite, False),
    ("ItemCollectionSizeLimitExceededException", 400, InvalidWrite, False),
    ("SerializationException", 400, InvalidWrite, False),
    ("", 413, InvalidWrite, False),
    ("ProvisionedThroughputExceededException", 400, TransientError, True),
    ("ThrottlingException", 400, TransientError, True),
    ("ThrottledException", 400, TransientError, True),
    ("RequestLimitExceeded", 400, TransientError, True),
    ("TransactionInProgressException", 400, TransientError, True),
    ("InternalServerError", 500, TransientError, True),
    ("SomethingNew", 503, TransientError, True),
    ("SomethingNew", 429, TransientError, True),
    ("ConnectionError", 0, TransientError, True),
    ("ChecksumError", 0, TransientError, True),
    ("CertificateError", 0, TransientError, False),
    ("AccessDeniedException", 400, TransientError, False),
    ("UnrecognizedClientException", 400, TransientError, False),
    ("ExpiredTokenException", 400, TransientError, False),
    ("InvalidSignatureException", 400, TransientError, False),
    ("ResourceNotFoundException", 400, TransientError, False),
    ("KMSDisabledException", 400, TransientError, False),
    ("SomethingNew", 403, TransientError, False),
    ("", 404, TransientError, False),
    ("ConditionalCheckFailedException", 400, StoreError, False),
    ("TransactionCanceledException", 400, StoreError, False),
    ("SomethingNew", 400, StoreError, False),
]


@pytest.mark.parametrize(("code", "status", "kind", "again"), CODES)
def test_an_error_code_becomes_its_exception(code, status, kind, again):
    error = failure(code, "because", operation="Query", host="example.org", status=status)
    assert type(error) is kind
    assert error.code == code or not code
    assert error.status == status
    assert retryable(error) is again
    assert "Query at example.org: because" in str(error)


class Attempts:
    """Attempts that fail with the errors given, one each, and then succeed."""

    def __init__(self, *errors):
        self.errors = list(errors)
        self.made = 0

    def __call__(self):
        self.made += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


def throttled():
    return TransientError("ThrottlingException", "slow down", status=400)


def test_pauses_have_full_jitter_under_a_limit_that_doubles_up_to_its_cap():
    pauses = []
    highest = Retries(attempts=9, sleep=pauses.append, uniform=lambda: 1.0)
    assert highest.run(Attempts(*(throttled() for _ in range(8))), None) == "answer"
    assert pauses == [min(CAP, BASE * 2**n) for n in range(8)]
    pauses.clear()
    lowest = Retries(attempts=9, sleep=pauses.append, uniform=lambda: 0.0)
    assert lowest.run(Attempts(*(throttled() for _ in range(8))), None) == "answer"
    assert pauses == [0.0] * 8


def test_attempts_are_bounded_and_the_last_error_counts_them():
    attempts = Attempts(*(throttled() for _ in range(9)))
    with pytest.raises(TransientError, match="ThrottlingException") as raised:
        Retries(attempts=3, sleep=lambda _: None).run(attempts, None)
    assert attempts.made == 3
    assert raised.value.__notes__ == ["attempt 3 of at most 3"]


@pytest.mark.parametrize("kind", [InvalidWrite, StoreError, TransientError])
def test_what_trying_again_cannot_change_is_raised_at_once(kind):
    attempts = Attempts(kind("AccessDeniedException", "no", status=400))
    with pytest.raises(kind):
        Retries(sleep=lambda _: pytest.fail("slept")).run(attempts, None)
    assert attempts.made == 1


def test_no_attempt_starts_after_the_deadline():
    now = [100.0]

    def sleep(pause):
        now[0] += pause

    retries = Retries(attempts=100, sleep=sleep, uniform=lambda: 1.0, monotonic=lambda: now[0])
    attempts = Attempts(*(throttled() for _ in range(99)))
    with pytest.raises(TransientError, match="ThrottlingException"):
        retries.run(attempts, 100.5)
    assert attempts.made == 5  # at 0, 25, 75, 175 and 375 ms; the next would have been at 775 ms
    assert now[0] == pytest.approx(100.375)  # nor was it waited for
    with pytest.raises(TransientError, match="DeadlineExceeded"):
        retries.run(attempts, 100.375)
    assert attempts.made == 5


def test_a_sleep_that_lasts_too_long_starts_no_attempt_after_the_deadline():
    now = [0.0]
    retries = Retries(sleep=lambda _: now.__setitem__(0, 60.0), monotonic=lambda: now[0])
    attempts = Attempts(throttled())
    with pytest.raises(TransientError, match="ThrottlingException"):
        retries.run(attempts, 10.0)
    assert attempts.made == 1
