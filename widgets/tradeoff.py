"""The trade-off: reconstruction error against bytes over the rank ratio, and where the present setting stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vidistill.widgets import style

LOOKS = (
    (style.BLUE, "circle", "solid"),
    (style.VERMILLION, "square", "dash"),
    (style.GREEN, "diamond", "dot"),
    (style.PURPLE, "cross", "dashdot"),
)


def tradeoff_figure(curves: Mapping[str, Sequence[tuple[int, float]]], here: tuple[int, float]) -> dict[str, Any]:
    """Plot each curve with its own colour, marker and dash, and the present setting as a star.

    Args:
        curves: name -> points (bytes of cores and factors, relative error of the latents).
        here: the present setting's point.
    """
    data: list[dict[str, Any]] = []
    for (name, points), (colour, shape, dash) in zip(curves.items(), LOOKS, strict=False):
        line = {"mode": "lines+markers", "line": {"color": colour, "dash": dash, "width": 2}}
        data.append(_trace(name, points, {"symbol": shape, "size": 7, "color": colour}) | line)
    star = {"symbol": "star", "size": 17, "color": style.ORANGE, "line": {"color": style.INK, "width": 1.5}}
    data.append(_trace("here", [here], star) | {"mode": "markers"})
    said = [
        f"{trace['name']} " + ", ".join(f"{y:.3f} at {x:.4g} KiB" for x, y in zip(trace["x"], trace["y"], strict=True)) for trace in data
    ]
    return style.figure(
        "error against bytes",
        "; ".join(said),
        200,
        data,
        xaxis={
            "type": "log",
            "title": {"text": "cores and factors, KiB", "standoff": 4},
            "gridcolor": style.LINE,
            "dtick": 1,
            "exponentformat": "none",
            "minor": {"dtick": "D1", "ticks": "outside"},
        },
        yaxis={
            "title": {"text": "relative error", "standoff": 6},
            "gridcolor": style.LINE,
            "rangemode": "tozero",
            "zerolinecolor": style.LINE,
        },
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        margin={"l": 44, "r": 8, "t": 28, "b": 38},
    )


def _trace(name: str, points: Sequence[tuple[int, float]], marker: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "name": name,
        "x": [count / 1024 for count, _ in points],
        "y": [error for _, error in points],
        "marker": dict(marker),
        "cliponaxis": False,
        "hovertemplate": f"{name}: %{{x:.4g}} KiB, error %{{y:.3f}}<extra></extra>",
    }
