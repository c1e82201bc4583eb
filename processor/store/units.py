"""Write and read units as DynamoDB bills them, computed from items: for servers that do not count, and to plan cost.

Source: Amazon DynamoDB Developer Guide, "DynamoDB item sizes and formats" and "Read and write operations".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

WRITE_UNIT = 1024
READ_UNIT = 4096


def item_size(item: Mapping[str, Mapping[str, Any]]) -> int:
    """Return an item's size in bytes: the names and the values of its attributes (DynamoDB JSON)."""
    return sum(len(name.encode()) + value_size(value) for name, value in item.items())


def value_size(value: Mapping[str, Any]) -> int:
    """Return the size in bytes of one value in DynamoDB's JSON."""
    ((kind, content),) = value.items()
    if kind == "S":
        return len(content.encode())
    if kind == "N":
        return _number_size(content)
    if kind == "M":
        return 3 + sum(1 + len(key.encode()) + value_size(inner) for key, inner in content.items())
    if kind == "L":
        return 3 + sum(1 + value_size(inner) for inner in content)
    if kind == "B":
        return len(content) * 3 // 4
    if kind in ("SS", "NS", "BS"):
        return sum(value_size({kind[0]: member}) for member in content)
    return 1  # BOOL, NULL


def _number_size(text: str) -> int:
    """One byte for two significant digits, one for the exponent, one for a sign; zeros at the ends do not count."""
    mantissa = text.lower().partition("e")[0].lstrip("-+")
    digits = mantissa.replace(".", "").strip("0")
    return (len(digits) + 1) // 2 + 1 + text.startswith("-")


def write_units(before: int, after: int) -> int:
    """Return the write units of a write that takes an item from one size in bytes to another (0: none there)."""
    return max(1, -(-max(before, after) // WRITE_UNIT))


def read_units(size: int, *, consistent: bool = False) -> float:
    """Return the read units of so many bytes read at once (0: nothing was there), half if they may be a moment old."""
    return max(1, -(-size // READ_UNIT)) * (1.0 if consistent else 0.5)
