"""Noise levels along a sampler's path, ``x_t = alpha x_0 + sigma eps``, and what follows from two of them.

Variance preserving schedules have alpha^2 + sigma^2 = 1 (alpha^2 is written abar), straight paths alpha + sigma = 1. Every formula here
holds for both.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Time:
    """One point of a time grid.

    Attributes:
        t: what the network is told, a 0-d tensor: training timestep (int64), or 1000 sigma (float32).
        alpha, sigma: 0-d float32 tensors, ``x_t = alpha x_0 + sigma eps``.
    """

    t: Tensor
    alpha: Tensor
    sigma: Tensor


def snr(at: Time) -> float:
    """Return ``(alpha / sigma)^2``."""
    return float(at.alpha.double() / at.sigma.double()) ** 2


def alpha_of(at: Time) -> float:
    """Return the alpha of the variance preserving level with the same signal-to-noise ratio, ``alpha / sqrt(alpha^2 + sigma^2)``."""
    alpha, sigma = float(at.alpha), float(at.sigma)
    return alpha / (alpha**2 + sigma**2) ** 0.5


def ddim_sigma(now: Time, after: Time, eta: float = 1.0) -> float:
    """Return the deviation of the noise that a step adds, DDIM's ``eta`` times DDPM's (Song et al. 2021, Eq. 16).

    eta sigma' / sigma sqrt(sigma^2 - (alpha / alpha')^2 sigma'^2), which on a variance preserving schedule is
    eta sqrt((1 - abar') / (1 - abar) (1 - abar / abar')).
    """
    a, s, a_next, s_next = (float(v.double()) for v in (now.alpha, now.sigma, after.alpha, after.sigma))
    return eta * s_next / s * max(0.0, s**2 - (a / a_next * s_next) ** 2) ** 0.5


def guidance_scale(lam: float, now: Time, after: Time) -> float:
    """Return the scale of ordinary guidance that makes the same step as CFG++ with ``lam``: ``w = lam / (1 - sqrt(SNR_t / SNR_s))``.

    VideoGuide (arXiv 2410.04364) uses CFG++ (arXiv 2406.08070); t is where the step begins and s where it ends.
    """
    if float(after.sigma) == 0:
        return lam
    return lam / (1 - (snr(now) / snr(after)) ** 0.5)
