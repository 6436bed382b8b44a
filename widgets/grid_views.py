"""What a grid of clips looks like: one film with headings, one number as a map, every number as a table.

Clips are uint8 RGB ``[3, T, H, W]``; T is their frames.
"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from vidistill.lab.compare import CIVIDIS
from vidistill.lab.grid import Cell, GridLook, Made, Worth, line_of, told
from vidistill.widgets import style, theme
from vidistill.widgets.player import GAP, film

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

ROOM, EDGE = 520, 64  # pixels of the film for the clips of a row or column, and for one clip at least: of a larger one every k-th is shown
BAND, LETTERS, SMALL = 26, 16, 11  # pixels of the film: a line of headings; its letters, and those over clips narrower than NARROW
NARROW = 100
LIGHT = 0.46  # share of the map from which on black letters are easier to read than white ones: 4.5 to 1 on both sides


# -------------------------------------------------------------------------------------------------------------------- film


def grid_film(look: GridLook) -> np.ndarray:
    """Return the clips of a grid that has some as one film with headings, uint8 ``[T, H, W, 3]``; a cell without a clip says why in words.

    A clip that is shorter than the longest one stays at its last frame.
    """
    import numpy as np

    edge = max(EDGE, ROOM // max(len(look.columns), len(look.rows)))
    clips = {place: _thinned(film({"": clip}), edge) for place, clip in look.clips.items()}
    frames, height, width = (max(clip.shape[k] for clip in clips.values()) for k in range(3))
    height, width = height + height % 2, width + width % 2  # H.264 wants even ones
    sheet, left, top = _sheet(look, height, width)
    shown = np.repeat(np.asarray(sheet)[None], frames, axis=0)
    for (row, column), clip in clips.items():
        y, x = top + row * (height + GAP), left + column * (width + GAP)
        shown[:, y : y + clip.shape[1], x : x + clip.shape[2]] = clip[np.minimum(np.arange(frames), len(clip) - 1)]
    return shown


def _thinned(frames: np.ndarray, edge: int) -> np.ndarray:
    """Return every k-th pixel of a film that would be larger than ``edge``."""
    k = -(-max(frames.shape[1:3]) // edge)
    return frames[:, ::k, ::k]


def _sheet(look: GridLook, height: int, width: int) -> tuple[Image, int, int]:
    """Return the film without its clips, and where the first of them begins."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size=LETTERS if width >= NARROW else SMALL)
    across, *down = (name.replace("_", " ") for name in look.knobs)
    rows = _numbered(look.rows)
    left = 2 * (round(max((font.getlength(words) for words in (*rows, *down)), default=0)) // 2 + 4) if rows else 0
    top, lines = 2 * BAND, max(len(rows), 1)
    size = left + len(look.columns) * (width + GAP) - GAP, top + lines * (height + GAP) - GAP
    sheet = Image.new("RGB", size, style.PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((left, BAND / 2), across, fill=style.INK, font=font, anchor="lm")
    for words in down:
        draw.text((0, 1.5 * BAND), words, fill=style.INK, font=font, anchor="lm")
    for column, words in enumerate(_numbered(look.columns)):
        place = left + column * (width + GAP) + width / 2, 1.5 * BAND
        draw.text(place, _fitted(words, width, font), fill=style.INK, font=font, anchor="mm")
    for row, words in enumerate(rows):
        draw.text((0, top + row * (height + GAP) + height / 2), words, fill=style.INK, font=font, anchor="lm")
    for made in look.made:
        if made.clip is None:
            _empty(draw, made, (left + made.cell.column * (width + GAP), top + made.cell.row * (height + GAP), width, height), font)
    return sheet, left, top


def _empty(draw: ImageDraw, made: Made, box: tuple[int, int, int, int], font: FreeTypeFont | ImageFont) -> None:
    """Draw a cell without a clip: grey, with the reason in words, as much of it as there is room for."""
    x, y, width, height = box
    draw.rectangle((x, y, x + width - 1, y + height - 1), fill=style.LINE)
    lines = [""]
    for word in (f"failed: {made.error}" if made.error else "not made").split():
        longer = f"{lines[-1]} {word}".strip()
        lines = [*lines[:-1], longer] if font.getlength(longer) <= width - 8 else [*lines, word]
    room = (height - 4) // (round(font.getbbox("Ag")[3]) + 4)
    shown = [line for line in lines if line][: max(room, 1)]
    draw.multiline_text((x + 4, y + 4), "\n".join(_fitted(line, width - 8, font) for line in shown), fill=style.INK, font=font)


def _fitted(words: str, width: int, font: FreeTypeFont | ImageFont) -> str:
    """Return as much of the words as is no wider than ``width`` pixels."""
    while words and font.getlength(words) > width:
        words = words[:-1]
    return words


def _numbered(values: list[Any]) -> list[str]:
    """Return values with their row or column before them, so that a cell is found by its name."""
    return [f"#{k}: {told(value)}" for k, value in enumerate(values, 1)]


def alt_text(look: GridLook) -> str:
    """Say in words what the film shows."""
    across, *down = (
        f"{name.replace('_', ' ')} {line_of(values)}" for name, values in zip(look.knobs, (look.columns, look.rows), strict=False)
    )
    rest = f", down {down[0]}" if down else ""
    return f"A grid of clips playing in step, all of seed {look.seeds[0]}: across {across}{rest}. {look.told()}"


def caption(look: GridLook) -> str:
    """Return what is written under the film."""
    return f"{' x '.join(name.replace('_', ' ') for name in look.knobs)}, seed {look.seeds[0]}"


def same_film(one: GridLook, other: GridLook) -> bool:
    """Return whether two grids have the same clips in the same places, and the same words elsewhere."""
    places = [[(made.cell, made.clip is not None, made.error) for made in look.made] for look in (one, other)]
    return places[0] == places[1]


# ----------------------------------------------------------------------------------------------------------------- numbers


def map_figure(look: GridLook, name: str) -> dict[str, Any]:
    """Map one number over the grid, its mean written in each cell; a diamond marks the cell that has the page's own settings."""
    rows, columns = _numbered(look.rows) or [""], _numbered(look.columns)
    means = {(one.cell.row, one.cell.column): look.worth(one, name).mean for one in look.made}
    known = [mean for mean in means.values() if mean is not None]
    low, high = min(known, default=0.0), max(known, default=1.0)
    high = high if high > low else low + 1
    words = name.replace("_", " ")
    notes = []
    for one in look.made:
        mean, place = means[one.cell.row, one.cell.column], (one.cell.row, one.cell.column)
        dark = mean is not None and (mean - low) < LIGHT * (high - low)
        said = _without(one) if mean is None else f"{mean:.3g}"
        notes.append(
            {
                "x": place[1],
                "y": place[0],
                "text": f"{'◆ ' if one.cell.now else ''}{said}",
                "showarrow": False,
                "font": {"size": 13, "color": style.INK if mean is None else "#ffffff" if dark else "#000000"},
            }
        )
    cellwise = {
        "type": "heatmap",
        "x": list(range(len(columns))),
        "y": list(range(len(rows))),
        "z": [[means[row, column] for column in range(len(columns))] for row in range(len(rows))],
        "text": [[_said(look, name, row, column) for column in range(len(columns))] for row in range(len(rows))],
        "hovertemplate": "%{text}<extra></extra>",
        "colorscale": [[k / (len(CIVIDIS) - 1), f"rgb{colour}"] for k, colour in enumerate(CIVIDIS)],
        "zmin": low,
        "zmax": high,
        "xgap": 2,
        "ygap": 2,
        "colorbar": {"thickness": 10, "outlinewidth": 0, "nticks": 4},
    }
    across, *down = (knob.replace("_", " ") for knob in look.knobs)
    now = [style.note("◆ the page's own settings", y=1.02, yanchor="bottom")] if any(one.cell.now for one in look.made) else []
    return style.figure(
        f"{words} over the grid",
        "; ".join(_said(look, name, one.cell.row, one.cell.column) for one in look.made),
        84 + 44 * len(rows),
        [cellwise],
        xaxis=style.axis(across, tickvals=list(range(len(columns))), ticktext=columns, showgrid=False),
        yaxis=style.axis(
            down[0] if down else "", tickvals=list(range(len(rows))), ticktext=rows, showgrid=False, autorange="reversed", automargin=True
        ),
        annotations=[*notes, *now],
        plot_bgcolor=style.LINE,
        margin={"l": 44, "r": 0, "t": 26, "b": 44},
    )


def _said(look: GridLook, name: str, row: int, column: int) -> str:
    """Return one number of a cell in words."""
    made = next(one for one in look.made if (one.cell.row, one.cell.column) == (row, column))
    found = look.worth(made, name)
    apart = f", {_apart(found)} against now" if found.difference is not None else ""
    number = _without(made) if found.mean is None else f"{found.mean:.3g}{apart}"
    return f"{made.cell.name} ({_turned(made.cell)}): {number}"


def _without(made: Made) -> str:
    """Return why there is no number."""
    return "failed" if made.error else "no number" if made.numbers else "not made"


def _apart(found: Worth) -> str:
    """Return a paired difference with its interval, where it has one."""
    ends = f" [{found.low:+.3g}, {found.high:+.3g}]" if found.low is not None and found.high is not None else ""
    return f"{found.difference:+.3g}{ends}"


def _turned(cell: Cell) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {told(value)}" for name, value in cell.turned.items())


def table_html(look: GridLook) -> str:
    """Return every number of every cell: the mean over its seeds, and under it the paired difference to the cell of now."""
    heads = ["cell", *look.knobs, *look.names, "seconds in all"]
    head = "".join(f'<th scope="col" style="{style.CELL}">{html.escape(words.replace("_", " "))}</th>' for words in heads)
    caption = (
        f'<caption style="text-align:left;color:{theme.MUTED};font-size:12px">mean over the seeds; under it the difference to the cell '
        "that has the page's own settings, seed by seed, with its 95 % interval from three seeds on</caption>"
    )
    rows = "".join(f"<tr>{_row(look, made)}</tr>" for made in look.made)
    looks = "border-collapse:collapse;width:100%;font-size:12.5px"
    return f'<div style="overflow-x:auto"><table style="{looks}">{caption}<tr>{head}</tr>{rows}</table></div>'


def _row(look: GridLook, made: Made) -> str:
    name = f"{made.cell.name}{' ◆ now' if made.cell.now else ''}"
    parts = [f'<th scope="row" style="{style.CELL};font-weight:600;white-space:nowrap">{name}</th>']
    parts += [f'<td style="{style.CELL}">{html.escape(told(value))}</td>' for value in made.cell.turned.values()]
    small = f"color:{theme.MUTED};font-size:11.5px;white-space:nowrap"
    if made.error:
        said = f'<b style="color:{style.BAD}">⚠ failed.</b> {html.escape(made.error)}'
        return "".join([*parts, f'<td colspan="{len(look.names) + 1}" style="{style.CELL}">{said}</td>'])
    if not made.numbers:
        return "".join([*parts, f'<td colspan="{len(look.names) + 1}" style="{style.CELL};color:{theme.MUTED}">not made</td>'])
    for number in look.names:
        found = look.worth(made, number)
        under = f'<div style="{small}">{_apart(found)}</div>' if found.difference is not None else ""
        parts.append(f'<td style="{style.CELL}">{style.number(found.mean, ".3g")}{under}</td>')
    return "".join([*parts, f'<td style="{style.CELL}">{made.seconds:.2f}</td>'])
