"""What fuzzing once reached, and once broke, replayed without atheris; and that its contract can be broken at all."""

from __future__ import annotations

import pytest

from processor.decode.gateways import Advertisement
from processor.errors import DecodeError
from processor.reading import Reading
from tests.fuzz import corpus, targets
from tests.fuzz.seeds import SEEDS
from tests.fuzz.targets import ADDRESS, AT, TARGETS, Broken, check_error, check_heard, check_reading

GOOD = Reading(ADDRESS, AT, "ruuvi.5", {"temperature": 24.3, "battery_low": True, "url": "x"}, 1, 0xABCDEF, "gw", -60)


def broken_by(target, inputs):
    """The inputs that break the contract, each with why."""
    found = {}
    for name, data in inputs:
        try:
            TARGETS[target].check(data)
        except Exception as error:
            found[name] = f"{error!r} of {data.hex()[:200]}"
    return found


@pytest.mark.parametrize("target", TARGETS)
def test_the_corpus_and_every_past_crash_keep_the_contract(target):
    """Any bytes give Readings that the table takes, or a DecodeError."""
    inputs = corpus.minimal(target)
    assert len(inputs) > 10
    assert not broken_by(target, enumerate(inputs))
    assert not broken_by(target, corpus.crashes(target).items())


@pytest.mark.parametrize("target", TARGETS)
def test_what_fuzzing_starts_from_keeps_the_contract(target):
    """The vectors, in the form of each target's inputs: the seeds are read as they were meant."""
    seeds = [*SEEDS[target]()]
    assert len(seeds) > 10
    assert not broken_by(target, enumerate(seeds))


def test_the_corpus_is_small():
    assert sum(path.stat().st_size for path in corpus.FOLDER.rglob("*") if path.is_file()) < 200_000


@pytest.mark.parametrize("target", TARGETS)
def test_an_exception_in_a_decoder_is_not_swallowed(target, monkeypatch):
    """A planted bug, deep in every target's path, comes out of it."""

    def crash(*_):
        raise IndexError("planted")

    monkeypatch.setattr(targets, "model_of", crash)
    assert any("planted" in why for why in broken_by(target, enumerate(SEEDS[target]())).values())


@pytest.mark.parametrize(
    "reading",
    [
        GOOD._replace(device=""),
        GOOD._replace(format=""),
        GOOD._replace(digest=1 << 24),
        GOOD._replace(counter=1.5),
        GOOD._replace(gateway=""),
        GOOD._replace(rssi=127),
        GOOD._replace(values={"temperature": float("nan")}),
        GOOD._replace(values={"temperature": float("inf")}),
        GOOD._replace(values={"temperature": 1e300}),
        GOOD._replace(values={"temperature": 1e-200}),
        GOOD._replace(values={"temperature": 10**39}),
        GOOD._replace(values={"url": "x" * 20_000}),
        GOOD._replace(values={"temperature": None}),
    ],
    ids=lambda reading: repr(reading)[:60],
)
def test_a_reading_that_the_table_would_not_take_breaks_the_contract(reading):
    check_reading(GOOD)
    with pytest.raises((Broken, KeyError, AttributeError)):
        check_reading(reading)


def test_a_quantity_nobody_knows_breaks_the_contract():
    with pytest.raises(KeyError):
        check_reading(GOOD._replace(values={"nonsense": 1}))


@pytest.mark.parametrize(
    "error",
    [
        DecodeError("Too Long A Reason", "x", where="y"),
        DecodeError("length", "x" * 2000, where="y"),
        DecodeError("length", "two\nlines", where="y"),
        DecodeError("length", "x", where=""),
    ],
    ids=str,
)
def test_an_error_that_no_log_line_holds_breaks_the_contract(error):
    check_error(DecodeError("length", "x", where="y", payload=b"z"))
    with pytest.raises(Broken):
        check_error(error)


def test_an_entry_of_another_kind_breaks_the_contract():
    check_heard([Advertisement(ADDRESS, -60, AT, b"", "gw"), GOOD])
    with pytest.raises((Broken, AttributeError)):
        check_heard([None])
    with pytest.raises(Broken):
        check_heard([Advertisement(ADDRESS, -60, 1.5, b"", "gw")])
