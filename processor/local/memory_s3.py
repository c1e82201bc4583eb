"""One bucket of S3 in memory, behind the calls of a boto3 client that quarantine makes."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from botocore.exceptions import ClientError


class NoSuchKey(ClientError):  # type: ignore[misc] # botocore ships no types
    """There is no such object."""


class MemoryS3:
    """Keeps objects by their keys. What it is not asked for here, it does not know."""

    exceptions = SimpleNamespace(ClientError=ClientError, NoSuchKey=NoSuchKey)

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def put_object(self, **arguments: Any) -> dict[str, Any]:
        """Keep an object whole."""
        self.objects[arguments["Key"]] = arguments["Body"]
        return {}

    def get_object(self, **arguments: Any) -> dict[str, Any]:
        """Return an object, with a tag that changes with its content."""
        body = self.objects.get(arguments["Key"])
        if body is None:
            raise NoSuchKey({"Error": {"Code": "NoSuchKey"}}, "GetObject")
        tag = hashlib.md5(body, usedforsecurity=False).hexdigest()
        return {"Body": io.BytesIO(body), "ETag": f'"{tag}"'}

    def get_paginator(self, _operation: str) -> MemoryS3:
        """Return what lists objects, in one page."""
        return self

    def paginate(self, **arguments: Any) -> Iterator[dict[str, Any]]:
        """Yield the objects whose keys begin so, in order."""
        keys = sorted(key for key in self.objects if key.startswith(arguments["Prefix"]))
        yield {"Contents": [{"Key": key, "Size": len(self.objects[key])} for key in keys]}
