"""What the tests of pages share: a page is played, its runs are waited for, and what it shows is read as words."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest


async def settle(bench: Any, seconds: float) -> None:
    """Wait until the run that a control started is over, about so many seconds at most."""
    for _ in range(round(100 * seconds)):
        await asyncio.sleep(0.01)
        if not bench.bar.running:
            return
    raise AssertionError("still running")


def play(bench: Any, *turns: Callable[[], Any], seconds: float) -> None:
    """Do what each of ``turns`` does, and wait for the run it starts."""

    async def all_of_them() -> None:
        for turn in turns:
            await turn() if asyncio.iscoroutinefunction(turn) else turn()
            await settle(bench, seconds)

    asyncio.run(all_of_them())


def recall(bench: Any, session: Any, number: int) -> list[Any]:
    """Press the button that shows a run again, wait for the events that come late, and return the arguments of every run they started."""
    started: list[Any] = []
    original = session.steps

    def counted(*asked: Any, **more: Any) -> Any:
        started.append((asked, more))
        return original(*asked, **more)

    async def pressed() -> None:
        bench.desk.runs.history._cards[number].show.clicks += 1
        for _ in range(30):
            await asyncio.sleep(0.01)
            assert not bench.bar.running

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "steps", counted)
        asyncio.run(pressed())
    return started


def words(page: str) -> str:
    """Return the text of HTML."""
    return re.sub(r"<[^>]+>", " ", page)
