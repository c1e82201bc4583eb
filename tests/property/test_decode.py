"""`processor.decode`: any advertisement gives readings or a DecodeError, and nothing else."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

import processor
from processor.decode.advertisement import manufacturer_data, service_data, structure, structures
from processor.decode.formats import MANUFACTURERS, SERVICES, model_of

ADDRESS = "54:48:E6:8F:80:A5"
KEYS = {ADDRESS: bytes(range(16))}

known = st.builds(
    lambda builder, payload: builder[0](builder[1], payload),
    st.sampled_from(
        [(manufacturer_data, company) for company in MANUFACTURERS] + [(service_data, uuid) for uuid in SERVICES]
    ),
    st.binary(max_size=40),
)
anything = st.builds(structure, st.integers(0, 255), st.binary(max_size=30))
advertisements = st.lists(known | anything, max_size=5).map(b"".join)


def check(data, address):
    try:
        found = processor.decode(data, address=address, received_at=1, keys=KEYS)
    except processor.DecodeError as error:
        problem = error
        found = []
    else:
        problem = None
    assert problem is None or (problem.reason and str(problem))
    for reading in found:
        assert isinstance(reading, processor.Reading)
        assert reading.device
        assert reading.identity
        for name in reading.values:
            assert processor.QUANTITIES.get(name) or name.rpartition("_")[0] in processor.QUANTITIES


@given(st.binary(max_size=80) | st.binary(min_size=1600, max_size=1700), st.sampled_from([None, ADDRESS]))
@example(b"", None)
@example(bytes(1651), None)
def test_any_bytes(data, address):
    check(data, address)


@given(advertisements, st.sampled_from([None, ADDRESS]))
def test_any_payload_of_a_known_maker(data, address):
    check(data, address)


@given(advertisements, st.integers(0, 200))
def test_any_advertisement_cut_anywhere(data, end):
    check(data[:end], ADDRESS)


@given(advertisements | st.binary(max_size=60), st.integers(0, 200))
@example(bytes.fromhex("02010605"), 200)
def test_what_to_remember_of_any_advertisement_cut_anywhere(data, end):
    """It is asked for before anything is decoded: one that is cut off must not take the whole batch down."""
    assert type(model_of(data[:end])) in (str, type(None))


@given(st.text(max_size=60))
def test_any_text(text):
    check(text, ADDRESS)


@given(st.binary(max_size=60), st.text(max_size=20))
def test_any_address(data, address):
    check(data, address)


@given(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=254)), max_size=6))
def test_structures_are_what_they_were_built_of(pieces):
    assert structures(b"".join(structure(ad_type, data) for ad_type, data in pieces)) == pieces
