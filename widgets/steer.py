"""A teacher's steering in pictures: drift and motion on the way, one against the other, forces, guidance step by step, the Fourier mask.

Every curve has a marker and a dash of its own, and every map its signs: nothing is told by colour alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vidistill.widgets import style
from vidistill.widgets.pull import CALM

LOOKS = ((style.MUTED, "square", "dash"), (style.GREEN, "diamond", "dot"), (style.BLUE, "circle", "solid"))
"""Colour, marker and dash of the base, the teacher and the guided clip."""

PLACES = {"dash": "middle left", "dot": "bottom center", "solid": "top center"}
"""Where each is named in the plane: clips may lie close together."""


def looks_of(names: Sequence[str]) -> dict[str, tuple[str, str, str]]:
    """Return how each clip is drawn: the first one as the base, the last one as the guided clip, one between them as the teacher."""
    return dict(zip(names, LOOKS if len(names) == len(LOOKS) else (LOOKS[0], LOOKS[-1]), strict=True))


def paths_figure(paths: Mapping[str, Mapping[str, Sequence[Any]]], guided: int, steps: int) -> dict[str, Any]:
    """Plot drift, above, and motion, below, of the clean clip that is predicted after each step; a line ends the guided steps.

    Args:
        paths: clip -> ``"step"``, ``"drift"``, ``"motion"``.
        guided, steps: I and N.
    """
    data, said = [], []
    for name, (colour, symbol, dash) in looks_of(list(paths)).items():
        path = paths[name]
        for key, axis, shown in (("drift", "y2", "%{y:.0%} of the frames drift"), ("motion", "y", "motion %{y:.2f}")):
            hover = f"{name}, step %{{x}}: {shown}"
            data.append(style.line(name, path["step"], path[key], colour, symbol, dash, hover, yaxis=axis, showlegend=key == "drift"))
        said.append(f"{name} drift {_told(path['drift'], '.0%')}, motion {_told(path['motion'], '.2f')}")
    end = {"type": "line", "x0": guided + 0.5, "x1": guided + 0.5, "yref": "paper", "y0": 0, "y1": 1}
    return style.figure(
        "drift and motion on the way",
        "; ".join(said),
        270,
        data,
        xaxis=style.axis("step, from noise to clip", range=[0.5, steps + 0.5], anchor="y"),
        yaxis=style.axis("motion", rangemode="tozero", domain=[0, 0.46]),
        yaxis2=style.axis("drift", range=[-0.04, 1.04], tickformat=".0%", domain=[0.54, 1], anchor="x"),
        shapes=[{**end, "line": {"color": style.INK, "dash": "dash", "width": 1}}] if guided else [],
        legend=style.LEGEND,
        margin={"l": 50, "r": 8, "t": 26, "b": 36},
    )


def plane_figure(points: Mapping[str, tuple[float | None, float | None]], earlier: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Plot subject consistency against motion, one point a clip; small rings are guided clips of earlier settings.

    Args:
        points: clip -> motion and consistency; a clip without a number is left out.
        earlier: of guided clips, the oldest first.
    """
    data, said = [], []
    if earlier:
        ring = {"symbol": "circle-open", "size": 7, "color": style.BLUE}
        hover = "earlier: motion %{x:.2f}, consistency %{y:.3f}<extra></extra>"
        x, y = (list(column) for column in zip(*earlier, strict=True))
        data.append({"type": "scatter", "name": "guided before", "x": x, "y": y, "mode": "markers", "marker": ring, "hovertemplate": hover})
    for name, (colour, symbol, dash) in looks_of(list(points)).items():
        motion, steady = points[name]
        if motion is None or steady is None:
            said.append(f"{name} has no number")
            continue
        hover = f"{name}: motion %{{x:.2f}}, consistency %{{y:.3f}}"
        marker = {"symbol": symbol, "size": 12, "color": colour, "line": {"color": style.INK, "width": 1}}
        more = {"mode": "markers+text", "text": [name], "textposition": PLACES[dash], "marker": marker}
        data.append(style.line(name, [motion], [steady], colour, symbol, dash, hover, **more))
        said.append(f"{name} motion {motion:.2f}, consistency {steady:.3f}")
    return style.figure(
        "consistency against motion",
        "; ".join(said),
        230,
        data,
        xaxis=style.axis("motion, half widths a clip", rangemode="tozero"),
        yaxis=style.axis("probe_subject_consistency", range=_room([y for _, y in (*points.values(), *earlier)])),
        showlegend=False,
        margin={"l": 50, "r": 20, "t": 8, "b": 40},
    )


def forces_figure(forces: Mapping[str, Sequence[float]], guided: str) -> dict[str, Any]:
    """Plot how hard each operator pushed in each step: root mean square of its change."""
    looks = ((style.VERMILLION, "triangle-up", "solid"), (style.SKY, "square", "dot"))
    data, said = [], []
    for (name, force), (colour, symbol, dash) in zip(forces.items(), looks, strict=True):
        steps = list(range(1, len(force) + 1))
        data.append(style.line(name, steps, force, colour, symbol, dash, f"{name}, step %{{x}}: %{{y:.3f}}"))
        worked = [one for one in force if one]
        said.append(f"{name} from {worked[0]:.2f} to {worked[-1]:.2f}" if worked else f"no {name}")
    return style.figure(
        "force of each step",
        f"{guided}; {', '.join(said)}",
        180,
        data,
        xaxis=style.axis("step, from noise to clip", range=[0.5, len(data[0]["x"]) + 0.5]),
        yaxis=style.axis("", rangemode="tozero", zerolinecolor=style.LINE),
        legend=style.LEGEND,
        margin={"l": 34, "r": 8, "t": 26, "b": 36},
    )


def scales_figure(ways: Sequence[str], scales: Sequence[float], guidance: float) -> dict[str, Any]:
    """Plot the scale of ordinary guidance that each step amounts to; diamonds are CFG++, circles ordinary guidance."""
    steps = list(range(1, len(scales) + 1))
    plus = [way == "cfg++" for way in ways]
    looks = {
        "symbol": ["diamond" if yes else "circle" for yes in plus],
        "size": 7,
        "color": [style.VERMILLION if yes else style.BLUE for yes in plus],
    }
    range_ = f"{min(scales):.1f} to {max(scales):.1f}"
    said = [f"step {step}, {way}: {scale:.2f}" for step, way, scale in zip(steps, ways, scales, strict=True)]
    curve = style.line("", steps, scales, style.MUTED, "", "solid", "%{text}", marker=looks, text=said)
    own = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": guidance, "y1": guidance}
    return style.figure(
        "scale of guidance",
        f"{sum(plus)} of {len(plus)} steps are CFG++; as ordinary guidance {range_}, and the base has {guidance:g}",
        160,
        [curve],
        xaxis=style.axis("step, from noise to clip", range=[0.5, len(scales) + 0.5]),
        yaxis=style.axis("", rangemode="tozero", zerolinecolor=style.LINE),
        shapes=[{**own, "line": {"color": style.INK, "dash": "dash", "width": 1}}],
        annotations=[style.note("◆ CFG++, read as a g   ● another way's g   dashes: the base's", y=1.02, yanchor="bottom")],
        showlegend=False,
        margin={"l": 34, "r": 8, "t": 26, "b": 36},
    )


def mask_figure(mask: Sequence[Sequence[float]], axes: tuple[Sequence[float], Sequence[float]], kept: int, modes: int) -> dict[str, Any]:
    """Map the low-pass mask over the frequencies of time and of height, where that of width is 0; a dot marks what is kept.

    Args:
        mask: ``[T][H]`` in [0, 1]; empty: no filter, everything is kept.
        axes: frequencies of its rows and of its columns.
        kept, modes: how many modes of the latents are kept, of how many.
    """
    rows, columns = axes
    whole = not mask
    z = [[1.0] * len(columns) for _ in rows] if whole else [list(row) for row in mask]
    bar = {"thickness": 10, "outlinewidth": 0, "nticks": 3, "title": {"text": "M", "side": "top", "font": {"size": 11}}}
    cells = {"type": "heatmap", "x": list(columns), "y": list(rows), "z": z, "zmin": 0, "zmax": 1, "colorscale": CALM, "colorbar": bar}
    cells |= {"xgap": 1, "ygap": 1, "hovertemplate": "f_H %{x:.2f}, f_T %{y:.2f}: M %{z:.2f}<extra></extra>"}
    found = [(x, y) for y, row in zip(rows, z, strict=True) for x, value in zip(columns, row, strict=True) if value > 0.5]
    dot = {"symbol": "circle", "size": 7, "color": style.PAPER, "line": {"color": style.INK, "width": 1}}
    places = {"x": [x for x, _ in found], "y": [y for _, y in found], "mode": "markers", "marker": dot, "hoverinfo": "skip"}
    words = f"{kept} of {modes} modes of the latents are kept" + (": there is no filter" if whole else f" ({kept / modes:.1%})")
    return style.figure(
        "low-pass mask",
        words,
        220,
        [cells, {"type": "scatter", **places}],
        xaxis=style.axis("frequency in space f_H", showgrid=False),
        yaxis=style.axis("frequency in time f_T", showgrid=False),
        annotations=[style.note(f"<b>{words}</b>", y=1.02, yanchor="bottom")],
        plot_bgcolor=style.LINE,
        showlegend=False,
        margin={"l": 44, "r": 0, "t": 26, "b": 40},
    )


def _told(values: Sequence[float | None], form: str) -> str:
    known = [value for value in values if value is not None]
    return f"from {known[0]:{form}} to {known[-1]:{form}}" if known else "unknown"


def _room(values: Sequence[float | None]) -> list[float]:
    """Return the ends of an axis with room for names above and below the points."""
    known = [value for value in values if value is not None] or [0.0, 1.0]
    low, high = min(known), max(known)
    edge = max(0.15 * (high - low), 0.02)
    return [low - 2 * edge, high + 2 * edge]
