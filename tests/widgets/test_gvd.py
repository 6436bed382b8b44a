"""GVD's page: a turn shows what the bench made, cancel keeps what was formed, failures and the centre that pulls are signs and words."""

import asyncio
import io
import re
from dataclasses import replace
from functools import partial

import pages
import plotly.graph_objects as go
import pytest
import torch
from pages import words

from vidistill.lab.compare import difference
from vidistill.lab.gvd_session import CENTRE, GUIDED, KNOBS, TWIN, GvdSession
from vidistill.widgets.gvd import GvdBench, alarms_html, alt_text, centres_html, numbers_html, static_views
from vidistill.widgets.pull import FLOOR, decay_figure, distance_figure, force_figure, rates_figure
from vidistill.widgets.strip import film_strip

FEW = KNOBS.resolve({"sampling_steps": 4, "guidance": 2.0, "centres": 2})
play = partial(pages.play, seconds=20)
settle = partial(pages.settle, seconds=20)


@pytest.fixture(scope="module")
def session(tiny_dit, tiny_unet, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIDISTILL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield GvdSession({"dit": tiny_dit, "unet": tiny_unet}, per_class=5)


@pytest.fixture(scope="module")
def look(session):
    return session.look("slide", "slide", "dit", FEW, seed=5)


@pytest.fixture
def bench(session, look):
    return GvdBench(session, look, FEW)


def test_the_first_state_teaches_untouched(bench, look):
    assert (bench.label.value, bench.prompt.value, bench.model.value, bench.panel.seed) == ("slide", "slide", "dit", 5)
    assert bench.player._names == [TWIN, GUIDED, CENTRE]
    assert "<video" in bench.player._screen.object
    assert "4 of 4" in bench._numbers.object
    assert (bench.strip.shown(TWIN), bench.strip.shown(GUIDED)) == (3, 3)
    assert "seed 5, dit, 4 steps, guidance 2" in bench._made.object
    assert all(plot.object["layout"]["meta"]["words"] for plot in bench._plots)
    assert "aria-live" in bench._numbers.object
    assert "nearer to the centre than its twin" in alt_text(look)
    bench.__panel__()


def test_a_turn_shows_what_the_bench_makes(bench, session):
    async def play():
        bench.panel.set({"strength": 2.0, "decay": "none"})
        await settle(bench)

    asyncio.run(play())
    made = session.look("slide", "slide", "dit", FEW | {"strength": 2.0, "decay": "none"}, seed=5)
    assert bench.bar.failed == ""
    assert f">{made.pull:.2f}<" in bench._numbers.object
    assert "the twin was known" in bench._made.object
    assert list(bench._plots[0].object["data"][0]["y"]) == [1.0] * 16
    assert (bench.strip.shown(TWIN), bench.strip.shown(GUIDED)) == (3, 3)
    assert "done in" in bench.bar._words.object


def test_the_class_brings_its_prompt_unless_one_was_written(bench):
    async def play():
        bench.label.value = "orbit"
        await settle(bench)
        first = bench.prompt.value, bench.bar.failed, "One class, orbit" in bench.player._screen.object
        bench.prompt.value = "a red star"
        bench.label.value = "spin"
        await settle(bench)
        return first

    assert asyncio.run(play()) == ("orbit", "", True)
    assert bench.prompt.value == "a red star"
    assert "a red star · seed 5" in bench._made.object


def test_an_unknown_word_is_named_and_the_last_clip_stays(bench):
    pages.unknown_word(bench)
    assert "slide · seed 5" in bench._made.object


def test_cancel_keeps_what_was_formed(bench):
    def start():
        bench.model.value, bench.panel.seed = "unet", 123
        bench.panel.set({"sampling_steps": 100})

    pages.cancelled(bench, GUIDED, start, seconds=20)


def test_knobs_are_held_to_what_can_be(bench):
    assert "here at most 5" in bench.panel._hints["centres"].object
    assert bench.panel.controls["eta"].disabled
    assert "dit samples a flow" in bench.panel._hints["eta"].object
    assert (bench.panel.controls["pick"].end, bench.panel.controls["sampling_steps"].end) == (2, 100)

    async def play():
        bench.panel.preset.value = "mgd3"
        bench.panel.set({"sampling_steps": 2})
        await settle(bench)
        flow = bench.panel.values["eta"], bench.bar.failed, bench.panel.values["centres"]
        bench.model.value = "unet"
        await settle(bench)
        return flow

    assert asyncio.run(play()) == (0.0, "", 5)
    assert not bench.panel.controls["eta"].disabled
    assert bench.panel.controls["pick"].end == 5
    assert bench.bar.failed == ""


def test_a_slider_that_has_moved_on_is_left_alone(bench):
    async def turned():
        bench.panel.set({"decay": "none"})
        bench.panel.controls["strength"].value = 0.2  # moved on, and not released yet
        await bench._turned()
        bench.bar.cancel()

    asyncio.run(turned())
    assert bench.panel.controls["strength"].value == 0.2


def test_failures_and_their_absence_are_signs_and_words(look):
    assert "✓" in alarms_html(replace(look, alarms={}))
    page = alarms_html(replace(look, alarms={"still": "It <stands>.", "overshoot": "Beyond."}))
    assert page.count("⚠") == 2
    assert "&lt;stands&gt;" in page
    assert re.findall(r'data-alarm="([^"]+)"', page) == ["still", "overshoot"]


def test_the_centre_that_pulls_says_so(look):
    page = centres_html(replace(look, values=look.values | {"pick": 2}))
    assert page.count("<img") == 2
    assert 'alt="centre 2 pulls"' in page
    assert "2 pulls" in words(page)
    assert "1 pulls" not in words(page)
    assert "moves" in words(page)
    assert "2 of 2" in words(numbers_html(replace(look, values=look.values | {"pick": 2})))


def test_curves_have_shapes_and_say_what_they_show():
    figure = go.Figure(decay_figure([1.0, 0.5], [0.9, 0.3]))
    assert [(line.marker.symbol, line.line.dash) for line in figure.data] == [("square", "solid"), ("circle", "dot")]
    assert "from 1.00 to 0.50" in figure.layout.meta["words"]
    figure = go.Figure(rates_figure([8.0, 1.0, 0.0], [900.0, 500.0, 1.0], "2 of 3 steps are guided"))
    assert figure.data[0].marker.symbol == ("circle", "circle", "x-thin-open")
    assert figure.data[0].y[-1] == FLOOR
    assert "no pull" in figure.data[0].text[2]
    assert "2 of 3 steps are guided" in figure.layout.meta["words"]
    figure = go.Figure(distance_figure({TWIN: [1.0, 0.9], GUIDED: [1.0, 0.2]}))
    assert len({line.marker.symbol for line in figure.data}) == len({line.line.dash for line in figure.data}) == 2
    assert "guided from 1.00 to 0.20" in figure.layout.meta["words"]


def test_the_map_of_force_carries_its_numbers():
    figure = go.Figure(force_figure([[4.0, 2.0], [1.0, 0.5], [0.0, 0.0]]))
    cells, lines = figure.data
    assert [list(row) for row in cells.z] == [[4.0, 1.0, 0.0], [2.0, 0.5, 0.0]]  # frames down, steps across
    assert lines.contours.showlabels
    assert "strongest 4.00 at step 1, frame 1; 67% of all force" in figure.layout.meta["words"]
    nothing = go.Figure(force_figure([[0.0, 0.0]]))
    assert len(nothing.data) == 1
    assert "no force" in nothing.layout.meta["words"]


def test_a_film_strip_shows_first_and_last_frame():
    clip = torch.zeros(3, 16, 8, 8, dtype=torch.uint8)
    clip[0, 0], clip[1, 15] = 255, 255
    sheet = film_strip({"a": clip, "b": clip}, most=4)
    left = sheet.width - 4 * 18
    assert sheet.getpixel((left + 8, sheet.height - 10)) == (255, 0, 0)
    assert sheet.getpixel((sheet.width - 10, sheet.height - 10)) == (0, 255, 0)


def test_an_earlier_run_is_recalled_with_its_class_and_nothing_is_sampled(bench, session, look):
    first = {"label": "slide", "prompt": "slide", "model": "dit"} | FEW | {"seed": 5, "per_class": 5}
    assert bench.asked() == first
    play(
        bench,
        lambda: setattr(bench.label, "value", "orbit"),  # its prompt comes with it
        lambda: bench.panel.set({"strength": 2.0}),
        lambda: setattr(bench.model, "value", "unet"),
    )
    history, compare = bench.desk.runs.history, bench.desk.runs.compare
    assert [entry.words for entry in history.entries[1:]] == [
        "label slide → orbit, prompt slide → orbit", "strength 0.5 → 2", "model dit → unet",
    ]  # fmt: skip
    assert (compare.a.value, compare.b.value) == ("run 3", "run 4")
    drawn = []
    bench.draw = lambda shown: (drawn.append(shown), GvdBench.draw(bench, shown))
    assert pages.recall(bench, session, 1) == []
    assert len(drawn) == 1
    assert drawn[0] is look
    assert bench.asked() == first
    assert "seed 5, dit, 4 steps" in bench._made.object
    assert bench.panel.controls["eta"].disabled
    assert (bench.strip.shown(TWIN), bench.strip.shown(GUIDED)) == (3, 3)
    assert len(history.entries) == 4
    play(bench, lambda: setattr(bench.panel, "seed", 6))
    assert history.entries[-1].words == "from run 1: seed 5 → 6"


def test_a_prompt_that_was_another_class_s_comes_back_as_it_was(bench, session):
    play(bench, lambda: setattr(bench.prompt, "value", "orbit"), bench.run, lambda: setattr(bench.label, "value", "orbit"))
    assert [entry.settings["prompt"] for entry in bench.desk.runs.history.entries] == ["slide", "orbit", "orbit"]
    assert pages.recall(bench, session, 2) == []
    assert (bench.label.value, bench.prompt.value) == ("slide", "orbit")


def test_a_recall_sets_what_limits_the_pick_before_the_pick(bench, session):
    play(bench, lambda: bench.panel.set({"centres": 5}), lambda: bench.panel.set({"pick": 4}))
    asked = bench.asked()
    play(bench, lambda: bench.panel.set({"centres": 2}))
    assert (bench.panel.values["pick"], bench.panel.controls["pick"].end) == (2, 2)
    assert bench.desk.runs.history.entries[-1].words == "centres 5 → 2, pick 4 → 2"
    assert pages.recall(bench, session, 3) == []
    assert bench.asked() == asked
    assert bench.panel.controls["pick"].end == 5


def test_numbers_of_the_guided_clip(bench, look):
    found = bench.numbers(look)
    assert (found["pull"], found["motion"], found["seconds"]) == (look.pull, look.numbers["motion"][GUIDED], look.seconds)
    assert bench.clip(look) is bench.clips(look)[GUIDED]
    *_, last = bench.steps(bench.asked(), previews=False)
    assert last.result.clips[GUIDED].equal(bench.clip(look))
    bench.prompt.value = ""  # none is the class's own, as in the notebook
    assert bench.asked()["prompt"] == "slide"


def test_static_views_hold_film_strips_plots_and_verdicts(look):
    from PIL import Image

    film, made, numbers, alarms, strip, forming, apart, frames, centres, *plots = static_views(look)
    assert Image.open(io.BytesIO(film.data)).n_frames == 16
    assert Image.open(io.BytesIO(strip.data)).height > 3 * 128
    assert "seed 5" in made.data
    assert "of the way to the centre" in numbers.data
    assert 'role="status"' in alarms.data
    assert "as predicted after step 1 of 4" in forming.data
    assert difference(look.clips[TWIN], look.clips[GUIDED]).told() in words(apart.data)
    assert "|A - B|" in frames.alt
    assert "pulls" in centres.data
    assert len([plot._repr_mimebundle_() for plot in plots]) == 4


def test_the_notebook_declares_the_knobs_as_the_bench_does():
    import nbformat

    from vidistill.lab.runner import notebooks_dir

    notebook = nbformat.read(notebooks_dir() / "explore" / "gvd.ipynb", 4)
    source = next(cell.source for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ()))
    space: dict = {}
    exec(source, space)
    assert {name: space[name] for name in KNOBS} == KNOBS.resolve()
    assert all(f"# {knob.doc}" in source for knob in KNOBS.values())
    assert not any("def " in cell.source or "class " in cell.source for cell in notebook.cells if cell.cell_type == "code")
