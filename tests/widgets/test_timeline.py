"""The timeline says what the next run keeps, forks after the chosen step, stays forked for every further turn, and can be left."""

import pytest
import torch
from pages import words

from vidistill.lab.previews import Preview
from vidistill.widgets.timeline import Timeline, picture, row_html


def previews(*steps, of=20):
    return [Preview("guided", step, of, 8, torch.full((3, 8, 8), 10 * step, dtype=torch.uint8)) for step in steps]


@pytest.fixture
def calls():
    return []


@pytest.fixture
def timeline(calls):
    view = Timeline(calls.append)
    view.fill("run 3", previews(1, 4, 7, 10, 13, 16, 19), 20)
    return view


def said(view):
    return words(view._words.object)


def test_before_the_first_run_there_is_nothing_to_press():
    view = Timeline(print)
    assert all(widget.disabled for widget in (view.slider, view.button, view.leave_button))
    assert "A finished run can be forked here." in said(view)
    view.__panel__()


def test_it_says_what_will_happen(timeline):
    assert (timeline.slider.start, timeline.slider.end, timeline.slider.value, timeline.kept) == (1, 19, 10, 0)
    timeline.slider.value = 5
    assert timeline.button.name == "Fork after step 5"
    assert "Forked, the next run keeps steps 1 to 5 of run 3 and goes on with the knobs as they are then." in said(timeline)
    assert timeline._row.object.count("✓ kept") == 2
    assert timeline._row.object.count("<br>made anew") == 5
    timeline.slider.value = 1
    assert "keeps step 1 of run 3" in said(timeline)
    assert 'role="status"' in timeline._words.object


def test_a_fork_is_made_and_left(timeline, calls):
    timeline.slider.value = 5
    timeline.button.clicks += 1
    assert (calls, timeline.kept) == ([5], 5)
    assert timeline.button.name == "✓ Forked after step 5"
    assert "The next run keeps steps 1 to 5 of run 3 and goes on with the knobs as they are now: turn one." in said(timeline)
    timeline.slider.value = 7
    assert timeline.kept == 5
    assert timeline.button.name == "Fork after step 7"
    assert "keeps steps 1 to 5 of run 3" in said(timeline)
    assert "Or fork after step 7 instead." in said(timeline)
    timeline.leave_button.clicks += 1
    assert (calls, timeline.kept) == ([5, 0], 0)
    assert timeline.leave_button.disabled
    assert "Forked, the next run keeps steps 1 to 7" in said(timeline)


def test_the_fork_stays_for_the_next_turn(timeline, calls):
    timeline.slider.value = 5
    timeline.button.clicks += 1
    for number, until in ((4, "5: beta=0.2"), (5, "5: beta=0.2, guided=8"), (3, "")):
        timeline.fill(f"run {number}", [], 20, until)
        assert (timeline.kept, timeline.slider.value) == (5, 5)
        assert f"keeps steps 1 to 5 of run {number}" in said(timeline)
        assert (f"Run {number} had other knobs on the way, until step {until}." in said(timeline)) == bool(until)
        timeline.fill(f"run {number}", previews(1, 4), 20, until)  # its previews come later
        assert "alt=" in timeline._row.object
    assert calls == [5]


def test_a_run_that_is_shown_again_brings_its_fork(timeline, calls):
    timeline.fill("run 2", previews(1, 4), 20, "9: beta=0.2")
    timeline.keep(9)
    assert (timeline.kept, timeline.slider.value) == (9, 9)
    timeline.keep(0)
    assert (timeline.kept, timeline.slider.value) == (0, 9)
    assert calls == []  # nobody pressed anything


def test_a_fork_that_cannot_be_is_left_and_says_why(timeline):
    timeline.keep(15)
    timeline.leave("a fork keeps seed: it was 3 and is 4 <b>")
    assert timeline.kept == 0
    assert 'role="alert"' in timeline._words.object
    assert "it was 3 and is 4 &lt;b&gt;" in timeline._words.object
    timeline.slider.value = 3
    timeline.button.clicks += 1
    assert "alert" not in timeline._words.object
    timeline.keep(15)
    timeline.fill("run 9", [], 8)
    assert (timeline.kept, timeline.slider.end, timeline.slider.value) == (0, 7, 7)
    assert "run 9 has 8 steps, and the fork was after step 15" in said(timeline)


def test_short_runs():
    view = Timeline(print)
    view.fill("run 1", [], 1)
    assert view.button.disabled
    assert "has one step: there is nothing to fork" in said(view)
    view.fill("run 2", previews(1, of=2), 2)
    assert (view.slider.disabled, view.button.disabled, view.slider.value) == (True, False, 1)
    view.button.clicks += 1
    assert view.kept == 1


def test_pictures_say_in_words_what_their_frames_say():
    first, second = previews(1, 4)
    assert 'alt="guided as predicted after step 4 of 20"' in picture(second)
    page = row_html({1: picture(first), 4: picture(second)}, 3)
    assert words(page).split() == ["step", "1", "✓", "kept", "step", "4", "made", "anew"]
    assert page.index("solid") < page.index("dashed")
    assert words(row_html({}, 0)).strip() == "The previews of its steps follow."


def test_every_control_has_a_name(timeline):
    assert [widget.name for widget in (timeline.slider, timeline.button, timeline.leave_button)] == [
        "fork after step",
        "Fork after step 10",
        "From the beginning again",
    ]
