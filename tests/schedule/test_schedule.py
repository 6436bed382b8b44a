"""Frame decay, noise levels, time weights and windows against their formulas, the specification's numbers and diffusers' own scheduler."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from vidistill.errors import InputError
from vidistill.schedule import ALPHA_MIN, DECAYS, First, Interval, Time, ddim_sigma, frame_weights, guidance_scale, pull_weight

BETAS = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float32) ** 2
ABAR = (1 - BETAS).cumprod(0)


def at(t: int) -> Time:
    abar = ABAR[t] if t >= 0 else ABAR[0]
    return Time(torch.tensor(t), abar**0.5, (1 - abar) ** 0.5)


def straight(sigma: float) -> Time:
    s = torch.tensor(sigma)
    return Time(1000 * s, 1 - s, s)


def test_linear_decay_counts_from_zero() -> None:
    assert torch.equal(frame_weights("linear", 16), torch.tensor([(16 - f) / 16 for f in range(16)]))


@pytest.mark.parametrize("kind", DECAYS)
@pytest.mark.parametrize("frames", [1, 5, 16])
def test_every_decay_falls_from_one(kind: str, frames: int) -> None:
    w = frame_weights(kind, frames)
    assert w.shape == (frames,)
    assert w[0] == 1
    assert bool((w[1:] <= w[:-1]).all())
    assert bool((w >= 0).all())
    assert kind == "none" or frames == 1 or w[-1] < w[0]


def test_the_kinds_differ_where_they_should() -> None:
    assert frame_weights("cosine", 4).tolist() == pytest.approx([1, (1 + math.cos(math.pi / 4)) / 2, 0.5, (1 - math.cos(math.pi / 4)) / 2])
    assert frame_weights("exp", 4).tolist() == pytest.approx([1, math.exp(-1), math.exp(-2), math.exp(-3)])
    assert frame_weights("first-frame", 3).tolist() == [1, 0, 0]


def test_wrong_decays_are_named() -> None:
    with pytest.raises(InputError, match="linear"):
        frame_weights("linaer", 4)
    with pytest.raises(InputError, match="at least one frame"):
        frame_weights("none", 0)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("mgd3", {981: 48, 741: 18, 501: 8.3, 261: 3.5, 21: 0.06}),
        ("score", {981: 13, 741: 3.8, 501: 1.4, 261: 0.43, 21: 0.02}),
        ("coda", {981: 13, 741: 3.9, 501: 1.6, 261: 0.72, 21: 0.14}),
        ("blend", {981: 1, 741: 1, 501: 1, 261: 1, 21: 1}),
    ],
)
def test_time_weights_at_fifty_steps(kind: str, expected: dict[int, float]) -> None:
    for t, weight in expected.items():
        got = pull_weight(kind, at(t), at(t - 20))
        digits = 2 if weight >= 0.1 else 1
        assert float(f"{got:.{digits}g}") == pytest.approx(weight, rel=0.12 if digits == 1 else 0.04)


@pytest.mark.parametrize("eta", [0.0, 0.7, 1.0])
def test_mgd3_is_its_term_on_the_next_sample(eta: float) -> None:
    """With weight mgd3 a step lands where x_{t-1} + lambda sigma_ddpm g does."""
    draw = torch.Generator().manual_seed(0)
    x, eps, m = (torch.randn(5, dtype=torch.float64, generator=draw) for _ in range(3))
    for t in (981, 501, 41):
        now, after = at(t), at(t - 20)
        a, s, a2, s2 = (float(v) for v in (now.alpha, now.sigma, after.alpha, after.sigma))
        added = ddim_sigma(now, after, eta)

        def step(x0, a=a, s=s, a2=a2, s2=s2, added=added):
            return a2 * x0 + (s2**2 - added**2) ** 0.5 * (x - a * x0) / s

        x0 = (x - s * eps) / a
        pulled = step(x0 + 0.1 * pull_weight("mgd3", now, after, eta) * (m - x0))
        torch.testing.assert_close(pulled, step(x0) + 0.1 * ddim_sigma(now, after) * (m - x0), rtol=1e-9, atol=1e-9)


def test_ddim_sigma_is_diffusers_variance() -> None:
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", set_alpha_to_one=False)
    for t, before in ((981, 961), (501, 481), (1, -19)):
        variance = float(scheduler._get_variance(t, before))
        assert ddim_sigma(at(t), at(before)) ** 2 == pytest.approx(variance, rel=1e-3, abs=1e-9)


def test_a_straight_path_has_the_weights_of_its_noise_level() -> None:
    sigma = 0.4
    alpha = 0.6 / (0.6**2 + 0.4**2) ** 0.5
    assert pull_weight("score", straight(sigma), straight(0.3)) == pytest.approx((1 - alpha**2) / alpha)
    assert pull_weight("coda", straight(sigma), straight(0.3)) == pytest.approx((1 - alpha**2) ** 0.5 / alpha)


def test_pure_noise_is_held_to_the_least_alpha() -> None:
    assert pull_weight("score", straight(1.0), straight(0.95)) == pytest.approx((1 - ALPHA_MIN**2) / ALPHA_MIN)
    assert pull_weight("score", straight(1.0), straight(0.95)) < 15
    assert pytest.approx(float(ABAR[-1]) ** 0.5, rel=1e-4) == ALPHA_MIN
    assert math.isfinite(pull_weight("mgd3", straight(1.0), straight(0.95)))


def test_weights_refuse_other_names() -> None:
    with pytest.raises(InputError, match="score"):
        pull_weight("scroe", at(501), at(481))


def test_interval_is_open_below_and_closed_above() -> None:
    interval = Interval(1000, 500)
    assert [interval.holds(t) for t in (1000, 501, 500, 0)] == [True, True, False, False]
    grid = [(at(t), at(t - 20)) for t in range(981, 0, -20)]
    assert (Interval().count(grid), interval.count(grid), Interval(300, 290).count(grid)) == (50, 25, 0)
    for wrong in ((500, 500), (0, 500), (1200, 0), (500, -1)):
        with pytest.raises(InputError, match="guide interval"):
            Interval(*wrong)


def test_first_steps() -> None:
    First(4).check(4)
    with pytest.raises(InputError, match=r"first I=5 steps: the sampler makes N=4"):
        First(5).check(4)
    with pytest.raises(InputError, match="I must be 0"):
        First(-1)


def test_cfgpp_makes_the_step_of_ordinary_guidance() -> None:
    """One CFG++ step lands where ordinary guidance with w = lam / (1 - sqrt(SNR_t / SNR_s)) does; only its clean video differs."""
    draw = torch.Generator().manual_seed(0)
    x, u, c = (torch.randn(6, dtype=torch.float64, generator=draw) for _ in range(3))
    lam = 0.8
    for now, after in [(at(t), at(t - 20)) for t in (981, 501, 41)]:
        a, s, a2, s2 = (float(v) for v in (now.alpha, now.sigma, after.alpha, after.sigma))
        plus = a2 * (x - s * (u + lam * (c - u))) / a + s2 * u
        eps = u + guidance_scale(lam, now, after) * (c - u)
        torch.testing.assert_close(plus, a2 * (x - s * eps) / a + s2 * eps, rtol=1e-6, atol=1e-6)


def exact(abar: torch.Tensor) -> Time:
    return Time(torch.tensor(0), abar**0.5, (1 - abar) ** 0.5)


@pytest.mark.parametrize("family", ["ddim", "flow"])
def test_cfgpp_identity_in_float64(family: str) -> None:
    draw = torch.Generator().manual_seed(0)
    x, u, c = (torch.randn(6, dtype=torch.float64, generator=draw) for _ in range(3))
    abar = (1 - BETAS.double()).cumprod(0)
    sigmas = torch.linspace(0.999, 0.001, 51, dtype=torch.float64)
    levels = [exact(abar[t]) for t in range(999, 0, -20)] if family == "ddim" else [Time(1000 * s, 1 - s, s) for s in sigmas]
    for now, after in pairwise(levels):
        a, s, a2, s2 = now.alpha, now.sigma, after.alpha, after.sigma
        plus = a2 * (x - s * (u + 0.8 * (c - u))) / a + s2 * u
        eps = u + guidance_scale(0.8, now, after) * (c - u)
        torch.testing.assert_close(plus, a2 * (x - s * eps) / a + s2 * eps, rtol=1e-12, atol=1e-12)


def test_cfgpp_read_as_ordinary_guidance() -> None:
    """VideoGuide on AnimateDiff: 50 steps, lam 0.8."""
    abar = (1 - torch.linspace(0.00085, 0.012, 1000, dtype=torch.float64)).cumprod(0)
    assert float(abar[-1]) == pytest.approx(0.00158, abs=1e-5)
    grid = [round(999 * (50 - i) / 50) for i in range(51)]
    scales = [guidance_scale(0.8, exact(abar[t]), exact(abar[s])) for t, s in pairwise(grid)]
    assert scales[:5] == pytest.approx([7.08, 7.21, 7.34, 7.47, 7.61], abs=0.02)
    assert max(scales) == pytest.approx(11.3, abs=0.1)
    assert scales[-1] == pytest.approx(1.0, abs=0.1)


def test_cfgpp_on_a_straight_path_does_not_depend_on_the_shift() -> None:
    lam, n = 0.8, 50
    scales = [guidance_scale(lam, straight(1 - i / n + 1e-9), straight(1 - (i + 1) / n)) for i in range(5)]
    assert scales == pytest.approx([0.80, 1.57, 2.30, 3.01, 3.68], abs=0.006)
    assert guidance_scale(lam, straight(0.02), straight(0.0)) == lam
