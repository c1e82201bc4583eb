"""A proxy between the function and DynamoDB, so that faults meet the real client code over real sockets."""

from __future__ import annotations

import pytest

from processor.local.aws import EmbeddedAws
from processor.local.proxy import Proxy, Reply, answer


@pytest.fixture(scope="session")
def embedded():
    with EmbeddedAws() as aws:
        yield aws


@pytest.fixture
def aws(embedded):
    """An embedded AWS with nothing in it."""
    embedded.reset()
    return embedded


@pytest.fixture
def proxy(aws):
    """Makes proxies before DynamoDB, and `answer`s for them."""
    made = []

    def make(fault):
        """`fault(operation, body, forward)` returns the answer to give, or None to hang up."""

        def reply(call):
            found = fault(call.operation, call.body, call.forward)
            return Reply(then="close") if found is None else Reply(found)

        made.append(Proxy(aws.endpoint, reply))
        return made[-1]

    make.answer = answer
    yield make
    for each in made:
        each.close()
