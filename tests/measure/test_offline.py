"""Each offline probe is monotone in the defect it looks for, injected into rendered clips; the flow is held against the true one."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest
import torch
import torch.nn.functional as F

from vidistill.data.world import FACTORS, Factors, factors, render, trajectory
from vidistill.measure.consistency import (
    dynamic_degree,
    flow_magnitude,
    frame_consistency,
    imaging_quality,
    mean_magnitude,
    motion_smoothness,
    temporal_flickering,
)
from vidistill.measure.offline import probe_background, probe_flow, probe_midpoint, probe_quality, probe_subject
from vidistill.rng import stream

COUNT = 16
WANTED = [factors(8, i) for i in range(COUNT)]


@cache
def real() -> torch.Tensor:
    return render(WANTED)


def to_uint8(video: torch.Tensor) -> torch.Tensor:
    return video.round().clamp(0, 255).to(torch.uint8)


# ------------------------------------------------------------------------------------------------------------- defects


def flicker(factor: str) -> Callable[[int], torch.Tensor]:
    """In so many of the frames the factor has its next value."""

    def changed(clip: Factors) -> Factors:
        names = FACTORS[factor]
        return replace(clip, **{factor: names[(names.index(getattr(clip, factor)) + 1) % len(names)]})

    other, order = render([changed(clip) for clip in WANTED]), torch.randperm(15, generator=stream(0, "flicker")) + 1

    def make(count: int) -> torch.Tensor:
        video = real().clone()
        video[:, :, order[:count]] = other[:, :, order[:count]]
        return video

    return make


def jittered(reach: int) -> torch.Tensor:
    """Every frame is moved by up to so many pixels."""
    wide = F.pad(real().flatten(0, 1).float(), (8, 8, 8, 8), mode="replicate").view(COUNT, 3, 16, 80, 80)
    moves = (reach * (2 * torch.rand(16, 2, generator=stream(0, "jitter")) - 1)).round().int().tolist()
    parts = [wide[:, :, t, 8 + y : 72 + y, 8 + x : 72 + x] for t, (x, y) in enumerate(moves)]
    return torch.stack(parts, 2).to(torch.uint8)


def swapped(pairs: int) -> torch.Tensor:
    """So many pairs of neighbouring frames change places."""
    order = list(range(16))
    for k in range(pairs):
        order[1 + 2 * k], order[2 + 2 * k] = 2 + 2 * k, 1 + 2 * k
    return real()[:, :, order]


def noisy(sd: float) -> torch.Tensor:
    return to_uint8(real().float() + 255 * sd * torch.randn(real().shape, generator=stream(0, "noise")))


def blurred(sd: float) -> torch.Tensor:
    at = torch.arange(-9, 10).float()
    kernel = (-at.square() / (2 * max(sd, 0.1) ** 2)).exp()
    kernel = (kernel / kernel.sum()).view(1, 1, 1, -1)
    x = F.pad(real().transpose(1, 2).flatten(0, 2)[:, None].float(), (9, 9, 9, 9), mode="replicate")
    x = F.conv2d(F.conv2d(x, kernel), kernel.transpose(2, 3))
    return to_uint8(x.view(COUNT, 16, 3, 64, 64).transpose(1, 2))


def flashed(sd: float) -> torch.Tensor:
    """Every frame is lighter or darker."""
    return to_uint8(real().float() + 255 * sd * torch.randn(16, generator=stream(0, "flash"))[:, None, None])


def frozen(count: int) -> torch.Tensor:
    """The last so many frames repeat the one before them."""
    video = real().clone()
    video[:, :, 16 - count :] = video[:, :, 15 - count, None]
    return video


def slowed(times: int) -> torch.Tensor:
    """The first 1/times of the way in as many frames."""
    return render(WANTED, frames=15 * times + 1)[:, :, :16]


# --------------------------------------------------------------------------------------------------------- calibration


def subject(video: torch.Tensor) -> torch.Tensor:
    return frame_consistency(probe_subject(video))


def background(video: torch.Tensor) -> torch.Tensor:
    return frame_consistency(probe_background(video))


def smooth(video: torch.Tensor) -> torch.Tensor:
    return motion_smoothness(video, probe_midpoint)


def motion(video: torch.Tensor) -> torch.Tensor:
    return mean_magnitude(flow_magnitude(video, probe_flow))


def quality(video: torch.Tensor) -> torch.Tensor:
    return imaging_quality(video, probe_quality)


@pytest.mark.parametrize(
    ("probe", "make", "levels"),
    [
        pytest.param(subject, lambda: flicker("shape"), (0, 1, 2, 4, 7), id="subject-shape"),
        pytest.param(subject, lambda: flicker("colour"), (0, 1, 2, 4, 7), id="subject-colour"),
        pytest.param(background, lambda: flicker("background"), (0, 1, 2, 4, 7), id="background-background"),
        pytest.param(smooth, lambda: jittered, (0, 1, 2, 4), id="smoothness-jitter"),
        pytest.param(smooth, lambda: swapped, (0, 1, 3, 7), id="smoothness-swaps"),
        pytest.param(smooth, lambda: noisy, (0, 0.02, 0.05, 0.1), id="smoothness-noise"),
        pytest.param(temporal_flickering, lambda: flashed, (0, 0.02, 0.05, 0.1), id="flickering-flashes"),
        pytest.param(quality, lambda: blurred, (0, 0.5, 1, 2, 3), id="quality-blur"),
        pytest.param(quality, lambda: noisy, (0, 0.01, 0.02, 0.05, 0.1, 0.2), id="quality-noise"),
    ],
)
def test_a_probe_falls_as_its_defect_grows(probe, make, levels):
    """The mean over clips falls at every level, and at least nine clips in ten never rise on the way."""
    injected = make()
    found = torch.stack([probe(injected(level)) for level in levels])
    steps = found.diff(dim=0)
    assert (steps.mean(1) < 0).all(), found.mean(1).tolist()
    assert (steps <= 1e-9).all(0).double().mean() >= 0.9, found.mean(1).tolist()


@pytest.mark.parametrize(("make", "levels"), [(frozen, (0, 4, 8, 12, 15)), (slowed, (1, 2, 4, 8))])
def test_both_dynamic_degrees_fall_as_motion_is_lost(make, levels):
    magnitudes = [flow_magnitude(make(level), probe_flow) for level in levels]
    length = torch.stack([mean_magnitude(magnitude) for magnitude in magnitudes]).diff(dim=0)
    assert (length < 0).all()
    moving = torch.stack([dynamic_degree(magnitude, 64) for magnitude in magnitudes])
    assert (moving.diff(dim=0) <= 0).all()
    assert moving[0].mean() > 0.8
    assert moving[-1].max() == 0


def test_a_probe_minds_its_own_defect_most():
    """Identity in the object moves the subject's probe more than the background's, and the other way round."""
    clean = {probe: probe(real()).mean() for probe in (subject, background)}
    loss = {
        (probe, factor): float(clean[probe] - probe(flicker(factor)(7)).mean()) for probe in clean for factor in ("shape", "background")
    }
    assert loss[subject, "shape"] > 10 * abs(loss[background, "shape"])
    assert loss[background, "background"] > 3 * loss[subject, "background"]


def test_motion_alone_costs_no_subject_consistency():
    """What moves without changing keeps its features, wherever it goes."""
    for kind in ("slide", "orbit", "bounce", "spin", "zigzag", "grow"):
        clips = [factors(8, i, motion=kind) for i in range(6)]
        assert subject(render(clips)).mean() > (0.95 if kind == "grow" else 0.98), kind  # what fills much of the frame stands out less


# ---------------------------------------------------------------------------------------------------------------- flow


@pytest.mark.parametrize(("x", "y"), [(1, 0), (0, -2), (3, 2), (-5, 4)])
def test_a_moved_picture_has_that_flow(x, y):
    g = torch.Generator().manual_seed(0)
    rough = F.interpolate(torch.rand(2, 3, 12, 14, generator=g), (96, 112), mode="bicubic").clamp(0, 1).mul(255).to(torch.uint8)
    before, after = rough[..., 16:80, 16:88], rough[..., 16 - y : 80 - y, 16 - x : 88 - x]
    flow = probe_flow(before, after)
    assert flow.shape == (2, 2, 64, 72)
    error = (flow - torch.tensor([x, y])[:, None, None])[..., 8:-8, 8:-8].norm(dim=1)
    assert error.mean() < 0.1
    back = probe_flow(after, before)
    torch.testing.assert_close(back, -flow, atol=1e-4, rtol=0)
    assert (probe_midpoint(before, after).int() - probe_midpoint(after, before).int()).abs().max() <= 1


def test_the_middle_of_a_moved_picture_is_the_picture_half_way():
    g = torch.Generator().manual_seed(0)
    rough = F.interpolate(torch.rand(1, 3, 12, 12, generator=g), (96, 96), mode="bicubic").clamp(0, 1).mul(255).to(torch.uint8)
    before, half, after = (rough[..., 16:80, 16 - x : 80 - x] for x in (0, 3, 6))
    made = probe_midpoint(before, after)
    inside = slice(8, -8)
    error = (made.float() - half.float()).abs()[..., inside, inside].mean()
    plain = ((before.float() + after.float()) / 2 - half.float()).abs()[..., inside, inside].mean()
    assert error < plain / 10


def test_flow_follows_the_object():
    """In the rank order of clips by the speed of their object, the probe comes close to the truth."""
    clips = [
        factors(8, i, motion=kind, camera="still") for kind in ("slide", "bounce", "orbit", "zigzag", "fall", "shake") for i in range(6)
    ]
    track = trajectory(clips)
    speed = 32 * (track.x.diff(dim=1).square() + track.y.diff(dim=1).square()).sqrt().mean(1)
    seen = motion(render(clips))
    rank = torch.stack([part.argsort().argsort().double() for part in (speed, seen)])
    assert torch.corrcoef(rank)[0, 1] > 0.95
    assert (seen / speed - 1).abs().median() < 0.15


def test_alone_or_in_company():
    video = real()[:4]
    for probe in (subject, background, smooth, motion, quality, temporal_flickering):
        assert torch.equal(probe(video), torch.cat([probe(video[i : i + 1]) for i in range(4)]))
