"""The objects below a prefix of an S3 bucket: read whole and within a bound, and written so that nobody's are lost.

Each write is one conditional call: nothing is there, or what is there is still what was read, or nothing happens.
If-None-Match takes no right but s3:PutObject; If-Match takes s3:GetObject too.
Source: Amazon S3 User Guide, "How to prevent object overwrites with conditional writes".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, NamedTuple

from processor.errors import SourceError

MAX_OBJECT = 64 * 1024 * 1024
"""Bytes of one object of quarantine or of the failure destination: an event has six megabytes, its reasons a few."""

THERE = 412
CHANGED = (404, 409, THERE)
"""What S3 answers to a conditional call where the object is gone, is being written, or is another one."""


class Stored(NamedTuple):
    """An object as it was read: its content, and what tells whether it changed since."""

    body: bytes
    tag: str


class Objects:
    """The objects below a prefix. client: makes a boto3 S3 client; called once, when it is needed."""

    def __init__(self, bucket: str, client: Callable[[], Any], prefix: str) -> None:
        self._bucket = bucket
        self._make = client
        self.prefix = prefix

    @cached_property
    def _client(self) -> Any:
        return self._make()

    def listed(self, beginning: str = "") -> Iterator[tuple[str, int]]:
        """Yield every object's name and size in bytes, in the order of their names; or those that begin so."""
        prefix = beginning or self.prefix
        for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix):
            for entry in page.get("Contents", ()):
                yield entry["Key"], entry["Size"]

    def read(self, key: str) -> Stored | None:
        """Return an object; None where it is gone. Raises SourceError for one that is too large."""
        try:
            found = self._client.get_object(Bucket=self._bucket, Key=key)
        except self._client.exceptions.NoSuchKey:
            return None
        return Stored(whole(found["Body"], key), found["ETag"])

    def create(self, key: str, body: bytes, content_type: str) -> None:
        """Put an object, unless there is one of that name. Raises what S3 answers while others write or delete it."""
        self._unless((THERE,), "put_object", Key=key, IfNoneMatch="*", Body=body, ContentType=content_type)

    def replace(self, key: str, tag: str, body: bytes, content_type: str) -> bool:
        """Put another body in an object's place, or remove it where that is empty.

        Return False, and do nothing, where it is not any more what was read.
        """
        if body:
            return self._unless(CHANGED, "put_object", Key=key, IfMatch=tag, Body=body, ContentType=content_type)
        return self._unless(CHANGED, "delete_object", Key=key, IfMatch=tag)

    def _unless(self, refusals: tuple[int, ...], method: str, **arguments: Any) -> bool:
        """Make a conditional call; tell whether it was not refused for its condition."""
        client = self._client
        try:
            getattr(client, method)(Bucket=self._bucket, **arguments)
        except client.exceptions.ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] in refusals:
                return False
            raise
        return True


def whole(body: Any, name: str, most: int = MAX_OBJECT) -> bytes:
    """Return an object's content. body: of boto3's answer. Raises SourceError where it has more than `most` bytes."""
    data: bytes = body.read(most + 1)
    if len(data) > most:
        raise SourceError(
            f"{name} has more than {most:,} bytes, which nothing has that was put there for us: move the object "
            "elsewhere (a capture of your own is read as a file, of any size)"
        )
    return data
