"""The player: several clips on one clock, because they are one film; and a frame to stop at, for eyes and for paper.

Pixels are uint8 RGB ``[3, T, H, W]``.
"""

from __future__ import annotations

import base64
import html
import io
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import panel as pn
import param

from vidistill.lab.apng import apng
from vidistill.widgets import style

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image
    from torch import Tensor

GAP = 8  # pixels of white between two clips of one film
SCALE = 2  # H.264 stores one colour for 2 x 2 pixels: at this scale each pixel of a clip keeps its own


def film(clips: Mapping[str, Tensor]) -> np.ndarray:
    """Return the clips side by side as one film, uint8 ``[T, H, W, 3]``, each pixel drawn as ``SCALE`` x ``SCALE``."""
    import numpy as np

    columns = [clip.permute(1, 2, 3, 0).cpu().numpy().repeat(SCALE, 1).repeat(SCALE, 2) for clip in clips.values()]
    white = np.full((*columns[0].shape[:2], GAP, 3), 255, np.uint8)
    return np.concatenate([part for column in columns for part in (white, column)][1:], axis=2)


def mp4(frames: np.ndarray, fps: int = 8) -> bytes:
    """Encode frames uint8 ``[T, H, W, 3]`` (even H, W) as an H.264 film; the same frames give the same bytes."""
    import torch

    from vidistill.data.world import write_clip

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        write_clip(path, torch.from_numpy(frames).permute(3, 0, 1, 2), fps=fps, crf=16)
        return path.read_bytes()


def labelled(frames: np.ndarray, names: Sequence[str]) -> list[Image]:
    """Return the frames as pictures with the clip names written under them, for places that show a picture and no caption."""
    from PIL import Image, ImageDraw, ImageFont

    height, width = frames.shape[1:3]
    font = ImageFont.load_default(size=14)
    step = (width + GAP) / len(names)
    pictures = []
    for frame in frames:
        picture = Image.new("RGB", (width, height + 22), style.PAPER)
        picture.paste(Image.fromarray(frame), (0, 0))
        draw = ImageDraw.Draw(picture)
        for k, name in enumerate(names):
            draw.text((k * step + (step - GAP) / 2, height + 11), name, fill=style.INK, font=font, anchor="mm")
        pictures.append(picture)
    return pictures


def png(picture: Image, compress_level: int = 6) -> bytes:
    """Encode one picture as PNG; a small one that has to be there at once with a lower level."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=compress_level)
    return buffer.getvalue()


def data_uri(kind: str, payload: bytes) -> str:
    """Return ``payload`` as a data URI."""
    return f"data:{kind};base64,{base64.b64encode(payload).decode()}"


class Player(pn.viewable.Viewer):
    """Shows clips side by side, playing in step; moving the frame slider stops the film at that frame.

    Args:
        fps: frames a second.
    """

    playing = param.Boolean(default=True, doc="the film runs; False shows one frame")
    frame = param.Integer(default=0, bounds=(0, None), doc="the frame shown when the film is stopped")

    def __init__(self, fps: int = 8, **params: Any) -> None:
        super().__init__(**params)
        self._fps = fps
        self._frames: np.ndarray | None = None
        self._stops: Sequence[np.ndarray] = ()
        self._names: list[str] = []
        self._alt = ""
        self._screen = pn.pane.HTML("", sizing_mode="stretch_width", margin=0, stylesheets=[style.TEXT])
        self._toggle = pn.widgets.Button(name="Pause", width=76, margin=(0, 10, 0, 0), stylesheets=[style.CONTROL])
        self._slider = pn.widgets.IntSlider(
            name="frame", start=0, end=1, value=0, sizing_mode="stretch_width", margin=0, stylesheets=[style.CONTROL]
        )
        self._toggle.on_click(lambda event: setattr(self, "playing", not self.playing))
        self._slider.param.watch(self._scrub, "value")
        self.param.watch(lambda *events: self._draw(), ["playing", "frame"])

    def load(self, clips: Mapping[str, Tensor], alt: str = "") -> None:
        """Show ``clips`` (name -> uint8 ``[3, T, H, W]``); ``alt`` says in words what is seen."""
        self.load_film(film(clips), list(clips), alt)

    def load_film(self, frames: np.ndarray, names: Sequence[str], alt: str = "", stops: Sequence[np.ndarray] | None = None) -> None:
        """Show a film of one's own.

        Args:
            frames: uint8 ``[T, H, W, 3]``, even H and W.
            names: what is written under it, from left to right.
            alt: what is seen, in words.
            stops: for each place of the frame slider the frames that take turns there, uint8 ``[K, H, W, 3]``; None stops at each frame.
        """
        self._frames, self._names, self._alt = frames, list(names), alt
        self._stops = list(frames[:, None]) if stops is None else stops
        self._slider.end = len(self._stops) - 1
        with param.parameterized.discard_events(self):  # else it would be drawn twice
            self.frame = min(self.frame, len(self._stops) - 1)
        self._draw()

    def still(self, frame: int | None = None) -> bytes:
        """Return one labelled frame as PNG."""
        k = self.frame if frame is None else frame
        return png(labelled(self._stops[k][:1], self._names)[0])

    def apng(self) -> bytes:
        """Return the film as an animated PNG with the names burnt in: the static twin of a headless run."""
        assert self._frames is not None
        return apng(labelled(self._frames, self._names), self._fps)

    def _scrub(self, event: Any) -> None:
        with param.parameterized.batch_call_watchers(self):
            self.frame, self.playing = event.new, False

    def _draw(self) -> None:
        self._toggle.name = "Pause" if self.playing else "Play"
        if self._frames is None:
            return
        alt = html.escape(self._alt, quote=True)
        shape = f"width:100%;aspect-ratio:{self._frames.shape[2]}/{self._frames.shape[1]};display:block;border-radius:6px"
        shown = self._frames if self.playing else self._stops[self.frame]
        if len(shown) > 1:
            source = data_uri("video/mp4", mp4(shown, self._fps))
            screen = f'<video src="{source}" aria-label="{alt}" autoplay loop muted playsinline style="{shape}"></video>'
        else:
            from PIL import Image

            source = data_uri("image/png", png(Image.fromarray(shown[0])))
            screen = f'<img src="{source}" alt="{alt}" style="{shape}">'
        captions = "".join(f'<span style="flex:1;text-align:center;font-weight:600">{html.escape(name)}</span>' for name in self._names)
        self._screen.object = (
            f'<figure style="margin:0">{screen}<figcaption style="display:flex;margin-top:4px">{captions}</figcaption></figure>'
        )

    def __panel__(self) -> pn.viewable.Viewable:
        return pn.Column(self._screen, pn.Row(self._toggle, self._slider, margin=(6, 0, 0, 0)), sizing_mode="stretch_width", margin=0)
