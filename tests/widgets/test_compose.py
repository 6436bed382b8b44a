"""The page of composed operators: a switch shows what the bench made, cancel keeps what was formed, an earlier run comes back unsampled."""

import asyncio
import io
import re
from dataclasses import replace
from functools import partial

import pages
import plotly.graph_objects as go
import pytest
from pages import words

from vidistill.lab.additive import Additive
from vidistill.lab.compose_session import ALL, ALONE, KNOBS, ORDERS, PULL, SWITCHES, TEACHER, ComposeSession, only, presets
from vidistill.lab.videoguide_session import SELF
from vidistill.widgets.compose import (
    MEASURES,
    ComposeBench,
    alarms_html,
    alt_text,
    captions,
    numbers_html,
    seen_html,
    static_views,
    sums_html,
    tiles_html,
)
from vidistill.widgets.sums import adding_figure, effects_figure, ledger_figure, nearness_figure

PROMPT = "a red star orbiting over a navy background"
FEW = KNOBS.resolve({"sampling_steps": 4, "guidance": 2.0, "centres": 2, "guided": 2, "tau": 2, "points": 4, "inside": "cfg"})
NAMES = [ALONE, only(PULL), only(TEACHER), ALL]
ADDS = Additive(
    {PULL: 0.4, TEACHER: 0.3}, 0.6, 0.5, 0.83, 0.9, {"pull and teacher": 0.4}, {PULL: 0.95, TEACHER: 0.5}, [None, 0.83], [None, 0.9]
)
play = partial(pages.play, seconds=60)
settle = partial(pages.settle, seconds=60)


@pytest.fixture(scope="module")
def session(tiny_dit, tiny_unet, tiny_students, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIDISTILL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield ComposeSession({"unet": tiny_unet, "dit": tiny_dit, **tiny_students}, per_class=5)


@pytest.fixture(scope="module")
def look(session):
    return session.look("orbit", PROMPT, "unet", "dit", FEW, seed=5)


@pytest.fixture
def bench(session, look):
    return ComposeBench(session, look, FEW)


def test_the_first_state_teaches_untouched(bench, look):
    who = (bench.label.value, bench.prompt.value, bench.model.value, bench.teacher.value, bench.panel.seed)
    assert who == ("orbit", PROMPT, "unet", "dit", 5)
    assert [bench.panel.controls[knob].value for knob in SWITCHES.values()] == [True, True, False]
    assert [bench.panel.controls[knob].name for knob in SWITCHES.values()] == ["pull to a centre", "teacher", "low-pass"]
    assert bench.player._names == ["unet alone", *NAMES[1:]]
    assert "<video" in bench.player._screen.object
    assert [bench.strip.shown(name) for name in NAMES] == [3] * 4
    assert "seed 5, unet, 4 steps, guidance 2 · centre 1 of 2 of orbit" in bench._made.object
    assert "taught by dit, beta 0.5, tau 2" in bench._made.object
    assert look.order in words(bench._sums.object)
    assert all(plot.object["layout"]["meta"]["words"] for plot in bench._plots)
    assert "aria-live" in bench._tiles.object
    assert "from the same noise: unet alone" in alt_text(look)
    assert (bench.name, bench.knobs) == ("compose", KNOBS)
    assert bench.asked() == {"label": "orbit", "prompt": PROMPT, "model": "unet", "teacher": "dit", **FEW, "seed": 5, "per_class": 5}
    bench.__panel__()


def test_a_switch_shows_what_the_bench_makes(bench, session):
    play(bench, lambda: setattr(bench.panel.controls["teach"], "value", False))
    assert bench.bar.failed == ""
    assert bench.player._names == ["unet alone", "with the pull"]
    assert "nothing to add" in words(bench._sums.object)
    assert [bench.strip.shown(name) for name in NAMES] == [3, 0, 0, 3]
    assert "it does not act" in bench._plots[4].object["layout"]["meta"]["words"]
    assert bench.panel._hints["beta"].object.count("no effect")
    play(bench, lambda: bench.panel.set({"teach": True, "low_pass": True}))
    assert bench.player._names == ["unet alone", *NAMES[1:3], "low-pass only", ALL]
    assert "known before: model alone, pull only" in bench._made.object
    play(bench, lambda: bench.panel.set({"strength": 2.0, "low_pass": False}))
    made = session.look("orbit", PROMPT, "unet", "dit", FEW | {"strength": 2.0}, seed=5)
    assert f">{made.numbers['distance'][ALL]:.2f}<" in bench._tiles.object
    assert made.adds.told() in words(bench._sums.object)
    assert "done in" in bench.bar._words.object


def test_the_class_brings_its_prompt_unless_one_was_written(bench):
    play(bench, lambda: setattr(bench.label, "value", "spin"))
    assert bench.prompt.value == PROMPT
    assert "of spin" in bench._made.object
    bench.prompt.value = "spin"
    play(bench, lambda: setattr(bench.label, "value", "orbit"))
    assert (bench.prompt.value, bench.bar.failed) == ("orbit", "")


def test_a_few_step_student_holds_the_knobs_to_its_times(bench):
    controls, hints = bench.panel.controls, bench.panel._hints
    assert (controls["guided"].end, controls["tau"].end, controls["sampling_steps"].end, controls["centres"].end) == (4, 3, 100, 5)
    play(bench, lambda: bench.panel.set({"sampling_steps": 6}), lambda: bench.panel.set({"guided": 6}))
    assert bench.panel.values["guided"] == 6
    play(bench, lambda: setattr(bench.model, "value", "anew"))
    assert (bench.panel.values["sampling_steps"], bench.panel.values["guided"], bench.bar.failed) == (4, 4, "")
    assert "anew was trained for 4; 0 takes them" in hints["sampling_steps"].object
    assert "here at most 4, all steps" in hints["guided"].object
    assert "anew samples a flow" in hints["eta"].object
    assert controls["eta"].disabled
    play(bench, lambda: bench.panel.set({"points": 25, "guided": 2}), lambda: setattr(bench.teacher, "value", SELF))
    assert (bench.panel.values["points"], controls["tau"].end, bench.bar.failed) == (5, 4, "")
    assert "anew has 4 times" in hints["points"].object
    assert "taught by itself" in bench._made.object


def test_an_unknown_word_is_named_and_the_last_clip_stays(bench):
    pages.unknown_word(bench)
    assert f"{PROMPT} · seed 5" in bench._made.object


def test_cancel_keeps_what_was_formed(bench):
    def start():
        bench.panel.seed = 123
        bench.panel.set({"sampling_steps": 100})

    pages.cancelled(bench, ALL, start, seconds=60)


def test_an_earlier_run_is_recalled_with_its_knobs_and_nothing_is_sampled(bench, look, monkeypatch):
    before = bench.asked()
    play(bench, lambda: bench.panel.set({"strength": 2.0, "teach": False, "centres": 1}), lambda: setattr(bench.model, "value", "dit"))
    assert bench.asked() != before
    monkeypatch.setattr(bench._session, "steps", lambda *arguments, **options: pytest.fail("a run was started"))

    async def recalled():
        bench.recall(before, look)
        for _ in range(20):  # events that come late start no run
            await asyncio.sleep(0.02)
            assert not bench.bar.running

    asyncio.run(recalled())
    assert bench.asked() == before
    assert bench.panel.controls["teach"].value
    assert bench.panel.controls["strength"].value == FEW["strength"]
    assert bench.player._names == ["unet alone", *NAMES[1:]]


def test_what_a_desk_asks_of_the_page(bench, look):
    steps = list(bench.steps(bench.asked() | {"chain": ORDERS[1]}, previews=False))
    assert steps[-1].result.values["chain"] == ORDERS[1]
    assert bench.panel.values["chain"] == ORDERS[0]
    assert any(bench.clip(look) is clip for clip in bench.clips(look).values())
    numbers = bench.numbers(look)
    assert numbers["distance"] == look.numbers["distance"][ALL]
    assert (numbers["share"], numbers["seconds"]) == (look.adds.share, look.takes[ALL].seconds)
    assert all(isinstance(value, float | int | None) for value in numbers.values())


def test_presets_are_both_papers(bench):
    play(bench, lambda: bench.panel.set({"points": 11}), lambda: setattr(bench.panel.preset, "value", "ours"))
    assert (bench.panel.values["strength"], bench.panel.values["beta"]) == (presets()["ours"]["strength"], 0.2)
    assert (bench.panel.preset.value, bench.bar.failed) == ("ours", "")


def test_failures_and_their_absence_are_signs_and_words(look):
    assert "✓" in alarms_html(replace(look, alarms={}))
    page = alarms_html(replace(look, alarms={"undone": "It <goes> back.", "overshoot": "Beyond."}))
    assert page.count("⚠") == 2
    assert "&lt;goes&gt;" in page
    assert re.findall(r'data-alarm="([^"]+)"', page) == ["undone", "overshoot"]


def test_numbers_name_their_clip(look):
    page = words(numbers_html(look))
    assert all(said in page for said in captions(look).values())
    unknown = replace(look, numbers={name: dict.fromkeys(look.takes) for name in look.numbers})
    assert numbers_html(unknown).count("–") == len(MEASURES) * 4
    assert "alone 8, pull only 8" in tiles_html(look)
    assert "as asked" in words(seen_html(look))
    said = words(sums_html(look))
    assert "pull : 4 of 4 steps are guided" in said
    assert "teacher : the first 2 of 4 steps are guided" in said


def test_curves_and_bars_have_shapes_and_say_what_they_show():
    figure = go.Figure(effects_figure(ADDS))
    assert list(figure.data[0].y) == [PULL, TEACHER, "their sum", "the whole"]
    assert len(set(figure.data[0].marker.pattern.shape)) == 4
    assert figure.layout.meta["words"] == "effects: pull 0.40, teacher 0.30, their sum 0.60, the whole 0.50"
    assert "fewer than two" in go.Figure(effects_figure(None)).layout.meta["words"]
    figure = go.Figure(adding_figure(ADDS))
    assert len({line.marker.symbol for line in figure.data}) == len({line.line.dash for line in figure.data}) == 2
    assert "size from 0.83 to 0.83; cosine from 0.90 to 0.90" in figure.layout.meta["words"]
    assert "unrelated clips: size 58%, cosine 0.58" in figure.layout.annotations[0].text
    assert "fewer than two" in go.Figure(adding_figure(None)).layout.annotations[0].text
    for count in (2, 4, 5):
        figure = go.Figure(nearness_figure({f"clip {k}": [1.0, 0.5 / (k + 1)] for k in range(count)}))
        assert len({line.marker.symbol for line in figure.data}) == len({line.line.dash for line in figure.data}) == count
    assert "clip 0 from 1.00 to 0.50" in figure.layout.meta["words"]
    assert "pull, force per step and frame: strongest 4.00" in go.Figure(ledger_figure(PULL, [[4.0, 2.0]])).layout.meta["words"]
    assert "it does not act" in go.Figure(ledger_figure(PULL, [])).layout.meta["words"]


def test_static_views_hold_film_strips_plots_and_verdicts(look):
    from PIL import Image

    film, made, sums, tiles, alarms, numbers, seen, strip, forming, *plots = static_views(look)
    assert Image.open(io.BytesIO(film.data)).n_frames == 16
    assert Image.open(io.BytesIO(strip.data)).height > 5 * 128  # four clips and the centre
    assert "seed 5" in made.data
    assert look.adds.told() in words(sums.data)
    assert "network evaluations" in tiles.data
    assert 'role="status"' in alarms.data
    assert "distance to the centre" in numbers.data
    assert "as asked" in seen.data
    assert "as predicted after step 1 of 4" in forming.data
    assert len([plot._repr_mimebundle_() for plot in plots]) == 6


def test_the_notebook_declares_the_knobs_as_the_bench_does():
    import nbformat

    from vidistill.lab.runner import notebooks_dir

    notebook = nbformat.read(notebooks_dir() / "explore" / "compose.ipynb", 4)
    source = next(cell.source for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ()))
    space: dict = {}
    exec(source, space)
    own = {"guided": 4, "inside": "cfg"}  # all steps of a student that was trained without guidance
    ours = {name: value for name, value in presets()["ours"].items() if name != "about"}
    assert {name: space[name] for name in KNOBS} == KNOBS.resolve(ours, own)
    assert all(f"# {knob.doc}" in source for knob in KNOBS.values())
    assert not any("def " in cell.source or "class " in cell.source for cell in notebook.cells if cell.cell_type == "code")
