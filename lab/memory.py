"""Answers that were given before, so that a knob that is turned back costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

REMEMBER = 200  # answers kept


class Memory:
    """Keeps the last ``REMEMBER`` answers; the oldest goes first."""

    def __init__(self) -> None:
        self._answers: dict[Hashable, Any] = {}

    def known(self, key: Hashable) -> Any:
        """Return the answer to ``key``, None where there is none."""
        return self._answers.get(key)

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return the answer to ``key``, made when it is not known."""
        if key not in self._answers:
            while len(self._answers) >= REMEMBER:
                self._answers.pop(next(iter(self._answers)), None)
            self._answers[key] = make()
        return self._answers[key]
