"""Pictures of points say what the measure says: which modes are missing, which points lie on none; told by signs and words, not colour."""

import json

import plotly.graph_objects as go
import pytest
import torch

from vidistill.data.plane import grid, quadrants, two_points
from vidistill.errors import InputError
from vidistill.measure.modes import precision
from vidistill.rng import stream
from vidistill.widgets.plane import LINES, MOST, arrows_figure, curves_figure, paths_figure, points_figure

WORLD = grid(3)


def traces(figure, name):
    "The traces of a name, without the one that stands in the legend alone."
    found = [trace for trace in go.Figure(figure).data if trace.name == name]
    return [trace for trace in found if not (trace.showlegend and list(trace.x) == [None])]


def test_missing_modes_are_crossed_out_and_points_off_the_modes_are_crosses():
    x, _ = WORLD.draw(2000, stream(0, "x"))
    whole, half = x, x[(x[:, 0] > -0.5)]  # the left column is gone
    half = torch.cat([half, torch.full((100, 2), 0.6)])  # between four modes
    figure = points_figure(WORLD, {"all": whole, "half": half})
    crossed, off = traces(figure, "missing mode"), traces(figure, "point on none")
    assert [len(trace.x) for trace in crossed] == [0, 3]
    assert set(crossed[1].x) == {-1.2}
    assert crossed[1].marker.symbol != off[1].marker.symbol != traces(figure, "point on a mode")[1].marker.symbol
    words = figure["layout"]["meta"]["words"]
    assert "9 of 9 modes" in words
    assert "6 of 9 modes" in words
    assert f"{1 - precision(half, WORLD):.0%} of the points on none" in words
    assert "beyond the frame" in points_figure(WORLD, {"far": x * 9})["layout"]["meta"]["words"]


def test_a_point_on_a_mode_of_another_class_is_on_none():
    world = quadrants()
    x, c = world.draw(400, stream(0, "x"))
    words = [points_figure(world, {"": x}, labels=labels)["layout"]["meta"]["words"] for labels in (None, c, (c + 1) % 4)]
    assert "16 of 16 modes" in words[0]
    assert "16 of 16 modes" in words[1]
    assert "0 of 16 modes, 100% of the points on none" in words[2]


def test_many_points_are_counted_but_not_all_drawn():
    x, _ = WORLD.draw(9 * MOST, stream(0, "x"))
    assert [shape["path"].count("M") for shape in points_figure(WORLD, {"x": x})["layout"]["shapes"]] == [9]  # a ring a mode
    figure = points_figure(WORLD, {name: x for name in "abcd"}, notes={"b": "a note"}, columns=2)
    drawn = [len(on.x) + len(off.x) for on, off in zip(traces(figure, "point on a mode"), traces(figure, "point on none"), strict=True)]
    assert drawn == [MOST] * 4
    assert len(json.dumps(figure, indent=1)) < 2**17  # as a saved notebook holds it
    titles = [note["text"] for note in figure["layout"]["annotations"]]
    assert "a note" in titles[1]
    assert len([name for name in figure["layout"] if name.startswith("xaxis")]) == 4
    assert sum(bool(trace.showlegend) for trace in go.Figure(figure).data) == 4  # one entry a sign, not one a panel ...
    assert [trace.name for trace in go.Figure(points_figure(WORLD, {"x": x})).data if trace.showlegend][
        -1
    ] == "missing mode"  # ... if none is


def test_paths_end_with_a_dot_or_a_cross():
    begin = torch.randn(6, 2, generator=stream(0, "x"))
    end = torch.cat([WORLD.means[:4].float(), torch.full((2, 2), 0.6)])
    path = torch.stack([begin, (begin + end) / 2, end])
    figure = paths_figure(WORLD, {"two steps": path})
    assert "2 steps: 4 of 6 paths end on a mode" in figure["layout"]["meta"]["words"]
    (ends,), (misses,) = traces(figure, "ends on a mode"), traces(figure, "ends on none")
    assert (len(ends.x), len(misses.x)) == (4, 2)
    assert ends.marker.symbol != misses.marker.symbol
    (way,) = traces(figure, "path, a dot a state")
    assert len(way.x) == 6 * 4  # three states each, and a break
    assert way.mode == "lines+markers"


def test_arrows_of_a_kind_look_alike_in_all_panels_and_kinds_differ_by_their_dash():
    x = torch.randn(5, 2, generator=stream(0, "x"))
    figure = arrows_figure(WORLD, {"a": {"one": (x, x + 1), "two": (x, x)}, "b": {"two": (x, x - 1)}})
    one, two = traces(figure, "one"), traces(figure, "two")
    assert one[0].line.dash != two[0].line.dash
    assert two[0].line.dash == two[1].line.dash
    assert [trace.showlegend for trace in two] == [True, False]
    assert one[0].marker.symbol == "arrow" != two[0].marker.symbol
    assert len(one[0].marker.size) == len(one[0].x)  # a head at each tip, none at the tail
    assert "one 1.41, two 0.00" in figure["layout"]["meta"]["words"]


def test_curves_have_a_dash_and_a_marker_of_their_own_and_gaps_where_there_is_no_number():
    figure = curves_figure({"dfd": {0: 0.5, 30: None, 60: 1.0}, "sft": {0: 0.5, 60: 0.9}}, y="coverage", lines={"truth": 1.0})
    a, b = go.Figure(figure).data
    assert (a.line.dash, a.marker.symbol) != (b.line.dash, b.marker.symbol)
    assert list(a.y) == [0.5, None, 1.0]
    assert figure["layout"]["shapes"][0]["y0"] == 1.0
    assert "coverage of dfd: from 0.5 to 1" in figure["layout"]["meta"]["words"]
    panels = {"coverage": {"dfd": {0: 1.0}}, "radius": {"dfd": {0: 2.0}}}
    figure = curves_figure(panels, lines={"radius / truth": 1.0})
    assert [trace.showlegend for trace in go.Figure(figure).data] == [True, False]
    assert len(figure["layout"]["shapes"]) == 1
    assert figure["layout"]["shapes"][0]["yref"] == "y2"


def test_what_cannot_be_drawn_is_one_clear_line():
    with pytest.raises(InputError, match="in the plane"):
        points_figure(two_points(deviation=0.1), {"x": torch.zeros(3, 1)})
    with pytest.raises(InputError, match="nothing to draw"):
        points_figure(WORLD, {})
    with pytest.raises(InputError, match="told apart"):
        curves_figure({str(i): {0: 1.0} for i in range(len(LINES) + 1)})
