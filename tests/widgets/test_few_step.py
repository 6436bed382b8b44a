"""The page of few-step clips: each is grey until its seconds are over, a run shows what the bench made, failures are words."""

import asyncio
from dataclasses import replace
from functools import partial

import pages
import pytest
import torch
from pages import words

from vidistill.lab.few_step_session import ANEW, EULER, KNOBS, TEACHER, FewStepSession
from vidistill.widgets.few_step import FewStepBench, alarms_html, alt_text, captions, numbers_html, one_clock, static_views, tiles_html

PROMPT = "a red star orbiting over a navy background"
FEW = KNOBS.resolve({"steps": 6})
play = partial(pages.play, seconds=60)


@pytest.fixture(scope="module")
def session(tiny_dit, tiny_students):
    return FewStepSession(tiny_students, teacher=f"dit={tiny_dit}")


@pytest.fixture(scope="module")
def found(session):
    return session.look(PROMPT, FEW, seed=5)


@pytest.fixture
def bench(session, found):
    return FewStepBench(session, found, FEW)


def test_the_first_state_teaches_untouched(bench, found):
    assert (bench.prompt.value, bench.students.value, bench.panel.seed) == (PROMPT, ["anew", "euler"], 5)
    assert bench.player._names == [
        "dit, 6 steps", "anew, 4 steps, re-noised", "euler, 4 steps, Euler", "untrained, 4 steps, Euler", "untrained, 4 steps, re-noised",
    ]  # fmt: skip
    assert "<video" in bench.player._screen.object
    assert "seed 5, teacher in 6 steps, guidance 2" in bench._made.object
    assert "each clip shown when it was ready" in alt_text(found)
    told = words(tiles_html(found))
    for name, take in found.takes.items():
        assert f"{take.seconds:.2f} s" in told
        assert name == TEACHER or f"{found.numbers['faster'][name]:.1f} x" in told
    assert "12 evaluations" in told
    assert bench._readings.object.count('scope="col"') == 2 + 5
    bench.__panel__()


def test_a_clip_is_grey_until_its_seconds_are_over(found):
    seconds = dict(zip(found.takes, (2.0, 0.5, 0.5, 1.0, 1.0), strict=True))
    timed = replace(found, takes={name: replace(take, seconds=seconds[name]) for name, take in found.takes.items()})
    films, pace = one_clock(timed)
    assert pace == 1
    assert {film.shape for film in films.values()} == {(3, 32, 64, 64)}
    for name, film in films.items():
        first = int(seconds[name] * 8)
        assert all(film[:, j].unique().numel() <= 3 for j in range(first))  # a bar on grey
        assert torch.equal(film[:, first:], torch.cat([found.clips[name]] * 2, 1)[:, first:])
    bars = [int((films[TEACHER][0, j] == 60).sum()) for j in range(16)]
    assert bars == sorted(bars)
    assert bars[0] == 0 < bars[-1]
    slow = replace(timed, takes=timed.takes | {TEACHER: replace(timed.takes[TEACHER], seconds=30.0)})
    assert one_clock(slow)[1] == 3


def test_the_clock_can_be_taken_off(bench, found):
    bench.on_clock.value = []
    assert len(bench.player._frames) == 16
    bench.on_clock.value = list(bench.on_clock.options)
    assert len(bench.player._frames) > 16


def test_a_turn_shows_what_the_bench_makes(bench, session):
    play(bench, lambda: bench.panel.set({"renoise": "ode"}))
    made = session.look(PROMPT, FEW | {"renoise": "ode"}, seed=5)
    assert bench.bar.failed == ""
    assert all(torch.equal(a, b) for a, b in zip(bench._found.clips.values(), made.clips.values(), strict=True))
    assert 'data-alarm="sampled against its training"' in bench._alarms.object
    assert "anew, 4 steps, Euler" in bench.player._names
    play(bench, lambda: setattr(bench.students, "value", ["euler"]))
    assert list(bench._found.takes) == [TEACHER, "euler", EULER, ANEW]
    assert "known before: euler" in bench._made.object
    play(bench, lambda: bench.panel.set({"steps": 1}))
    assert bench.player._names[0] == "dit, 1 step"


def test_an_unknown_word_is_named_and_the_last_clips_stay(bench):
    film = bench.player._screen.object
    pages.unknown_word(bench)
    assert bench.player._screen.object == film


def test_clips_are_shown_while_the_teacher_still_works_and_cancel_keeps_them(bench):
    async def run():
        bench.panel.seed = 77
        bench.panel.set({"steps": 50})
        await asyncio.sleep(0)
        task = asyncio.create_task(bench.run())  # supersedes what the two turns began
        while bench._found.seed != 77 or len(bench._found.takes) < 4:
            await asyncio.sleep(0.002)
        before = list(bench._found.takes)
        bench.bar.cancel_button.clicks += 1
        await task
        return before

    before = asyncio.run(run())
    assert before == ["anew", "euler", EULER, ANEW]
    assert "cancelled" in bench.bar._words.object
    assert list(bench._found.takes) == before
    assert "data-alarm" in bench._alarms.object or "The teacher is still at work" in bench._alarms.object


def test_an_earlier_run_is_recalled_with_its_students_and_nothing_is_sampled(bench, session, found):
    first = {"prompt": PROMPT, "students": "anew, euler", "teacher": "dit"} | FEW | {"seed": 5}
    assert bench.asked() == first
    play(
        bench,
        lambda: bench.panel.set({"renoise": "ode"}),
        lambda: setattr(bench.students, "value", ["euler"]),
        lambda: setattr(bench.students, "value", []),
    )
    history, compare = bench.desk.runs.history, bench.desk.runs.compare
    assert [entry.words for entry in history.entries] == [
        "the first", "renoise trained → ode", "students anew, euler → euler", "students euler → none",
    ]  # fmt: skip
    clips = [found.takes["anew"].clip, "anew", "euler", TEACHER]
    assert history.entries[0].clip is clips[0]
    assert [entry.clip is entry.record.takes[name].clip for entry, name in zip(history.entries[1:], clips[1:], strict=True)] == [True] * 3
    assert (compare.a.value, compare.b.value) == ("run 3", "run 4")
    assert f"{EULER} of run 4" in compare.a.options
    assert pages.recall(bench, session, 1) == []
    assert bench._found is found
    assert bench.asked() == first
    assert bench.students.value == ["anew", "euler"]
    assert "anew, 4 steps, re-noised" in bench.player._names
    assert f"{TEACHER} of run 1" in compare.a.options
    assert len(history.entries) == 4
    assert pages.recall(bench, session, 4) == []
    assert bench.students.value == []


def test_a_run_counts_when_all_its_clips_are_there(bench, found):
    part = replace(found, takes={"anew": found.takes["anew"]}, whole=False)
    bench.present(part, bench.asked() | {"seed": 8})
    assert bench._found is part
    assert len(bench.desk.runs.history.entries) == 1


def test_numbers_of_the_first_student(bench, found):
    numbers = bench.numbers(found)
    assert (numbers["faster"], numbers["seconds"]) == (found.numbers["faster"]["anew"], found.takes["anew"].seconds)
    assert bench.clip(found) is bench.clips(found)["anew"]
    *_, last = bench.steps(bench.asked(), previews=False)
    assert torch.equal(last.result.clips["anew"], bench.clip(found))


def test_numbers_and_alarms_are_words(found):
    told = words(numbers_html(found))
    for name in ("times as fast", "drift", "saturation", "contrast"):
        assert name in told
    missing = replace(found, numbers=found.numbers | {"drift": dict.fromkeys(found.takes)})
    assert words(numbers_html(missing)).count("–") >= 5
    assert "data-alarm" in alarms_html(replace(found, alarms={"washed <out>": "x"}))
    assert "washed <out>" not in alarms_html(replace(found, alarms={"washed <out>": "x"}))
    alone = replace(found, takes={TEACHER: found.takes[TEACHER]})
    assert "No few-step student is chosen" in alarms_html(alone)
    assert set(captions(alone)) == {TEACHER}


def test_static_twins_hold_still(found):
    from IPython.display import HTML, Image

    views = static_views(found)
    assert sum(isinstance(view, Image) for view in views) == 1
    assert all("<script" not in view.data for view in views if isinstance(view, HTML))
    assert sum(len(view.data) for view in views) < 500_000


def test_the_notebook_declares_the_knobs_as_the_benches_do():
    import nbformat

    from vidistill.lab import plane_session
    from vidistill.lab.runner import notebooks_dir

    notebook = nbformat.read(notebooks_dir() / "explore" / "few_step.ipynb", 4)
    source = next(cell.source for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())).replace('"', "'")
    assert KNOBS.parameters_cell() in source
    assert plane_session.KNOBS.parameters_cell({"updates": 150}) in source
    assert not set(KNOBS) & set(plane_session.KNOBS)
    assert not any("def " in cell.source or "class " in cell.source for cell in notebook.cells if cell.cell_type == "code")
