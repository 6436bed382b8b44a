"""VideoGuide's teacher (arXiv 2410.04364): on the first steps the predicted clean video is mixed with what another model makes of it.

    z = a_t k x0 + s_t n,  n ~ N(0, 1)                       the teacher's own noise levels a, s; n fresh at every guided step
    j = 1 .. tau:  u, c = teacher(z, t_j);  out, back = guidance(u, c);  x0_G = clean(z, out) / k;  z <- advance(z, k x0_G, back, t_{j+1})
    x0' = beta x0 + (1 - beta) x0_G                          beta is the base model's weight; its noise is put back as it was

The inner times t_1 = t > t_2 > ... are evenly spaced in the teacher's own time, ``points`` of them with the clean video's, and the first
tau are visited. t is the base's timestep (``same_index``, VideoGuide), or the one at which the teacher knows the base's ratio of signal to
noise (``snr_matched``), which is also defined between a model of noise and a flow. The official code instead gives the teacher latents of
the base's noise levels under the base's timestep, which it was never trained on.

Shapes: B clips, C channels, T frames, H, W latent cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from vidistill.codec import Codec
from vidistill.codec.autoencoder import normalisation
from vidistill.errors import InputError, choose
from vidistill.guide import CfgPlus, Moment, Way
from vidistill.rng import normal
from vidistill.sample.denoiser import Denoiser
from vidistill.sample.sampler import combined
from vidistill.schedule import First, Interval, Time

T_MAPS = ("same_index", "snr_matched")

HALF = 1e-2
"""Relative difference of weights up to which two encoders are one: rounding to half precision makes 2e-3."""


@dataclass(frozen=True)
class Teacher:
    """A teacher as an operator of the sampler; noise is the stream ``"teacher/<step>"`` of a clip's seed.

    Attributes:
        model: the teacher; the base model itself is self-guidance.
        base: the model that is sampled from.
        prompts: one a clip, those of the sampler; the teacher encodes them itself.
        beta: weight kept from the base, [0, 1]; 1 is no teacher and costs nothing. Paper 0.5, official code 0.8.
        tau: evaluations of the teacher at each guided step, >= 1 and < ``points``; 1 is a one-shot estimate. Both have 10, a few-step
            teacher needs 1 or 2.
        points: of the inner grid, >= 2; a few-step teacher's is its number of steps + 1, and its times are the grid.
        guidance: the teacher's; CFG++ 0.8 in both. The teacher never begins from noise, so that CFG-Zero*'s has no step at rest.
        t_map: one of ``T_MAPS``; VideoGuide's is ``same_index``.
        scale: k > 0, what the teacher was trained to see the clean latents multiplied by; VideoCrafter2 0.7 from t = 400 on.
        negative: what the teacher steers away from.
        interval: the first steps, or the timesteps, at which it works; ``First(I)`` in VideoGuide, 5 for AnimateDiff and 3 for LaVie.

    Raises:
        InputError: a number is out of range, or not a few-step teacher's; ``same_index`` between a flow and a model of noise; or the
            teacher's latents are in another space or of another shape than the base's.
    """

    model: Denoiser
    base: Denoiser
    prompts: Sequence[str]
    beta: float = 0.5
    tau: int = 10
    points: int = 25
    guidance: Way = field(default_factory=lambda: CfgPlus(0.8))
    t_map: str = "snr_matched"
    scale: float = 1.0
    negative: str = ""
    interval: Interval | First = field(default_factory=lambda: First(5))
    name: str = "teacher"
    keeps_noise = True

    def __post_init__(self) -> None:
        choose("t_map", self.t_map, T_MAPS)
        if not 0 <= self.beta <= 1:
            raise InputError(f"a teacher needs beta in [0, 1], the weight kept from the base model, got {self.beta:g}")
        if not 1 <= self.tau < self.points:
            raise InputError(
                f"a teacher needs 1 <= tau < points, got tau={self.tau} points={self.points}: {self.points} points are "
                f"{max(0, self.points - 1)} steps, of which tau are made"
            )
        if self.scale <= 0:
            raise InputError(f"a teacher's scale of the clean latents must be above 0, got {self.scale:g}; 1 leaves them")
        teacher, base = self.model, self.base
        if teacher.times and self.points != len(teacher.times) + 1:
            raise InputError(
                f"{teacher.id} was trained for {len(teacher.times)} steps: as a teacher it needs points={len(teacher.times) + 1} and tau "
                f"of 1 to {len(teacher.times)}, got tau={self.tau} points={self.points}"
            )
        if self.t_map == "same_index" and (teacher.family == "flow") != (base.family == "flow"):
            raise InputError(
                f"t_map=same_index means nothing between {teacher.id} ({teacher.family}) and {base.id} ({base.family}): a flow's timesteps "
                "count other noise; use snr_matched"
            )
        if teacher is base:
            return
        if not same_latents(teacher.codec, base.codec):
            raise InputError(
                f"{teacher.id} cannot guide {base.id}: its latents are those of {teacher.codec!r}, the base's those of {base.codec!r}; "
                "a teacher needs the base's autoencoder"
            )
        if teacher.shape != base.shape:
            raise InputError(
                f"{teacher.id} cannot guide {base.id}: it makes latents {teacher.shape} with {teacher.codec!r}, the base {base.shape} with "
                f"{base.codec!r}; load it with frames={base.frames} size={base.size}"
            )

    @property
    def evaluations(self) -> int:
        """Of the teacher, per clip, at each guided step: tau, twice that where the output for no prompt is needed too."""
        return self.tau * (2 if self.guidance.needs_both else 1)

    def on_x0(self, x0: Tensor, at: Moment) -> Tensor | None:
        if self.beta == 1 or not at.within(self.interval):
            return None
        return (1 - self.beta) * (self.estimate(x0, at) - x0)

    def on_next(self, x: Tensor, at: Moment) -> Tensor | None:
        return None

    def estimate(self, x0: Tensor, at: Moment) -> Tensor:
        """Return x0_G, what the teacher makes of a clean video, ``[B, C, T, H, W]`` as ``x0``."""
        if len(self.prompts) != len(x0):
            raise InputError(f"the teacher has {len(self.prompts)} prompts, the sampler {len(x0)} clips: give it the sampler's prompts")
        teacher = self.model
        now, *later = self.times(at)
        n = normal(at.seeds, f"teacher/{at.index}", tuple(x0.shape[1:])).to(x0)
        z = (now.alpha * self.scale * x0 + now.sigma * n).to(teacher.device)
        out, back = self._outputs(z, now)
        for after in later:
            z = teacher.advance(z, teacher.clean(z, out, now), (out, back), now, after, 0.0, None)
            out, back = self._outputs(z, after)
            now = after
        return (teacher.clean(z, out, now) / self.scale).to(x0)

    def times(self, at: Moment) -> list[Time]:
        """Return t_1 .. t_tau of a step."""
        time = self.model.at(at.now.t) if self.t_map == "same_index" else self.model.like(at.now)
        times = self.model.below(time, self.points)[: self.tau]
        if len(times) < self.tau:
            raise InputError(
                f"{self.model.id} has {len(times)} of its times left at step {at.index + 1} of {at.steps}, fewer than tau={self.tau}: "
                "guide fewer first steps, or use a smaller tau"
            )
        return times

    def _outputs(self, z: Tensor, now: Time) -> tuple[Tensor, Tensor]:
        """Return the output that is believed and the one that is renoised with; both prompts go through the network in one call."""
        text, against = self._texts
        if against is None:
            _, c = self.model.predict(z, now, text, None)
            return c, c
        _, both = self.model.predict(torch.cat([z, z]), now, torch.cat([against, text]), None)
        u, c = both.chunk(2)
        return combined(self.model, self.guidance, z, u, c, now)

    @cached_property
    def _texts(self) -> tuple[Tensor, Tensor | None]:
        text = self.model.encode(self.prompts)
        return text, self.model.encode([self.negative] * len(self.prompts)) if self.guidance.needs_both else None


def same_latents(one: Codec, other: Codec) -> bool:
    """Return whether two autoencoders have one latent space: kind, sizes, normalisation and encoder agree; decoders may be tuned apart."""
    if one.fingerprint == other.fingerprint:
        return True
    if any(getattr(one, name) != getattr(other, name) for name in ("kind", "channels", "f_space", "f_time")):
        return False
    normal_one, normal_other = (torch.stack(normalisation(codec.id, codec.config, codec.module, codec.channels)) for codec in (one, other))
    if not torch.allclose(normal_one, normal_other):
        return False
    a, b = (
        {name: p.float().cpu() for name, p in codec.module.named_parameters() if name.startswith(("encoder.", "quant_conv."))}
        for codec in (one, other)
    )
    return a.keys() == b.keys() and all(a[k].shape == b[k].shape and (a[k] - b[k]).norm() <= HALF * a[k].norm() for k in a)
