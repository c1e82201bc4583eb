"""Ruuvi's official vectors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from processor.decode.formats import ruuvi

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "ruuvi.json").read_text())["vectors"]


@pytest.mark.parametrize("reserved", ["00", "A5", "FF"])
@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: f"{v['format']}-{v['case']}")
def test_vector_gives_exactly_its_values(vector, reserved):
    expected = dict(vector["values"])
    mac = expected.pop("mac", None)
    decoded = ruuvi.decode(bytes.fromhex(vector["hex"].replace("XX", reserved)), None, {})
    assert decoded.values == expected
    assert mac is None or decoded.address == mac
    assert decoded.counter == expected.get("sequence")
