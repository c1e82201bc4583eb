"""The numbers of a payload: integer types, and the scale and offset that make values of them, exactly."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import NamedTuple

from processor.reading import Value

NUMBERS = {"u8": "B", "i8": "b", "u16": "H", "i16": "h", "u24": "", "i24": "", "u32": "I", "i32": "i"}
"""The integer types and their `struct` codes; three bytes have none."""


class Linear(NamedTuple):
    """A scale and an offset as integers: value = (raw × p + o) / q."""

    p: int
    o: int
    q: int

    @classmethod
    def of(cls, scale: str, offset: str = "0") -> Linear:
        """Return the integers of a scale and an offset, which are decimals as text."""
        p, o = Fraction(scale), Fraction(offset)
        q = math.lcm(p.denominator, o.denominator)
        return cls(int(p * q), int(o * q), q)

    def value(self, raw: int) -> int | float:
        """Return a raw value's value: an int, or the float nearest to the exact decimal."""
        number = raw * self.p + self.o
        return number if self.q == 1 else number / self.q

    def raw(self, value: Value) -> int:
        """Return the raw value nearest to `value`. Raises ValueError where that is no number."""
        return round((Fraction(str(value)) * self.q - self.o) / self.p)

    def source(self, raw: str) -> str:
        """Return `value` as source text, without the steps that do nothing."""
        text = raw if self.p == 1 else f"{raw} * {self.p}"
        text = text if self.o == 0 else f"({text} + {self.o})"
        return text if self.q == 1 else f"{text} / {self.q}"
