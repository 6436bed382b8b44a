"""Goldens of few-step distillation: paths of an exact teacher, roll-outs of a few-step sampler, every loss with its gradient.

Points in the plane; the teacher is the exact velocity of a ring of modes, the critic that of a grid.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from golden_worlds import on
from torch import Tensor

from vidistill.data import plane
from vidistill.distill import generate, losses
from vidistill.distill.methods import velocity
from vidistill.distill.mlp import exact
from vidistill.distill.trajectory import key_indices, time_table
from vidistill.rng import stream

Found = dict[str, Tensor]
TIMES = (1.0, 0.9, 0.7, 0.4, 0.0)


def points(device: torch.device, *name: str) -> Tensor:
    """Return standard normal points, float32 ``[16, 2]``."""
    return torch.randn(16, 2, generator=stream(0, "goldens", *name)).to(device)


def times(device: torch.device) -> Tensor:
    """Return one time a point, float32 ``[16]``, from 0.2 to 0.95."""
    return torch.linspace(0.2, 0.95, 16).to(device)


def net(device: torch.device) -> Callable[..., Tensor]:
    """Return the teacher's velocity."""
    return exact(on(plane.ring(), device))


def with_gradient(loss: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """Return a loss of ``x`` and its gradient."""
    x = x.detach().requires_grad_()
    value = loss(x)
    return value.detach(), torch.autograd.grad(value, x)[0]


def graded(named: dict[str, Callable[[Tensor], Tensor]], x: Tensor) -> Found:
    """Return losses of ``x`` with their gradients, by name."""
    found = {}
    for name, loss in named.items():
        found[name], found[f"{name}, gradient"] = with_gradient(loss, x)
    return found


def path(device: torch.device) -> Found:
    """Return the teacher's states at the key times of ten Euler steps."""
    x, states, table = points(device, "noise"), [], time_table(10, 3.0)
    states.append(x)
    for now, after in pairwise(table):
        x = losses.euler(x, velocity(net(device), x, now, None), now, after)
        states.append(x)
    return {"states": torch.stack([states[place] for place in key_indices(10, 5)], 1), "table": torch.tensor(table, dtype=torch.float64)}


def rolled_out(device: torch.device) -> Found:
    """Return a few-step sampler's points, both ways of putting noise back."""
    noise = points(device, "noise")
    return {how: generate(net(device), noise, TIMES, renoise=how) for how in losses.RENOISE}


def trajectory(device: torch.device) -> Found:
    """Return AccVideo's Eq. 6 between two states, its target, and DP-DMD's anchor, which has the one interval from noise."""
    begin, end, t = points(device, "from"), points(device, "to"), times(device)
    named = {
        "loss": lambda v: losses.trajectory_loss(v, begin, end, t + 0.05, t),
        "anchor": lambda v: losses.anchor_loss(v, begin, end, 0.7),
    }
    return {"target": losses.trajectory_target(begin, end, t + 0.05, t)} | graded(named, points(device, "v"))


def regressions(device: torch.device) -> Found:
    """Return the losses that regress: to a path's clean end, and the critic's in both forms."""
    gen, eps, t = points(device, "gen"), points(device, "eps"), times(device)
    x_t = losses.noised(gen, eps, t)
    forms = {f"critic {form}": lambda v, form=form: losses.critic_loss(v, x_t, gen, eps, t, form) for form in losses.PREDICTIONS}
    return graded({"kd": lambda x: losses.kd_loss(x, gen), **forms}, points(device, "v"))


def adversarial(device: torch.device) -> Found:
    """Return what student and discriminator pay for logits."""
    real, fake = 2 * points(device, "real logits"), 2 * points(device, "fake logits")
    named = {
        "student": losses.generator_loss,
        "student, as printed": lambda logits: losses.generator_loss(logits, saturating=True),
        "discriminator": lambda logits: losses.discriminator_loss(real, logits),
    }
    return graded(named, fake)


def matched(device: torch.device, real_source: bool, **options: Any) -> Found:
    """Return the gradient of a critic and a teacher, and what its surrogate passes on."""
    gen, eps, t = 2 * points(device, "gen"), points(device, "eps"), times(device)
    critic, teacher = on(plane.grid(), device), on(plane.ring(), device)
    source = plane.ring().draw(16, stream(0, "goldens", "real"))[0].to(device) if real_source else gen
    gradient = losses.matching_gradient(gen, source, eps, t, critic.x0_hat, teacher.x0_hat, **options)
    loss, passed = with_gradient(lambda g: losses.surrogate(g, gradient), gen)
    return {"gradient": gradient, "surrogate": loss, "passed on": passed}


def denoising(device: torch.device) -> Found:
    """Return plain denoising in DMD's units, DFD's control."""
    return {"gradient": losses.denoising_gradient(points(device, "gen"), points(device, "real"))}


def conversions(device: torch.device) -> Found:
    """Return what a velocity and a clean sample mean, and the moved times."""
    x, v, t = points(device, "x"), points(device, "v"), times(device)
    return {
        "x0 of v": losses.velocity_to_x0(x, v, t),
        "noise of v": losses.velocity_to_eps(x, v, t),
        "v of x0": losses.x0_to_velocity(x, v, t),
        "noise of x0": losses.x0_to_eps(x, v, t),
        "score of x0": losses.x0_to_score(x, v, t),
        "moved times": losses.shift(t, 7.0),
        "guided": losses.guided(x, v, 3.0),
    }


def coins(device: torch.device) -> Found:
    """Return which of 64 steps are data-forced with probability .3."""
    draws = stream(0, "goldens", "forced")
    return {"forced": torch.tensor([losses.forced(0.3, draws) for _ in range(64)])}


CASES: dict[str, Callable[[torch.device], Found]] = {
    "teacher-path": path,
    "roll-out": rolled_out,
    "trajectory-loss": trajectory,
    "regression-losses": regressions,
    "adversarial-losses": adversarial,
    "dmd-gradient": lambda device: matched(device, False),
    "dmd-gradient-plain": lambda device: matched(device, False, normalise=False),
    "dfd-gradient": lambda device: matched(device, True),
    "dfd-gradient-score": lambda device: matched(device, True, form="score"),
    "denoising-gradient": denoising,
    "conversions": conversions,
    "forced-steps": coins,
}
