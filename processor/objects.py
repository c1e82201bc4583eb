"""The objects below a prefix of an S3 bucket: read whole and within a bound, and written so that nobody's are lost.

Each write is one conditional call: nothing is there, or what is there is still what was read, or nothing happens.
If-None-Match takes no right but s3:PutObject; If-Match takes s3:GetObject too.
Source: Amazon S3 User Guide, "How to prevent object overwrites with conditional writes".

What is written or removed follows from what was read, so that an answer which broke off must not pass for the object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, NamedTuple

from processor.errors import SourceError, TransientError
from processor.store.failures import CONNECTION
from processor.store.retries import Retries

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
        """Return an object; None where it is gone. Raises what `fetched` does."""
        try:
            return fetched(self._client, self._bucket, key)
        except self._client.exceptions.NoSuchKey:
            return None

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


def fetched(client: Any, bucket: str, key: str, most: int = MAX_OBJECT) -> Stored:
    """Return an object, asked for again where an answer broke off. client: a boto3 S3 client.

    Raises SourceError where it has more than `most` bytes, TransientError where no answer came whole, and whatever else
    S3 answers.
    """
    from botocore.exceptions import BotoCoreError  # not at a function's start: nearly no batch needs S3
    from urllib3.exceptions import HTTPError  # botocore lets some through: what TLS says of a connection that ends

    name = f"s3://{bucket}/{key}"

    def attempt() -> Stored:
        found = client.get_object(Bucket=bucket, Key=key)
        try:
            return Stored(whole(found["Body"], name, most), found["ETag"])
        except (BotoCoreError, HTTPError) as error:  # the client repeats the call, but not the reading of its answer
            raise TransientError(
                CONNECTION,
                f"{name}: S3's answer broke off or came damaged, each time. Nothing of this object was taken, and what "
                f"was done before stays done: run the command again ({error})",
            ) from error.with_traceback(None)  # which holds what was read, while it is read again

    return Retries().run(attempt, None)


def whole(body: Any, name: str, most: int = MAX_OBJECT) -> bytes:
    """Return an object's content. body: of boto3's answer. Raises SourceError where it has more than `most` bytes.

    Raises what botocore does where the answer ended early, or is not what its checksum was computed from.
    """
    parts: list[bytes] = []
    size = 0
    # To the read that finds nothing more: only there botocore compares the length, and the checksum, with the answer's.
    while size <= most and (part := body.read(most + 1 - size)):
        parts.append(part)
        size += len(part)
    if size > most:
        raise SourceError(
            f"{name} has more than {most:,} bytes, which nothing has that was put there for us: move the object "
            "elsewhere (a capture of your own is read as a file, of any size)"
        )
    return b"".join(parts)
