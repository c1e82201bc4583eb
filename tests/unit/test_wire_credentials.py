"""Credentials: given, found by botocore's chain, renewed, and kept out of logs."""

from __future__ import annotations

import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from processor.errors import InvalidWrite, TransientError
from processor.store.credentials import Chain, Credentials
from processor.store.failures import retryable
from processor.store.signature import Signer
from processor.store.wire import Wire

GIVEN = Credentials("AKID", "secret")


@pytest.mark.parametrize("broken", [Credentials("A\n", "b"), Credentials("A", "b "), Credentials("A", "b", "tök")])
def test_credentials_that_no_header_can_carry_are_refused_without_being_shown(broken):
    signer = Signer(region="eu-west-1", host="example.org")
    with pytest.raises(TransientError, match="AWS_") as raised:
        signer.sign("DynamoDB_20120810.Query", b"{}", broken, 0)
    assert not any(part in str(raised.value) for part in broken if part and len(part) > 1)


def test_credentials_do_not_show_their_secret():
    shown = f"{Credentials('AKID', 'hidden', 'veiled')!r} {Credentials('AKID', 'hidden', 'veiled')}"
    assert "AKID" in shown
    assert "hidden" not in shown
    assert "veiled" not in shown


class Botocore:
    """Stands in for botocore's chain: each walk finds the next credentials of a list."""

    def __init__(self, *found):
        self.found = list(found)
        self.walks = 0

    def __call__(self):
        self.walks += 1
        found = self.found.pop(0)
        return found and SimpleNamespace(get_frozen_credentials=lambda: SimpleNamespace(**found._asdict()))


def test_a_chain_is_walked_once_by_many_threads_and_again_once_it_went_stale():
    botocore = Botocore(GIVEN, Credentials("AKID2", "secret2", "token2"))
    entered, all_entered = [], threading.Event()

    def load():
        assert all_entered.wait(20)  # walk only when every thread is on its way
        return botocore()

    chain = Chain(load)

    def together(work):
        def enter():
            entered.append(work)
            if len(entered) >= 8:
                all_entered.set()
            work()

        threads = [threading.Thread(target=enter) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    together(chain)
    assert botocore.walks == 1
    assert chain() == GIVEN
    together(lambda: chain.refresh(GIVEN))
    assert botocore.walks == 2
    assert chain() == Credentials("AKID2", "secret2", "token2")


def test_a_chain_without_credentials_says_what_to_do():
    with pytest.raises(TransientError, match="AWS_ACCESS_KEY_ID") as raised:
        Chain(Botocore(None))()
    assert not retryable(raised.value)


def test_a_chain_that_fails_says_how():
    def fail():
        raise OSError("metadata service gone")

    with pytest.raises(TransientError, match="OSError: metadata service gone"):
        Chain(fail)()
    held = SimpleNamespace(get_frozen_credentials=fail)
    with pytest.raises(TransientError, match="OSError: metadata service gone"):
        Chain(lambda: held)()


def test_a_request_that_is_no_json_is_invalid():
    wire = Wire(region="eu-west-1", endpoint="http://127.0.0.1:1", credentials=lambda: GIVEN)
    with pytest.raises(InvalidWrite, match="SerializationException"):
        wire.call("UpdateItem", {"TableName": "\ud800"})


def test_a_wire_with_given_credentials_imports_no_boto3_and_no_botocore():
    program = (
        "import sys; from processor.store.retries import Retries; from processor.store.wire import *\n"
        "given = {'credentials': Credentials('a', 'b'), 'retries': Retries(attempts=1)}\n"
        "try: connect(region='eu-west-1', endpoint='https://127.0.0.1:1', **given).call('Query', {})\n"
        "except Exception as error: print(error.code)\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('boto3', 'botocore', 'email')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["ConnectionError", "[]"]
