"""A pull in pictures: along the frames, along the steps, where it pressed, and how near it came.

Every curve has a marker and a dash of its own, and every map its numbers: nothing is told by colour alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vidistill.schedule import frame_weights
from vidistill.widgets import style, theme

FLOOR = 1e-3  # smaller weights are drawn here: a logarithmic axis has no zero
CALM = [[0, "#ffffff"], [0.5, style.SKY], [1, "#003a5c"]]  # one hue, light to dark: it survives any eye and any printer


def decay_figure(decay: Sequence[float], gone: Sequence[float]) -> dict[str, Any]:
    """Plot ``w_f``, the weight of each frame, beside the share of the way to the centre that the frame went."""
    frames = list(range(1, len(decay) + 1))
    line = style.line("weight w_f", frames, decay, style.BLUE, "square", "solid", "frame %{x}: weight %{y:.2f}")
    went = style.line("way gone", frames, gone, style.VERMILLION, "circle", "dot", "frame %{x}: %{y:.0%} of the way")
    said = f"the weight falls from {decay[0]:.2f} to {decay[-1]:.2f}, the way gone to the centre from {gone[0]:.0%} to {gone[-1]:.0%}"
    return style.figure(
        "along the frames",
        said,
        190,
        [line, went],
        xaxis=style.axis("frame", range=[0.5, len(decay) + 0.5]),
        yaxis=style.axis("", rangemode="tozero", zerolinecolor=style.LINE),
        legend=style.LEGEND,
        margin={"l": 34, "r": 8, "t": 26, "b": 36},
    )


def decay_html(kind: str, frames: int, strength: float = 1.0) -> str:
    """Draw ``lambda w_f`` over the frames of a clip as a small SVG, 60 pixels high, with its ends in numbers.

    Args:
        kind: a decay, see :func:`vidistill.schedule.frame_weights`.
        frames: F.
        strength: lambda, at least 0; it changes the numbers, not the shape.

    Raises:
        InputError: no such decay, or ``frames`` < 1.
    """
    w = frame_weights(kind, frames).tolist()
    ends = [f"{strength * value:.2g}" for value in (w[0], w[-1])]
    places = [(36 + 168 * f / max(frames - 1, 1), 42 - 34 * value) for f, value in enumerate(w)]
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2"/>' for x, y in places)
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    (left, top), (right, low) = places[0], places[-1]
    return (
        f'<svg viewBox="0 0 240 60" width="100%" height="60" role="img" font-size="11" fill="{theme.INK}" '
        f'aria-label="curve of {kind}: lambda w_f goes from {ends[0]} at frame 1 to {ends[1]} at frame {frames}">'
        f'<path d="M36 42.5 H204" stroke="{theme.LINE}"/><g fill="{style.ACCENT}">{dots}'
        f'<polyline points="{path}" fill="none" stroke="{style.ACCENT}" stroke-width="1.5"/></g>'
        f'<text x="{left - 6:.1f}" y="{top + 4:.1f}" text-anchor="end">{ends[0]}</text>'
        f'<text x="{right + 6:.1f}" y="{low + 4:.1f}">{ends[1]}</text>'
        f'<g fill="{theme.MUTED}" text-anchor="middle"><text x="36" y="57">frame 1</text><text x="204" y="57">{frames}</text></g></svg>'
    )


def rates_figure(rates: Sequence[float], times: Sequence[float], guided: str) -> dict[str, Any]:
    """Plot ``lambda s_t`` of each step on a log axis; crosses at the bottom are steps without pull."""
    steps = list(range(1, len(rates) + 1))
    on = [rate > 0 for rate in rates]
    data = {
        **style.line("lambda s_t", steps, [max(rate, FLOOR) for rate in rates], style.BLUE, "", "solid", ""),
        "marker": {
            "symbol": ["circle" if yes else "x-thin-open" for yes in on],
            "size": 7,
            "color": [style.BLUE if yes else style.MUTED for yes in on],
        },
        "text": [f"step {k}, t {t:.0f}: {f'{rate:.3g}' if rate else 'no pull'}" for k, t, rate in zip(steps, times, rates, strict=True)],
        "hovertemplate": "%{text}<extra></extra>",
    }
    top = max([1.0, *rates])
    whole = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 1, "y1": 1, "line": {"color": style.INK, "dash": "dash", "width": 1}}
    first = next((rate for rate in rates if rate), 0.0)
    last = next((rate for rate in reversed(rates) if rate), 0.0)
    return style.figure(
        "along the steps",
        f"{guided}; lambda s_t is {first:.3g} at the first of them and {last:.3g} at the last",
        190,
        [data],
        xaxis=style.axis("step, from noise to clip", range=[0.5, len(rates) + 0.5]),
        yaxis={**style.axis(""), "type": "log", "range": [-3.2, _decades(top)], "dtick": 1, "exponentformat": "none"},
        shapes=[whole],
        annotations=[
            style.note("1: all the way in one step", x=1, xanchor="right", y=0, yref="y", yanchor="bottom", font={"size": 11}),
            style.note(f"<b>{guided}</b>", y=1.02, yanchor="bottom"),
        ],
        showlegend=False,
        margin={"l": 40, "r": 8, "t": 26, "b": 36},
    )


def force_figure(force: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Map the force of the pull over steps and frames; lines of equal force carry their value.

    Args:
        force: ``[N][T]``, root mean square of the change of the clean clip.
    """
    steps, frames = list(range(1, len(force) + 1)), list(range(1, len(force[0]) + 1))
    z = [[row[f] for row in force] for f in range(len(frames))]
    top = max(map(max, force))
    common = {"x": steps, "y": frames, "z": z, "zmin": 0, "zmax": top or 1, "colorscale": CALM}
    bar = {"thickness": 10, "outlinewidth": 0, "nticks": 4, "title": {"text": "rms", "side": "top", "font": {"size": 11}}}
    cells = {**common, "type": "heatmap", "colorbar": bar, "hovertemplate": "step %{x}, frame %{y}: force %{z:.3f}<extra></extra>"}
    data, said = [cells], "no force: nothing is guided"
    if top:
        labels = {"showlabels": True, "labelfont": {"size": 11, "color": style.INK}, "coloring": "none"}
        levels = {"start": top / 5, "end": top * 0.9, "size": top / 5, "labelformat": ".2g"}
        data.append(
            {
                **common,
                "type": "contour",
                "contours": labels | levels,
                "line": {"color": style.INK, "width": 1},
                "hoverinfo": "skip",
                "showscale": False,
            }
        )
        step, frame = max(((s, f) for s in range(len(force)) for f in range(len(frames))), key=lambda at: force[at[0]][at[1]])
        by_frame = [sum(row[f] for row in force) for f in range(len(frames))]
        share = sum(by_frame[: len(frames) // 2]) / sum(by_frame)
        said = f"strongest {top:.2f} at step {step + 1}, frame {frame + 1}; {share:.0%} of all force is on the first half of the frames"
    return style.figure(
        "force per step and frame",
        said,
        230,
        data,
        xaxis=style.axis("step, from noise to clip", showgrid=False),
        yaxis={**style.axis("frame", showgrid=False), "autorange": "reversed"},
        margin={"l": 40, "r": 0, "t": 8, "b": 36},
    )


def distance_figure(paths: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Plot how far the predicted clean clip is from the centre after each step, for each clip."""
    looks = ((style.MUTED, "square", "dash"), (style.BLUE, "circle", "solid"))
    data, said = [], []
    for (name, path), (colour, symbol, dash) in zip(paths.items(), looks, strict=True):
        steps = list(range(1, len(path) + 1))
        data.append(style.line(name, steps, path, colour, symbol, dash, f"{name}, step %{{x}}: %{{y:.3f}}"))
        said.append(f"{name} from {path[0]:.2f} to {path[-1]:.2f}")
    return style.figure(
        "distance to the centre",
        "; ".join(said),
        190,
        data,
        xaxis=style.axis("step, from noise to clip", range=[0.5, len(data[0]["x"]) + 0.5]),
        yaxis=style.axis("", rangemode="tozero", zerolinecolor=style.LINE),
        legend=style.LEGEND,
        margin={"l": 34, "r": 8, "t": 26, "b": 36},
    )


def _decades(top: float) -> float:
    """Return the power of ten above a number, for the end of a log axis."""
    return len(f"{int(top)}") + 0.1
