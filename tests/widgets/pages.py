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


def unknown_word(bench: Any) -> str:
    """Ask for a word that no model knows: it is named before the run and by it. Return what was said before."""

    async def asked() -> str:
        bench.prompt.value = "a purpel <star>"
        await bench._typed(None)
        hint = bench._hint.object
        await bench.run()
        return hint

    hint = asyncio.run(asked())
    assert 'role="alert"' in hint
    assert "<star>" not in hint
    assert "nearest known word: 'purple'" in bench.bar.failed
    return hint


def cancelled(bench: Any, name: str, start: Callable[[], Any], seconds: float) -> None:
    """Start a long run and cancel it as soon as a preview of the clip ``name`` is there: the preview stays, and so does the last film."""
    film = bench.player._screen.object

    async def pressed() -> None:
        start()
        for wanted in (False, True):  # the rows are emptied, and filled again
            while bool(bench.strip.shown(name)) != wanted:
                await asyncio.sleep(0.005)
        bench.bar.cancel_button.clicks += 1
        await settle(bench, seconds)

    asyncio.run(pressed())
    assert "cancelled" in bench.bar._words.object
    assert bench.strip.shown(name) >= 1
    assert bench.player._screen.object == film


def words(page: str) -> str:
    """Return the text of HTML."""
    return re.sub(r"<[^>]+>", " ", page)
