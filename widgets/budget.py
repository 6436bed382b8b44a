"""The byte budget: what the one file that is stored consists of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vidistill.widgets import style

PARTS = {  # colour, hatch, words
    "core": (style.BLUE, "", "cores"),
    "factors": (style.SKY, "/", "factors"),
    "codec": (style.ORANGE, "x", "decoder"),
    "labels": (style.PURPLE, ".", "labels"),
    "header": (style.MUTED, "-", "header"),
}


def budget_figure(parts: Mapping[str, int], pixels: int) -> dict[str, Any]:
    """Plot the parts of the file as stacked bars: the whole file, and below it the file without its decoder.

    Args:
        parts: bytes of ``core, factors, codec, labels, header`` (other keys, such as ``total``, are left out).
        pixels: bytes of the same clips as raw uint8 pixels.
    """
    total = sum(parts.get(name, 0) for name in PARTS)
    clips = total - parts.get("codec", 0)
    titles = (
        f"<b>the whole file: {style.size(total)}</b>",
        f"<b>without the decoder: {style.size(clips)}</b>; raw pixels are {pixels / max(clips, 1):.0f} times that, {style.size(pixels)}",
    )
    data = []
    for name, (colour, hatch, words) in PARTS.items():
        count = parts.get(name, 0)
        shares = [count / total, 0 if name == "codec" else count / clips]
        data.append(
            {
                "type": "bar",
                "orientation": "h",
                "y": [0, 1],
                "x": shares,
                "name": f"{words} {style.size(count)}",
                "marker": {
                    "color": colour,
                    "line": {"color": style.PAPER, "width": 1},
                    "pattern": {"shape": hatch, "fgcolor": "rgba(255,255,255,.55)", "size": 7},
                },
                "text": [words if share > 0.12 else "" for share in shares],
                "textposition": "inside",
                "insidetextanchor": "middle",
                "textangle": 0,
                "textfont": {"color": style.PAPER if colour in (style.BLUE, style.MUTED) else style.INK},
                "hovertemplate": f"{words}: {count:,} bytes (%{{x:.1%}})<extra></extra>",
            }
        )
    return style.figure(
        "byte budget",
        "; ".join(f"{words} {parts.get(name, 0):,} bytes" for name, (*_, words) in PARTS.items()),
        176,
        data,
        barmode="stack",
        bargap=0.52,
        legend={
            "orientation": "h",
            "traceorder": "normal",
            "y": 0,
            "yanchor": "top",
            "x": 0,
            "entrywidth": 0.3,
            "entrywidthmode": "fraction",
        },
        xaxis={"visible": False, "range": [0, 1]},
        yaxis={"visible": False, "range": [1.35, -0.65]},
        annotations=[style.note(words, y=row, yref="y", yshift=24) for row, words in enumerate(titles)],
    )
