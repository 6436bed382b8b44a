"""Latest wins, cancel within a step, errors on the page, an honest clock."""

import asyncio
import threading
import time

import pytest

from vidistill.errors import Cancelled, InputError
from vidistill.lab.steps import Step, TimeLeft, stream
from vidistill.widgets.run_bar import RunBar


def counting(steps, pause=0.01, log=None):
    for k in range(steps):
        time.sleep(pause)
        if log is not None:
            log.append(k)
        yield Step("count", k + 1, steps, result=k)


def test_runs_to_the_end_and_shows_every_result():
    bar, shown = RunBar(), []
    asyncio.run(bar.run(lambda: counting(4), shown.append))
    assert shown == [0, 1, 2, 3]
    assert not bar.running
    assert bar.failed == ""
    assert "done in" in bar._words.object


def test_cancel_stops_within_a_step_and_keeps_what_was_shown():
    bar, shown, log = RunBar(), [], []

    async def play():
        run = asyncio.create_task(bar.run(lambda: counting(50, 0.02, log), shown.append))
        while len(shown) < 3:
            await asyncio.sleep(0.005)
        bar.cancel_button.clicks += 1
        assert not bar.running
        await run

    asyncio.run(play())
    assert 3 <= len(log) <= 5
    assert shown == list(range(len(shown)))
    assert "cancelled" in bar._words.object


def test_the_latest_run_wins():
    bar, shown = RunBar(), []

    async def play():
        old = asyncio.create_task(bar.run(lambda: counting(50, 0.02), lambda k: shown.append(("old", k))))
        await asyncio.sleep(0.05)
        await bar.run(lambda: counting(3, 0.02), lambda k: shown.append(("new", k)))
        await old

    asyncio.run(play())
    assert [name for name, _ in shown].count("old") < 5
    assert shown[-3:] == [("new", 0), ("new", 1), ("new", 2)]


@pytest.mark.parametrize(("error", "words"), [(InputError("r=0 is not allowed"), "r=0 is not allowed"), (KeyError("z"), "KeyError")])
def test_an_error_is_on_the_page(error, words):
    def work():
        yield Step("go", 0, 1)
        raise error

    bar = RunBar()
    asyncio.run(bar.run(work, print))
    assert words in bar._error.object
    assert bar._error.visible
    assert 'role="alert"' in bar._error.object
    assert ("Traceback" in bar._error.object) == (not isinstance(error, InputError))
    asyncio.run(bar.run(lambda: counting(1), lambda k: None))
    assert not bar._error.visible


def test_an_error_while_showing_is_on_the_page_too():
    bar = RunBar()
    asyncio.run(bar.run(lambda: counting(1), lambda k: 1 / 0))
    assert "ZeroDivisionError" in bar._error.object


def test_stream_turns_a_callback_into_steps():
    def work(progress):
        for k in range(3):
            progress("encode", k, 3)
        return "latents"

    steps = list(stream(work))
    assert [(s.stage, s.done) for s in steps[:3]] == [("encode", 0), ("encode", 1), ("encode", 2)]
    assert steps[-1].result == "latents"


def test_closing_the_stream_cancels_the_work():
    ended = threading.Event()

    def work(progress):
        try:
            for k in range(10_000):
                time.sleep(0.001)
                progress("encode", k, 10_000)
        except Cancelled:
            ended.set()
            raise

    steps = stream(work)
    next(steps)
    steps.close()
    assert ended.wait(2)


def test_stream_raises_what_the_work_raised():
    def work(progress):
        raise InputError("no such folder")

    with pytest.raises(InputError, match="no such folder"):
        list(stream(work))


def test_time_left_is_the_median_pace_and_silent_before_the_third_step():
    now = [0.0]
    clock = TimeLeft(lambda: now[0])
    left = []
    for done, seconds in ((0, 0), (1, 2), (2, 2), (3, 20), (4, 2)):
        now[0] += seconds
        left.append(clock.after(Step("encode", done, 10)))
    assert left[:3] == [None, None, None]
    assert left[3] == pytest.approx(2 * 7)  # one slow step does not upset it
    assert left[4] == pytest.approx(2 * 6)
    assert clock.after(Step("train", 0, 5)) is None  # another stage, another pace
