"""The pull of GVD (arXiv 2507.22360): towards a centre of the class, most in the first frames, spread over time by one of four weights.

x0' = x0 + lambda s_t w_f (m - x0)
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from vidistill.errors import InputError, choose
from vidistill.guide.operators import Moment
from vidistill.schedule import DECAYS, WEIGHTS, First, Interval, frame_weights, pull_weight


@dataclass(frozen=True)
class Pull:
    """A pull towards centres.

    Attributes:
        centres: m, latents ``[B, C, T, H, W]``, one a clip, in the scale the network sees.
        strength: lambda >= 0; 0 is no pull and costs nothing. What a lambda does depends on the weight.
        weight: s_t, one of ``vidistill.schedule.WEIGHTS``.
        decay: w_f, one of ``vidistill.schedule.DECAYS``.
        interval: the timesteps, or the first steps, at which it works.

    Raises:
        InputError: ``strength`` < 0, an unknown weight or decay, or centres that are no latents.
    """

    centres: Tensor
    strength: float
    weight: str = "score"
    decay: str = "linear"
    interval: Interval | First = field(default_factory=Interval)
    name: str = "pull"
    evaluations = 0
    keeps_noise = False

    def __post_init__(self) -> None:
        choose("time weight", self.weight, WEIGHTS)
        choose("decay", self.decay, DECAYS)
        if self.strength < 0:
            raise InputError(f"a pull needs lambda >= 0, got {self.strength:g}; less than 0 would push away from the centre")
        if self.centres.ndim != 5:
            raise InputError(f"a pull needs one centre a clip, [B, C, T, H, W], got {tuple(self.centres.shape)}")

    def on_x0(self, x0: Tensor, at: Moment) -> Tensor | None:
        if self.strength == 0 or not at.within(self.interval):
            return None
        if self.centres.shape != x0.shape:
            raise InputError(
                f"the centres are {tuple(self.centres.shape)}, the clips {tuple(x0.shape)}: one centre a clip, of the same shape"
            )
        s = self.strength * pull_weight(self.weight, at.now, at.after, at.eta)
        w = frame_weights(self.decay, x0.shape[2]).to(x0).view(1, 1, -1, 1, 1)
        return s * w * (self.centres.to(x0) - x0)

    def on_next(self, x: Tensor, at: Moment) -> Tensor | None:
        return None
