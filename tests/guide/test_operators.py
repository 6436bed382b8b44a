"""Operators as pure functions: what they change, by how much, when, and what they refuse."""

from __future__ import annotations

import pytest
import torch

from vidistill.errors import InputError
from vidistill.guide import Cfg, CfgPlus, LowPass, Moment, Pull, butterworth, force, mix
from vidistill.schedule import Interval, Time, pull_weight


def moment(t: int = 501, x: torch.Tensor | None = None, index: int = 3) -> Moment:
    now, after = (Time(torch.tensor(s), torch.tensor(a), torch.tensor((1 - a**2) ** 0.5)) for s, a in ((t, 0.6), (t - 20, 0.62)))
    return Moment(index, 10, now, after, 0.0, torch.zeros(2, 4, 8, 4, 4) if x is None else x, (5, 6))


def some(seed: int = 0, *shape: int) -> torch.Tensor:
    return torch.randn(shape or (2, 4, 8, 4, 4), generator=torch.Generator().manual_seed(seed))


def test_pull_is_its_formula() -> None:
    x0, m, at = some(0), some(1), moment()
    got = Pull(m, 0.3, "coda", "linear").on_x0(x0, at)
    w = torch.tensor([1 - f / 8 for f in range(8)]).view(1, 1, 8, 1, 1)
    torch.testing.assert_close(got, 0.3 * pull_weight("coda", at.now, at.after) * w * (m - x0))


def test_no_strength_and_no_time_is_no_change() -> None:
    x0, m = some(0), some(1)
    assert Pull(m, 0.0).on_x0(x0, moment()) is None
    assert Pull(m, 0.5, interval=Interval(1000, 600)).on_x0(x0, moment(501)) is None
    assert Pull(m, 0.5, interval=Interval(1000, 500)).on_x0(x0, moment(501)) is not None


def test_pull_refuses_what_is_no_centre() -> None:
    with pytest.raises(InputError, match="one centre a clip"):
        Pull(some(0, 4, 8, 4, 4), 0.1)
    with pytest.raises(InputError, match="of the same shape"):
        Pull(some(0, 2, 4, 7, 4, 4), 0.1).on_x0(some(), moment())
    with pytest.raises(InputError, match="lambda >= 0"):
        Pull(some(), -0.1)
    with pytest.raises(InputError, match="score"):
        Pull(some(), 0.1, weight="scores")
    with pytest.raises(InputError, match="linear"):
        Pull(some(), 0.1, decay="linera")


def test_force_is_a_root_mean_square_by_frame() -> None:
    change = torch.zeros(2, 4, 8, 4, 4)
    change[1, :, 2] = 3.0
    expected = torch.zeros(2, 8)
    expected[1, 2] = 3.0
    assert torch.equal(force(change), expected)


def test_guidance_combines() -> None:
    u, c = some(0), some(1)
    out, back = Cfg(7.5).combine(u, c)
    torch.testing.assert_close(out, u + 7.5 * (c - u))
    assert back is out
    out, back = CfgPlus(0.8).combine(u, c)
    torch.testing.assert_close(out, u + 0.8 * (c - u))
    assert back is u
    assert (Cfg(1).needs_both, Cfg(1.5).needs_both, CfgPlus(0.8).needs_both) == (False, True, True)
    with pytest.raises(InputError, match=r"CFG\+\+"):
        Cfg(0.8)
    with pytest.raises(InputError, match="at most 2"):
        CfgPlus(7.5)


@pytest.mark.parametrize(("cut", "modes", "temporal"), [(0.25, 483, [1, 0.996, 0.5, 0.038, 0.004]), (0.125, 45, [1, 0.5, 0.004, 0, 0])])
def test_modes_that_survive(cut: float, modes: int, temporal: list[float]) -> None:
    mask = butterworth((16, 64, 64), cut, cut, 4)
    assert int((mask > 0.5 + 1e-6).sum()) == modes
    assert mask[:5, 0, 0].tolist() == pytest.approx(temporal, abs=1e-3)


def test_the_mean_passes_for_odd_numbers_of_frames() -> None:
    assert butterworth((5, 8, 8), 0.25, 0.25, 4)[0, 0, 0] == 1
    with pytest.raises(InputError, match="cut-offs"):
        butterworth((4, 4, 4), 0.0, 0.25, 4)


@pytest.mark.parametrize(("cut", "kept"), [(0.25, 0.992), (0.125, 0.999)])
def test_variance_after_the_mix(cut: float, kept: float) -> None:
    mask = butterworth((16, 64, 64), cut, cut, 4)
    assert float((mask.square() + (1 - mask).square()).mean()) == pytest.approx(kept, abs=1e-3)


def test_mix_keeps_what_it_says() -> None:
    low, high = some(0), some(1)
    assert torch.allclose(mix(low, high, torch.ones(8, 4, 4)), low, atol=1e-5)
    assert torch.allclose(mix(low, high, torch.zeros(8, 4, 4)), high, atol=1e-5)
    mask = butterworth((8, 4, 4), 0.25, 0.25, 4)
    torch.testing.assert_close(mix(low, high, mask).mean((2, 3, 4)), low.mean((2, 3, 4)), atol=1e-5, rtol=0)


def test_low_pass_noise_belongs_to_the_clip_and_the_step() -> None:
    x = some(3)
    both = LowPass().on_next(x, moment(x=x))
    at = moment(x=x[1:])
    alone = LowPass().on_next(x[1:], Moment(at.index, at.steps, at.now, at.after, at.eta, at.x, (6,)))
    torch.testing.assert_close(both[1:], alone)
    other = LowPass().on_next(x, moment(x=x, index=4))
    assert not torch.allclose(both, other)
    assert LowPass(interval=Interval(1000, 600)).on_next(x, moment(501)) is None
