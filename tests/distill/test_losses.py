"""The losses are what the papers print, and the gradients do what the theory says, on Gaussians where both are known exactly."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from vidistill.data.plane import grid, quadrants, two_points
from vidistill.distill import losses as L
from vidistill.errors import InputError
from vidistill.rng import stream

D = torch.float64


def draw(*shape, name="x"):
    return torch.randn(shape, generator=stream(0, "test", name), dtype=D)


# ---------------------------------------------------------------------------------------------------------------- paths and conventions


def test_shift_map():
    """dfd.md test 1, accvideo.md test 1."""
    assert [L.shift(u, 5) for u in (1, 0.75, 0.5, 0.25)] == pytest.approx([1, 0.9375, 0.8333333333, 0.625])
    exact = [L.shift(Fraction(k, 5), 7) for k in range(5, -1, -1)]
    assert exact == [1, Fraction(28, 29), Fraction(21, 23), Fraction(14, 17), Fraction(7, 11), 0]
    assert [L.shift(k / 5, 7.0) for k in range(5, -1, -1)] == pytest.approx([float(t) for t in exact], abs=1e-15)
    assert L.shift(torch.tensor([0.5]), 1.0).item() == 0.5


def test_conversions_are_inverse():
    x0, eps, t = draw(5, 2, 3), draw(5, 2, 3, name="eps"), torch.linspace(0.1, 1, 5, dtype=D)
    x_t, v = L.noised(x0, eps, t), eps - x0
    assert torch.allclose(L.velocity_to_x0(x_t, v, t), x0)
    assert torch.allclose(L.velocity_to_eps(x_t, v, t), eps)
    assert torch.allclose(L.x0_to_eps(x_t, x0, t), eps)
    assert torch.allclose(L.x0_to_velocity(x_t, x0, t), v)
    assert torch.allclose(L.x0_to_score(x_t, x0, t), -eps / t.view(-1, 1, 1))
    with pytest.raises(InputError, match="one time a sample"):
        L.noised(x0, eps, t[:2])


def test_cfg_conventions():
    """dfd.md test 3: Self-Forcing's 3.0 / 3.5 are the standard 4.0 / 4.5; 1 is no guidance, to the last bit."""
    c, u = draw(4, 2), draw(4, 2, name="u")
    for s in (3.0, 3.5):
        assert torch.allclose(c + s * (c - u), L.guided(c, u, L.standard_scale(s)))
    assert (L.standard_scale(3.0), L.standard_scale(3.5)) == (4.0, 4.5)
    assert torch.equal(L.guided(c, u, 1.0), c)


def test_renoising():
    """dfd.md test 11."""
    x_t, x0, eps = draw(3, 2), draw(3, 2, name="x0"), draw(3, 2, name="eps")
    v = L.x0_to_velocity(x_t, x0, 0.8)
    assert torch.allclose(L.renoised(x_t, x0, 0.8, 0.4, "ode"), L.euler(x_t, v, 0.8, 0.4))  # the implied noise is an Euler step
    assert torch.allclose(L.renoised(x_t, x0, 0.8, 0.4, "ode"), 0.6 * x0 + 0.4 * L.velocity_to_eps(x_t, v, 0.8))
    assert torch.equal(L.renoised(x_t, x0, 0.8, 0.4, "sde", eps), L.noised(x0, eps, 0.4))
    assert L.renoised(x_t, x0, 0.8, 0.0, "ode") is x0
    assert L.renoised(x_t, x0, 0.8, 0.0, "sde") is x0
    with pytest.raises(InputError, match="fresh noise"):
        L.renoised(x_t, x0, 0.8, 0.4, "sde")


# ------------------------------------------------------------------------------------------------------------- trajectories, adversaries


def test_trajectory_target():
    """accvideo.md test 4: both forms of Eq. 6, and the velocity points from data to noise."""
    noise, data = draw(4, 2), draw(4, 2, name="data")
    assert torch.equal(L.trajectory_target(noise, data, 1.0, 0.25), L.trajectory_target(data, noise, 0.25, 1.0))
    assert torch.allclose(L.trajectory_target(noise, data, 1.0, 0.0), noise - data)
    t, after = torch.full((4,), 0.9, dtype=D), torch.full((4,), 0.3, dtype=D)
    assert torch.allclose(L.trajectory_target(noise, data, t, after), (noise - data) / 0.6)
    v = L.trajectory_target(noise, data, 0.9, 0.3)
    assert torch.allclose(L.euler(noise, v, 0.9, 0.3), data)
    assert L.trajectory_loss(v, noise, data, 0.9, 0.3) == 0


def test_gan_is_the_log_form():
    """accvideo.md test 7."""
    real, fake = draw(6), draw(6, name="fake")
    log_form = -(torch.sigmoid(real).log().mean() + (1 - torch.sigmoid(fake)).log().mean())
    assert torch.allclose(L.discriminator_loss(real, fake), log_form)
    assert torch.allclose(L.generator_loss(fake), -torch.sigmoid(fake).log().mean())
    assert torch.allclose(L.generator_loss(fake, saturating=True), (1 - torch.sigmoid(fake)).log().mean())


def test_anchor_is_a_trajectory_loss_of_one_interval():
    eps, z, v = draw(3, 2), draw(3, 2, name="z"), draw(3, 2, name="v")
    assert torch.allclose(L.anchor_target(eps, z, 0.8), (eps - z) / 0.2)
    assert torch.equal(L.anchor_loss(v, eps, z, 0.8), L.trajectory_loss(v, eps, z, 1.0, 0.8))


# ------------------------------------------------------------------------------------------------------------------ distribution matching


def test_surrogate():
    """dfd.md test 2."""
    gen, grad = draw(5, 3).requires_grad_(True), draw(5, 3, name="grad")
    L.surrogate(gen, grad, "sum").backward()
    assert torch.allclose(gen.grad, grad, atol=1e-12)
    gen.grad = None
    L.surrogate(gen, grad).backward()
    assert torch.allclose(gen.grad * gen.numel(), grad, atol=1e-12)
    assert L.surrogate(gen.detach().bfloat16(), grad.bfloat16()).dtype == torch.float32


class Spy:
    """A denoiser that remembers what it was shown."""

    def __init__(self, function):
        self.function, self.seen = function, []

    def __call__(self, x, t):
        self.seen.append((x, t))
        return self.function(x, t)


def denoisers(*names):
    """Any two nonlinear denoisers."""

    def one(w):
        return Spy(lambda x, t: torch.tanh(x @ w) + L.at(t, x) * x)

    return [one(draw(3, 3, name=name)) for name in names]


def test_dmd_shows_both_denoisers_the_same_tensor():
    """dfd.md tests 4 and 5: with ``source is gen`` they get one and the same x_t, and DFD with p = 0 is DMD."""
    gen, eps, t = draw(4, 3), draw(4, 3, name="eps"), torch.linspace(0.1, 0.9, 4, dtype=D)
    fake, real = denoisers("fake", "real")
    dmd = L.matching_gradient(gen, gen, eps, t, fake, real)
    assert fake.seen[0][0] is real.seen[0][0]
    assert torch.equal(fake.seen[0][0], L.noised(gen, eps, t))
    f, r = fake.function(fake.seen[0][0], t), real.function(fake.seen[0][0], t)
    assert torch.allclose(dmd, (f - r) / ((gen - r).abs().mean(1, keepdim=True) + 1e-6))
    assert torch.equal(L.matching_gradient(gen, gen, eps, t, fake, real, form="score"), dmd)
    assert not any(L.forced(0.0, stream(seed, "p")) for seed in range(50))
    assert all(L.forced(1.0, stream(seed, "p")) for seed in range(50))


def test_dfd_identity():
    """dfd.md test 6: f - r = (gen - x) + (t^2 / (1 - t)) (s_fake(x_f) - s_real(x_r)), for any denoisers; and the literal score form."""
    gen, x, eps, t = draw(4, 3), draw(4, 3, name="x"), draw(4, 3, name="eps"), torch.linspace(0.1, 0.9, 4, dtype=D)
    fake, real = denoisers("fake", "real")
    gap = L.matching_gradient(gen, x, eps, t, fake, real, normalise=False)
    (x_f, _), (x_r, _) = fake.seen[0], real.seen[0]
    assert torch.equal(x_r, L.noised(x, eps, t))  # the same eps and t for both branches
    scores = L.x0_to_score(x_f, fake.function(x_f, t), t) - L.x0_to_score(x_r, real.function(x_r, t), t)
    weight = (t**2 / (1 - t)).view(-1, 1)
    assert torch.allclose(gap, (gen - x) + weight * scores, atol=1e-12)
    literal = L.matching_gradient(gen, x, eps, t, fake, real, form="score", normalise=False)
    assert torch.allclose(literal, weight * scores, atol=1e-12)


def test_normaliser():
    """dfd.md test 8: per sample, in fp32, + 1e-6; scaling r - gen and f - r together leaves the step length unchanged."""
    gen, f, r = draw(4, 3), draw(4, 3, name="f"), draw(4, 3, name="r")
    one = L.normalised(f - r, gen, r)
    assert torch.allclose(one[2], (f - r)[2] / ((gen - r)[2].abs().mean() + 1e-6))
    for scale in (0.01, 100.0):
        far = gen + scale * (r - gen)
        assert torch.allclose(L.normalised(scale * (f - r), gen, far), one, rtol=1e-3)
    half = L.normalised((f - r).bfloat16(), gen.bfloat16(), r.bfloat16())
    assert half.dtype == torch.float32
    assert torch.isfinite(L.normalised(f - f, gen, gen)).all()


def test_denoising_gradient_is_the_dfd_rule_without_denoisers():
    gen, x = draw(4, 3), draw(4, 3, name="x")
    assert torch.allclose(L.denoising_gradient(gen, x), (gen - x) / ((gen - x).abs().mean(1, keepdim=True) + 1e-6))


def test_critic_forms():
    gen, eps, v, t = draw(4, 3), draw(4, 3, name="eps"), draw(4, 3, name="v"), torch.full((4,), 0.6, dtype=D)
    x_t = L.noised(gen, eps, t)
    assert torch.allclose(L.critic_loss(v, x_t, gen, eps, t, "x0"), 0.36 * L.critic_loss(v, x_t, gen, eps, t, "v"))
    assert L.critic_loss(eps - gen, x_t, gen, eps, t) == 0
    with pytest.raises(InputError, match="critic_form"):
        L.critic_loss(v, x_t, gen, eps, t, "eps")


# ------------------------------------------------------------------------- on Gaussians: expectations by quadrature, exact to rounding
#
#     student g = m + s z,   data x ~ N(0, d^2),   x_t = (1 - t) x_0 + t eps,   u(d) = (1 - t)^2 d^2 + t^2
#     score of N(m, u) at y: -(y - m) / u;   entropy H = ln(u) / 2 + const,   dH/ds = (1 - t)^2 s / u(s)

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(6)
CUBE = torch.tensor(list(itertools.product(NODES, repeat=3)), dtype=D)  # z, eps and the real sample's own normal
MASS = torch.tensor([math.prod(w) for w in itertools.product(WEIGHTS / WEIGHTS.sum(), repeat=3)], dtype=D)


def gaussian(m, s):
    """The exact denoiser of N(m, s^2)."""

    def x0_hat(x, t):
        u = (1 - t) ** 2 * s**2 + t**2
        return m + (1 - t) * s**2 / u * (x - (1 - t) * m)

    return x0_hat


def slope(s, t, w, form, d=1.0, m=0.0):
    """Return E[grad dg/ds] of the mixed gradient ``(1 - w) g_DMD + w g_DFD``, x and z independent, fake score exact, no normaliser."""
    z, eps, n = CUBE[:, :1], CUBE[:, 1:2], CUBE[:, 2:]
    gen, x = m + s * z, d * n
    common = {"eps": eps, "t": t, "fake": gaussian(m, s), "real": gaussian(0.0, d), "form": form, "normalise": False}
    dmd, dfd = L.matching_gradient(gen, gen, **common), L.matching_gradient(gen, x, **common)
    return float((MASS[:, None] * ((1 - w) * dmd + w * dfd) * z).sum())


def stationary(t, w, form, low=1e-3, high=20.0):
    """Return the deviation at which the mixed gradient vanishes, by bisection."""
    for _ in range(80):
        mid = (low + high) / 2
        low, high = (mid, high) if slope(mid, t, w, form) < 0 else (low, mid)
    return mid


@pytest.mark.parametrize("form", ["x0", "score"])
def test_dmd_vanishes_where_student_is_teacher(form):
    gen, eps = 0.7 + 1.3 * CUBE[:, :1], CUBE[:, 1:2]
    for t in (0.1, 0.5, 0.9):
        same = L.matching_gradient(gen, gen, eps, t, gaussian(0.7, 1.3), gaussian(0.7, 1.3), form=form)
        assert same.abs().max() == 0
        other = L.matching_gradient(gen, gen, eps, t, gaussian(0.7, 1.3), gaussian(0.0, 1.0), form=form)
        assert other.abs().max() > 0.05
        assert stationary(t, 0.0, form) == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("t", [0.05, 0.4, 0.8])
def test_eq_8_is_the_entropy_gradient(t):
    """dfd.md test 10: taken literally, with independent samples, DFD's gradient is that of minus the student's entropy."""
    for s in (0.5, 1.0, 2.0):
        entropy = (1 - t) ** 2 * s / ((1 - t) ** 2 * s**2 + t**2)
        # dx_t/ds = (1 - t) z, and the weight t^2 / (1 - t) of the score form is divided out
        assert slope(s, t, 1.0, "score") * (1 - t) ** 2 / t**2 == pytest.approx(-entropy, rel=1e-9)


@pytest.mark.parametrize("w", [0.0, 0.25, 0.5])
def test_no_bias_is_not_so_the_literal_form_heats_the_target(w):
    """The stationary point of Eq. 9 is p_real^(1 - w): temperature 1 / (1 - w) at the noise level t, 2 at w = 1/2."""
    for t in (0.001, 0.3, 0.7):
        s = stationary(t, w, "score")
        heated = ((1 - t) ** 2 * s**2 + t**2) / ((1 - t) ** 2 + t**2)
        assert heated == pytest.approx(1 / (1 - w), rel=1e-6)
    assert stationary(0.001, w, "score") == pytest.approx((1 / (1 - w)) ** 0.5, rel=1e-4)
    assert slope(5.0, 0.3, 1.0, "score") < 0  # w = 1: wider without end


@pytest.mark.parametrize("w", [0.25, 0.5, 1.0])
def test_the_x0_rule_contracts_where_the_real_sample_is_independent(w):
    """dfd.md 4.3: the regression that the x0 form adds pulls to the mean; the stationary point is u = t^2 / ((1 - w) t^2 / u_real + w)."""
    for t in (0.3, 0.7):
        real = (1 - t) ** 2 + t**2
        u = t**2 / ((1 - w) * t**2 / real + w)
        expected = max(0.0, u - t**2) ** 0.5 / (1 - t)
        assert stationary(t, w, "x0") == pytest.approx(expected, abs=2e-3)
        assert expected < 1


@pytest.mark.parametrize("world", [two_points(deviation=0.5), grid(), quadrants()], ids=lambda world: world.name)
def test_the_mean_score_is_zero(world):
    """dfd.md test 9: E[s_real(x_t)] = 0 under p_real,t, within sampling error."""
    n, generator = 40_000, stream(0, "score")
    x, _ = world.draw(n, generator)
    for t in (0.2, 0.6):
        x_t = L.noised(x.double(), torch.randn(x.shape, generator=generator, dtype=D), t)
        score = world.score(x_t, t)
        assert (score.mean(0).abs() < 5 * score.std(0) / n**0.5).all()


def test_refuses_what_does_not_fit():
    gen = draw(4, 3)
    with pytest.raises(InputError, match=r"shape of the student's, \(4, 3\); got \(2, 3\)"):
        L.matching_gradient(gen, gen[:2], gen, 0.5, *denoisers("a", "b"))
    with pytest.raises(InputError, match="did you mean 'score'"):
        L.matching_gradient(gen, gen, gen, 0.5, *denoisers("a", "b"), form="scores")
