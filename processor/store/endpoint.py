"""Where DynamoDB is: a region's public endpoint, or a URL that stands in for it."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import urlsplit

from processor.errors import SettingsError

_REGION = re.compile(r"[A-Za-z0-9_-]+")
_LABEL = r"[A-Za-z0-9_-]{1,63}"
_HOST = re.compile(rf"{_LABEL}(\.{_LABEL})*\.?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")
_PATH = re.compile(r"/|(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+/?")


class Endpoint(NamedTuple):
    """Where requests go. `authority` is the Host header: the port is named only where it is not the scheme's own."""

    tls: bool
    host: str
    port: int
    path: str
    authority: str

    @classmethod
    def of(cls, url: str) -> Endpoint:
        """Return the endpoint of an `http` or `https` URL. Raises SettingsError for any other text."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        host, path = parts.hostname or "", parts.path or "/"
        extra = parts.query or parts.fragment or "@" in parts.netloc
        if parts.scheme not in ("http", "https") or extra or not _HOST.fullmatch(host) or not _PATH.fullmatch(path):
            raise SettingsError(
                "an endpoint is http:// or https://, a host, and perhaps a port and a plain path "
                f"(http://127.0.0.1:4566), not {url!r}: check AWS_ENDPOINT_URL_DYNAMODB and AWS_ENDPOINT_URL"
            )
        tls = parts.scheme == "https"
        default = 443 if tls else 80
        name = f"[{host}]" if ":" in host else host
        authority = name if port in (None, default) else f"{name}:{port}"
        return cls(tls, host, default if port is None else port, path, authority)

    @classmethod
    def of_region(cls, region: str) -> Endpoint:
        """Return DynamoDB's public endpoint in a region: `https://dynamodb.eu-west-1.amazonaws.com`."""
        if not _REGION.fullmatch(region):
            raise SettingsError(f"a region is a name like eu-west-1, not {region!r}: check AWS_REGION")
        suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        return cls.of(f"https://dynamodb.{region}.{suffix}")
