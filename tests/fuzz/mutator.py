"""Mutations that know JSON and Base64: bytes changed at random hardly ever leave a message that still parses.

libFuzzer's own mutations go on beside them; these change a value, move it, or take it out, and keep the rest whole.
"""

from __future__ import annotations

import random
from binascii import Error, a2b_base64, b2a_base64
from collections.abc import Callable
from typing import Any

import orjson

VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 127, -128, 255, 65536, 2**31, 2**53 + 1, 2**63, -(2**63), 10**12, 10**15, 0.1, -0.0,
    1e300, 5e-324, "", " ", "0", "-60", "1e5", "nan", "0x20", "AQE=", "ff", "02010605", "é" * 33, "x" * 65, "\x00",
    [], {}, [[]], [None], {"": None}, "CB:B8:33:4C:88:4F", "2022-05-30T06:23:10Z", "9999-12-31T23:59:59Z",
    "0001-01-01T00:00:00+23:59",
)  # fmt: skip

Mutate = Callable[[bytes, int], bytes]


def mutated(data: bytes, longest: int, seed: int, plainly: Mutate, skip: int = 0) -> bytes:
    """Return an input changed: by libFuzzer (`plainly`), or, where it is JSON after `skip` bytes, by its shape."""
    chance = random.Random(seed)
    start, body = data[:skip], data[skip:]
    if chance.random() < 0.5 and body[:1] in (b"{", b"["):
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError:
            return plainly(data, longest)
        try:
            found = start + orjson.dumps(_changed(document, chance, plainly))
        except orjson.JSONEncodeError:
            return plainly(data, longest)
        if len(found) <= longest:
            return found
    return plainly(data, longest)


def _changed(value: Any, chance: random.Random, plainly: Mutate) -> Any:
    """Return a value with something in it changed: deeper rather than here, where it goes deeper."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        key = chance.choice([*value])
        return _changed_dict(value, key, chance, plainly)
    if isinstance(value, list) and value and chance.random() < 0.9:
        place = chance.randrange(len(value))
        match chance.randrange(6):
            case 0:
                return value[:place] + value[place + 1 :]
            case 1:
                return [*value, value[place]]
            case _:
                return [*value[:place], _changed(value[place], chance, plainly), *value[place + 1 :]]
    if isinstance(value, str) and chance.random() < 0.6:
        return _changed_text(value, plainly)
    return chance.choice(VALUES)


def _changed_dict(value: dict[str, Any], key: str, chance: random.Random, plainly: Mutate) -> dict[str, Any]:
    match chance.randrange(8):
        case 0:
            return {name: each for name, each in value.items() if name != key}
        case 1:
            return {**value, chance.choice([*value]): value[key]}
        case 2:
            return {(_changed_text(key, plainly) if name == key else name): each for name, each in value.items()}
        case _:
            return {**value, key: _changed(value[key], chance, plainly)}


def _changed_text(text: str, plainly: Mutate) -> str:
    """Return text changed as what it holds: hexadecimal, Base64, or itself."""
    size = len(text) + 16
    try:
        return plainly(bytes.fromhex(text), size).hex()
    except ValueError:
        pass
    try:
        return b2a_base64(plainly(a2b_base64(text, strict_mode=True), size), newline=False).decode()
    except (Error, ValueError):
        return plainly(text.encode(), size).decode(errors="replace")
