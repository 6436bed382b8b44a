"""The grid's glass: a film with headings, a map and a table of its numbers, a way back to the page, and a page that is left as it is."""

import asyncio
import io
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from pages import words
from PIL import Image

from vidistill.errors import InputError
from vidistill.knobs import Knob, Knobs
from vidistill.lab.compare import CIVIDIS
from vidistill.lab.grid import cells, grid_steps
from vidistill.lab.steps import Step
from vidistill.lab.videoguide_session import GUIDED, KNOBS, VideoGuideSession
from vidistill.widgets import style
from vidistill.widgets.grid import Grid, static_views
from vidistill.widgets.grid_views import EDGE, LIGHT, ROOM, alt_text, grid_film, map_figure, table_html
from vidistill.widgets.knob_panel import KnobPanel
from vidistill.widgets.player import GAP, SCALE
from vidistill.widgets.run_bar import RunBar
from vidistill.widgets.videoguide import VideoGuideBench

FAKE = Knobs(
    "fake",
    Knob("beta", 0.5, "weight", low=0, high=1, step=0.05),
    Knob("tau_steps", 5, "evaluations", low=1, high=9),
    Knob("way", "cfg", "how", choices=("cfg", "cfg++")),
)


class Page:
    """A page whose clips are of one colour; a cell with more than ``most`` evaluations fails."""

    name = "fake"

    def __init__(self, pause=0.0, most=9):
        self.knobs, self.panel, self.bar = FAKE, KnobPanel(FAKE, words={"tau_steps": "evaluations  tau"}, seed=7), RunBar()
        self.recalled, self.runs = [], []
        self._pause, self._most = pause, most

    def asked(self):
        return {"prompt": "a <star>", **self.panel.values, "seed": self.panel.seed}

    def steps(self, settings, previews=True):
        self.runs.append((settings["beta"], settings["tau_steps"], settings["seed"], previews))
        for k in range(3):
            time.sleep(self._pause)
            yield Step("step", k + 1, 3)
        if settings["tau_steps"] > self._most:
            raise InputError(f"tau is <{settings['tau_steps']}>, too many")
        yield Step("done", 1, 1, dict(settings))

    def clip(self, look):
        level = round(100 * look["beta"]) + look["tau_steps"]
        return torch.full((3, 4, 16, 20), level, dtype=torch.uint8) + 20 * torch.arange(4, dtype=torch.uint8)[:, None, None]

    def numbers(self, look):
        noise = {7: 0.3, 8: -0.2, 9: 0.1}.get(look["seed"], 0.0)
        return {"subject score": look["beta"] + noise, "drift_any": None}

    def recall(self, settings, look):
        self.recalled.append((settings, look))


def look_of(page, xs=(0.0, 0.5, 1.0), ys=(1, 5), seeds=(7,), x="beta", y="tau_steps"):
    plan = cells(page.asked(), x, list(xs), y, list(ys), list(seeds))
    *_, last = grid_steps(plan, page.steps, page.clip, page.numbers)
    return last.result


@pytest.fixture
def page():
    return Page()


@pytest.fixture
def look(page):
    return look_of(page)


def place(row, column, left, top=52, height=32, width=40):
    """Return where a cell is in the film."""
    y, x = top + row * (height + GAP), left + column * (width + GAP)
    return slice(y, y + height), slice(x, x + width)


def left_of(film, columns, width=40):
    return film.shape[2] - columns * (width + GAP) + GAP


# -------------------------------------------------------------------------------------------------------------------- film


def test_the_film_is_all_clips_on_one_clock_under_headings(page, look):
    film = grid_film(look)
    left = left_of(film, 3)
    assert film.dtype == np.uint8
    assert (film.shape[0], film.shape[1]) == (4, 52 + 2 * 32 + GAP)
    assert film.shape[1] % 2 == film.shape[2] % 2 == 0
    for (row, column), clip in look.clips.items():
        wanted = clip.permute(1, 2, 3, 0).numpy().repeat(SCALE, 1).repeat(SCALE, 2)
        assert np.array_equal(film[:, *place(row, column, left)], wanted)
    assert (film[:, :52] == film[:1, :52]).all()
    assert (film[0, :26] < 128).any()  # the knob across, and under it its values
    assert all((film[0, 26:52, left + k * 48 : left + k * 48 + 40] < 128).any() for k in range(3))
    assert all((film[0, 52 + k * 40 : 84 + k * 40, :left] < 128).any() for k in range(2))


def test_a_cell_that_is_not_made_or_failed_is_grey_with_words(look):
    plain, wrong = (replace(one, clip=None, look=None, numbers=()) for one in look.made[1:3])
    film = grid_film(replace(look, made=(look.made[0], plain, replace(wrong, error="tau is too large"), *look.made[3:])))
    left, grey = left_of(film, 3), tuple(bytes.fromhex(style.LINE[1:]))
    empty, failed = (film[0][place(0, column, left)] for column in (1, 2))
    for cell in (empty, failed):
        assert (cell == grey).all(-1).mean() > 0.5
        assert (cell < 100).all(-1).any()
    assert not np.array_equal(empty, failed)


def test_clips_of_several_sizes_and_lengths_share_the_film(look):
    short = replace(look.made[0], clip=look.made[0].clip[:, :2, :10, :10])
    film = grid_film(replace(look, made=(short, *look.made[1:])))
    assert len(film) == 4
    corner = film[:, 52 : 52 + 20, left_of(film, 3) :][:, :, :20]
    assert np.array_equal(corner[1], corner[3])
    assert not np.array_equal(corner[0], corner[1])


@pytest.mark.parametrize("size", [(480, 832), (64, 64), (33, 50)])
@pytest.mark.parametrize("across", [1, 3, 12])
def test_a_film_has_no_more_pixels_than_a_page_shows(page, across, size):
    look = look_of(page, xs=[k / 20 for k in range(across)])
    film = grid_film(replace(look, made=tuple(replace(one, clip=torch.zeros(3, 2, *size, dtype=torch.uint8)) for one in look.made)))
    assert film.shape[1] % 2 == film.shape[2] % 2 == 0
    assert film.shape[2] <= max(ROOM, across * EDGE) + across * (GAP + 1) + 100
    assert film.shape[2] >= across * EDGE / 2


def test_one_row_needs_no_heading_down(page):
    look = look_of(page, xs=("cfg", "cfg++"), x="way", y=None, ys=())
    assert grid_film(look).shape[1:3] == (52 + 32, 2 * 40 + GAP)
    assert alt_text(look).startswith("A grid of clips playing in step, all of seed 7: across way cfg, cfg++. 2 of 2 clips made")


# ----------------------------------------------------------------------------------------------------------------- numbers


def test_the_map_is_cividis_with_the_values_written_in_it(look):
    figure = map_figure(look, "subject score")
    (cellwise,) = figure["data"]
    assert cellwise["z"] == [[0.3, 0.8, 1.3]] * 2
    assert cellwise["colorscale"][0] == [0, f"rgb{CIVIDIS[0]}"]
    notes = {(one["y"], one["x"]): (one["text"], one["font"]["color"]) for one in figure["layout"]["annotations"] if "yref" not in one}
    assert notes[0, 0] == ("0.3", "#ffffff")
    assert notes[0, 2] == ("1.3", "#000000")
    assert notes[1, 1] == ("◆ 0.8", "#000000")
    assert cellwise["text"][0][2] == "cell 1, 3 (beta 1, tau steps 1): 1.3, +0.5 against now"
    assert "cell 2, 2 (beta 0.5, tau steps 5): 0.8" in figure["layout"]["meta"]["words"]
    assert figure["layout"]["xaxis"]["ticktext"] == ["#1: 0", "#2: 0.5", "#3: 1"]


def test_the_map_says_why_a_number_is_missing(page):
    look = look_of(Page(most=1))
    drift = {one["text"] for one in map_figure(look, "drift_any")["layout"]["annotations"] if "yref" not in one}
    assert drift == {"no number", "failed", "◆ failed"}
    assert map_figure(look, "drift_any")["data"][0]["z"] == [[None] * 3] * 2


def test_cells_that_are_all_equal_are_dark_with_white_letters(page):
    figure = map_figure(look_of(page, xs=(0.5,)), "subject score")
    assert (figure["data"][0]["zmin"], figure["data"][0]["zmax"]) == (0.8, 1.8)
    assert {one["font"]["color"] for one in figure["layout"]["annotations"] if "yref" not in one} == {"#ffffff"}


def test_letters_on_the_map_can_be_read():
    def light(colour):
        linear = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
        return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    for step in range(201):
        share = step / 200
        k = min(int(share * 4), 3)
        colour = [a + (share * 4 - k) * (b - a) for a, b in zip(CIVIDIS[k], CIVIDIS[k + 1], strict=True)]
        ground, letters = light(colour), 1.0 if share < LIGHT else 0.0
        assert (max(ground, letters) + 0.05) / (min(ground, letters) + 0.05) >= 4.4


def test_the_table_has_mean_difference_interval_and_errors(page):
    table = words(table_html(look_of(page, seeds=(7, 8, 9))))
    assert "cell 2, 2 ◆ now" in table
    assert "-0.5  [" not in table
    assert "-0.5 [-0.5, -0.5]" in table
    assert "0.567" in table  # the mean over the seeds of cell 2, 2
    failed = table_html(look_of(Page(most=1)))
    assert "⚠ failed." in failed
    assert "tau is &lt;5&gt;, too many" in failed


def test_static_twins_are_a_film_and_a_table(look):
    film, table = static_views(look)
    assert Image.open(io.BytesIO(film.data)).n_frames == 4
    assert film.alt == alt_text(look)
    assert "<table" in table.data
    (alone,) = static_views(look_of(Page(most=0)))
    assert "6 of 6 cells failed" in alone.data


# -------------------------------------------------------------------------------------------------------------------- view


def play(grid, seconds=20):
    asyncio.run(grid.run())
    assert not grid.bar.running


def test_it_begins_with_values_that_hold_those_of_now(page):
    page.panel.set({"beta": 0.3})
    grid = Grid(page)
    assert grid.x.options == {"beta": "beta", "evaluations  tau": "tau_steps", "way": "way"}
    assert (grid.x.value, grid.x_values.value, grid.y.value, grid.y_values.value) == ("beta", "0, 0.3, 1", "tau_steps", "1, 5, 9")
    assert not grid._stage.visible
    assert page.runs == []


def test_values_follow_the_page_until_somebody_writes_them(page):
    grid = Grid(page)
    grid.y.value = "way"
    assert grid.y_values.value == "cfg, cfg++"
    grid.y.value = ""
    assert (grid.y_values.value, grid.y_values.disabled) == ("", True)
    page.panel.set({"beta": 0.8})
    assert grid.x_values.value == "0, 0.5, 0.8"
    grid.x_values.value = "0.1, 0.2"
    page.panel.set({"beta": 0.7})
    assert grid.x_values.value == "0.1, 0.2"
    page.panel.cap("tau_steps", 4, "here at most 4")
    grid.x.value = "tau_steps"
    assert grid.x_values.value == "1, 3, 4"


def test_a_grid_is_made_and_the_page_is_left_as_it_is(page):
    grid, before = Grid(page), (page.asked(), page.bar._words.object)
    grid.seeds.value = 3
    play(grid)
    assert grid.bar.failed == ""
    assert (page.asked(), page.bar._words.object, page.recalled) == (*before, [])
    assert len(page.runs) == 27
    assert {run[3] for run in page.runs} == {False}
    assert {run[2] for run in page.runs} == {7, 8, 9}
    assert len({run[:2] for run in page.runs if run[2] == 9}) == 9
    assert "<video" in grid.player._screen.object
    assert "27 of 27 clips made; seeds 7 to 9" in grid._told.object
    assert (grid._stage.visible, grid._numbers.visible) == (True, True)
    assert grid.number.options == {"subject score": "subject score", "drift any": "drift_any"}
    grid.number.value = "drift_any"
    assert grid.plot.object["layout"]["meta"]["words"].startswith("drift any over the grid")
    grid.__panel__()


def test_each_cell_can_be_shown_on_the_page(page):
    grid = Grid(page)
    grid.y.value = ""
    grid.seeds.value = 2
    play(grid)
    assert [button.name for button in grid._places.objects] == ["Show cell 1, 1", "Show cell 1, 2", "Show cell 1, 3"]
    grid._buttons[0, 2].clicks += 1
    wanted = page.asked() | {"beta": 1.0, "seed": 7}
    assert page.recalled == [(wanted, wanted)]
    grid.recall(5, 5)
    assert len(page.recalled) == 1


def test_a_failed_cell_says_so_and_cannot_be_shown():
    page = Page(most=5)
    grid = Grid(page)
    play(grid)
    assert "3 of 9 cells failed" in grid._told.object
    assert [button.disabled for button in grid._places.objects] == [False] * 6 + [True] * 3
    assert "tau is &lt;9&gt;, too many" in grid._table.object
    assert grid.bar.failed == ""


@pytest.mark.parametrize(
    ("turn", "line"),
    [
        (lambda grid: setattr(grid.x_values, "value", "0.1, 7"), "knob beta=7.0 is not allowed"),
        (lambda grid: setattr(grid.y, "value", "beta"), "both across and down"),
        (lambda grid: setattr(grid.seeds, "value", 5), "45 clips; a grid has 1 to 36"),
    ],
)
def test_bad_input_is_one_line_at_once_and_at_the_button(page, turn, line):
    grid = Grid(page)
    turn(grid)
    asyncio.run(grid._checked(None))
    assert 'role="alert"' in grid._hint.object
    assert line in grid._hint.object
    play(grid)
    assert line in grid.bar.failed
    assert grid._hint.object == ""
    assert page.runs == []


def test_cancel_keeps_the_cells_that_are_there():
    page = Page(pause=0.02)
    grid = Grid(page)

    async def run():
        made = asyncio.create_task(grid.run())
        while grid.look is None or len(grid.look.clips) < 2:
            await asyncio.sleep(0.005)
        grid.bar.cancel_button.clicks += 1
        await made

    asyncio.run(run())
    assert 2 <= len(grid.look.clips) <= 3
    assert "cancelled" in grid.bar._words.object
    assert [button.disabled for button in grid._places.objects][3:] == [True] * 6
    assert "not made" in grid._table.object


def test_the_page_runs_first_and_both_come_to_an_end():
    page, shown = Page(pause=0.005), []
    grid = Grid(page)

    async def run():
        made = asyncio.create_task(grid.run())
        while not page.runs:
            await asyncio.sleep(0.005)
        live = asyncio.create_task(page.bar.run(lambda: page.steps(page.asked()), shown.append))
        waited = False
        while not live.done():
            waited |= "waits for the page" in grid.bar._words.object
            await asyncio.sleep(0.002)
        await made
        return waited

    assert asyncio.run(run())
    assert shown == [page.asked()]
    assert (page.bar.failed, grid.bar.failed) == ("", "")
    assert len(grid.look.clips) == 9


def test_the_film_is_not_made_anew_for_a_number(page, monkeypatch):
    grid, films = Grid(page), []
    monkeypatch.setattr(grid.player, "load_film", lambda *args: films.append(args))
    grid.seeds.value = 3
    play(grid)
    assert len(films) == 9


def test_a_real_page_fills_a_grid_while_it_runs_and_shows_a_cell(tiny_dit, tiny_unet):
    few = KNOBS.resolve({"sampling_steps": 3, "guidance": 2.0, "guided": 2, "tau": 1, "points": 3})
    session = VideoGuideSession({"dit": tiny_dit, "unet": tiny_unet})
    page = VideoGuideBench(session, session.look("a red star orbiting over a navy background", "unet", "dit", few, seed=3), few)
    grid = Grid(page)
    grid.x.value, grid.y.value, grid.x_values.value = "beta", "", "0.2, 0.5"
    asked, shown = page.asked(), []

    async def run():
        made = asyncio.create_task(grid.run())
        await asyncio.sleep(0.06)
        await page.bar.run(lambda: page.steps(asked | {"beta": 0.9}), shown.append)
        await made

    asyncio.run(run())
    assert (grid.bar.failed, page.bar.failed, [one.error for one in grid.look.made]) == ("", "", ["", ""])
    assert page.asked() == asked
    for beta, clip in ((0.2, grid.look.clips[0, 0]), (0.5, grid.look.clips[0, 1]), (0.9, page.clip(shown[-1]))):
        alone = session.look(asked["prompt"], "unet", "dit", few | {"beta": beta}, seed=3)
        assert torch.equal(clip, alone.clips[GUIDED])
    assert grid.look.names[:2] == ["drift", "motion"]

    async def show():
        grid.recall(0, 0)
        await asyncio.sleep(0.1)

    asyncio.run(show())
    assert page.asked() == asked | {"beta": 0.2}
    assert not page.bar.running
    assert torch.equal(page.desk.runs.history.entries[-1].clip, grid.look.clips[0, 0])
    assert static_views(grid.look)[0].data.startswith(b"\x89PNG")
