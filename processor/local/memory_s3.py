"""One bucket of S3 in memory, behind the calls of a boto3 client that processor/objects.py makes."""

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
        """Keep an object whole, where its condition holds."""
        self._check("PutObject", arguments)
        self.objects[arguments["Key"]] = arguments["Body"]
        return {}

    def delete_object(self, **arguments: Any) -> dict[str, Any]:
        """Remove an object, where its condition holds."""
        self._check("DeleteObject", arguments)
        self.objects.pop(arguments["Key"], None)
        return {}

    def get_object(self, **arguments: Any) -> dict[str, Any]:
        """Return an object, with a tag that changes with its content."""
        key = arguments["Key"]
        if key not in self.objects:
            raise NoSuchKey({"Error": {"Code": "NoSuchKey"}}, "GetObject")
        return {"Body": io.BytesIO(self.objects[key]), "ETag": self._tag(key)}

    def get_paginator(self, _operation: str) -> MemoryS3:
        """Return what lists objects, in one page."""
        return self

    def paginate(self, **arguments: Any) -> Iterator[dict[str, Any]]:
        """Yield the objects whose keys begin so, in order."""
        keys = sorted(key for key in self.objects if key.startswith(arguments["Prefix"]))
        yield {"Contents": [{"Key": key, "Size": len(self.objects[key]), "ETag": self._tag(key)} for key in keys]}

    def _tag(self, key: str) -> str:
        return f'"{hashlib.md5(self.objects[key], usedforsecurity=False).hexdigest()}"'

    def _check(self, operation: str, arguments: dict[str, Any]) -> None:
        """Refuse a call whose If-Match or If-None-Match (of which S3 knows `*` alone) does not hold."""
        key = arguments["Key"]
        there = key in self.objects
        if "IfMatch" in arguments and not there:
            code, status = "NoSuchKey", 404
        elif ("IfMatch" in arguments and arguments["IfMatch"] != self._tag(key)) or (
            arguments.get("IfNoneMatch") == "*" and there
        ):
            code, status = "PreconditionFailed", 412
        else:
            return
        raise ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, operation)
