"""A world of points in the plane whose denoiser is known in closed form, behind a real DDIM schedule.

    x_0 ~ sum_k w_k N(mu_k, d^2),   x_t = alpha x_0 + sigma eps,   v = alpha^2 d^2 + sigma^2
    r_k = softmax_k(ln w_k - |x_t - alpha mu_k|^2 / 2 v)                    how likely x_t comes from Gaussian k
    x0_hat = E[x_0 | x_t] = sum_k r_k (mu_k + alpha d^2 / v (x_t - alpha mu_k))
    score = grad ln p(x_t) = (alpha x0_hat - x_t) / sigma^2                 Tweedie

A point is a clip of one frame and one cell, so that the sampler and its operators run on it as they are.

Shapes: K Gaussians, D numbers a point; latents ``[B, D, 1, 1, 1]``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from vidistill.errors import choose
from vidistill.guide import Pull
from vidistill.rng import normal, stream
from vidistill.sample import Epsilon, sample
from vidistill.schedule import Interval, Time

MODELSCOPE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False, "set_alpha_to_one": False}
"""ModelScope's noise levels; its timesteps are 1 + 20 n at 50 steps."""

RING, HOLE, THICK = 1.3, 0.25, 0.05
"""Of :func:`rings`: radius of the circle that the modes lie on, of each mode itself, and the deviation of its Gaussians."""

WIDE = 0.8
"""Deviation of the data of :func:`gain`."""


PLANE: Any = SimpleNamespace(fingerprint="the plane")
"""What stands for an autoencoder: all mixtures share it, so that one of the same dimension can teach another."""


class Mixture(Epsilon):
    """The exact denoiser of a mixture of Gaussians; a prompt is the name of a class, the empty one means all.

    Args:
        means: mu, ``[K, D]``.
        deviation: d > 0, of every Gaussian.
        labels: class of each Gaussian, int64 ``[K]``; default one class.
        classes: names.
        weights: w >= 0, ``[K]``, up to a constant; default equally likely.
    """

    def __init__(
        self,
        means: Tensor,
        deviation: float,
        labels: Tensor | None = None,
        classes: Sequence[str] = ("all",),
        weights: Tensor | None = None,
    ) -> None:
        from diffusers import DDIMScheduler

        self.means, self.deviation, self.classes = means.double(), deviation, tuple(classes)
        self.labels = torch.zeros(len(means), dtype=torch.int64) if labels is None else labels
        self.weights = torch.ones(len(means), dtype=torch.float64) if weights is None else weights.double()
        self.id, self.steps, self.guidance, self.frames = "mixture", 50, 1.0, 1
        self.device, self.dtype, self.codec = torch.device("cpu"), torch.float64, PLANE
        self.scheduler = DDIMScheduler(**MODELSCOPE, steps_offset=1, timestep_spacing="leading")

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.means.shape[1], 1, 1, 1

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Return ln w, float64 ``[B, K]``, up to a constant; minus infinity for the Gaussians of other classes."""
        own = [self.labels >= 0 if not name else self.labels == self.classes.index(choose("class", name, self.classes)) for name in prompts]
        return (torch.stack(own) * self.weights).log()

    def predict(self, x: Tensor, time: Time, text: Tensor, negative: Tensor | None) -> tuple[Tensor | None, Tensor]:
        def noise(weights: Tensor) -> Tensor:
            return (x - time.alpha * self.x0_hat(x, time, weights)) / time.sigma

        return None if negative is None else noise(negative), noise(text)

    def x0_hat(self, x: Tensor, time: Time, weights: Tensor) -> Tensor:
        """Return ``E[x_0 | x_t]``, float64 ``[B, D, 1, 1, 1]``, under weights of :meth:`encode`."""
        alpha, v = float(time.alpha), float(time.alpha) ** 2 * self.deviation**2 + float(time.sigma) ** 2
        gap = x.double().flatten(1)[:, None] - alpha * self.means  # [B, K, D]
        r = (weights - gap.square().sum(2) / (2 * v)).softmax(1)
        return (r[..., None] * (self.means + alpha * self.deviation**2 / v * gap)).sum(1).view(x.shape)

    def draw(self, count: int, name: str = "", seed: int = 0) -> Tensor:
        """Return points of a class, float64 ``[count, D, 1, 1, 1]``."""
        draws = stream(seed, "mixture", name)
        which = torch.multinomial(self.encode([name])[0].exp(), count, replacement=True, generator=draws)
        spread = self.deviation * torch.randn(count, self.means.shape[1], generator=draws, dtype=torch.float64)
        return (self.means[which] + spread).view(count, *self.shape)


def rings(modes: int = 8, points: int = 6, hole: float = HOLE, classes: Sequence[str] = ("up", "down")) -> tuple[Mixture, Tensor]:
    """Return a world of modes on a circle, the first half of one class, and their centres, ``[modes, 2, 1, 1, 1]``.

    A mode is itself a small ring of Gaussians: its centre lies in the hole, where no point is, as the mean of many clips is no clip.
    """

    def circle(count: int) -> Tensor:
        angle = (torch.arange(count, dtype=torch.float64) + 0.5) * (2 * math.pi / count)
        return torch.stack([angle.cos(), angle.sin()], 1)

    centres = RING * circle(modes)
    labels = (torch.arange(modes) * len(classes) // modes).repeat_interleave(points)
    means = (centres[:, None] + hole * circle(points)).flatten(0, 1)
    return Mixture(means, THICK, labels, classes), centres.view(modes, 2, 1, 1, 1)


def gain(strength: float, weight: str, *, steps: int = 50, eta: float = 0.0, interval: Interval | None = None) -> tuple[float, float]:
    """Return what a pull does to data of a single Gaussian N(0, ``WIDE``^2), where everything is linear: exact at eta = 0.

    Args:
        strength, weight, interval: of the pull; there is no decay.
        steps, eta: of the sampler.

    Returns:
        the centre's weight in the final sample: 1 is arrival, more is overshoot; and the deviation that is left, as a share of the unguided
        samples'.
    """
    model, seeds = Mixture(torch.zeros(1, 1), WIDE), range(64)
    noise = normal(seeds, "init", model.shape).double()

    def end(strength: float, centre: float) -> Tensor:
        pull = Pull(torch.full_like(noise, centre), strength, weight, "none", interval or Interval())
        *_, step = sample(model, [""] * len(noise), seeds=seeds, steps=steps, eta=eta, operators=[pull], latents=noise)
        return step.latents

    pulled = end(strength, 0.0)
    return float((end(strength, 1.0) - pulled).mean()), float(pulled.std() / end(0.0, 0.0).std())
