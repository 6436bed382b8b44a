"""Guiders of diffusers beside CFG and CFG++: the papers' formulas in float64 NumPy, their limits, and what each of them is not allowed."""

from __future__ import annotations

import logging
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from vidistill.errors import InputError
from vidistill.guide import KINDS, PEERS, WAYS, Apg, Cfg, CfgPlus, CfgZero, Guider, Moment, Switch, Tcfg, way
from vidistill.guide.peers import _guider
from vidistill.schedule import First, Time

G = 5.0
ALL = [CfgZero(G), Apg(G), Apg(G, eta=0.3, radius=20.0), Tcfg(G)]


def outputs(clips: int = 3, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    """Return u and c, ``[B, C, T, H, W]``, alike as a network's are, each clip at a scale of its own."""
    draw = lambda seed: torch.randn(clips, 4, 5, 6, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)  # noqa: E731
    scale = torch.arange(1, clips + 1, dtype=torch.float64).view(-1, 1, 1, 1, 1)
    u = scale * draw(0)
    return u.to(dtype), (0.9 * u + 0.4 * scale * draw(1)).to(dtype)


def moment(index: int = 0, steps: int = 10, flow: bool = True) -> Moment:
    alphas = (0.0, 0.1) if flow else (0.04, 0.08)
    now, after = (Time(torch.tensor(900.0), torch.tensor(a), torch.tensor(1 - a if flow else (1 - a**2) ** 0.5)) for a in alphas)
    return Moment(index, steps, now, after, 0.0, torch.zeros(1, 4, 5, 6, 6), (0,))


def formula(one: Guider, u: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Return the papers' formula for one clip, as vectors."""
    g = one.scale
    if isinstance(one, CfgZero):  # 2503.18886, algorithm 1
        s = (c @ u) / (u @ u)
        return (1 - g) * s * u + g * c
    if isinstance(one, Apg):  # 2410.02416, algorithm 1, without momentum
        d = c - u
        d = d * min(1, one.radius / np.linalg.norm(d)) if one.radius else d
        unit = c / np.linalg.norm(c)
        parallel = (d @ unit) * unit
        return c + (g - 1) * (d - parallel + one.eta * parallel)
    _, _, v = np.linalg.svd(np.stack([c, u]), full_matrices=False)  # 2503.18137, algorithm 1
    kept = (u @ v[0]) * v[0]
    return kept + g * (c - kept)


def unlike(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the largest difference as a share of its clip's largest value: what products over a clip round to, in any order of sums."""
    return float(((one - other).abs().amax((1, 2, 3, 4)) / other.abs().amax((1, 2, 3, 4))).max())


@pytest.mark.parametrize("one", ALL, ids=str)
def test_guiders_are_their_formulas(one) -> None:
    u, c = outputs()
    out, back = one.combine(u, c)
    assert back is out
    assert out.shape == c.shape
    for row, a, b in zip(out.double().numpy(), u.double().numpy(), c.double().numpy(), strict=True):
        np.testing.assert_allclose(row.ravel(), formula(one, a.ravel(), b.ravel()), rtol=1e-4, atol=1e-4)
    assert (out - Cfg(G).combine(u, c)[0]).abs().max() > 0.1  # not CFG by another name


@pytest.mark.parametrize("one", ALL, ids=str)
def test_a_clip_is_combined_alone(one) -> None:
    u, c = outputs(8)
    together = one.combine(u, c)[0]
    alone = torch.cat([one.combine(u[i : i + 1], c[i : i + 1])[0] for i in range(8)])
    assert unlike(together, alone) < 1e-5
    c[1] = 1e3  # what a neighbour is does not matter
    assert unlike(one.combine(u, c)[0][2:], together[2:]) < 1e-5


def test_each_is_cfg_in_its_limit() -> None:
    u, c = outputs()
    cfg = Cfg(G).combine(u, c)[0]
    torch.testing.assert_close(Apg(G, eta=1.0).combine(u, c)[0], cfg, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(Apg(G, eta=1.0, radius=1e6).combine(u, c)[0], cfg, rtol=1e-5, atol=1e-4)
    dot = lambda a, b: (a * b).sum((1, 2, 3, 4), keepdim=True)  # noqa: E731
    off = c - u - dot(c - u, u) / dot(u, u) * u  # at a right angle to u, so that s is 1
    torch.testing.assert_close(CfgZero(G).combine(u, u + off)[0], Cfg(G).combine(u, u + off)[0], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(Tcfg(G).combine(u, 1.5 * u)[0], Cfg(G).combine(u, 1.5 * u)[0], rtol=1e-4, atol=1e-3)  # nothing is across


def test_what_each_is_for() -> None:
    u, c = outputs()
    whole = lambda a, b: (a * b).sum((1, 2, 3, 4))  # noqa: E731
    assert whole(Apg(G).combine(u, c)[0] - c, c).abs().max() <= 1e-3 * whole(c, c).max()  # none of it along c
    torch.testing.assert_close(CfgZero(G).combine(0.1 * u, c)[0], CfgZero(G).combine(u, c)[0], rtol=1e-4, atol=1e-4)
    short = Apg(G, eta=1.0, radius=0.5).combine(u, c)[0] - c
    torch.testing.assert_close(short.flatten(1).norm(dim=1), torch.full((3,), (G - 1) * 0.5))


@pytest.mark.parametrize("kind", PEERS)
def test_one_is_off_and_scales_are_the_standard_ones(kind) -> None:
    u, c = outputs()
    off = PEERS[kind](1.0)
    assert (off.needs_both, PEERS[kind](1.5).needs_both) == (False, True)
    torch.testing.assert_close(off.combine(u, c)[0], c, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(PEERS[kind](1.001).combine(u, c)[0], c, rtol=0, atol=2e-2)  # and near 1 nearly so
    with pytest.raises(InputError, match=r"1 \(off\) or more"):
        PEERS[kind](0.8)


def test_half_precision_is_combined_in_float32() -> None:
    u, c = outputs(dtype=torch.bfloat16)
    for one in ALL:
        out = one.combine(u, c)[0]
        assert out.dtype == torch.bfloat16
        assert torch.equal(out, one.combine(u.float(), c.float())[0].bfloat16())


def test_a_flow_rests_on_its_first_steps() -> None:
    u, c = outputs()
    one = CfgZero(G, zero=2)
    still = [one.at(moment(index)) for index in range(4)]
    assert [bool((s.combine(u, c)[0] == 0).all()) for s in still] == [True, True, False, False]
    assert still[2] is one
    assert one.at(moment(flow=False)) is one  # noise of 0 would not leave the latents
    assert CfgZero(1.0).at(moment()) == CfgZero(1.0)
    assert CfgZero(G, zero=0).at(moment()) == CfgZero(G, zero=0)
    assert one.at(moment(steps=2, index=1, flow=False)) is one
    with pytest.raises(InputError, match=r"first zero=2 steps of 2, and none is left"):
        one.at(moment(steps=2))
    with pytest.raises(InputError, match="0 \\(none\\) or more"):
        CfgZero(G, zero=-1)


def test_a_switch_asks_the_way_it_picks() -> None:
    switch = Switch(CfgZero(G), Apg(G), First(2))
    assert [type(switch.at(moment(index))).__name__ for index in range(3)] == ["Rest", "CfgZero", "Apg"]
    for one in (Cfg(2.0), CfgPlus(0.8), Apg(2.0), Tcfg(2.0)):
        assert one.at(moment()) is one


def test_ways_by_name() -> None:
    assert WAYS == tuple(KINDS) == ("cfg", "cfg++", "cfg-zero", "apg", "tcfg")
    assert [way(kind, 4.0, 0.8) for kind in WAYS] == [Cfg(4.0), CfgPlus(0.8), CfgZero(4.0), Apg(4.0), Tcfg(4.0)]
    assert [kind for kind in WAYS if way(kind, 4.0, 0.8).of_clean] == ["apg"]
    with pytest.raises(InputError, match=r"^unknown way to combine outputs 'agp': did you mean 'apg'\?[^\n]*$"):
        way("agp", 4.0, 0.8)


def test_only_the_known_warning_is_silent(caplog, monkeypatch) -> None:
    from diffusers.guiders import AdaptiveProjectedGuidance, guider_utils

    monkeypatch.setattr(guider_utils.logger, "propagate", True)
    monkeypatch.setattr(logging.getLogger("diffusers"), "propagate", True)
    _guider.cache_clear()
    with caplog.at_level(logging.WARNING):
        Apg(G).combine(*outputs(1))
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        AdaptiveProjectedGuidance()  # a user's own still says it
    assert "experimental" in caplog.text


def test_diffusers_is_not_loaded_before_it_is_asked() -> None:
    code = "import sys, vidistill.guide as g; g.way('apg', 4.0, 0.8); print('diffusers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"


def test_a_way_is_a_value() -> None:
    assert replace(Apg(G), eta=0.5) == Apg(G, 0.5)
    assert len({Apg(G), Apg(G), Tcfg(G), CfgZero(G)}) == 3
