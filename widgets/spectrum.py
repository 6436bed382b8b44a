"""Energy per mode: how much of the latents each component of time, height and width carries, and where the ranks cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vidistill.widgets import style, theme

MODES = {"T": ("time", style.BLUE, "circle"), "H": ("height", style.VERMILLION, "square"), "W": ("width", style.GREEN, "diamond")}
FLOOR = 1e-8  # shares below this are drawn here: a logarithmic axis has no zero
POWERS = [10.0**-k for k in range(9)]


def spectrum_figure(energy: Mapping[str, Sequence[float]], ranks: Mapping[str, int]) -> dict[str, Any]:
    """Plot the share of energy of each component on a log axis; kept ones are filled, dropped ones hollow on grey.

    Args:
        energy: mode (``T``, ``H``, ``W``) -> share of the energy per component, largest first, each mode summing to 1.
        ranks: mode -> components kept; a mode that is missing is not cut.
    """
    layout: dict[str, Any] = {"showlegend": False, "shapes": [], "annotations": []}
    data, said, width = [], [], 1 / len(energy)
    for k, (mode, share) in enumerate(energy.items()):
        name, colour, shape = MODES[mode]
        rank, number = ranks.get(mode, len(share)), str(k + 1) if k else ""
        place = list(range(1, len(share) + 1))
        data.append(
            {
                "type": "scatter",
                "x": place,
                "y": [max(value, FLOOR) for value in share],
                "xaxis": f"x{number}",
                "mode": "lines+markers",
                "name": name,
                "line": {"color": colour, "width": 1.5},
                "marker": {"symbol": [shape if component <= rank else f"{shape}-open" for component in place], "size": 8, "color": colour},
                "hovertemplate": f"component %{{x}}: %{{y:.2%}}<extra>{name}</extra>",
            }
        )
        ends = [0.4, len(share) + 0.6]
        layout[f"xaxis{number}"] = {
            "domain": [k * width + 0.02, (k + 1) * width - 0.02],
            "range": ends,
            "showgrid": False,
            "nticks": 5,
            "tickformat": "d",
            "title": {"text": "component" if k == len(energy) // 2 else "", "standoff": 2},
        }
        if rank < len(share):
            across = {"xref": f"x{number}", "yref": "paper", "y0": 0, "y1": 1, "x0": rank + 0.5}
            layout["shapes"] += [
                {"type": "rect", **across, "x1": ends[1], "fillcolor": style.MUTED, "opacity": 0.1, "line": {"width": 0}},
                {"type": "line", **across, "x1": rank + 0.5, "line": {"color": style.INK, "dash": "dash", "width": 1.5}},
            ]
        kept, percent = f"{rank} of {len(share)} kept", f"{100 * sum(share[:rank]):.2f} % of energy"
        said.append(f"{name}, {kept}, {percent}")
        words = f"<b>{name}</b>  {kept}<br>{percent}"
        layout["annotations"].append(style.note(words, x=(k + 0.5) * width, y=1, xanchor="center", yanchor="bottom"))
    ticks = {"tickvals": POWERS, "ticktext": [f"{100 * power:g} %" for power in POWERS]}
    layout["yaxis"] = {"type": "log", "gridcolor": style.LINE, "automargin": True, **ticks}
    return style.figure("energy per mode", "; ".join(said), 205, data, **layout, margin={"l": 0, "r": 0, "t": 36, "b": 30})


def rank_html(energy: Mapping[str, Sequence[float]], ranks: Mapping[str, int], stored: int, pixels: int) -> str:
    """Return what a rank ratio does as small bars: the energy that each mode keeps, and the file beside the pixels it stands for.

    Args:
        energy, ranks: see :func:`spectrum_figure`; without ranks, as for a decomposition without modes, there are no bars of energy.
        stored: bytes of the file.
        pixels: bytes of the same clips as raw pixels, at least 1.
    """
    kept = [
        (MODES[mode][0], f"{rank} of {len(energy[mode])}", sum(energy[mode][:rank]), "of energy")
        for mode in MODES
        if (rank := ranks.get(mode))
    ]
    rows = [*kept, ("file", style.size(stored), stored / pixels, "of pixels")]
    said = "; ".join(f"{name}, {count}: {share:.1%} {of}" for name, count, share, of in rows)
    bar = "display:block;height:8px;border-radius:2px;background"
    cells = "".join(
        f'<span>{name}</span><span>{count}</span><span style="{bar}:{style.TRACK}"><span style="{bar}:{style.BLUE};'
        f'width:{100 * min(share, 1):.4g}%"></span></span><span>{share:.1%} {of}</span>'
        for name, count, share, of in rows
    )
    looks = f"display:grid;grid-template-columns:auto auto 1fr auto;gap:1px 6px;align-items:center;font-size:11px;color:{theme.INK}"
    return f'<div role="img" aria-label="{said}" style="{looks}">{cells}</div>'
