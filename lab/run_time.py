"""How long a run still takes: its stage by the pace of its own steps, the whole of it by what earlier runs took after that stage."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from vidistill.lab.steps import Step, TimeLeft


@dataclass(frozen=True)
class Stage:
    """What a stage of a finished run took.

    Attributes:
        pace: seconds a step, None where the stage said only once how far it was.
        after: seconds from its last report to the end of the run.
    """

    pace: float | None
    after: float


class RunTime:
    """Watches one run.

    Args:
        known: stage by name, of earlier runs; see :meth:`ended`.
        clock: seconds.
    """

    def __init__(self, known: Mapping[str, Stage], clock: Callable[[], float] = time.monotonic) -> None:
        self._known, self._clock = known, clock
        self._left = TimeLeft(clock)
        self._first: dict[str, tuple[int, float]] = {}
        self._last: dict[str, tuple[int, float]] = {}

    def after(self, step: Step) -> tuple[float | None, float | None]:
        """Take note of ``step``; return the seconds left in its stage and in the run, each None while too little is known.

        Before the third step of a stage its pace is that of an earlier run.
        """
        now = step.done, self._clock()
        self._first.setdefault(step.stage, now)
        self._last[step.stage] = now
        left, known = self._left.after(step), self._known.get(step.stage)
        if known is None:
            return left, None
        if left is None and known.pace is not None:
            left = known.pace * max(step.total - step.done, 0)
        return left, (left or 0.0) + known.after

    def ended(self) -> dict[str, Stage]:
        """Return what is known when the run is over: its own stages, and those of earlier runs that it did not have."""
        end, known = self._clock(), dict(self._known)
        for name, (done, at) in self._last.items():
            begun, since = self._first[name]
            known[name] = Stage((at - since) / (done - begun) if done > begun else None, end - at)
        return known
