"""Which kinds a message may be of, found by the message's own keys: the cost does not grow with what is declared.

Each kind is filed under the rarest of the things that it asks for: a key (a path of keys), or a value at one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

Path = tuple[str, ...]
Asked = tuple[Path, tuple[bool, Any] | None]
"""A path, and the value there: whether it is a flag (1 is not true) and itself; None for any value."""

_PLAIN = (str, int, float, bool, type(None))


class Asks(NamedTuple):
    """What a kind of message has: all of these paths, and these values at these paths."""

    match: Sequence[Path]
    where: Sequence[tuple[Path, Any]] = ()

    def asked(self) -> list[Asked]:
        """Return what the kind may be filed under."""
        values = [(path, (type(value) is bool, value)) for path, value in self.where if type(value) in _PLAIN]
        return list(dict.fromkeys([*((path, None) for path in self.match), *values]))


class _Node:
    """What is filed under a key: for any value, for some values, and below it."""

    __slots__ = ("any", "below", "values")

    def __init__(self) -> None:
        self.any: list[int] = []
        self.values: dict[tuple[bool, Any], list[int]] = {}
        self.below: dict[str, _Node] = {}


class Candidates:
    """Kinds of messages, each by its place in the order they were given in."""

    def __init__(self, kinds: Iterable[Asks]) -> None:
        self._top = _Node()
        asked = [kind.asked() for kind in kinds]
        count = Counter(each for several in asked for each in several)
        for place, several in enumerate(asked):
            path, value = min(several, key=count.__getitem__)
            node = self._top
            for key in path:
                node = node.below.setdefault(key, _Node())
            (node.any if value is None else node.values.setdefault(value, [])).append(place)

    def of(self, message: Mapping[str, Any]) -> list[int]:
        """Return the places, in order, of the kinds that a message may be of: whether it is, they have to be asked."""
        found: list[int] = []
        _gather(self._top.below, message, found)
        found.sort()
        return found


def _gather(below: Mapping[str, _Node], message: Mapping[str, Any], found: list[int]) -> None:
    for key, value in message.items():
        node = below.get(key)
        if node is None:
            continue
        found += node.any
        if type(value) is dict:
            if node.below:
                _gather(node.below, value, found)
        elif node.values and type(value) in _PLAIN:
            found += node.values.get((type(value) is bool, value), ())
