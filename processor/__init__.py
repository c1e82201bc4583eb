"""Stream processor for BLE sensor data: what other programs may import.

>>> import processor
>>> [reading] = processor.decode("1BFF99040512FC5394C37C0004FFFC040CAC364200CDCBB8334C884F")
>>> reading.device, reading.values["temperature"]
('CB:B8:33:4C:88:4F', 24.3)
"""

from importlib import import_module as _import_module
from typing import Any as _Any

from processor.decode import decode
from processor.errors import DecodeError, KeyMissing, ProcessorError, QueryError, StoreError
from processor.reading import QUANTITIES, Quantity, Reading

__all__ = [
    "QUANTITIES",
    "DecodeError",
    "KeyMissing",
    "ProcessorError",
    "Quantity",
    "QueryError",
    "Reading",
    "Store",
    "StoreError",
    "decode",
]


def __getattr__(name: str) -> _Any:
    """Import `Store` when it is asked for: by name, so that no function's package holds what it never asks for."""
    if name == "Store":
        return _import_module("processor.ask.store").Store
    raise AttributeError(f"module 'processor' has no attribute {name!r}")
