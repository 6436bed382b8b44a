"""The losses of few-step distillation: free functions of tensors that know no network, no optimiser and no schedule but the time t.

    x_t = (1 - t) x_0 + t eps,   t in [0, 1], t = 1 is noise          rectified flow
    v = eps - x_0                                                      what a network predicts
    x0_hat = x_t - t v,   eps_hat = x_t + (1 - t) v                    what a velocity means
    s = ((1 - t) x0_hat - x_t) / t^2                                   score, grad log p_t(x_t)

| symbol | name | meaning |
| --- | --- | --- |
| g | ``gen`` | the student's clean sample, the only argument that carries a gradient |
| x | ``source`` | what the teacher's input is made from: ``gen`` (DMD) or a real sample (DFD) |
| f, r | ``fake``, ``real`` | clean predictions of the critic (fake score) and of the teacher (real score) |
| c | | condition, the networks' own affair |

Shapes: clean samples, noise and states ``[B, ...]`` with any trailing shape, floating point; times float32 ``[B]`` or a Python float.
Losses are means over all values, scalars of float32 (float64 where the input is). Papers: AccVideo 2503.19462, DMD2 2405.14867, DFD
2606.18478, DP-DMD 2602.03139.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from vidistill.errors import InputError, choose

Number = TypeVar("Number", float, Tensor)
Denoise = Callable[[Tensor, Any], Tensor]
"""``(x_t, t) -> x0_hat``; the condition is bound."""

FORMS = ("x0", "score")
PREDICTIONS = ("v", "x0")
RENOISE = ("sde", "ode")


def at(t: Tensor | float, x: Tensor) -> Tensor | float:
    """Return a time ``[B]`` so that it multiplies ``x`` ``[B, ...]``; a float stays one.

    Raises:
        InputError: not one time a sample.
    """
    if not isinstance(t, Tensor) or t.ndim == 0:
        return t
    if t.shape != x.shape[:1]:
        raise InputError(f"there must be one time a sample: got times {tuple(t.shape)} for samples {tuple(x.shape)}")
    return t.view(-1, *[1] * (x.ndim - 1))


def full(x: Tensor) -> Tensor:
    """Return ``x`` in float32, or in float64 where it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def shift(u: Number, s: float) -> Number:
    """Return ``sh_s(u) = s u / (1 + (s - 1) u)`` for u in [0, 1] and s > 0; s > 1 moves times towards noise (Esser et al. 2024)."""
    return s * u / (1 + (s - 1) * u)


def noised(x0: Tensor, eps: Tensor, t: Tensor | float) -> Tensor:
    """Return ``x_t = (1 - t) x_0 + t eps``."""
    t = at(t, x0)
    return (1 - t) * x0 + t * eps


def velocity_to_x0(x_t: Tensor, v: Tensor, t: Tensor | float) -> Tensor:
    """Return ``x0_hat = x_t - t v``."""
    return x_t - at(t, x_t) * v


def velocity_to_eps(x_t: Tensor, v: Tensor, t: Tensor | float) -> Tensor:
    """Return ``eps_hat = x_t + (1 - t) v``."""
    return x_t + (1 - at(t, x_t)) * v


def x0_to_velocity(x_t: Tensor, x0: Tensor, t: Tensor | float) -> Tensor:
    """Return ``v = (x_t - x0_hat) / t``, t > 0."""
    return (x_t - x0) / at(t, x_t)


def x0_to_eps(x_t: Tensor, x0: Tensor, t: Tensor | float) -> Tensor:
    """Return the implied noise ``eps_hat = (x_t - (1 - t) x0_hat) / t``, t > 0."""
    t = at(t, x_t)
    return (x_t - (1 - t) * x0) / t


def x0_to_score(x_t: Tensor, x0: Tensor, t: Tensor | float) -> Tensor:
    """Return ``s = ((1 - t) x0_hat - x_t) / t^2``, t > 0 (Tweedie)."""
    t = at(t, x_t)
    return ((1 - t) * x0 - x_t) / t**2


def euler(x_t: Tensor, v: Tensor, t: float, after: float) -> Tensor:
    """Return ``x_t' = x_t + (t' - t) v``, one Euler step (AccVideo Eq. 5); the same as re-noising with the implied noise."""
    return x_t + (after - t) * v


def renoised(x_t: Tensor, x0: Tensor, t: float, after: float, how: str, eps: Tensor | None = None) -> Tensor:
    """Return the state at ``after`` of a sampler that predicts the clean sample: ``(1 - t') x0_hat + t' eps``.

    Args:
        x_t, x0: the state and the clean sample that it is believed to be, ``[B, ...]``.
        t, after: where the step begins and ends, 1 >= t > after >= 0; at 0 the clean sample itself is returned.
        how: ``"ode"``: eps is the implied noise; ``"sde"``: eps is fresh.
        eps: the fresh noise.

    Raises:
        InputError: ``how`` is unknown, or fresh noise is missing.
    """
    choose("renoise", how, RENOISE)
    if after == 0:
        return x0
    if how == "ode":
        return noised(x0, x0_to_eps(x_t, x0, t), after)
    if eps is None:
        raise InputError("renoise='sde' needs fresh noise for every step but the last; pass eps, or choose 'ode'")
    return noised(x0, eps, after)


def guided(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """Return ``D = D_c + (s - 1) (D_c - D_u)``, the standard scale: s = 1 is no guidance (FastGen, DMD2, diffusers)."""
    return conditional + (scale - 1) * (conditional - unconditional)


def standard_scale(difference_scale: float) -> float:
    """Return the standard scale of Self-Forcing's and CausVid's ``D_c + s (D_c - D_u)``: ``s + 1``."""
    return difference_scale + 1


# ---------------------------------------------------------------------------------------------------------- trajectories and adversaries


def trajectory_target(x_from: Tensor, x_to: Tensor, t_from: Tensor | float, t_to: Tensor | float) -> Tensor:
    """Return ``(l_{k+1} - l_k) / (t'_{k+1} - t'_k)``, the mean velocity between two stored states; from and to may be exchanged.

    Args:
        x_from, x_to: teacher states l_{k+1} and l_k, ``[B, ...]``.
        t_from, t_to: their times t'_{k+1} and t'_k, not equal.
    """
    return (x_from - x_to) / (at(t_from, x_from) - at(t_to, x_to))


def trajectory_loss(v: Tensor, x_from: Tensor, x_to: Tensor, t_from: Tensor | float, t_to: Tensor | float) -> Tensor:
    """Return AccVideo's Eq. 6: ``|| s_beta(l_{k+1}, t'_{k+1}) - (l_{k+1} - l_k) / (t'_{k+1} - t'_k) ||^2``; ``v`` is s_beta's output."""
    return F.mse_loss(full(v), full(trajectory_target(x_from, x_to, t_from, t_to)))


def generator_loss(fake: Tensor, *, saturating: bool = False) -> Tensor:
    """Return what the student pays to the discriminator: ``-log D = softplus(-l)``, D = sigmoid(l), l the logits of its samples.

    Args:
        fake: logits, any shape.
        saturating: the form that AccVideo's Eq. 8 prints, ``log(1 - D) = -softplus(l)``; its gradient vanishes where D is sure.
    """
    return -F.softplus(full(fake)).mean() if saturating else F.softplus(-full(fake)).mean()


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Return ``-log D(real) - log(1 - D(fake)) = softplus(-l_real) + softplus(l_fake)`` (AccVideo Eq. 7-8): the plain GAN, no hinge,
    no gradient penalty."""
    return F.softplus(-full(real)).mean() + F.softplus(full(fake)).mean()


def kd_loss(x0_hat: Tensor, x0: Tensor) -> Tensor:
    """Return ``|| x0_hat(x_t, t) - x_0 ||^2``: the clean end of a stored path, regressed from one of its points (FastGen's KD)."""
    return F.mse_loss(full(x0_hat), full(x0))


# ------------------------------------------------------------------------------------------------------------------ distribution matching


def normalised(gap: Tensor, gen: Tensor, real: Tensor) -> Tensor:
    """Return ``gap / (mean|g - r| + 1e-6)``, the mean per sample, in float32: the gap in units of the way to the prediction (DMD Eq. 8)."""
    gap, distance = full(gap), (full(gen) - full(real)).abs()
    return gap / (distance.flatten(1).mean(1) + 1e-6).view(-1, *[1] * (gap.ndim - 1))


@torch.no_grad()
def matching_gradient(
    gen: Tensor,
    source: Tensor,
    eps: Tensor,
    t: Tensor | float,
    fake: Denoise,
    real: Denoise,
    *,
    form: str = "x0",
    normalise: bool = True,
) -> Tensor:
    """Return the gradient that a critic and a teacher give a sample. DMD and Data-Forcing differ in ``source`` alone.

        x_f = forward(gen, eps, t),   x_r = forward(source, eps, t)          same eps, same t
        f = fake(x_f),   r = real(x_r),   grad = (f - r) / (mean|gen - r| + 1e-6)

    DMD (2.2 in DMD2): ``source is gen``, so both see the very same tensor. DFD (Algorithm 1): ``source`` is a real sample; what the
    line then adds is ``f - r = (gen - x) + (t^2 / (1 - t)) (s_fake(x_f) - s_real(x_r))``, a regression to that sample.

    Args:
        gen: student's clean sample, ``[B, ...]``.
        source: ``gen`` itself, or real samples of the same shape.
        eps: noise, ``[B, ...]``.
        t: in (0, 1).
        fake, real: clean predictions of critic and teacher; guidance, if any, is the latter's affair.
        form: ``"x0"``, the rule above, which the code runs; ``"score"``, DFD's Eq. 8 to the letter, ``s_fake(x_f) - s_real(x_r)``,
            weighted with ``t^2 / (1 - t)`` so that it is DMD's gradient where ``source is gen``: the control without the regression.
        normalise: divide by the distance to r.

    Returns:
        float32 ``[B, ...]``, without a graph; for :func:`surrogate`.

    Raises:
        InputError: unknown ``form``, or shapes that differ.
    """
    choose("form", form, FORMS)
    if source.shape != gen.shape:
        raise InputError(f"real samples must have the shape of the student's, {tuple(gen.shape)}; got {tuple(source.shape)}")
    x_f = noised(gen, eps, t)
    x_r = x_f if source is gen else noised(source, eps, t)
    f, r = fake(x_f, t), real(x_r, t)
    gap = f - r
    if form == "score" and source is not gen:
        gap = gap - (gen - source)
    return normalised(gap, gen, r) if normalise else full(gap)


@torch.no_grad()
def denoising_gradient(gen: Tensor, x: Tensor) -> Tensor:
    """Return ``(g - x) / (mean|g - x| + 1e-6)``: plain denoising in DMD's units, the control that DFD lacks (SFT)."""
    return normalised(gen - x, gen, x)


def surrogate(gen: Tensor, gradient: Tensor, reduction: str = "mean") -> Tensor:
    """Return ``0.5 || g - sg(g - grad) ||^2``, a loss whose gradient with respect to g is ``grad`` (over the number of values: ``"mean"``).

    Args:
        gen: student's clean sample with its graph, ``[B, ...]``.
        gradient: from :func:`matching_gradient` or :func:`denoising_gradient`.
        reduction: ``"mean"``, the unit of every other loss here, or ``"sum"``.

    Raises:
        InputError: another reduction.
    """
    g = full(gen)
    return 0.5 * F.mse_loss(g, (g - gradient).detach(), reduction=choose("reduction", reduction, ("mean", "sum")))


def critic_loss(v: Tensor, x_t: Tensor, gen: Tensor, eps: Tensor, t: Tensor | float, form: str = "v") -> Tensor:
    """Return the critic's denoising loss on the student's samples.

        "v"     || v_fake(x_t) - (eps - g) ||^2
        "x0"    || x0_fake(x_t) - g ||^2 = t^2 times that, sample by sample      (FastGen on Wan)

    Args:
        v: the critic's velocity at ``x_t = forward(gen, eps, t)``, ``[B, ...]``.
        gen: the student's sample, without a graph.
        form: see above.
    """
    if choose("critic_form", form, PREDICTIONS) == "v":
        return F.mse_loss(full(v), full(eps - gen))
    return F.mse_loss(full(velocity_to_x0(x_t, v, t)), full(gen))


def forced(p: float, generator: torch.Generator) -> bool:
    """Return whether this step is data-forced: true with probability ``p``, by ONE draw for the whole batch (DFD Eq. 10)."""
    return float(torch.rand((), generator=generator)) < p


def anchor_target(eps: Tensor, z: Tensor, t: float) -> Tensor:
    """Return ``(eps - z) / (1 - t)``: the velocity from noise to where the teacher is at t after its first steps (DP-DMD Eq. 6)."""
    return trajectory_target(eps, z, 1.0, t)


def anchor_loss(v: Tensor, eps: Tensor, z: Tensor, t: float) -> Tensor:
    """Return DP-DMD's Eq. 7, ``|| v_theta(eps, 1) - (eps - z_t) / (1 - t) ||^2``: a trajectory loss with the one interval [t, 1]."""
    return trajectory_loss(v, eps, z, 1.0, t)
