"""How strongly each frame of a clip is guided.

F frames, f = 0 .. F - 1. GVD (arXiv 2507.22360) lets guidance fall along the clip, so that the first frame is pulled most and the
motion after it is left to the model; its indexing is not public, here f counts from 0 and no frame of ``linear`` is left out.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vidistill.errors import InputError, choose

DECAYS = ("none", "linear", "cosine", "exp", "first-frame")
"""``none`` 1; ``linear`` 1 - f/F (GVD); ``cosine`` (1 + cos(pi f/F)) / 2; ``exp`` e^(-RATE f/F); ``first-frame`` 1 at f = 0, else 0."""

RATE = 4.0


def frame_weights(kind: str, frames: int) -> Tensor:
    """Return ``w_f``, float32 ``[F]`` in [0, 1], falling from 1.

    Args:
        kind: one of ``DECAYS``.
        frames: F, on the axis that is guided (latent frames where a codec compresses time).

    Raises:
        InputError: no such decay, or ``frames`` < 1.
    """
    choose("decay", kind, DECAYS)
    if frames < 1:
        raise InputError(f"frame weights need at least one frame, got {frames}")
    u = torch.arange(frames, dtype=torch.float64) / frames
    w = {
        "none": torch.ones_like(u),
        "linear": 1 - u,
        "cosine": (1 + (math.pi * u).cos()) / 2,
        "exp": (-RATE * u).exp(),
        "first-frame": (u == 0).double(),
    }[kind]
    return w.float()
