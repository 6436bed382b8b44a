"""Latest wins, cancel within a step, errors on the page, an honest clock."""

import asyncio
import subprocess
import sys
import threading
import time

import pytest
import torch

from vidistill.errors import Cancelled, InputError
from vidistill.lab import footprint as footprints
from vidistill.lab.footprint import footprint
from vidistill.lab.run_time import RunTime, Stage
from vidistill.lab.steps import Step, TimeLeft, stream
from vidistill.widgets.run_bar import RunBar, _still


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


def follow(watch, now, *reports):
    """Return what is left after each of ``(seconds, stage, done, total)``."""
    found = []
    for seconds, *step in reports:
        now[0] += seconds
        found.append(watch.after(Step(*step)))
    return found


def test_the_whole_run_is_told_from_what_earlier_runs_took_after_the_stage():
    now = [0.0]
    first = RunTime({}, lambda: now[0])
    reports = [
        (0, "load", 0, 1),
        *[(1, "sample", k, 4) for k in (1, 2, 3, 4)],
        (0, "decode", 0, 1),
        (3, "decode", 1, 1),
        (2, "previews", 1, 1),
    ]
    found = follow(first, now, *reports)
    assert found[0] == (None, None)
    assert found[4] == (pytest.approx(0), None)  # nobody knows yet what comes after
    known = first.ended()
    assert known["sample"] == Stage(1.0, 5.0)
    assert known["load"] == Stage(None, 9.0)
    assert known["previews"] == Stage(None, 0.0)

    second = RunTime(known, lambda: now[0])  # twice as many steps, twice as slow
    found = follow(second, now, (0, "load", 0, 1), *[(2, "sample", k, 8) for k in (1, 2, 3, 4)])
    assert found[0] == (None, 9.0)
    assert found[1] == (pytest.approx(7), pytest.approx(7 + 5))  # at the pace of the run before
    assert found[4] == (pytest.approx(2 * 4), pytest.approx(2 * 4 + 5))  # at its own
    assert second.ended().keys() == known.keys()  # what it did not reach is kept
    assert second.ended()["sample"].pace == 2.0


def test_a_stage_that_is_new_says_its_own_time_alone():
    now = [0.0]
    watch = RunTime({"decode": Stage(None, 5.0)}, lambda: now[0])
    assert follow(watch, now, *[(1, "train", k, 10) for k in range(5)])[-1] == (pytest.approx(6), None)


@pytest.mark.parametrize(
    ("left", "whole", "words"),
    [
        (None, None, ""),
        (2.2, None, ", about 2 s left"),
        (2.2, 3.4, ", about 2 s left, 3 s in all"),
        (2.2, 2.4, ", about 2 s left"),
        (0.2, 3.0, ", under a second left, 3 s in all"),
        (0.2, 0.4, ", under a second left"),
        (None, 3.0, ", about 3 s left in all"),
        (None, 0.3, ""),
    ],
)
def test_time_left_in_words(left, whole, words):
    assert _still(left, whole) == words


def test_a_finished_run_teaches_the_next_one_and_a_cancelled_one_does_not():
    def work():
        yield Step("sample", 1, 2)
        time.sleep(0.02)
        yield Step("sample", 2, 2)
        yield Step("decode", 1, 1)

    bar = RunBar()
    asyncio.run(bar.run(work, print))
    assert bar._known.keys() == {"sample", "decode"}
    assert 0.01 < bar._known["sample"].pace < 1

    async def cancelled():
        run = asyncio.create_task(bar.run(lambda: counting(50, 0.02), lambda k: None))
        await asyncio.sleep(0.15)
        bar.cancel()
        await run

    asyncio.run(cancelled())
    assert bar._known.keys() == {"sample", "decode"}


HOLD = """
import mmap
from vidistill.lab.footprint import footprint

page = bytes(2**20)
free = footprint().resident
block = mmap.mmap(-1, 64 * 2**20)
for _ in range(64):
    block.write(page)
held = footprint().resident
block.close()
print(free, held, footprint().resident)
"""  # in a process of its own and past its allocator, which may serve a block from pages it has long held


def test_memory_is_what_the_process_holds_now():
    done = subprocess.run([sys.executable, "-c", HOLD], capture_output=True, text=True, check=True)
    before, held, after = map(int, done.stdout.split())
    assert held - before == pytest.approx(64 * 2**20, rel=0.1)
    assert held - after == pytest.approx(64 * 2**20, rel=0.1)
    assert footprint().device is None or torch.cuda.is_available()


def test_memory_elsewhere_is_the_most_that_was_held(monkeypatch, tmp_path):
    monkeypatch.setattr(footprints, "STATM", tmp_path / "no such file")
    assert footprint().resident >= 2**20


def test_memory_and_a_forecast_are_on_the_page():
    said = []
    bar = RunBar(forecast=lambda: 3 * 2**29)
    assert "this run" not in bar._memory.object
    asyncio.run(bar.run(lambda: counting(1), lambda k: said.append(bar._memory.object)))
    assert " taken, this run about 1.5 GiB more<" in said[0]
    assert " taken<" in bar._memory.object


def test_a_forecast_that_refuses_is_on_the_page_and_the_next_run_goes():
    def refuse():
        raise InputError("clips of 4096 frames do not fit")

    bar, shown = RunBar(forecast=refuse), []
    asyncio.run(bar.run(lambda: counting(1), shown.append))
    assert "do not fit" in bar._error.object
    assert not shown
    bar.forecast = None
    asyncio.run(bar.run(lambda: counting(1), shown.append))
    assert shown == [0]
    assert not bar._error.visible
