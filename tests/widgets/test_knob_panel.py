"""The panel is the declaration: same limits, same values, and no way to an invalid one."""

import pytest

from vidistill.errors import InputError
from vidistill.knobs import Knob, Knobs
from vidistill.widgets import style
from vidistill.widgets.knob_panel import OWN, KnobPanel, Tick

pn = pytest.importorskip("panel")

KNOBS = Knobs(
    "toy",
    Knob("rank_ratio", 0.75, "share of each mode that is kept", low=0, high=1, open_low=True, step=0.05, symbol="r"),
    Knob("instances", 24, "clips kept per class", low=1, high=10000, symbol="k", unit="clips", group="selection"),
    Knob("width", 16, "channels", low=4, high=64, step=4),
    Knob("selector", "dpp", "how clips are chosen", choices=("dpp", "random"), group="selection"),
    Knob("kernel", "rbf", "similarity of two clips", choices=("rbf", "official"), group="selection"),
    Knob("codec", "lab-vae", "a name or a folder"),
    Knob("flips", False, "mirror clips"),
)
READ = {
    "paper": {"about": "as printed", "width": 8, "instances": 24},
    "official": {"about": "as released", "width": 8, "instances": 500, "kernel": "official"},
    "ours": {"about": "", "width": 32, "instances": 24},
    "quick": {"about": "no reading", "width": 64, "flips": True},
}
PRESETS = {"paper": {"kernel": "official"}, "quick": {"rank_ratio": 0.5, "instances": 8}}


@pytest.fixture
def panel():
    return KnobPanel(KNOBS, presets=PRESETS, uses={"kernel": lambda k: k["selector"] == "dpp"})


def release(widget, value):
    """What the browser does when a slider is let go."""
    import param

    widget.value = value
    if "value_throttled" in widget.param:
        with param.edit_constant(widget):
            widget.value_throttled = value


def test_one_control_per_knob_with_its_limits(panel):
    assert list(panel.controls) == list(KNOBS)
    slider = panel.controls["rank_ratio"]
    assert (slider.start, slider.end, slider.step) == (0.05, 1, 0.05)  # 0 itself is excluded
    assert isinstance(panel.controls["width"], pn.widgets.IntSlider)
    assert isinstance(panel.controls["instances"], pn.widgets.IntInput)  # ten thousand steps are no slider
    assert panel.controls["selector"].options == ["dpp", "random"]
    assert isinstance(panel.controls["flips"], Tick)
    assert "instances" in panel.controls["instances"].name
    assert "k [clips]" in panel.controls["instances"].name


def test_values_follow_a_release_and_not_a_drag(panel):
    seen = []
    panel.param.watch(lambda event: seen.append(event.new["rank_ratio"]), "values")
    panel.controls["rank_ratio"].value = 0.6  # still dragging
    assert panel.values["rank_ratio"] == 0.75
    release(panel.controls["rank_ratio"], 0.5)
    assert panel.values["rank_ratio"] == 0.5
    assert seen == [0.5]


def test_a_slider_that_moved_on_is_not_pulled_back(panel):
    import param

    slider = panel.controls["rank_ratio"]
    slider.value = 0.5  # the browser is here already
    with param.edit_constant(slider):
        slider.value_throttled = 0.6  # when an earlier release arrives
    assert panel.values["rank_ratio"] == 0.6
    assert slider.value == 0.5
    release(slider, 0.5)
    assert panel.values["rank_ratio"] == 0.5


def test_a_browsers_rounding_does_not_reach_the_values(panel):
    release(panel.controls["rank_ratio"], 0.05 * 6 - 1e-16)
    assert panel.values["rank_ratio"] == 0.3


def test_preset_changes_all_at_once_and_is_recognised(panel):
    seen = []
    panel.param.watch(lambda event: seen.append(dict(event.new)), "values")
    panel.preset.value = "quick"
    assert len(seen) == 1
    assert panel.values == KNOBS.resolve(PRESETS["quick"])
    assert panel.controls["instances"].value == 8
    release(panel.controls["rank_ratio"], 0.25)
    assert panel.preset.value == OWN
    panel.preset.value = "paper"
    assert panel.values == KNOBS.resolve(PRESETS["paper"])


def test_a_slider_can_return_to_where_it_was_before_a_preset(panel):
    release(panel.controls["rank_ratio"], 0.5)
    panel.preset.value = "paper"
    release(panel.controls["rank_ratio"], 0.5)
    assert panel.values["rank_ratio"] == 0.5


def test_the_paper_value_is_marked(panel):
    assert "paper: official" in panel._hints["kernel"].object
    panel.preset.value = "paper"
    assert "paper&#x27;s value" in panel._hints["kernel"].object or "paper's value" in panel._hints["kernel"].object
    release(panel.controls["rank_ratio"], 0.5)
    assert "paper: 0.75" in panel._hints["rank_ratio"].object  # a knob the preset leaves at its default counts too


def test_reset_returns_to_the_start():
    panel = KnobPanel(KNOBS, start={"rank_ratio": 0.3})
    panel.set({"rank_ratio": 0.9, "kernel": "official"})
    panel.reset_button.clicks += 1
    assert panel.values == KNOBS.resolve({"rank_ratio": 0.3})


def test_nothing_invalid_gets_in(panel):
    before = dict(panel.values)
    with pytest.raises(InputError):
        panel.set({"rank_ratio": 0.0})
    with pytest.raises(InputError):
        panel.set({"nonsense": 1})
    panel.controls["instances"].param.update(start=None, end=None)  # a browser that lets anything through
    release(panel.controls["instances"], -3)
    assert panel.values == before
    assert "instances=-3 is not allowed" in panel._hints["instances"].object
    assert panel.controls["instances"].value == before["instances"]


def test_cap_narrows_clips_and_says_why(panel):
    panel.cap("instances", 12, "the smallest class has 12 clips")
    assert panel.values["instances"] == 12
    assert panel.controls["instances"].end == 12
    assert "smallest class" in panel._hints["instances"].object
    panel.preset.value = "paper"  # asks for 24
    assert panel.values["instances"] == 12
    assert panel.preset.value == "paper"


def test_a_knob_without_effect_is_greyed_out(panel):
    assert not panel.controls["kernel"].disabled
    panel.controls["selector"].value = "random"
    assert panel.controls["kernel"].disabled
    assert "no effect" in panel._hints["kernel"].object


def test_seed_dice_and_lock(panel):
    panel.dice_button.clicks += 1
    first = panel.seed
    assert first != 0
    assert panel.seed_box.value == first
    panel.dice_button.clicks += 1
    assert panel.seed != first
    again = KnobPanel(KNOBS)
    again.dice_button.clicks += 1
    assert again.seed == first  # the dice are a stream of the seed, not of the hour
    panel.lock.value = True
    assert panel.dice_button.disabled
    assert panel.seed_box.disabled


def test_it_renders(panel):
    assert panel.__panel__().get_root() is not None


def test_knobs_may_be_called_otherwise_and_folded():
    panel = KnobPanel(KNOBS, presets=PRESETS, words={"width": "channels  w"}, folded=("codec", "flips", "kernel"))
    assert panel.controls["width"].name == "channels  w"
    view = panel.__panel__()
    (fold,) = [part for part in view if isinstance(part, pn.Card)]
    assert (fold.title, fold.collapsed) == ("more knobs", True)
    assert [part for part in fold if part in panel.controls.values()] == [panel.controls[name] for name in ("kernel", "codec", "flips")]
    assert panel.controls["width"] in list(view)
    panel.controls["flips"].value = True
    assert panel.values["flips"]
    assert not any(isinstance(part, pn.Card) for part in KnobPanel(KNOBS).__panel__())


def test_what_the_panel_mirrors_is_told_from_what_was_chosen(panel):
    seen = []
    panel.preset.param.watch(lambda event: seen.append((event.new, panel.mirroring)), "value")
    panel.preset.value = "paper"
    panel.set({"kernel": "rbf"})
    panel.set({"kernel": "official"})
    assert seen == [("paper", False), (OWN, True), ("paper", True)]


def test_readings_are_offered_where_they_differ_and_one_press_takes_one():
    panel = KnobPanel(KNOBS, presets=READ)
    assert list(panel.readings) == ["instances", "width", "kernel"]  # in the order of the controls; quick is no reading
    width = panel.readings["width"]
    assert (width.knob, width.words) == ("width", ["paper, official: 8", "ours: 32"])
    assert width.about == ["paper: as printed; official: as released", ""]
    assert width.here == -1  # the declared default is nobody's reading
    seen = []
    panel.param.watch(lambda event: seen.append(event.new["width"]), "values")
    width._handle_msg(1)  # what the browser does when the second button is pressed
    assert seen == [32]
    assert (width.here, panel.controls["width"].value) == (1, 32)
    release(panel.controls["width"], 8)
    assert width.here == 0
    assert "paper" not in panel._hints["width"].object  # said once
    assert "paper&#x27;s value" in panel._hints["rank_ratio"].object or "paper's value" in panel._hints["rank_ratio"].object


def test_a_reading_beyond_a_cap_is_the_cap():
    panel = KnobPanel(KNOBS, presets=READ)
    panel.cap("instances", 12, "the smallest class has 12 clips")
    assert panel.readings["instances"].here == 0  # 24 and 500 both come to 12
    panel.set({"instances": 3})
    assert panel.readings["instances"].here == -1
    panel.readings["instances"]._handle_msg(1)
    assert panel.values["instances"] == 12


def test_readings_of_a_knob_without_effect_cannot_be_pressed():
    panel = KnobPanel(KNOBS, presets=READ, uses={"kernel": lambda k: k["selector"] == "dpp"})
    assert not panel.readings["kernel"].idle
    panel.set({"selector": "random"})
    assert panel.readings["kernel"].idle


def test_the_papers_place_is_marked_on_the_track(panel):
    slider = panel.controls["rank_ratio"]  # from 0.05 to 1, the paper's 0.75
    assert style.notch((0.75 - 0.05) / 0.95) in slider.stylesheets
    assert style.notch((16 - 4) / 60) in panel.controls["width"].stylesheets
    panel.cap("width", 10, "narrow")
    assert panel.controls["width"].stylesheets == [style.CONTROL]  # the paper's 16 is out of reach
    panel.cap("width", 28, "wider")
    assert style.notch(0.5) in panel.controls["width"].stylesheets
    assert KnobPanel(KNOBS).controls["rank_ratio"].stylesheets == [style.CONTROL]  # without presets there is no paper


def test_an_equation_stands_under_its_knob():
    knobs = Knobs("toy", Knob("beta", 0.5, "weight", low=0, high=1, equation=r"\beta x_0"), Knob("plain", 1, "nothing", low=0, high=2))
    panel = KnobPanel(knobs)
    assert "<math" in panel._hints["beta"].object
    assert "<math" not in panel._hints["plain"].object


def test_a_drawing_stands_under_its_control():
    drawing = pn.pane.HTML("a curve")
    panel = KnobPanel(KNOBS, presets=READ, beside={"width": drawing})
    parts = list(panel.__panel__())
    at = parts.index(panel.controls["width"])
    assert parts[at + 1 : at + 4] == [drawing, panel.readings["width"], panel._hints["width"]]
    with pytest.raises(InputError, match="rank_ratio"):
        KnobPanel(KNOBS, beside={"rank_ration": drawing})


def test_a_tick_is_a_group_of_one_box_with_its_words(panel):
    box = panel.controls["flips"]._box
    assert box.options == {"flips": True}
    box.value = [True]  # ticked in the browser
    assert panel.values["flips"] is True
    panel.set({"flips": False})
    assert box.value == []
    panel.lock.value = True
    assert panel.lock._box.value == [True]
    panel.controls["flips"].disabled = True
    assert box.disabled
