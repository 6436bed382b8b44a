"""Pictures in a row: a clip as it forms, step by step, and clips as films of frames, one under the other."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import panel as pn

from vidistill.lab.previews import Preview
from vidistill.widgets import style, theme
from vidistill.widgets.player import SCALE, data_uri, png

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

EDGE = 2  # pixels of white between two frames of a strip
MARGIN = 104  # pixels at its left, for the names


def uri(picture: Tensor) -> str:
    """Return a picture, uint8 ``[3, H, W]``, as a data URI."""
    from PIL import Image

    return data_uri("image/png", png(Image.fromarray(picture.permute(1, 2, 0).cpu().numpy()), compress_level=1))


def strip_html(previews: Mapping[str, Sequence[Preview]]) -> str:
    """Return the previews of each clip as a row of pictures, in the order they came."""
    return _rows({name: [_picture(preview) for preview in shown] for name, shown in previews.items()})


def _rows(pictures: Mapping[str, Sequence[str]]) -> str:
    return "".join(
        f'<div style="font-weight:600">{html.escape(name)}</div>'
        f'<div style="display:flex;flex-wrap:wrap;gap:6px;min-height:90px;margin-bottom:4px">{"".join(row) or "run to see it"}</div>'
        for name, row in pictures.items()
    )


def _picture(p: Preview) -> str:
    said = f"{html.escape(p.name)}, frame {p.frame + 1} as predicted after step {p.step} of {p.steps}"
    return (
        f'<figure style="margin:0;text-align:center;font-size:11.5px;color:{theme.MUTED}"><img src="{uri(p.picture)}" width="72" '
        f'height="72" style="display:block;border-radius:4px" alt="{said}"><figcaption>step {p.step}</figcaption></figure>'
    )


class Strip(pn.viewable.Viewer):
    """The previews of a run, one row a clip; they stay when the run is cancelled.

    Args:
        names: the clips of the first state.
    """

    def __init__(self, names: Iterable[str], **params: Any) -> None:
        super().__init__(**params)
        self._pictures: dict[str, list[str]] = {}
        self._pane = style.text()
        self.begin(names)

    def begin(self, names: Iterable[str]) -> None:
        """Empty the rows for a new run of these clips."""
        self.fill({name: [] for name in names})

    def add(self, preview: Preview) -> None:
        """Show one more preview of a clip."""
        self._pictures[preview.name].append(_picture(preview))
        self._pane.object = _rows(self._pictures)

    def fill(self, previews: Mapping[str, Sequence[Preview]]) -> None:
        """Show these previews and no others."""
        self._pictures = {name: [_picture(preview) for preview in shown] for name, shown in previews.items()}
        self._pane.object = _rows(self._pictures)

    def shown(self, name: str) -> int:
        """Return how many previews of a clip are shown."""
        return len(self._pictures.get(name, ()))

    def __panel__(self) -> pn.viewable.Viewable:
        return self._pane


def film_strip(clips: Mapping[str, Tensor], most: int = 8) -> Image:
    """Return frames of each clip side by side, one row a clip with its name, the frames' numbers on top.

    Args:
        clips: name -> uint8 ``[3, T, H, W]``, all of one shape.
        most: frames of a clip at most, spread evenly from the first to the last.
    """
    from PIL import Image, ImageDraw, ImageFont

    _, frames, height, width = next(iter(clips.values())).shape
    count = min(most, frames)
    shown = [round(k * (frames - 1) / max(count - 1, 1)) for k in range(count)]
    cell_w, cell_h, top = SCALE * width + EDGE, SCALE * height + EDGE, 36
    sheet = Image.new("RGB", (MARGIN * SCALE + cell_w * count, top + cell_h * len(clips)), style.PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=26)
    for x, frame in enumerate(shown):
        draw.text((MARGIN * SCALE + (x + 0.5) * cell_w, top / 2), str(frame + 1), fill=style.MUTED, font=font, anchor="mm")
    for y, (name, clip) in enumerate(clips.items()):
        draw.text((0, top + (y + 0.5) * cell_h), name.replace(" ", "\n"), fill=style.INK, font=font, anchor="lm")
        for x, frame in enumerate(shown):
            picture = Image.fromarray(clip[:, frame].permute(1, 2, 0).cpu().numpy()).resize(
                (SCALE * width, SCALE * height), Image.Resampling.NEAREST
            )
            sheet.paste(picture, (MARGIN * SCALE + x * cell_w, top + y * cell_h))
    return sheet


def frames_html(clips: Mapping[str, Tensor]) -> str:
    """Return :func:`film_strip` as a picture that is as wide as its card."""
    source = data_uri("image/png", png(film_strip(clips)))
    return f'<img src="{source}" alt="{html.escape(strip_words(clips))}" style="width:100%;display:block">'


def strip_words(clips: Iterable[str]) -> str:
    """Say what a film strip of these clips shows."""
    names = list(clips)
    return f"frames of {len(names)} clips, one row each: {', '.join(names)}"
