"""Moving pictures that play where no video does: animated PNG with one palette, the one film that every notebook viewer shows.

A palette of their own for each frame would flicker and take four times the bytes.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

HEIGHT = 128
"""Pixels of a film at most, from top to bottom."""


def apng(pictures: list[Image], fps: float = 8) -> bytes:
    """Encode pictures of one size as an animated PNG with one shared palette of 255 colours."""
    from PIL import Image

    width, height = pictures[0].size
    sheet = Image.new("RGB", (width, height * len(pictures)))
    for k, picture in enumerate(pictures):
        sheet.paste(picture, (0, k * height))
    palette = sheet.quantize(255, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    frames = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    buffer = io.BytesIO()
    frames[0].save(buffer, "PNG", save_all=True, append_images=frames[1:], duration=round(1000 / fps), loop=0)
    return buffer.getvalue()


def film_as_apng(film: bytes) -> bytes:
    """Return a film (mp4, webm: what PyAV reads) as an animated PNG of the same pace, at most ``HEIGHT`` pixels high."""
    import av
    from PIL import Image

    with av.open(io.BytesIO(film), "r") as file:
        fps = float(file.streams.video[0].average_rate or 8)
        pictures = [frame.to_image() for frame in file.decode(video=0)]
    width, height = pictures[0].size
    if height > HEIGHT:
        pictures = [picture.resize((round(width * HEIGHT / height), HEIGHT), Image.Resampling.BOX) for picture in pictures]
    return apng(pictures, fps)
