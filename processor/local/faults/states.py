"""What is watched of `devices`: no device's state ever goes back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from processor.store.states import State, join, state_from
from processor.store.tables import AttributeValue


class StatesSeen:
    """The devices' states as they were seen last."""

    def __init__(self) -> None:
        self._states: dict[str, State] = {}

    def see(self, items: Iterable[Mapping[str, AttributeValue]]) -> list[str]:
        """Look at items of the table; return which of them have gone back."""
        gone_back = []
        for state in filter(None, map(state_from, items)):
            before = self._states.get(state.device)
            if before is not None and join(before, state) != state:
                gone_back.append(f"{state.device}: its state went back, from {before} to {state}")
            self._states[state.device] = state
        return gone_back
