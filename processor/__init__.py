"""Stream processor for BLE sensor data: what other programs may import.

>>> import processor
>>> [reading] = processor.decode("1BFF99040512FC5394C37C0004FFFC040CAC364200CDCBB8334C884F")
>>> reading.device, reading.values["temperature"]
('CB:B8:33:4C:88:4F', 24.3)
"""

from processor.decode import decode
from processor.errors import DecodeError, KeyMissing, ProcessorError, StoreError
from processor.reading import QUANTITIES, Quantity, Reading

__all__ = [
    "QUANTITIES",
    "DecodeError",
    "KeyMissing",
    "ProcessorError",
    "Quantity",
    "Reading",
    "StoreError",
    "decode",
]
