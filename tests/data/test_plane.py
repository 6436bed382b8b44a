"""The worlds in the plane have the modes they say, and their velocity field is the exact one."""

import math

import pytest
import torch

from vidistill.data.plane import WORLDS, Plane, grid, quadrants, ring, two_points
from vidistill.errors import InputError
from vidistill.rng import stream


def test_the_worlds_are_the_specified_ones():
    assert two_points().means[:, 0].tolist() == [-3, 3]
    assert two_points(1.5).means[:, 0].tolist() == [-2.25, 2.25]  # both by M / 2, inward
    assert two_points(1.5, outward=True).means[:, 0].tolist() == [-3.75, 3.75]
    assert torch.allclose(ring().means.norm(dim=1), torch.full((8,), 2.0, dtype=torch.float64))
    assert (ring().deviation, grid().deviation, len(grid().means)) == (0.1, 0.08, 25)
    assert sorted({round(v, 6) for v in grid().means[:, 0].tolist()}) == [-2.4, -1.2, 0, 1.2, 2.4]
    world = quadrants()
    assert world.classes == 4
    for c in range(4):
        own = world.means[world.labels == c]
        assert own.norm(dim=1).tolist() == pytest.approx([1.0, 1.0, 2.2, 2.2])
        assert {tuple(row) for row in own.sign().tolist()} == {tuple(own[0].sign().tolist())}  # one quadrant
    assert all(make().name == name for name, make in WORLDS.items())


@pytest.mark.parametrize("make", WORLDS.values(), ids=WORLDS)
def test_points_belong_to_their_stream_and_class(make):
    world = make()
    (x, c), (again, _), (other, _) = (world.draw(200, stream(0, name)) for name in ("a", "a", "b"))
    assert torch.equal(x, again)
    assert not torch.equal(x, other)
    assert x.dtype == torch.float32
    assert x.shape == (200, world.dim)
    near = torch.cdist(x.double(), world.means)
    assert torch.equal(world.labels[near.argmin(1)], c)
    assert near.min(1).values.max() <= 5 * world.deviation + 1e-6
    own, same = world.draw(200, stream(0, "c"), c)
    assert torch.equal(same, c)
    assert torch.equal(world.labels[torch.cdist(own.double(), world.means).argmin(1)], c)


def test_rare_modes():
    world = ring().weighted([1, *[9] * 7])
    share = (world.modes(20_000, stream(0, "rare")) == 0).double().mean()
    assert share == pytest.approx(1 / 64, abs=0.004)
    with pytest.raises(InputError, match="must be above 0"):
        ring().weighted([0, *[1] * 7])
    with pytest.raises(InputError, match="K labels"):
        Plane("odd", torch.zeros(3, 2), 0.1, torch.zeros(2), torch.ones(3))


@pytest.mark.parametrize("world", [grid(), quadrants(), two_points(deviation=0.3)], ids=lambda world: world.name)
def test_the_velocity_is_the_flow_of_the_density(world):
    """The score is the gradient of the mixture's log density, and velocity and score say the same: v = -(x + t score) / (1 - t)."""
    x, c = world.draw(64, stream(0, "x"))
    condition = c if world.classes > 1 else None
    x = (0.6 * x.double() + 0.4 * torch.randn(x.shape, generator=stream(0, "eps"), dtype=torch.float64)).requires_grad_(True)
    u = 0.36 * world.deviation**2 + 0.16
    allowed = world.weights * (world.labels == c[:, None])
    log_density = (allowed.log() - (x[:, None] - 0.6 * world.means).square().sum(2) / (2 * u)).logsumexp(1)
    (score,) = torch.autograd.grad(log_density.sum(), x)
    x = x.detach()
    assert torch.allclose(world.score(x, 0.4, condition), score, atol=1e-9)
    assert torch.allclose(world.velocity(x, torch.full((64,), 0.4), condition), -(x + 0.4 * score) / 0.6, atol=1e-6)
    assert torch.allclose(world.velocity(x, 0.4, torch.full((64,), world.classes)), world.velocity(x, 0.4))


def test_exact_points_flow_to_the_data():
    """The two-point problem without any width: every trajectory ends at -3 or 3."""
    world = two_points()
    x = torch.randn(256, 1, generator=stream(0, "z"), dtype=torch.float64)
    steps = 200
    for j in range(steps):
        t = 1 - j / steps
        x = x - world.velocity(x, t) / steps
    assert (x.abs() - 3).abs().max() < 1e-6
    assert torch.isfinite(world.velocity(x, 0.0)).all()
    assert math.isclose(float((x > 0).double().mean()), 0.5, abs_tol=0.1)


def test_modes_are_drawn_by_their_weights() -> None:
    """``min {k : u < P_k}``: the shares of many draws lie within 4 deviations of the weights, with a condition and without."""
    world, count = quadrants().weighted([*range(1, 17)]), 40_000
    p = torch.bincount(world.modes(count, stream(1, "modes")), minlength=16).double() / count
    assert ((p - world.weights).abs() <= 4 * (world.weights * (1 - world.weights) / count).sqrt()).all()
    c = torch.full((count,), 2)
    own = world.weights * (world.labels == 2)
    own = own / own.sum()
    p = torch.bincount(world.modes(count, stream(2, "modes"), c), minlength=16).double() / count
    assert ((p - own).abs() <= 4 * (own * (1 - own) / count).sqrt() + 1e-12).all()
