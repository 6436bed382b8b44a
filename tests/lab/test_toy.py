"""The toy against what is known: Monte Carlo, Tweedie, the data it samples, the closed forms of a linear world."""

from __future__ import annotations

import math

import pytest
import torch

from vidistill.errors import InputError
from vidistill.guide import Cfg, Pull
from vidistill.lab.toy import HOLE, RING, THICK, WIDE, Mixture, gain, rings
from vidistill.sample import Teacher, record
from vidistill.schedule import First, Interval, pull_weight


def test_posterior_mean_is_that_of_many_draws() -> None:
    model, _ = rings()
    draws = torch.Generator().manual_seed(0)
    x0 = model.draw(1_000_000).flatten(1)
    now, _ = model.grid(50)[30]
    noisy = float(now.alpha) * x0 + float(now.sigma) * torch.randn(x0.shape, dtype=torch.float64, generator=draws)
    x = torch.tensor([0.5, 0.3], dtype=torch.float64)
    near = (noisy - x).norm(dim=1) < 0.04
    assert int(near.sum()) > 300
    got = model.x0_hat(x.view(1, 2, 1, 1, 1), now, model.encode([""])).flatten()
    spread = x0[near].std(0) / math.sqrt(int(near.sum()))
    assert ((x0[near].mean(0) - got).abs() < 4 * spread + 0.02).all()


def test_the_noise_it_predicts_is_the_score_of_the_density() -> None:
    model, _ = rings()
    x = torch.randn(5, 2, 1, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    for name in ("", "up"):
        weights = model.encode([name] * 5)
        for now, _ in model.grid(10)[::3]:
            alpha, v = float(now.alpha), float(now.alpha) ** 2 * THICK**2 + float(now.sigma) ** 2
            gap = (x.flatten(1)[:, None] - alpha * model.means).square().sum(2)
            (score,) = torch.autograd.grad((weights - gap / (2 * v)).logsumexp(1).sum(), x)
            noise = model.predict(x.detach(), now, weights, None)[1]
            torch.testing.assert_close(noise, -float(now.sigma) * score, rtol=1e-5, atol=1e-5)


def test_unguided_samples_are_the_data_and_a_prompt_is_a_class() -> None:
    model, centres = rings()
    for name, modes in (("", 8), ("up", 4), ("down", 4)):
        x = record(model, [name] * 200, seeds=range(200), steps=100).latents[-1].flatten(1).double()
        far, mode = torch.cdist(x, centres.flatten(1)).min(1)
        assert far.median() == pytest.approx(HOLE, abs=0.05)
        assert len(mode.unique()) == modes
        assert name != "up" or bool((x[:, 1] > 0).all())
    assert model.shape == (2, 1, 1, 1)
    torch.testing.assert_close(centres.flatten(1).norm(dim=1), torch.full((8,), RING, dtype=torch.float64))
    with pytest.raises(InputError, match="up"):
        model.encode(["upp"])


def test_weights_are_shares_and_one_mixture_can_teach_another() -> None:
    means = torch.tensor([[-3.0, 0.0], [3.0, 0.0]])
    base, teacher = Mixture(means, 0.2, weights=torch.tensor([3.0, 1.0])), Mixture(means[1:], 0.2)
    assert float((base.draw(4000)[:, 0] > 0).double().mean()) == pytest.approx(0.25, abs=0.03)
    prompts, seeds = [""] * 200, range(200)
    right = lambda operators: float((record(base, prompts, seeds=seeds, operators=operators).latents[-1][:, 0] > 0).double().mean())  # noqa: E731
    assert right([]) == pytest.approx(0.25, abs=0.1)
    assert right([Teacher(teacher, base, prompts, beta=0.0, guidance=Cfg(1), interval=First(50))]) == 1
    never = Mixture(means, 0.2, weights=torch.tensor([1.0, 0.0]))
    assert bool((never.draw(100)[:, 0] < 0).all())


def test_draws_are_of_the_class_and_of_the_seed() -> None:
    model, _ = rings()
    assert bool((model.draw(100, "down")[:, 1] < 0).all())
    assert torch.equal(model.draw(10, seed=3), model.draw(10, seed=3))
    assert not torch.equal(model.draw(10, seed=3), model.draw(10, seed=4))
    far = torch.cdist(model.draw(2000).flatten(1), model.means).amin(1)
    assert float(far.square().mean().sqrt()) == pytest.approx(THICK * math.sqrt(2), rel=0.05)


def test_gain_is_the_product_of_its_steps() -> None:
    """At eta 0 a step is ``x' = a x + b m``, with x0_hat = c x and a pull p: a = alpha' (1 - p) c + sigma'/sigma (1 - alpha (1 - p) c)."""
    for weight in ("blend", "score", "mgd3"):
        kept, moved = 1.0, 0.0
        for now, after in Mixture(torch.zeros(1, 1), WIDE).grid(25):
            alpha, sigma, alpha_next, sigma_next = (float(v) for v in (now.alpha, now.sigma, after.alpha, after.sigma))
            c, p = alpha * WIDE**2 / (alpha**2 * WIDE**2 + sigma**2), 0.1 * pull_weight(weight, now, after)
            step, back = alpha_next - sigma_next / sigma * alpha, sigma_next / sigma
            a, b = step * (1 - p) * c + back, step * p
            kept, moved = a * kept, a * moved + b
        pull, left = gain(0.1, weight, steps=25)
        assert pull == pytest.approx(moved, abs=1e-5)
        assert left * gain_free(25) == pytest.approx(kept, rel=1e-4)


def gain_free(steps: int) -> float:
    """What is left of the first noise without a pull."""
    model = Mixture(torch.zeros(1, 1), WIDE)
    x = torch.ones(1, *model.shape, dtype=torch.float64)
    return float(record(model, [""], seeds=[0], steps=steps, latents=x).latents[-1])


def test_no_pull_gains_nothing_and_a_few_steps_gain_less() -> None:
    assert gain(0.0, "score") == (0.0, 1.0)
    assert gain(0.1, "mgd3", interval=Interval(1000, 500))[0] < gain(0.1, "mgd3")[0]
    assert gain(0.1, "mgd3", eta=1.0, interval=Interval(1000, 500))[0] == pytest.approx(0.16, abs=0.01)  # specification of GVD, 5.2


def test_a_strong_pull_ends_in_the_hole_of_its_mode() -> None:
    model, centres = rings()
    own = torch.arange(64) % 8
    pull = Pull(centres[own], 1.0, "blend", "none")
    x = record(model, [""] * 64, seeds=range(64), operators=[pull]).latents[-1]
    far = (x.double() - centres[own]).flatten(1).norm(dim=1)
    assert float(far.median()) < HOLE / 4
