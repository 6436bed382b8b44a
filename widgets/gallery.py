"""The contact sheet: one row a class, one picture a clip; what the selector picked is framed, the rest is faded."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from vidistill.widgets import style
from vidistill.widgets.player import data_uri, png

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

GUTTER = 4  # pixels around each picture, room for its frame


def rows_by_class(labels: Sequence[int], columns: int) -> list[list[int]]:
    """Return the clips of each class, in order, cut into rows of at most ``columns``."""
    found: dict[int, list[int]] = {}
    for clip, label in enumerate(labels):
        found.setdefault(int(label), []).append(clip)
    return [clips[k : k + columns] for _, clips in sorted(found.items()) for k in range(0, len(clips), columns)]


def contact_sheet(thumbnails: Tensor, rows: Sequence[Sequence[int]], picked: Collection[int], shown: int) -> Image:
    """Return the sheet; picked clips carry a blue frame and a corner mark, the one shown a thicker orange frame.

    Args:
        thumbnails: uint8 ``[B, 3, h, w]``.
        rows: the clips of each row.
        picked: the selected clips.
        shown: the clip on the player.
    """
    from PIL import Image, ImageDraw

    chosen, (height, width) = set(picked), thumbnails.shape[-2:]
    cell_w, cell_h = width + 2 * GUTTER, height + 2 * GUTTER
    sheet = Image.new("RGB", (cell_w * max(map(len, rows)), cell_h * len(rows)), style.PAPER)
    draw = ImageDraw.Draw(sheet)
    pictures = thumbnails.permute(0, 2, 3, 1).cpu().numpy()
    for y, row in enumerate(rows):
        for x, clip in enumerate(row):
            left, top = x * cell_w + GUTTER, y * cell_h + GUTTER
            picture = Image.fromarray(pictures[clip])
            if clip not in chosen:
                picture = Image.blend(picture, Image.new("RGB", picture.size, style.PAPER), 0.72)
            sheet.paste(picture, (left, top))
            if clip in chosen:
                colour, thick = (style.ORANGE, 4) if clip == shown else (style.BLUE, 2)
                edge = [left - thick, top - thick, left + width + thick - 1, top + height + thick - 1]
                draw.rectangle(edge, outline=colour, width=thick)
                draw.polygon([(left, top), (left + 9, top), (left, top + 9)], fill=colour)
    return sheet


def gallery_figure(
    sheet: Image, rows: Sequence[Sequence[int]], names: Sequence[str], classes: Sequence[str], labels: Sequence[int]
) -> dict[str, Any]:
    """Return the sheet as a figure that can be clicked: each picture carries its clip's number as ``customdata``."""
    cell_w, cell_h = sheet.width / max(map(len, rows)), sheet.height / len(rows)
    place = [(x, y, clip) for y, row in enumerate(rows) for x, clip in enumerate(row)]
    starts = [y for y, row in enumerate(rows) if y == 0 or labels[row[0]] != labels[rows[y - 1][0]]]
    points = {
        "type": "scatter",
        "mode": "markers",
        "x": [(x + 0.5) * cell_w for x, _, _ in place],
        "y": [(y + 0.5) * cell_h for _, y, _ in place],
        "marker": {"size": 26, "opacity": 0, "symbol": "square"},
        "customdata": [clip for *_, clip in place],
        "text": [f"{classes[labels[clip]]}: {names[clip]}" for *_, clip in place],
        "hovertemplate": "%{text}<extra></extra>",
        "showlegend": False,
    }
    corner = {"xref": "x", "yref": "y", "x": 0, "y": 0, "sizex": sheet.width, "sizey": sheet.height, "sizing": "stretch", "layer": "below"}
    still = {"fixedrange": True, "showgrid": False, "zeroline": False, "constrain": "domain"}
    return style.figure(
        "clips by class",
        ", ".join(classes),
        min(40 * len(rows) + 4, 440),
        [points],
        images=[{"source": data_uri("image/png", png(sheet)), **corner}],
        dragmode=False,
        xaxis={**still, "showticklabels": False, "range": [0, sheet.width], "constraintoward": "left"},
        yaxis={
            **still,
            "range": [sheet.height, 0],
            "scaleanchor": "x",
            "constraintoward": "top",
            "tickvals": [(y + 0.5) * cell_h for y in starts],
            "ticktext": [classes[labels[rows[y][0]]] for y in starts],
            "automargin": True,
        },
    )
