"""The strip of runs: bounded, one entry a setting, words for what changed, a way back, and two picked for a comparison."""

import pytest
import torch

from vidistill.widgets.history import History
from vidistill.widgets.runs import Runs


def clip(level):
    return torch.full((3, 4, 8, 8), level, dtype=torch.uint8)


@pytest.fixture
def calls():
    return []


@pytest.fixture
def history(calls):
    view = History(lambda entry: calls.append(("recall", entry.name)), lambda slot, entry: calls.append((slot, entry.name)), most=4)
    for k, beta in enumerate((0.2, 0.4, 0.6)):
        view.add({"beta": beta, "seed": 0}, clip(10 * k), 1.5, record=f"look {k}")
    return view


def test_each_run_says_what_it_changed(history):
    assert [entry.words for entry in history.entries] == ["the first", "beta 0.2 → 0.4", "beta 0.4 → 0.6"]
    card = history._cards[2]
    assert "run 2</b>, 1.50 s" in card.pane.object
    assert 'alt="middle frame of run 2: beta 0.2 → 0.4"' in card.pane.object
    assert [column.objects[0] for column in history._row.objects] == [history._cards[k].pane for k in (3, 2, 1)]


def test_a_run_that_nobody_timed_has_no_seconds(history):
    history.add({"beta": 0.8, "seed": 0}, clip(1), None)
    assert "run 4</b><div" in history._cards[4].pane.object


def test_the_same_settings_are_the_same_run(history):
    again = history.add({"beta": 0.4, "seed": 0}, clip(3), 9.0, record="fuller")
    assert (again.number, again.record, again.seconds) == (2, "fuller", 1.5)
    assert len(history.entries) == 3
    assert history.shown == 2
    assert history.add({"beta": 0.4, "seed": 7}, clip(4), 1.0).words == "from run 2: seed 0 → 7"


def test_it_is_bounded(history):
    for seed in range(1, 20):
        history.add({"beta": 0.2, "seed": seed}, clip(seed), 0.1)
    assert [entry.number for entry in history.entries] == [19, 20, 21, 22]
    assert list(history._cards) == [19, 20, 21, 22]
    assert len(history._row.objects) == 4


def test_a_click_recalls_and_marks_in_words(history, calls):
    assert history._cards[3].show.name == "✓ run 3 shown"
    history._cards[1].show.clicks += 1
    assert calls == [("recall", "run 1")]
    assert history._cards[1].show.name == "✓ run 1 shown"
    assert history._cards[3].show.name == "Show run 3"


def test_two_can_be_picked(history, calls):
    history._cards[1].slots["A"].clicks += 1
    history._cards[3].slots["B"].clicks += 1
    assert calls == [("A", "run 1"), ("B", "run 3")]
    history.mark_pair("run 1", "run 3")
    assert history._cards[1].slots["A"].name == "✓ 1 as A"
    assert history._cards[1].slots["B"].name == "1 as B"
    assert history._cards[3].slots["B"].button_type == "primary"


def test_next_and_previous(history, calls):
    history.step(1)
    assert calls == []
    history.step(-1)
    history.step(-1)
    history.step(-1)
    history.step(1)
    assert calls == [("recall", "run 2"), ("recall", "run 1"), ("recall", "run 2")]


def test_words_of_a_user_are_escaped():
    view = History(print, print)
    view.add({"prompt": "a"}, clip(0), 1.0)
    view.add({"prompt": '<b>"x"'}, clip(1), 1.0)
    assert "&lt;b&gt;&quot;x&quot;" in view._cards[2].pane.object


def test_runs_compare_what_was_shown_with_what_is_shown(calls):
    runs = Runs(calls.append)
    pair = lambda: (runs.compare.a.value, runs.compare.b.value)  # noqa: E731
    runs.add({"beta": 0.2}, clip(0), 1.0, others={"alone": clip(90)})
    assert pair() == ("alone of run 1", "run 1")
    runs.add({"beta": 0.4}, clip(10), 1.0, others={"alone": clip(90)})
    assert pair() == ("run 1", "run 2")
    assert "beta 0.2 → 0.4" in runs.compare._told.object
    runs.add({"beta": 0.6}, clip(20), 1.0, others={"alone": clip(90)})
    assert pair() == ("run 2", "run 3")
    runs.add({"beta": 0.6}, clip(20), 1.0, others={"alone": clip(90)})  # once more, with a fuller record
    assert pair() == ("run 2", "run 3")
    runs.history._cards[1].slots["A"].clicks += 1
    assert pair() == ("run 1", "run 3")
    assert runs.history._cards[1].slots["A"].name == "✓ 1 as A"
    runs.add({"beta": 0.8}, clip(30), 1.0, others={"alone": clip(90)})
    assert pair() == ("run 1", "run 4")  # A was picked, B moves on
    runs.history._cards[2].show.clicks += 1
    assert [entry.name for entry in calls] == ["run 2"]
    assert pair() == ("run 1", "run 4")
    runs.compare.a.value = "run 3"  # what was offered last, so it moves on again
    for _ in range(2):
        runs.add({"beta": 0.9}, clip(40), 1.0, others={"alone": clip(90)})
        assert pair() == ("run 2", "run 5")
    runs.add({"beta": 0.2}, clip(0), 1.0, others={"alone": clip(50)})  # the first again: what is beside it is its own
    assert runs.compare.a.options[0] == "alone of run 1"
    runs.__panel__()
