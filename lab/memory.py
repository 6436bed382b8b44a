"""Answers that were given before, so that a knob that is turned back costs nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Any

REMEMBER = 200  # answers kept


class Memory:
    """Keeps the last ``REMEMBER`` answers; the oldest goes first. Pages of several people may share one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: dict[Hashable, Any] = {}

    def known(self, key: Hashable) -> Any:
        """Return the answer to ``key``, None where there is none."""
        return self._answers.get(key)

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return the answer to ``key``, made when it is not known."""
        with self._lock:
            if key in self._answers:
                return self._answers[key]
        answer = make()
        with self._lock:
            while len(self._answers) >= REMEMBER:
                del self._answers[next(iter(self._answers))]
            self._answers[key] = answer
        return answer
