"""Points in the plane in pictures: what a sampler makes beside the modes that are true, its paths, gradients as arrows, a run as curves.

    o   a true mode, 4 deviations wide        X   a mode that fewer than a fifth of its points hold: it is missing
    .   a point on a mode of its class        x   a point on none

Signs, dashes and words say what the colours say.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from vidistill.data.plane import Plane
from vidistill.errors import InputError
from vidistill.measure.modes import COVERED, NEAR, held, mode_shares
from vidistill.widgets import style

MOST = 300
"""Points that are drawn of a cloud: more make a saved notebook heavy and a picture no clearer."""

LINES = (
    (style.BLUE, "circle", "solid"),
    (style.VERMILLION, "square", "dash"),
    (style.GREEN, "diamond", "dot"),
    (style.PURPLE, "x", "dashdot"),
    (style.INK, "triangle-up", "longdash"),
    (style.ORANGE, "star", "solid"),
    (style.SKY, "cross", "dash"),
    (style.MUTED, "hexagon", "dot"),
)
"""Colour, marker and dash of the curves of a figure, in their order."""


def points_figure(
    world: Plane,
    clouds: Mapping[str, Tensor],
    *,
    notes: Mapping[str, str] | None = None,
    labels: Tensor | None = None,
    columns: int = 3,
    title: str = "points",
    size: int = 300,
) -> dict[str, Any]:
    """Draw clouds of points beside each other, each over the modes of its world, with the missing ones crossed out.

    Args:
        world: in two dimensions, see :class:`vidistill.data.plane.Plane`.
        clouds: name -> points ``[N, 2]``; the first ``MOST`` are drawn, all are counted.
        notes: name -> a line for under the panel's name, e.g. its numbers; default: modes held and points off them.
        labels: class that each point was asked for, int64 ``[N]``, the same for all clouds; default: any class will do.
        columns: panels in a row.
        title: of the whole, for who cannot see it.
        size: height of a panel, pixels.

    Raises:
        InputError: points that do not fit the world, or no cloud.
    """
    reach = _reach(world)
    looks = {"true mode": (style.MUTED, "circle-open", 9), "point on a mode": (style.BLUE, "circle", 3)}
    looks |= {"point on none": (style.VERMILLION, "x-thin-open", 5), "missing mode": (style.INK, "x-open", 13)}
    data, said, names = [_key(name, *look) for name, look in looks.items()], [], []
    for number, (name, points) in enumerate(clouds.items()):
        shares = mode_shares(points, world, labels)
        missing = world.means[shares < COVERED * world.weights - 1e-12]
        on = _on(points, world, labels)
        beyond = int((points.abs() > reach).any(1).sum())
        words = f"{len(world.means) - len(missing)} of {len(world.means)} modes, {1 - float(on.double().mean()):.0%} of the points on none"
        words += f", {beyond / len(points):.0%} beyond the frame" if beyond else ""
        names.append((name, (notes or {}).get(name, words)))
        said.append(f"{name}: {words}")
        shown, near = points[:MOST], on[:MOST]
        drawn = {"point on a mode": shown[near], "point on none": shown[~near], "missing mode": missing}
        data += [_marks(sign, x, *looks[sign], _axes(number)) for sign, x in drawn.items()]
    return _panels(title, "; ".join(said), names, data, world, columns, size)


def paths_figure(
    world: Plane,
    paths: Mapping[str, Tensor],
    *,
    notes: Mapping[str, str] | None = None,
    columns: int = 3,
    title: str = "paths",
    size: int = 320,
) -> dict[str, Any]:
    """Draw paths of a sampler beside each other: a ring where each begins, a dot where it ends on a mode, a cross where on none.

    Args:
        world: see :func:`points_figure`.
        paths: name -> states ``[S + 1, N, 2]``, from noise to data.
        notes, columns, title, size: see there; the default note is how many paths end on a mode.
    """
    looks = {"true mode": (style.MUTED, "circle-open", 9), "noise": (style.MUTED, "circle-open", 5)}
    looks |= {"ends on a mode": (style.BLUE, "circle", 7), "ends on none": (style.VERMILLION, "x", 7)}
    data, said, names = [_key(name, *look) for name, look in looks.items()], [], []
    for number, (name, path) in enumerate(paths.items()):
        on = _on(path[-1], world, None)
        words = f"{int(on.sum())} of {len(on)} paths end on a mode"
        names.append((name, (notes or {}).get(name, words)))
        said.append(f"{name}, {len(path) - 1} steps: {words}")
        marker = {"symbol": "circle", "size": 3, "color": style.SKY}
        way = _line("path, a dot a state", _broken(path.transpose(0, 1)), style.SKY, "solid", _axes(number) | {"showlegend": number == 0})
        data.append(way | ({"mode": "lines+markers", "marker": marker} if len(path) < 20 else {}))
        drawn = {"noise": path[0], "ends on a mode": path[-1][on], "ends on none": path[-1][~on]}
        data += [_marks(sign, x, *looks[sign], _axes(number)) for sign, x in drawn.items()]
    return _panels(title, "; ".join(said), names, data, world, columns, size)


def arrows_figure(
    world: Plane,
    panels: Mapping[str, Mapping[str, tuple[Tensor, Tensor]]],
    *,
    notes: Mapping[str, str] | None = None,
    columns: int = 2,
    title: str = "arrows",
    size: int = 380,
) -> dict[str, Any]:
    """Draw arrows over the modes of a world, each kind with a colour and a dash of its own; panels beside each other.

    Args:
        world: see :func:`points_figure`.
        panels: name -> kind of arrow -> where they begin and where they end, both ``[N, 2]``; the same kinds in each panel look alike.
        notes, columns, title, size: see there; the default note is the mean length of each kind.
    """
    kinds = list(dict.fromkeys(kind for arrows in panels.values() for kind in arrows))
    looks = dict(zip(kinds, LINES, strict=False))
    data, said, names, told = [_key("true mode", style.MUTED, "circle-open", 9)], [], [], set[str]()
    for number, (name, arrows) in enumerate(panels.items()):
        lengths = {kind: float((end.double() - begin.double()).norm(dim=1).mean()) for kind, (begin, end) in arrows.items()}
        words = ", ".join(f"{kind} {length:.2f}" for kind, length in lengths.items())
        for kind, (begin, end) in arrows.items():
            colour, _, dash = looks[kind]
            where = _axes(number) | {"showlegend": kind not in told}
            told.add(kind)
            arrow = _line(kind, _broken(torch.stack([begin.double(), end.double()], 1)), colour, dash, where)
            symbol = "arrow-wide" if kinds.index(kind) % 2 else "arrow"
            head = {"symbol": symbol, "angleref": "previous", "size": [0, 9, 0] * len(begin), "color": colour, "line": {"width": 0}}
            data.append(arrow | {"mode": "lines+markers", "marker": head, "line": {"color": colour, "dash": dash, "width": 1.5}})
        names.append((name, (notes or {}).get(name, f"mean length: {words}")))
        said.append(f"{name}, mean length: {words}")
    return _panels(title, "; ".join(said), names, data, world, columns, size)


def curves_figure(
    curves: Mapping[str, Mapping[str, Mapping[float, float | None]]] | Mapping[str, Mapping[float, float | None]],
    *,
    x: str = "student updates",
    y: str = "",
    lines: Mapping[str, float] | None = None,
    title: str = "curves",
    height: int = 300,
    log_x: bool = False,
) -> dict[str, Any]:
    """Draw curves, each with a colour, marker and dash of its own; several panels beside each other share names and looks.

    Args:
        curves: name -> {x: y}; or panel -> name -> {x: y}, and the panels' names are their y axes.
        x, y: words at the axes; ``y`` for one panel.
        lines: words -> y of a horizontal line in every panel, e.g. the truth; or panel's name and " / " before the words: in that one.
        title: of the whole, for who cannot see it.
        height: pixels.
        log_x: a logarithmic x axis.

    Raises:
        InputError: more curves than looks.
    """
    single = not all(isinstance(value, Mapping) for panel in curves.values() for value in panel.values())
    panels: Mapping[str, Any] = {y: curves} if single else curves
    kinds = list(dict.fromkeys(name for panel in panels.values() for name in panel))
    if len(kinds) > len(LINES):
        raise InputError(f"{len(kinds)} curves are more than can be told apart: {len(LINES)}")
    looks, told, data, said, layout = dict(zip(kinds, LINES, strict=False)), set[str](), list[Any](), list[str](), dict[str, Any]()
    notes, shapes, gap = list[Any](), list[Any](), 0.09
    wide = (1 - gap * (len(panels) - 1)) / len(panels)
    for number, (panel, found) in enumerate(panels.items()):
        mark, where = "" if number == 0 else str(number + 1), _axes(number)
        for name, values in found.items():
            colour, symbol, dash = looks[name]
            hover = f"{name}, {x} %{{x:.4g}}: %{{y:.3f}}"
            ys = [None if value is None else round(value, 4) for value in values.values()]
            more = where | {"legendgroup": name, "showlegend": name not in told}
            told.add(name)
            data.append(style.line(name, list(values), ys, colour, symbol, dash, hover, **more))
            known = [value for value in ys if value is not None]
            said.append(f"{panel} of {name}: " + (f"from {known[0]:.3g} to {known[-1]:.3g}" if known else "unknown"))
        left = number * (wide + gap)
        ticks = {"type": "log", "tickvals": sorted({at for values in found.values() for at in values})} if log_x else {}
        layout[f"xaxis{mark}"] = style.axis(x, domain=[left, left + wide], anchor=f"y{mark}", **ticks)
        layout[f"yaxis{mark}"] = style.axis(panel if not single else y, anchor=f"x{mark}")
        for words, value in (lines or {}).items():
            own, _, said_there = words.rpartition(" / ")
            if own in ("", panel):
                ends = {"xref": f"x{mark} domain", "yref": f"y{mark}", "x0": 0, "x1": 1, "y0": value, "y1": value}
                shapes.append({"type": "line", **ends, "line": {"color": style.INK, "dash": "dot", "width": 1}})
                place = {"xref": f"x{mark} domain", "yref": f"y{mark}", "x": 1, "xanchor": "right", "y": value, "yanchor": "bottom"}
                notes.append(style.note(said_there, **place, font={"size": 11, "color": style.MUTED}))
    layout |= {"legend": style.LEGEND, "showlegend": len(kinds) > 1, "margin": {"l": 55, "r": 14, "t": 40, "b": 42}}
    return style.figure(title, "; ".join(said), height, data, shapes=shapes, annotations=notes, **layout)


# ---------------------------------------------------------------------------------------------------------------------------------- parts


def _on(points: Tensor, world: Plane, labels: Tensor | None) -> Tensor:
    """Return which points lie on the mode that they hold, bool ``[N]``."""
    k = held(points, world, labels)
    return (k >= 0) & ((points.double() - world.means[k.clamp(min=0)]).norm(dim=1) <= NEAR * world.deviation)


def _reach(world: Plane) -> float:
    if world.dim != 2:
        raise InputError(f"only points in the plane are drawn; world {world.name} has {world.dim} dimensions")
    return 1.3 * float(world.means.abs().max()) + NEAR * world.deviation


def _axes(number: int) -> dict[str, Any]:
    return {} if number == 0 else {"xaxis": f"x{number + 1}", "yaxis": f"y{number + 1}"}


def _places(x: Tensor) -> list[float | None]:
    return [None if math.isnan(value) else round(value, 2) for value in x.double().tolist()]


def _broken(lines: Tensor) -> Tensor:
    """Join lines ``[N, S, 2]`` to one ``[N (S + 1), 2]`` that is broken between them."""
    lines = lines.detach().double()
    return torch.cat([lines, torch.full((len(lines), 1, 2), torch.nan, dtype=torch.float64)], 1).flatten(0, 1)


def _rings(world: Plane) -> str:
    """Return the modes, 4 deviations wide, as one path of four Bezier arcs each: a few bytes, where lines of points would be many."""
    r, ways = NEAR * world.deviation, []
    h = r * 4 / 3 * (math.sqrt(2) - 1)
    for x, y in world.means.tolist():
        arcs = ((r, h, h, r, 0, r), (-h, r, -r, h, -r, 0), (-r, -h, -h, -r, 0, -r), (h, -r, r, -h, r, 0))
        turned = " ".join("C" + " ".join(f"{c + (y if i % 2 else x):.2f}" for i, c in enumerate(arc)) for arc in arcs)
        ways.append(f"M{x + r:.2f} {y:.2f} {turned}")
    return " ".join(ways)


def _line(name: str, way: Tensor, colour: str, dash: str, more: Mapping[str, Any]) -> dict[str, Any]:
    line: dict[str, Any] = {"type": "scatter", "name": name, "legendgroup": name, "mode": "lines", "hoverinfo": "skip"}
    line |= {"x": _places(way[:, 0]), "y": _places(way[:, 1]), "line": {"color": colour, "dash": dash, "width": 1}}
    return {**line, **more}


def _marks(name: str, points: Tensor, colour: str, symbol: str, size: int, where: Mapping[str, Any]) -> dict[str, Any]:
    marker = {"symbol": symbol, "size": size, "color": colour, "line": {"width": 1.5 if "open" in symbol else 0, "color": colour}}
    place = {"type": "scatter", "name": name, "legendgroup": name, "mode": "markers", "marker": marker, "showlegend": False}
    place |= {"x": _places(points[:, 0]), "y": _places(points[:, 1])}
    return {**place, "hovertemplate": f"{name}: %{{x:.2f}}, %{{y:.2f}}<extra></extra>", **where}


def _key(name: str, colour: str, symbol: str, size: int) -> dict[str, Any]:
    """Return what stands for a sign in the legend: plotly leaves out what has no points in the first panel."""
    return _marks(name, torch.full((1, 2), torch.nan), colour, symbol, size, {"showlegend": True})


def _panels(
    title: str, words: str, names: Sequence[tuple[str, str]], data: list[dict[str, Any]], world: Plane, columns: int, size: int
) -> dict[str, Any]:
    """Lay square panels out in rows, each with its name and a muted line above it."""
    if not names:
        raise InputError(f"nothing to draw in {title!r}: pass at least one entry")
    columns = max(1, min(columns, len(names)))
    rows = math.ceil(len(names) / columns)
    gap, head = 0.02, 46  # pixels above a panel for its name
    wide, tall, reach = (1 - gap * (columns - 1)) / columns, rows * (size + head), _reach(world)
    layout, notes, shapes = dict[str, Any](), list[Any](), list[Any]()
    rings = {"type": "path", "path": _rings(world), "layer": "below", "line": {"color": style.MUTED, "width": 1}}
    for number, (name, note) in enumerate(names):
        mark, row, column = "" if number == 0 else str(number + 1), number // columns, number % columns
        left, top = column * (wide + gap), 1 - row / rows - head / tall
        span = {"range": [-reach, reach], "showgrid": False, "zeroline": False, "showticklabels": False, "showline": True, "mirror": True}
        span |= {"linecolor": style.LINE}
        layout[f"xaxis{mark}"] = span | {"domain": [left, left + wide], "anchor": f"y{mark}", "constrain": "domain"}
        layout[f"yaxis{mark}"] = span | {"domain": [top - size / tall, top], "anchor": f"x{mark}", "scaleanchor": f"x{mark}"}
        layout[f"yaxis{mark}"] |= {"constrain": "domain"}
        shapes.append(rings | {"xref": f"x{mark}", "yref": f"y{mark}"})
        text = f"<b>{name}</b><br><span style='font-size:11px;color:{style.MUTED}'>{note}</span>"
        notes.append(style.note(text, x=left + wide / 2, xanchor="center", align="center", y=top, yanchor="bottom"))
    legend = style.LEGEND | {"y": -6 / tall, "yanchor": "top", "itemsizing": "constant", "bgcolor": "rgba(0,0,0,0)"}
    margin = {"l": 4, "r": 4, "t": 4, "b": 34}
    layout |= {"annotations": notes, "shapes": shapes, "legend": legend, "showlegend": True, "margin": margin}
    return style.figure(title, words, tall + 38, data, **layout)
