"""Each view says what it was given: ranks, bytes, likeness, choice; in shapes and words, not in colour alone."""

from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import plotly.graph_objects as go
import pytest
import torch

from vidistill.errors import InputError
from vidistill.widgets import style
from vidistill.widgets.budget import PARTS, budget_figure
from vidistill.widgets.gallery import GUTTER, contact_sheet, gallery_figure, rows_by_class
from vidistill.widgets.lamp import lamp_html, lamp_words
from vidistill.widgets.pull import decay_html
from vidistill.widgets.spectrum import FLOOR, rank_html, spectrum_figure
from vidistill.widgets.tradeoff import tradeoff_figure


def test_spectrum_marks_the_ranks_with_filled_and_hollow_shapes():
    figure = go.Figure(spectrum_figure({"T": [0.7, 0.2, 0.1, 0.0], "H": [0.9, 0.1]}, {"T": 3}))
    time, height = figure.data
    assert list(time.marker.symbol) == ["circle"] * 3 + ["circle-open"]
    assert list(height.marker.symbol) == ["square"] * 2  # a mode without a rank is not cut
    assert time.y[-1] == FLOOR
    words = " ".join(note.text for note in figure.layout.annotations)
    assert "3 of 4 kept" in words
    assert "100.00 % of energy" in words


def test_a_decay_is_drawn_as_its_weights_fall():
    root = ElementTree.fromstring(decay_html("linear", 4, 0.5))
    assert "lambda w_f goes from 0.5 at frame 1 to 0.12 at frame 4" in root.attrib["aria-label"]
    dots = [(float(dot.attrib["cx"]), float(dot.attrib["cy"])) for dot in root.iter("circle")]
    assert len(dots) == 4
    steps = {(round(x2 - x1), round(y2 - y1, 1)) for (x1, y1), (x2, y2) in pairwise(dots)}
    assert steps == {(56, 8.5)}  # even ones, and down: an SVG counts from its top
    assert root.attrib["height"] == "60"
    flat = ElementTree.fromstring(decay_html("none", 3))
    assert len({dot.attrib["cy"] for dot in flat.iter("circle")}) == 1
    assert "from 0 at frame 1 to 0 at frame 1" in decay_html("exp", 1, 0.0)
    with pytest.raises(InputError, match="linear"):
        decay_html("linaer", 4)


def test_a_rank_says_what_it_keeps_and_what_it_costs():
    page = rank_html({"T": [0.7, 0.2, 0.1], "H": [0.9, 0.1]}, {"T": 2, "H": 1}, stored=2048, pixels=8192)
    root = ElementTree.fromstring(page)
    assert root.attrib["aria-label"] == "time, 2 of 3: 90.0% of energy; height, 1 of 2: 90.0% of energy; file, 2 KiB: 25.0% of pixels"
    assert page.count("width:90%") == 2
    assert page.count("width:25%") == 1
    assert "energy" not in rank_html({"T": [1.0]}, {}, 8, 16)  # a decomposition without modes
    assert "width:100%" in rank_html({}, {}, 32, 16)
    assert "200.0% of pixels" in rank_html({}, {}, 32, 16)  # the bar is full, the number is not capped


def test_budget_adds_up_and_speaks():
    parts = {"core": 4000, "factors": 500, "codec": 90_000, "labels": 100, "header": 400, "total": 95_000}
    figure = go.Figure(budget_figure(parts, pixels=1_000_000))
    assert sum(bar.x[0] for bar in figure.data) == pytest.approx(1)
    assert sum(bar.x[1] for bar in figure.data) == pytest.approx(1)
    assert "200 times" in figure.layout.annotations[1].text
    names = [bar.name for bar in figure.data]
    assert any("90,000" in bar.hovertemplate for bar in figure.data)
    assert len(names) == len(PARTS)
    hatches = [bar.marker.pattern.shape for bar in figure.data]
    assert len(set(hatches)) == len(hatches)  # told apart without colour


@pytest.mark.parametrize(("count", "words"), [(512, "512 B"), (1024, "1 KiB"), (27.47 * 2**20, "27.5 MiB"), (3 * 2**30, "3 GiB")])
def test_sizes_are_binary(count, words):
    assert style.size(count) == words


def test_lamp_says_it_when_the_kernel_is_the_identity():
    found = {"identity": True, "effective_rank": 12.0, "largest_off_diagonal": 3e-22, "clips": 12.0, "classes": 6, "blind": 6}
    lit, words = lamp_words(found, "dpp", 6)
    assert lit is False
    assert "identity: this k-DPP is uniform random sampling." in words
    page = lamp_html(found, "dpp", 6)
    assert "3e-22" in page
    assert 'aria-label="kernel lamp: dark"' in page
    lit, words = lamp_words(found | {"identity": False, "blind": 5}, "dpp", 6)
    assert lit is False
    assert "in 5 of 6 classes" in words
    seeing = found | {"identity": False, "blind": 0, "effective_rank": 8.0}
    assert lamp_words(seeing, "dpp", 6)[0] is True
    assert "fewer distinct directions" in lamp_words(seeing, "dpp", 9)[1]
    assert lamp_words({}, "random", 6)[0] is None


def test_rows_by_class_wraps_long_classes():
    assert rows_by_class([0, 0, 0, 1, 1], 2) == [[0, 1], [2], [3, 4]]


def test_contact_sheet_frames_the_chosen_and_fades_the_rest():
    thumbnails = torch.full((4, 3, 16, 16), 10, dtype=torch.uint8)
    rows = rows_by_class([0, 0, 1, 1], 2)
    sheet = np.asarray(contact_sheet(thumbnails, rows, picked=[0, 3], shown=3))
    cell = 16 + 2 * GUTTER
    middle = [sheet[y * cell + cell // 2, x * cell + cell // 2].tolist() for y in (0, 1) for x in (0, 1)]
    assert middle[0] == middle[3] == [10, 10, 10]
    assert min(middle[1]) > 150
    assert min(middle[2]) > 150
    blue, orange = (tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5)) for colour in (style.BLUE, style.ORANGE))
    assert tuple(sheet[GUTTER - 1, cell // 2]) == blue
    assert tuple(sheet[cell + GUTTER - 1, cell + cell // 2]) == orange


def test_gallery_points_know_their_clips():
    rows = rows_by_class([0, 0, 1, 1], 2)
    sheet = contact_sheet(torch.zeros(4, 3, 16, 16, dtype=torch.uint8), rows, [0], 0)
    figure = go.Figure(gallery_figure(sheet, rows, ["a", "b", "c", "d"], ["slide", "spin"], [0, 0, 1, 1]))
    assert list(figure.data[0].customdata) == [0, 1, 2, 3]
    assert list(figure.layout.yaxis.ticktext) == ["slide", "spin"]


def test_tradeoff_shows_where_you_are():
    figure = go.Figure(tradeoff_figure({"HOSVD": [(1024, 0.5), (2048, 0.1)], "SVD": [(1024, 0.6), (2048, 0.2)]}, here=(1536, 0.3)))
    assert (figure.data[-1].x[0], figure.data[-1].y[0]) == (1.5, 0.3)
    assert len({trace.marker.symbol for trace in figure.data}) == 3
    assert len({trace.line.dash for trace in figure.data[:-1]}) == 2
