"""Keys do what their buttons do, a greyed-out button's key does nothing, and the list says them all."""

import pytest
import torch

from vidistill.knobs import Knob, Knobs
from vidistill.lab.compare import MODES
from vidistill.widgets.keys import Keys, page_keys
from vidistill.widgets.knob_panel import KnobPanel
from vidistill.widgets.run_bar import RunBar
from vidistill.widgets.runs import Runs


@pytest.fixture
def parts():
    panel = KnobPanel(Knobs("test", Knob("beta", 0.5, doc="a weight", low=0, high=1)))
    recalled = []
    return RunBar(), panel, Runs(lambda entry: recalled.append(entry.name)), recalled


@pytest.fixture
def keys(parts):
    return Keys(page_keys(*parts[:3]))


def test_each_key_does_what_it_says(keys, parts):
    bar, panel, runs, recalled = parts
    pressed = []
    bar.run_button.on_click(lambda event: pressed.append("run"))
    keys._ear._handle_msg("r")
    assert pressed == ["run"]
    seed = panel.seed
    keys._ear._handle_msg("d")
    assert panel.seed != seed
    for level in (0, 1):
        runs.add({"beta": level}, torch.full((3, 2, 8, 8), level, dtype=torch.uint8), 1.0)
    keys._ear._handle_msg("[")
    keys._ear._handle_msg("]")
    assert recalled == ["run 1", "run 2"]
    keys._ear._handle_msg("s")
    assert panel.dice_button.disabled
    keys._ear._handle_msg("s")
    assert not panel.dice_button.disabled
    keys._ear._handle_msg("m")
    assert runs.compare.mode.value == MODES[1]
    keys._ear._handle_msg("q")  # no key of the page


def test_a_key_of_a_greyed_out_button_does_nothing(keys, parts):
    bar, panel, _, _ = parts
    pressed = []
    bar.cancel_button.on_click(lambda event: pressed.append("cancel"))
    keys.press("c")
    assert pressed == []
    panel.lock.value = True
    seed = panel.seed
    keys.press("d")
    assert panel.seed == seed


def test_a_button_that_is_not_shown_has_no_key(parts):
    _, panel, runs, _ = parts
    assert list(page_keys(RunBar(label=""), panel, runs)) == ["c", "[", "]", "d", "s", "m"]


def test_the_list_names_every_key_and_the_switch_silences_them(keys):
    assert not keys._list.visible
    keys.press("?")
    assert keys._list.visible
    assert all(f">{key}</kbd>" in keys._list[0].object for key in keys._ear.heard)
    assert keys._ear.heard == ["r", "c", "[", "]", "d", "s", "m", "?"]
    keys.switch.value = []
    assert not keys._ear.on_air
    keys.switch.value = list(keys.switch.options)
    assert keys._ear.on_air
    keys.button.clicks += 1
    assert not keys._list.visible


def test_nothing_is_fetched(keys):
    assert "http" not in keys._ear._esm
    assert not keys._ear._importmap
    keys.__panel__()
