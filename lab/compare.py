"""Two clips against each other, frame by frame: swiped, blinked, subtracted; and two settings against each other, in words.

Pixels are uint8 RGB ``[3, T, H, W]``; a level is one of their 256 values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from vidistill.errors import InputError

SIDES, SWIPE, BLINK, DIFFERENCE = "side by side", "swipe", "blink", "difference"
MODES = (DIFFERENCE, SIDES, SWIPE, BLINK)
"""The ways to compare."""

SCALES = (1, 2, 4, 8, 16)
"""What a difference may be multiplied by, so that a slight one is seen."""

LONG = 40
"""Letters of two values from which on only the new one is written."""

CIVIDIS = ((0, 34, 78), (67, 78, 108), (125, 124, 120), (188, 174, 108), (254, 232, 56))
"""From no difference to the most: the same order of lightness for every eye (Nunez, Anderton, Renslow, PLOS ONE 2018), at five places."""


@dataclass(frozen=True)
class Difference:
    """``|A - B|`` of two clips.

    Attributes:
        mean: over all pixels and colours, levels. most: the largest, levels.
        frames: the mean of each frame, levels.
        scale: what the picture was multiplied by.
        picture: the largest of the three colours' differences times ``scale``, in ``CIVIDIS``; uint8 ``[3, T, H, W]``.
    """

    mean: float
    most: int
    frames: list[float]
    scale: int
    picture: Tensor

    def told(self) -> str:
        """Say how large it is, and where in time."""
        if not self.most:
            return "No difference: the two clips are the same, pixel by pixel."
        worst = max(range(len(self.frames)), key=self.frames.__getitem__)
        full = f"yellow is {255 / self.scale:.0f} levels{' and more' if self.most * self.scale > 255 else ''}"
        return (
            f"They differ by {self.mean:.1f} levels of 255 on average and by {self.most} at most; most of all in frame {worst + 1} "
            f"({self.frames[worst]:.1f}). Shown times {self.scale}: dark blue is none, {full}."
        )


def check(a: Tensor, b: Tensor) -> None:
    """Refuse two clips that are not of one size.

    Raises:
        InputError: they differ in frames, height or width.
    """
    if a.shape != b.shape:
        one, two = (f"{clip.shape[1]} frames of {clip.shape[2]} x {clip.shape[3]}" for clip in (a, b))
        raise InputError(f"A has {one}, B has {two}: only clips of one size can be compared; choose two of the same model")


def swiped(a: Tensor, b: Tensor, split: float) -> Tensor:
    """Return a clip that is ``a`` left of a border and ``b`` right of it.

    Args:
        a, b: uint8 ``[3, T, H, W]``.
        split: where the border is, 0 to 1 of the width: 0 shows ``b`` alone, 1 ``a``.
    """
    check(a, b)
    column = border(a, split)
    return torch.cat([a[..., :column], b[..., column:]], dim=3)


def border(clip: Tensor, split: float) -> int:
    """Return the first column right of the border of :func:`swiped`."""
    return round(min(max(split, 0.0), 1.0) * clip.shape[3])


def blinked(a: Tensor, b: Tensor, hold: int) -> tuple[Tensor, list[str]]:
    """Return both clips in turn, every frame of each, and which of the two each frame is.

    The clock goes round twice; the second round shows what the first has left out.

    Args:
        a, b: uint8 ``[3, T, H, W]``.
        hold: frames before the other's turn, at least 1.

    Returns:
        A clip, uint8 ``[3, 2 T, H, W]``, and ``"A"`` or ``"B"`` for each of its frames.
    """
    check(a, b)
    count = a.shape[1]
    second = torch.tensor([(t // hold + turn) % 2 == 1 for turn in (0, 1) for t in range(count)])
    clip = torch.where(second[:, None, None], b.repeat(1, 2, 1, 1), a.repeat(1, 2, 1, 1))
    return clip, ["B" if one else "A" for one in second.tolist()]


def difference(a: Tensor, b: Tensor, scale: int = 0) -> Difference:
    """Return ``|A - B|`` of two clips, uint8 ``[3, T, H, W]``, in numbers and as a map.

    Args:
        a, b: the clips.
        scale: what to multiply the map by; 0 takes the largest of ``SCALES`` that hides nothing.
    """
    check(a, b)
    apart = (a.short() - b.short()).abs()
    most = int(apart.max())
    scale = scale or next((one for one in reversed(SCALES) if 0 < most * one <= 255), 1)
    levels = (apart.amax(0) * scale).clamp(max=255).long()
    frames = apart.float().mean((0, 2, 3)).tolist()
    return Difference(float(apart.float().mean()), most, frames, scale, _map()[levels].permute(3, 0, 1, 2))


def changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return in words each setting that is not the same, as ``"beta 0.2 → 0.4"``; of a long text only what it is now."""

    def told(value: Any) -> str:
        return f"{value:g}" if isinstance(value, float) else "none" if value is None else str(value)

    names = [*now, *(name for name in before if name not in now)]
    pairs = [(name.replace("_", " "), told(before.get(name)), told(now.get(name))) for name in names if before.get(name) != now.get(name)]
    return [f"{name} {old} → {new}" if len(old + new) < LONG else f"{name} now: {new}" for name, old, new in pairs]


@cache
def _map() -> Tensor:
    """``CIVIDIS`` for each level, uint8 ``[256, 3]``."""
    places = torch.tensor(CIVIDIS, dtype=torch.float32)
    at = torch.linspace(0, len(places) - 1, 256)
    low = at.long().clamp(max=len(places) - 2)
    return torch.lerp(places[low], places[low + 1], (at - low)[:, None]).round().byte()
