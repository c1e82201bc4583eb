"""Faults between the functions and AWS: what the real clients meet on a real socket."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import orjson

from processor.local.faults.fault import Injector
from processor.local.proxy import Call, Reply, answer, refusal

UNKNOWN_HOST = "http://no-such-host.invalid:4566"
"""A name that never has an address (RFC 6761, section 6.4)."""

Match = Callable[[Call], bool]
Act = Callable[[Call, "Wire"], Reply]


def writes(call: Call) -> bool:
    """Tell whether readings are written."""
    return call.operation == "UpdateItem" and b'"processor-readings"' in call.body


def rolls_up(call: Call) -> bool:
    """Tell whether a roll-up or a device's state is written."""
    return call.operation == "UpdateItem" and not writes(call)


def table(call: Call) -> bool:
    """Tell whether DynamoDB is called, whatever for."""
    return call.service == "dynamodb"


def reads_many(call: Call) -> bool:
    """Tell whether many items are read by their keys."""
    return call.operation == "BatchGetItem"


def quarantines(call: Call) -> bool:
    """Tell whether an object is put into S3."""
    return call.service == "s3" and call.operation.startswith("PUT ")


class Wire(Injector):
    """Does something to the calls that match: to one at each moment, or to all while it lasts."""

    def __init__(self, act: Act, match: Match = writes, *, every: float = 1.0, lasting: float = 0.0) -> None:
        self.act = act
        self.match = match
        self.every = every
        self.lasting = lasting

    def call(self, call: Call) -> Reply | None:
        """Do it where it is due."""
        if not self.match(call) or not (self.on() if self.lasting else self.due()):
            return None
        self.count()
        return self.act(call, self)


def refused_with(code: str, status: str = "400 Bad Request") -> Act:
    """Refuse a call with an error code, and do nothing of what it asks for."""
    reply = Reply(refusal(code, status))
    return lambda _call, _wire: reply


def lost(call: Call, _wire: Wire) -> Reply:
    """Do what is asked, and lose the answer."""
    call.forward()
    return Reply(then="close")


def cut(call: Call, _wire: Wire) -> Reply:
    """Do what is asked, and reset the connection amid the answer's body."""
    found = call.forward()
    head, end, body = found.partition(b"\r\n\r\n")
    return Reply(head + end + body[: len(body) // 2], then="reset")


def unheard(_call: Call, _wire: Wire) -> Reply:
    """Reset the connection before the request is sent on."""
    return Reply(then="reset")


def slow(call: Call, wire: Wire) -> Reply:
    """Answer late: now and then later than the client waits."""
    time.sleep(wire.random.choice((0.2, 0.5, 1.0, 5.5)))
    return Reply(call.forward())


def corrupted(found: bytes) -> bytes:
    """Return an answer with a digit of its last value changed: it still is JSON."""
    head, end, body = found.partition(b"\r\n\r\n")
    at = body.rfind(b'"N":"')
    at = body.find(b'"N": "') if at < 0 else at
    changed = bytearray(body)
    for place in range(max(at, 0), len(body)):
        if body[place : place + 1].isdigit():
            changed[place] ^= 1
            break
    return head + end + bytes(changed)


def garbled(call: Call, wire: Wire) -> Reply:
    """Do what is asked, or do not, and answer with a page of somebody else's."""
    if wire.random.random() < 0.5:
        call.forward()
    return Reply(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 15\r\n\r\n<html>no</html>")


def late(call: Call, wire: Wire) -> Reply:
    """Hang up, and carry the write out seconds later, when the batch has long been retried."""
    wire.run.later(wire.random.uniform(0.5, 3.0), call.afresh)
    return Reply(then="reset")


def unprocessed(call: Call, _wire: Wire) -> Reply:
    """Answer BatchGetItem with nothing but the keys that it left unread."""
    asked = orjson.loads(call.body)["RequestItems"]
    return Reply(answer(orjson.dumps({"Responses": {name: [] for name in asked}, "UnprocessedKeys": asked})))


class ThrottledKey(Wire):
    """Throttles one device's writes while it lasts, longer than one invocation tries."""

    def __init__(self, *, every: float = 1.0, lasting: float = 4.0) -> None:
        super().__init__(refused_with("ProvisionedThroughputExceededException"), every=every, lasting=lasting)
        self._key: Any = None

    def call(self, call: Call) -> Reply | None:
        """Throttle the device that was written first when it began."""
        if not writes(call) or not self.on():
            if self.lasting and not self.on():
                self._key = None
            return None
        key = orjson.loads(call.body)["Key"]["device"]
        self._key = self._key or key
        if key != self._key:
            return None
        self.count()
        return self.act(call, self)


class Refusing(Injector):
    """Nothing listens at the endpoint for a while."""

    def __init__(self, *, every: float = 1.0, seconds: float = 1.0) -> None:
        self.every = every
        self._seconds = seconds

    def tick(self) -> None:
        """Refuse connections in a thread of its own."""
        if self.due():
            self.run.later(0, self._refuse)

    def _refuse(self) -> None:
        with self.run.witness.poison.cut_off():
            self.count()
            self.run.proxy.refuse(self._seconds)


class UnknownHost(Injector):
    """The workers are ended, and for a while new ones are given an endpoint whose name has no address.

    A running one cannot be made to meet it from outside: where names are looked up (/etc/hosts, resolv.conf) is the
    whole machine's, and what a worker has once been given for its endpoint stays.
    """

    def __init__(self, *, every: float = 1.0, seconds: float = 20.0) -> None:
        self.every = every
        self._seconds = seconds
        self._replacing = False
        self._met: threading.Event | None = None

    def tick(self) -> None:
        """Replace the workers by such as cannot reach DynamoDB, and those by good ones once a batch met it."""
        if not self._replacing and self.due():
            self._replacing = True  # one at a time: each ends the other's workers
            self.run.later(0, self._replace)

    def invoke(self, name: str, event: bytes, following: Callable[[bytes], Any]) -> Any:
        """See whether a batch met it: how long new workers take to start is the machine's affair."""
        met = self._met
        answer = following(event)
        if met is not None and name == "ingest":
            met.set()
        return answer

    def _replace(self) -> None:
        met = threading.Event()
        with self.run.witness.poison.cut_off():
            self.run.versions.replace_workers(environment={"AWS_ENDPOINT_URL": UNKNOWN_HOST})
            self._met = met
            met.wait(self._seconds)
            self._met = None
            self.run.versions.replace_workers()
        if met.is_set():
            self.count()
        else:
            self.again()
        self._replacing = False
