"""The same client over boto3: what `implementation="boto3"` gives, to compare with or to fall back on.

boto3 is imported when a Boto is made. It brings what Wire leaves out (proxies, AWS_CA_BUNDLE, account-based endpoints,
any partition) for about ten times the CPU per call.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from typing import Any

from processor.errors import InvalidWrite, StoreError
from processor.store.credentials import Credentials
from processor.store.endpoint import Endpoint
from processor.store.failures import CERTIFICATE, CHECKSUM, CONNECTION, failure, name_tables
from processor.store.retries import Retries


class Boto:
    """A `Client` that calls through boto3, with this package's retries and errors instead of botocore's.

    Without credentials it uses boto3's own chain. A deadline starts no further attempt, but cannot shorten the timeout
    of the one under way: boto3 has one timeout for all calls.
    """

    def __init__(
        self,
        *,
        region: str,
        endpoint: str | None = None,
        credentials: Credentials | None = None,
        connections: int = 16,
        timeout: float = 5.0,
        retries: Retries | None = None,
    ) -> None:
        import boto3.session
        import botocore.exceptions
        from botocore.config import Config

        self._faults = botocore.exceptions
        self._retries = retries or Retries()
        access_key, secret_key, token = credentials or (None, None, None)
        self._client = boto3.session.Session().client(
            "dynamodb",
            region_name=region,
            endpoint_url=endpoint,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            aws_session_token=token,
            # One attempt, and in legacy mode, which alone checks x-amz-crc32.
            config=Config(
                retries={"total_max_attempts": 1, "mode": "legacy"},
                max_pool_connections=connections,
                connect_timeout=timeout,
                read_timeout=timeout,
            ),
        )
        self._host = Endpoint.of(self._client.meta.endpoint_url).authority
        self._methods: dict[str, Callable[..., dict[str, Any]]] = {
            operation: getattr(self._client, method)
            for method, operation in self._client.meta.method_to_api_mapping.items()
        }

    def call(self, operation: str, body: Mapping[str, Any], *, deadline: float | None = None) -> dict[str, Any]:
        """Send one request; see `Client.call`."""
        arguments = _binary(body, b64decode)
        try:
            return self._retries.run(lambda: self._attempt(operation, arguments), deadline)
        except StoreError as error:
            name_tables(error, body)
            raise

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _attempt(self, operation: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        faults = self._faults
        method = self._methods.get(operation)
        if method is None:
            raise StoreError("UnknownOperationException", f"DynamoDB has no operation {operation!r}")
        try:
            answer = method(**arguments)
        except faults.ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            about = error.response.get("Error", {})
            raise self._failure(operation, about.get("Code", ""), about.get("Message", str(error)), status) from error
        except faults.ParamValidationError as error:
            raise InvalidWrite("ValidationException", f"{operation} at {self._host}: {error}") from error
        except (faults.NoCredentialsError, faults.CredentialRetrievalError, faults.TokenRetrievalError) as error:
            raise self._failure(operation, "NoCredentials", str(error)) from error
        except faults.SSLError as error:
            raise self._failure(operation, CERTIFICATE, str(error)) from error
        except faults.ChecksumError as error:
            raise self._failure(operation, CHECKSUM, str(error)) from error
        except (faults.BotoCoreError, OSError) as error:
            raise self._failure(operation, CONNECTION, str(error)) from error
        headers = answer.pop("ResponseMetadata")["HTTPHeaders"]
        # http.client takes an answer cut within its header for whole and empty; botocore takes any text for `{}`.
        measured = "content-length" in headers or headers.get("transfer-encoding") == "chunked"
        if not measured or "json" not in headers.get("content-type", ""):
            raise self._failure(operation, CONNECTION, "the answer is not DynamoDB's: it has no length, or is no JSON")
        parsed: dict[str, Any] = _binary(answer, _encoded)
        return parsed

    def _failure(self, operation: str, code: str, message: str, status: int = 0) -> StoreError:
        return failure(code, message, operation=operation, host=self._host, status=status)


def _binary(value: Any, convert: Callable[[Any], Any]) -> Any:
    """Return `value` with its binary attribute values, `{"B": …}` and `{"BS": […]}`, converted.

    An attribute that happens to be called B holds a map, not text or bytes.
    """
    if isinstance(value, Mapping):
        return {
            key: convert(part) if key == "B" and isinstance(part, (str, bytes))
            else list(map(convert, part)) if key == "BS" and isinstance(part, (list, tuple))
            else _binary(part, convert)
            for key, part in value.items()
        }  # fmt: skip
    if isinstance(value, list):
        return [_binary(part, convert) for part in value]
    return value


def _encoded(value: bytes) -> str:
    return b64encode(value).decode()
