"""Peers of CFG and CFG++: guiders of diffusers that need nothing but the outputs u for no prompt and c for the prompt.

    CFG-Zero*   out = s u + g (c - s u),  s = <c, u> / |u|^2;  on the first steps of a flow out = 0     (arXiv 2503.18886)
    APG         out = c + (g - 1) (d - (1 - eta) d_c),  d = min(1, r / |c - u|) (c - u),  d_c = d's part along c     (arXiv 2410.02416)
    TCFG        out = u' + g (c - u'),  u' = <u, v> v,  v the first right singular vector of the rows c, u     (arXiv 2503.18137)

All are renoised with ``out``; g is the standard scale, 1 is off. Products and norms run over a whole clip and over no other. APG is about
clean videos, where diffusers' pipelines give its guider whatever the network predicts: the sampler gives it clean ones
(``of_clean``). Its momentum is left out: it needs the steps before, and a fork begins anywhere.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from vidistill.errors import InputError
from vidistill.guide.operators import Moment


@dataclass(frozen=True)
class Guider(ABC):
    """A way to combine two outputs that diffusers computes.

    Attributes:
        scale: g >= 1.

    Raises:
        InputError: g < 1.
    """

    scale: float
    of_clean = False
    """Whether it combines the clean videos that the outputs mean, rather than the outputs."""

    def __post_init__(self) -> None:
        if self.scale < 1:
            raise InputError(f"cannot sample with {type(self).__name__} scale={self.scale:g}: it must be 1 (off) or more")

    @property
    def needs_both(self) -> bool:
        """Whether the output without a prompt is needed."""
        return self.scale > 1

    def at(self, moment: Moment) -> Guider:
        """Return the way of a step."""
        return self

    def combine(self, u: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output that is believed and the one that is renoised with, the same; computed in float32."""
        out = self.guided(u.float(), c.float()).to(c.dtype)
        return out, out

    @abstractmethod
    def guided(self, u: Tensor, c: Tensor) -> Tensor:
        """Return the output that is believed."""


@dataclass(frozen=True)
class CfgZero(Guider):
    """CFG-Zero*: the output for no prompt scaled to be nearest to the other one, and a flow that rests on its first steps.

    Attributes:
        zero: steps on which a flow's velocity is 0, >= 0; 1 in the paper's code and in diffusers, 4 % of them in the paper. What those
            steps evaluate is not used, and operators see the latents themselves as the clean video. Models of noise have no such step:
            noise of 0 would scale the latents by alpha' / alpha, where a velocity of 0 leaves them.

    Raises:
        InputError: g < 1, zero < 0, or no step of the run is left to move.
    """

    zero: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.zero < 0:
            raise InputError(f"cannot rest on the first zero={self.zero} steps: it must be 0 (none) or more")

    def at(self, moment: Moment) -> Guider:
        flow = float(moment.now.alpha + moment.now.sigma) < 1 + 1e-3  # a straight path; a model of noise has alpha^2 + sigma^2 = 1
        if not flow or moment.index >= self.zero or not self.needs_both:
            return self
        if self.zero >= moment.steps:
            raise InputError(
                f"CFG-Zero* rests on the first zero={self.zero} steps of {moment.steps}, and none is left: use more, or zero=0"
            )
        return Rest(self.scale)

    def guided(self, u: Tensor, c: Tensor) -> Tensor:
        return _asked("ClassifierFreeZeroStarGuidance", u, c, guidance_scale=self.scale, zero_init_steps=0)


@dataclass(frozen=True)
class Rest(Guider):
    """The step on which nothing moves, :class:`CfgZero`'s."""

    def guided(self, u: Tensor, c: Tensor) -> Tensor:
        return torch.zeros_like(c)


@dataclass(frozen=True)
class Apg(Guider):
    """Adaptive projected guidance: what of the guidance points along the clean video itself, and oversaturates it, is left out.

    diffusers by default adds g of the update to u, with which even g = 1 would not be c; here it is asked for the paper's form.

    Attributes:
        eta: weight kept of that part; 0 in the paper, 1 is CFG.
        radius: r, the largest norm of the guidance over a clip, 0 is no limit; it grows with the square root of a latent's size, so that
            the paper's 15 for an image of 4 x 64 x 64 means little for a video.
    """

    eta: float = 0.0
    radius: float = 0.0
    of_clean = True

    def guided(self, u: Tensor, c: Tensor) -> Tensor:
        options = {"guidance_scale": self.scale - 1, "use_original_formulation": True, "eta": self.eta}
        return _asked("AdaptiveProjectedGuidance", u, c, adaptive_projected_guidance_rescale=self.radius, **options)


@dataclass(frozen=True)
class Tcfg(Guider):
    """Tangential damping: of the output for no prompt only the part along what both outputs share is kept."""

    def guided(self, u: Tensor, c: Tensor) -> Tensor:
        return _asked("TangentialClassifierFreeGuidance", u, c, guidance_scale=self.scale)


PEERS: dict[str, type[Guider]] = {"cfg-zero": CfgZero, "apg": Apg, "tcfg": Tcfg}
"""Guiders by name."""


def _asked(name: str, u: Tensor, c: Tensor, **options: Any) -> Tensor:
    return _guider(name, **options).forward(pred_cond=c, pred_uncond=u).pred


@lru_cache(maxsize=16)
def _guider(name: str, **options: Any) -> Any:
    """Return a guider of diffusers, on for every step; it keeps no state. That guiders are experimental is known, and not said again."""
    from diffusers import guiders

    log = logging.getLogger("diffusers.guiders.guider_utils")
    log.addFilter(_is_news)
    try:
        guider = getattr(guiders, name)(**options)
    finally:
        log.removeFilter(_is_news)
    guider.set_state(step=0, num_inference_steps=1, timestep=torch.tensor(0))
    return guider


def _is_news(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("Guiders are currently an experimental feature")
