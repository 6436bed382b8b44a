"""Work that can be watched, timed and stopped: any run as an iterator of steps, and an honest guess of the time left."""

from __future__ import annotations

import queue
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from vidistill.errors import Cancelled
from vidistill.types import Progress


@dataclass(frozen=True)
class Step:
    """One report from a run.

    Attributes:
        stage: what is being done, in words.
        done, total: how far within the stage.
        result: a result worth showing, whole or partial; None while there is none.
    """

    stage: str
    done: int = 0
    total: int = 1
    result: Any = None


def stream(work: Callable[[Progress], Any]) -> Iterator[Step]:
    """Turn ``work(progress)`` into an iterator of steps whose last one carries what ``work`` returned.

    The work runs in a thread of its own. Closing the iterator stops it: its next progress report raises :class:`Cancelled` inside
    the work, so what it had already written stays on disk.

    Raises:
        Exception: whatever ``work`` raised, at the place where the next step would have come.
    """
    inbox: queue.Queue[Step | BaseException] = queue.Queue()
    stopped = threading.Event()

    def report(stage: str, done: int, total: int) -> None:
        if stopped.is_set():
            raise Cancelled
        inbox.put(Step(stage, done, total))

    def body() -> None:
        try:
            inbox.put(Step("done", 1, 1, work(report)))
        except BaseException as error:
            inbox.put(error)

    threading.Thread(target=body, daemon=True).start()
    try:
        while True:
            item = inbox.get()
            if isinstance(item, Cancelled):
                return
            if isinstance(item, BaseException):
                raise item
            yield item
            if item.result is not None:
                return
    finally:
        stopped.set()


class TimeLeft:
    """Seconds left in the stage: the median time of its steps so far times the steps to come; unknown before the third step."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stage = ""
        self._last = (0, 0.0)
        self._pace: list[float] = []

    def after(self, step: Step) -> float | None:
        """Take note of ``step`` and return the seconds left in its stage, or None while too little is known."""
        now = self._clock()
        if step.stage != self._stage:
            self._stage, self._pace = step.stage, []
        elif (moved := step.done - self._last[0]) > 0:
            self._pace.append((now - self._last[1]) / moved)
        self._last = (step.done, now)
        if len(self._pace) < 3:
            return None
        return statistics.median(self._pace) * max(step.total - step.done, 0)
