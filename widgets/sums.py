"""Operators in pictures: what each does alone, their sum and the whole; when they add up; who pressed where; how near a clip came.

Every curve has a marker and a dash of its own, and every bar a hatch and its number: nothing is told by colour alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vidistill.lab.additive import Additive
from vidistill.widgets import style
from vidistill.widgets.pull import force_figure

LOOKS = (
    (style.MUTED, "square", "dash"),
    (style.VERMILLION, "triangle-up", "dot"),
    (style.GREEN, "diamond", "dashdot"),
    (style.SKY, "x", "longdash"),
)
"""Colour, marker and dash of the model alone and of each operator alone."""

WHOLE = (style.BLUE, "circle", "solid")
"""Of all together."""

FEW = "fewer than two operators act: there is nothing to add"

HATCHED = ((style.VERMILLION, "/"), (style.GREEN, "\\"), (style.SKY, "x"))
"""Colour and hatch of the bars of operators; the sum's has dots, the whole's is full."""


def effects_figure(adds: Additive | None) -> dict[str, Any]:
    """Plot the size of what each operator does alone, of the sum of these, and of what they do together; None says that there is no sum."""
    if adds is None:
        return _nothing("effects", FEW)
    looks = dict(zip(adds.effects, HATCHED, strict=False))
    bars = {name: (value, *looks[name]) for name, value in adds.effects.items()}
    bars |= {"their sum": (adds.summed, style.MUTED, "."), "the whole": (adds.whole, style.BLUE, "")}
    data = {
        "type": "bar",
        "orientation": "h",
        "x": [value for value, _, _ in bars.values()],
        "y": list(bars),
        "text": [f"{value:.2f}" for value, _, _ in bars.values()],
        "textposition": "outside",
        "cliponaxis": False,
        "marker": {
            "color": [colour for _, colour, _ in bars.values()],
            "pattern": {"shape": [hatch for _, _, hatch in bars.values()], "fgcolor": style.PAPER},
        },
        "hovertemplate": "%{y}: %{x:.3f}<extra></extra>",
    }
    said = ", ".join(f"{name} {value:.2f}" for name, (value, _, _) in bars.items())
    return style.figure(
        "effects",
        said,
        40 + 28 * len(bars),
        [data],
        xaxis=style.axis("rms of the latents' change", rangemode="tozero"),
        yaxis={**style.axis("", showgrid=False), "autorange": "reversed"},
        showlegend=False,
        margin={"l": 70, "r": 36, "t": 4, "b": 36},
    )


def adding_figure(adds: Additive | None) -> dict[str, Any]:
    """Plot, for the clean clip that is predicted after each step, how large the whole is beside the sum, and the cosine of the two."""
    if adds is None:
        return _nothing("adding up along the steps", FEW)
    shares, cosines = adds.shares, adds.cosines
    steps = list(range(1, len(shares) + 1))
    data = [
        style.line("size, whole over sum", steps, shares, *WHOLE, "step %{x}: %{y:.0%} of the sum"),
        style.line("cosine of both", steps, cosines, style.VERMILLION, "diamond", "dot", "step %{x}: cosine %{y:.2f}"),
    ]
    said = [
        f"{name} from {known[0]:.2f} to {known[-1]:.2f}"
        for name, values in (("size", shares), ("cosine", cosines))
        if (known := [value for value in values if value is not None])
    ]
    size, turn = adds.unrelated
    one = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 1, "y1": 1, "line": {"color": style.INK, "dash": "dash", "width": 1}}
    return style.figure(
        "adding up along the steps",
        "; ".join(said) or "no sum",
        190,
        data,
        xaxis=style.axis("step, from noise to clip", range=[0.5, len(steps) + 0.5]),
        yaxis=style.axis("", rangemode="tozero", zerolinecolor=style.LINE),
        shapes=[one],
        annotations=[style.note(f"unrelated clips: size {size:.0%}, cosine {turn:.2f}", y=0.02, yanchor="bottom")],
        legend=style.LEGEND,
        margin={"l": 34, "r": 8, "t": 26, "b": 36},
    )


def nearness_figure(paths: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Plot how far the predicted clean clip is from the centre after each step; the first clip is the model's, the last one the whole."""
    looks = [*LOOKS[: len(paths) - 1], WHOLE]
    data = [
        style.line(name, list(range(1, len(path) + 1)), path, *look, f"{name}, step %{{x}}: %{{y:.3f}}")
        for (name, path), look in zip(paths.items(), looks, strict=True)
    ]
    return style.figure(
        "distance to the centre",
        "; ".join(f"{name} from {path[0]:.2f} to {path[-1]:.2f}" for name, path in paths.items()),
        210,
        data,
        xaxis=style.axis("step, from noise to clip", range=[0.5, len(data[0]["x"]) + 0.5]),
        yaxis=style.axis("", rangemode="tozero", zerolinecolor=style.LINE),
        legend=style.LEGEND,
        margin={"l": 34, "r": 8, "t": 42, "b": 36},
    )


def ledger_figure(operator: str, force: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Map the force of an operator over steps and frames, ``[N][T]``; empty where it does not act."""
    title = f"{operator}, force per step and frame"
    if not force:
        return _nothing(title, "it does not act")
    figure = force_figure(force)
    meta = figure["layout"]["meta"]
    meta["words"] = f"{operator}, {meta['words']}"
    return figure


def _nothing(title: str, words: str) -> dict[str, Any]:
    """Return a low figure that says why there is nothing to plot."""
    hidden = {"visible": False}
    return style.figure(title, words, 40, [], annotations=[style.note(words, y=0.5)], xaxis=hidden, yaxis=hidden)
