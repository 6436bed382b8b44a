"""Classifier-free guidance: from the outputs for no prompt and for the prompt to one that is believed, and one that is renoised with.

    CFG     out = u + g (c - u)               renoised with out      (Ho and Salimans 2022; g = 1 is no guidance)
    CFG++   out = u + lam (c - u)             renoised with u        (Chung et al. 2024, arXiv 2406.08070; lam in [0, 1])

g is the standard scale, the one of diffusers' pipelines. ``vidistill.schedule.guidance_scale`` reads a lam as a g, step by step. Their
peers are in :mod:`vidistill.guide.peers`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

from vidistill.errors import InputError, choose
from vidistill.guide.operators import Moment
from vidistill.guide.peers import PEERS, Guider
from vidistill.schedule import First, Interval


@dataclass(frozen=True)
class Cfg:
    """Ordinary guidance.

    Attributes:
        scale: g >= 1.

    Raises:
        InputError: g < 1.
    """

    scale: float
    of_clean = False

    def __post_init__(self) -> None:
        if self.scale < 1:
            raise InputError(f"cannot sample with guidance={self.scale:g}: it must be 1 (off) or more; a scale below 1 is CFG++'s")

    @property
    def needs_both(self) -> bool:
        """Whether the output without a prompt is needed."""
        return self.scale > 1

    def at(self, moment: Moment) -> Cfg:
        """Return the way of a step."""
        return self

    def combine(self, u: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output that is believed and the one that is renoised with."""
        out = u + self.scale * (c - u)
        return out, out


@dataclass(frozen=True)
class CfgPlus:
    """CFG++: a small step towards the prompt, noise put back without it.

    Attributes:
        scale: lam in (0, 2]; above 1 it is an extrapolation that a straight path's early steps may need.

    Raises:
        InputError: lam out of range.
    """

    scale: float

    def __post_init__(self) -> None:
        if not 0 < self.scale <= 2:
            raise InputError(f"cannot sample with CFG++ scale={self.scale:g}: it must be above 0 and at most 2; the papers use 0.8")

    needs_both = True
    of_clean = False

    def at(self, moment: Moment) -> CfgPlus:
        """Return the way of a step."""
        return self

    def combine(self, u: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output that is believed and the one that is renoised with."""
        return u + self.scale * (c - u), u


Way: TypeAlias = Cfg | CfgPlus | Guider
KINDS: dict[str, type[Cfg] | type[CfgPlus] | type[Guider]] = {"cfg": Cfg, "cfg++": CfgPlus, **PEERS}
"""Ways to combine the output for no prompt and for the prompt, by name."""


def way(kind: str, g: float, lam: float) -> Way:
    """Return a way to combine outputs.

    Args:
        kind: one of ``WAYS``.
        g: >= 1, the standard scale of all but CFG++; 1 is off.
        lam: (0, 2], the scale of CFG++.

    Raises:
        InputError: another kind, or the scale it takes is out of range.
    """
    return KINDS[choose("way to combine outputs", kind, KINDS)](lam if kind == "cfg++" else g)


@dataclass(frozen=True)
class Switch:
    """One way of combining on some steps, another one on the rest: VideoGuide's paper has CFG++ 0.8 on the first I steps, then CFG 7.5.

    Attributes:
        inside, outside: on the steps of ``interval``, and on the rest.
        interval: timesteps, or the first steps.
    """

    inside: Way
    outside: Way
    interval: Interval | First

    @property
    def needs_both(self) -> bool:
        """Whether the output without a prompt is needed at any step."""
        return self.inside.needs_both or self.outside.needs_both

    def at(self, moment: Moment) -> Way:
        """Return the way of a step."""
        return (self.inside if moment.within(self.interval) else self.outside).at(moment)
