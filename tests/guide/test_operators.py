"""Operators as pure functions: what they change, by how much, when, and what they refuse."""

from __future__ import annotations

import pytest
import torch

from vidistill.errors import InputError
from vidistill.guide import FILTERS, Cfg, CfgPlus, LowPass, Moment, Pull, Switch, force, low_pass_mask, mix
from vidistill.schedule import First, Interval, Time, pull_weight


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
    mask = low_pass_mask("butterworth", (16, 64, 64), cut, cut, 4)
    assert int((mask > 0.5 + 1e-6).sum()) == modes
    assert mask[:5, 0, 0].tolist() == pytest.approx(temporal, abs=1e-3)


@pytest.mark.parametrize("kind", FILTERS)
@pytest.mark.parametrize("shape", [(5, 8, 8), (3, 7, 9), (21, 60, 104)])
def test_the_mean_passes_for_odd_sizes(kind: str, shape: tuple[int, int, int]) -> None:
    mask = low_pass_mask(kind, shape, 0.25, 0.125)
    assert mask[0, 0, 0] == 1
    assert mask.max() == 1
    for axis in range(3):  # as much of a frequency as of its negative, so that what is filtered stays real
        torch.testing.assert_close(mask.narrow(axis, 1, shape[axis] - 1), mask.narrow(axis, 1, shape[axis] - 1).flip(axis))


def test_masks_are_their_formulas() -> None:
    """On even sizes fftfreq gives the official grid, 2 k / n - 1, shifted."""
    shape, space, time = (6, 8, 4), 0.5, 0.25
    axes = [2 * torch.arange(n, dtype=torch.float64) / n - 1 for n in shape]
    t, h, w = torch.meshgrid(*axes, indexing="ij")
    d2 = ((space / time) * t) ** 2 + h**2 + w**2
    expected = {"butterworth": 1 / (1 + (d2 / space**2) ** 3), "gaussian": (-d2 / (2 * space**2)).exp(), "ideal": (d2 <= space**2).double()}
    for kind in FILTERS:
        mask = torch.fft.fftshift(low_pass_mask(kind, shape, space, time, 3))
        torch.testing.assert_close(mask.double(), expected[kind], rtol=0, atol=6e-8)


def test_a_mask_is_built_once() -> None:
    assert low_pass_mask("gaussian", (4, 4, 4), 0.3, 0.2, 4) is low_pass_mask("gaussian", (4, 4, 4), 0.3, 0.2, 4)
    low_pass_mask.cache_clear()
    for index in range(5):
        LowPass().on_next(some(0), moment(index=index))
    assert low_pass_mask.cache_info().misses == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"space": 0.0}, r"cut-offs in \(0, 1\]"),
        ({"time": 1.5}, r"cut-offs in \(0, 1\]"),
        ({"order": 0}, "order of at least 1"),
        ({"filter": "gauss"}, "gaussian"),
    ],
)
def test_filters_refuse_other_numbers(options, words) -> None:
    with pytest.raises(InputError, match=words):
        LowPass(**options)


def test_cutoffs_of_space_and_time_are_apart() -> None:
    mask = low_pass_mask("ideal", (8, 8, 8), 0.5, 0.125)
    assert mask[:5, 0, 0].tolist() == [1, 0, 0, 0, 0]
    assert mask[0, :5, 0].tolist() == mask[0, 0, :5].tolist() == [1, 1, 1, 0, 0]


@pytest.mark.parametrize("cut", [0.25, 0.5])
def test_a_gaussian_mix_is_rescaled_to_white_noise(cut: float) -> None:
    mask = low_pass_mask("gaussian", (16, 16, 16), cut, cut)
    kept = float((mask.square() + (1 - mask).square()).mean())
    assert kept == pytest.approx({0.25: 0.96, 0.5: 0.74}[cut], abs=0.01)
    x, n = some(0, 8, 4, 16, 16, 16), some(1, 8, 4, 16, 16, 16)
    assert float(mix(x, n, mask).var()) == pytest.approx(kept, abs=0.01)
    assert float(mix(x, n, mask, rescale=True).var()) == pytest.approx(1, abs=0.01)
    at = Moment(3, 10, moment().now, moment().after, 0.0, x, tuple(range(8)))
    assert float(LowPass(cut, cut, filter="gaussian").on_next(x, at).var()) == pytest.approx(1, abs=0.01)


def test_first_steps_are_counted_not_timed() -> None:
    x, early = some(3), First(4)
    assert LowPass(interval=early).on_next(x, moment(501, index=3)) is not None
    assert LowPass(interval=early).on_next(x, moment(501, index=4)) is None
    assert Pull(some(1), 0.5, interval=early).on_x0(x, moment(501, index=3)) is not None
    assert Pull(some(1), 0.5, interval=early).on_x0(x, moment(501, index=4)) is None
    assert [moment(index=i).within(First(0)) for i in (0, 1)] == [False, False]


def test_guidance_switches() -> None:
    way = Switch(CfgPlus(0.8), Cfg(7.5), First(4))
    assert [way.at(moment(index=i)) for i in (0, 3, 4)] == [CfgPlus(0.8), CfgPlus(0.8), Cfg(7.5)]
    assert Switch(Cfg(1), Cfg(4), Interval(1000, 500)).at(moment(500)) == Cfg(4)
    assert (way.needs_both, Switch(Cfg(1), Cfg(1), First(2)).needs_both, Switch(Cfg(1), Cfg(2), First(2)).needs_both) == (True, False, True)


@pytest.mark.parametrize(("cut", "kept"), [(0.25, 0.992), (0.125, 0.999)])
def test_variance_after_the_mix(cut: float, kept: float) -> None:
    mask = low_pass_mask("butterworth", (16, 64, 64), cut, cut, 4)
    assert float((mask.square() + (1 - mask).square()).mean()) == pytest.approx(kept, abs=1e-3)


def test_mix_keeps_what_it_says() -> None:
    low, high = some(0), some(1)
    assert torch.allclose(mix(low, high, torch.ones(8, 4, 4)), low, atol=1e-5)
    assert torch.allclose(mix(low, high, torch.zeros(8, 4, 4)), high, atol=1e-5)
    mask = low_pass_mask("butterworth", (8, 4, 4), 0.25, 0.25, 4)
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
