"""AWS credentials: given ones, or those of botocore's chain."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from processor.errors import TransientError


class Credentials(NamedTuple):
    """An access key, its secret, and the session token that temporary credentials carry."""

    access_key: str
    secret_key: str
    token: str | None = None

    def __repr__(self) -> str:
        """Name the access key only: representations end in logs."""
        return f"Credentials({self.access_key!r}, …)"


def _botocore_chain() -> Any:
    """Return botocore's credentials object, or None where the chain ends without any."""
    from botocore.session import get_session  # 150 ms of imports that a function with credentials given never needs

    return get_session().get_credentials()


class Chain:
    """The credentials of botocore's chain: profile, SSO, container, instance metadata.

    botocore is imported at the first call. Each call returns what is valid now: botocore renews temporary credentials
    before they end. `load` returns an object like botocore's `Credentials`, with `get_frozen_credentials()`, or None.
    """

    def __init__(self, load: Callable[[], Any] = _botocore_chain) -> None:
        self._load = load
        self._lock = threading.Lock()
        self._held: Any = None

    def __call__(self) -> Credentials:
        """Return the present credentials. Raises TransientError where there are none, or none can be had now."""
        held = self._held
        if held is None:
            with self._lock:
                held = self._held = self._held or self._loaded()
        return _frozen(held)

    def refresh(self, stale: Credentials) -> None:
        """Walk the chain again, unless another thread has done so since `stale` was handed out."""
        with self._lock:
            if self._held is None or _frozen(self._held) == stale:
                self._held = self._loaded()

    def _loaded(self) -> Any:
        try:
            held = self._load()
        except Exception as error:
            raise _unavailable(error) from error
        if held is None:
            raise TransientError(
                "NoCredentials",
                "no AWS credentials in the environment, the profiles, the container or the instance: set "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run `aws configure`",
            )
        return held


def _frozen(held: Any) -> Credentials:
    try:
        frozen = held.get_frozen_credentials()
    except Exception as error:  # whatever a provider raises: files, processes, HTTP, SSO
        raise _unavailable(error) from error
    return Credentials(frozen.access_key, frozen.secret_key, frozen.token)


def _unavailable(error: Exception) -> TransientError:
    return TransientError("NoCredentials", f"botocore's credential chain failed with {type(error).__name__}: {error}")
