"""VideoGuide's page: a turn shows what the bench made, cancel keeps what was formed, presets pick the teacher, failures are words."""

import asyncio
import io
import re
from dataclasses import replace
from functools import partial

import pages
import plotly.graph_objects as go
import pytest
from pages import words

from vidistill.lab.compare import difference
from vidistill.lab.videoguide_session import BASE, GUIDED, KNOBS, SELF, SUBJECT, TEACHER, VideoGuideSession, presets
from vidistill.widgets.steer import forces_figure, mask_figure, paths_figure, plane_figure, scales_figure
from vidistill.widgets.videoguide import VideoGuideBench, static_views
from vidistill.widgets.videoguide_words import alarms_html, alt_text, captions, numbers_html, seen_html, tiles_html

PROMPT = "a red star orbiting over a navy background"
FEW = KNOBS.resolve({"sampling_steps": 4, "guidance": 2.0, "guided": 2, "tau": 3, "points": 5})
play = partial(pages.play, seconds=30)
settle = partial(pages.settle, seconds=30)


@pytest.fixture(scope="module")
def session(tiny_dit, tiny_unet):
    return VideoGuideSession({"dit": tiny_dit, "unet": tiny_unet})


@pytest.fixture(scope="module")
def look(session):
    return session.look(PROMPT, "unet", "dit", FEW, seed=5)


@pytest.fixture
def bench(session, look):
    return VideoGuideBench(session, look, FEW)


def test_the_first_state_teaches_untouched(bench, look):
    assert (bench.prompt.value, bench.base.value, bench.teacher.value, bench.panel.seed) == (PROMPT, "unet", "dit", 5)
    assert bench.player._names == ["unet alone", "dit alone", "unet guided by dit"]
    assert "<video" in bench.player._screen.object
    assert [bench.strip.shown(name) for name in (BASE, TEACHER, GUIDED)] == [3, 3, 3]
    assert "seed 5, 4 steps, guidance 2; the first 2 of 4 steps are guided, tau 3, beta 0.5" in bench._made.object
    assert all(plot.object["layout"]["meta"]["words"] for plot in bench._plots)
    assert "aria-live" in bench._tiles.object
    assert "from the same noise: unet alone" in alt_text(look)
    bench.__panel__()


def test_a_turn_shows_what_the_bench_makes(bench, session):
    play(bench, lambda: bench.panel.set({"beta": 0.1, "space": 0.5}))
    made = session.look(PROMPT, "unet", "dit", FEW | {"beta": 0.1, "space": 0.5}, seed=5)
    assert bench.bar.failed == ""
    assert "known before: base alone, teacher alone" in bench._made.object
    for name in ("drift_any", "motion", SUBJECT):
        if (value := made.numbers[name][GUIDED]) is not None:
            assert f"{value:.0%}" in bench._tiles.object or f"{value:.2f}" in bench._tiles.object or f"{value:.3f}" in bench._tiles.object
    assert list(bench._plots[2].object["data"][0]["y"]) == made.forces["teacher"]
    assert bench._plots[4].object["layout"]["meta"]["words"].endswith(f"({made.kept / 1024:.1%})")
    assert [list(line["x"]) for line in bench._plots[0].object["data"]] == [[1, 2, 3, 4]] * 6  # what was seen on the way has come too
    assert [bench.strip.shown(name) for name in (BASE, TEACHER, GUIDED)] == [3, 3, 3]
    assert "done in" in bench.bar._words.object


def test_earlier_settings_leave_a_trail_until_the_models_alone_change(bench):
    def rings():
        return [line for line in bench._plots[1].object["data"] if line["name"] == "guided before"]

    bench._trail = (bench._trail[0], [(1.0, 0.9)])
    play(bench, lambda: bench.panel.set({"beta": 0.2}))
    assert (list(rings()[0]["x"]), list(rings()[0]["y"])) == ([1.0], [0.9])
    play(bench, lambda: setattr(bench.panel, "seed", 6))
    assert not rings()


def test_the_base_may_be_its_own_teacher(bench):
    play(bench, lambda: setattr(bench.teacher, "value", SELF))
    assert bench.player._names == ["unet alone", "unet guided by itself"]
    assert (bench.strip.shown(BASE), bench.strip.shown(TEACHER), bench.strip.shown(GUIDED)) == (3, 0, 3)
    assert bench.teacher.options == {"the base itself": SELF, "dit": "dit", "unet": "unet"}
    play(bench, lambda: setattr(bench.base, "value", "dit"))
    assert bench.player._names == ["dit alone", "dit guided by itself"]


def test_presets_pick_the_teacher_where_they_say_who(bench):
    bench.panel.cap("sampling_steps", 4, "so that it is over soon")
    bench.panel.cap("tau", 2, "likewise")
    play(bench, lambda: setattr(bench.panel.preset, "value", "self"))
    assert (bench.teacher.value, bench.panel.values["guidance"], bench.bar.failed) == (SELF, 7.5, "")
    play(bench, lambda: setattr(bench.panel.preset, "value", "repo"))
    assert (bench.teacher.value, bench.panel.values["beta"]) == ("dit", 0.8)
    assert "same_index means nothing between" in bench.bar.failed  # of a flow and a model of noise: said, and the last clip stays
    play(bench, lambda: setattr(bench.teacher, "value", SELF))
    play(bench, lambda: bench.panel.set({"beta": 0.5, "space": 0.25, "time": 0.25, "outside": "cfg"}))
    assert bench.teacher.value == SELF  # knobs that come to equal a preset's are no choice of a teacher


def test_an_unknown_word_is_named_and_the_last_clip_stays(bench):
    pages.unknown_word(bench)
    assert f"{PROMPT} · seed 5" in bench._made.object


def test_cancel_keeps_what_was_formed(bench):
    def start():
        bench.panel.seed = 123
        bench.panel.set({"sampling_steps": 100})

    pages.cancelled(bench, GUIDED, start, seconds=30)


def test_knobs_are_held_to_what_can_be(bench):
    controls, hints = bench.panel.controls, bench.panel._hints
    assert (controls["guided"].end, controls["tau"].end, controls["sampling_steps"].end) == (4, 4, 100)
    assert "here at most 4, all steps" in hints["guided"].object
    assert (controls["beta"].name, controls["guided"].name) == ("interpolation beta", "guided steps  I")
    assert not controls["eta"].disabled
    play(bench, lambda: bench.panel.set({"sampling_steps": 1, "points": 3}))
    assert (bench.panel.values["guided"], bench.panel.values["tau"], bench.bar.failed) == (1, 2, "")
    play(bench, lambda: bench.panel.set({"beta": 1.0, "space": 0.0}))
    assert controls["order"].disabled
    assert "no effect" in hints["t_map"].object
    play(bench, lambda: setattr(bench.base, "value", "dit"), lambda: bench.panel.set({"guided": 0}))
    assert controls["eta"].disabled
    assert "dit samples a flow" in hints["eta"].object
    assert controls["beta"].disabled
    assert "Nothing steers: I is 0" in bench._alarms.object


def test_a_slider_that_has_moved_on_is_left_alone(bench):
    async def turned():
        bench.panel.set({"lam": 0.5})
        bench.panel.controls["beta"].value = 0.2  # moved on, and not released yet
        await bench._turned()
        bench.bar.cancel()

    asyncio.run(turned())
    assert bench.panel.controls["beta"].value == 0.2


def test_failures_and_their_absence_are_signs_and_words(look):
    assert "✓" in alarms_html(replace(look, alarms={}))
    page = alarms_html(replace(look, alarms={"less motion": "It <stands>.", "more drift": "Beyond."}))
    assert page.count("⚠") == 2
    assert "&lt;stands&gt;" in page
    assert re.findall(r'data-alarm="([^"]+)"', page) == ["less motion", "more drift"]


def test_numbers_name_their_clip_and_their_probe(look):
    page = words(numbers_html(look))
    assert all(said in page for said in captions(look).values())
    assert "offline probe, not DINO" in page
    assert "VBench" not in page
    tiles = tiles_html(look)
    assert f'id="evaluations" style="font-size:20px;font-weight:700;white-space:nowrap">{8 + 2 * 6}<' in tiles
    assert "base 8, teacher 8" in tiles
    unknown = replace(look, numbers={name: dict.fromkeys(look.takes) for name in look.numbers})
    assert "–" in tiles_html(unknown)
    assert numbers_html(unknown).count("–") == 9 * 3
    seen = words(seen_html(look))
    assert "as asked" in seen
    assert "unet guided by dit" in seen


def test_curves_have_shapes_and_say_what_they_show():
    path = {"step": [1, 3, 4], "drift": [None, 0.5, 0.25], "motion": [None, 2.0, 1.0]}
    figure = go.Figure(paths_figure({BASE: path, TEACHER: path, GUIDED: path}, 2, 4))
    assert len({line.marker.symbol for line in figure.data}) == len({line.line.dash for line in figure.data}) == 3
    assert "guided drift from 50% to 25%, motion from 2.00 to 1.00" in figure.layout.meta["words"]
    assert figure.layout.shapes[0].x0 == 2.5
    assert not go.Figure(paths_figure({BASE: path, GUIDED: path}, 0, 4)).layout.shapes
    figure = go.Figure(forces_figure({"teacher": [0.5, 0.3, 0.0], "low-pass": [0.0, 0.0, 0.0]}, "the first 2 of 3 steps are guided"))
    assert len({line.marker.symbol for line in figure.data}) == len({line.line.dash for line in figure.data}) == 2
    assert figure.layout.meta["words"].endswith("the first 2 of 3 steps are guided; teacher from 0.50 to 0.30, no low-pass")
    figure = go.Figure(scales_figure(["cfg++", "cfg", "apg"], [7.5, 2.0, 2.0], 2.0))
    assert list(figure.data[0].marker.symbol) == ["diamond", "circle", "circle"]
    assert figure.layout.shapes[0].y0 == 2.0
    assert "1 of 3 steps are CFG++; as ordinary guidance 2.0 to 7.5, and the base has 2" in figure.layout.meta["words"]


def test_the_plane_leaves_out_what_has_no_number():
    figure = go.Figure(plane_figure({BASE: (5.0, 0.6), TEACHER: (None, 0.9), GUIDED: (3.0, 0.9)}, [(4.0, 0.7)]))
    assert [line.name for line in figure.data] == ["guided before", BASE, GUIDED]
    assert figure.data[1].text == (BASE,)
    assert "teacher alone has no number; guided motion 3.00, consistency 0.900" in figure.layout.meta["words"]
    low, high = figure.layout.yaxis.range
    assert low < 0.6
    assert high > 0.9


def test_the_mask_marks_what_is_kept():
    figure = go.Figure(mask_figure([[0.2, 0.5], [0.3, 1.0]], ([-1.0, 0.0], [-1.0, 0.0]), 3, 1024))
    assert (figure.data[1].x, figure.data[1].y) == ((0.0,), (0.0,))
    assert figure.layout.meta["words"] == "low-pass mask: 3 of 1024 modes of the latents are kept (0.3%)"
    figure = go.Figure(mask_figure([], ([-1.0, 0.0], [-1.0, 0.0]), 1024, 1024))
    assert len(figure.data[1].x) == 4
    assert "there is no filter" in figure.layout.meta["words"]


def test_an_earlier_run_is_recalled_with_its_knobs_and_nothing_is_sampled(bench, session, look):
    first = {"prompt": PROMPT, "base": "unet", "teacher": "dit"} | FEW | {"seed": 5}
    assert bench.asked() == first
    play(bench, lambda: bench.panel.set({"beta": 0.1, "space": 0.5}), lambda: setattr(bench.teacher, "value", SELF))
    history, compare = bench.desk.runs.history, bench.desk.runs.compare
    assert [entry.words for entry in history.entries] == ["the first", "beta 0.5 → 0.1, space 0.25 → 0.5", "teacher dit → self"]
    assert (compare.a.value, compare.b.value) == ("run 2", "run 3")
    assert {"base alone of run 3", "run 1", "run 2", "run 3"} == set(compare.a.options)
    clip, drawn = history.entries[0].clip, []
    bench.draw = lambda shown: (drawn.append(shown), VideoGuideBench.draw(bench, shown))
    assert pages.recall(bench, session, 1) == []
    assert drawn == [look]
    assert drawn[0] is look
    assert bench.asked() == first
    assert bench.panel.controls["beta"].value == 0.5
    assert bench.player._names == ["unet alone", "dit alone", "unet guided by dit"]
    assert "beta 0.5" in bench._made.object
    assert clip.equal(look.clips[GUIDED])
    assert len(history.entries) == 3
    play(bench, lambda: bench.panel.set({"tau": 2}))
    assert history.entries[-1].words == "from run 1: tau 3 → 2"
    assert (compare.a.value, compare.b.value) == ("run 1", "run 4")


def test_a_recall_sets_what_limits_a_knob_before_the_knob(bench, session):
    play(bench, lambda: bench.panel.set({"sampling_steps": 6, "points": 8, "guided": 6, "tau": 7, "eta": 0.5}))
    asked = bench.asked()
    play(bench, lambda: setattr(bench.base, "value", "dit"), lambda: bench.panel.set({"sampling_steps": 2, "points": 3}))
    assert (bench.bar.failed, bench.panel.values["guided"], bench.panel.values["tau"], bench.panel.values["eta"]) == ("", 2, 2, 0.0)
    assert pages.recall(bench, session, 2) == []
    assert bench.asked() == asked
    assert bench.desk.runs.history.shown == 2


def test_numbers_of_the_guided_clip(bench, look):
    found = bench.numbers(look)
    assert found["motion"] == look.numbers["motion"][GUIDED]
    assert found["evaluations"] == look.takes[GUIDED].evaluations
    assert bench.clip(look) is bench.clips(look)[GUIDED]
    *_, last = bench.steps(bench.asked(), previews=False)
    assert last.result.clips[GUIDED].equal(bench.clip(look))


def test_static_views_hold_film_strips_plots_and_verdicts(look):
    from PIL import Image

    film, made, tiles, alarms, numbers, seen, strip, forming, apart, frames, *plots = static_views(look)
    assert Image.open(io.BytesIO(film.data)).n_frames == 16
    assert Image.open(io.BytesIO(strip.data)).height > 3 * 128
    assert "seed 5" in made.data
    assert "network evaluations" in tiles.data
    assert 'role="status"' in alarms.data
    assert "subject consistency" in numbers.data
    assert "as asked" in seen.data
    assert "as predicted after step 1 of 4" in forming.data
    assert difference(look.clips[BASE], look.clips[GUIDED]).told() in words(apart.data)
    assert "|A - B|" in frames.alt
    assert len([plot._repr_mimebundle_() for plot in plots]) == 5


def test_the_notebook_declares_the_knobs_as_the_bench_does():
    import nbformat

    from vidistill.lab.runner import notebooks_dir

    notebook = nbformat.read(notebooks_dir() / "explore" / "videoguide.ipynb", 4)
    source = next(cell.source for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ()))
    space: dict = {}
    exec(source, space)
    assert {name: space[name] for name in KNOBS} == {name: presets()["ours"][name] for name in KNOBS}
    assert all(f"# {knob.doc}" in source for knob in KNOBS.values())
    assert not any("def " in cell.source or "class " in cell.source for cell in notebook.cells if cell.cell_type == "code")
