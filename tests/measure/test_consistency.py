"""VBench's aggregators against hand-computed numbers and a step-by-step NumPy reference of the specification's formulas."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from vidistill.errors import InputError
from vidistill.measure import consistency as c
from vidistill.measure.offline import probe_background, probe_flow, probe_midpoint, probe_subject


def clips(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def average(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """An interpolator: the mean, rounded down."""
    return ((before.int() + after.int()) // 2).to(torch.uint8)


def drawn_flow(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """A flow that is any function of the frames."""
    return torch.stack([before[:, 0].float() / 9, after[:, 1].float() / 7], 1)


# ------------------------------------------------------------------------------------------------------------ by hand


def test_consistency_by_hand():
    f = torch.tensor([[[2.0, 0.0], [3.0, 4.0], [0.0, 5.0], [-1.0, 0.0]]])
    # cosines to the frame before: 3/5, 4/5, 0; to the first: 3/5, 0, -1, which counts as 0
    assert c.frame_consistency(f).tolist() == pytest.approx([(1.2 / 2 + 0.8 / 2 + 0) / 3], abs=1e-12)
    assert c.frame_consistency(torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]])).tolist() == [0]


def test_smoothness_by_hand():
    values = torch.tensor(
        [10, 25, 20, 20, 40, 99], dtype=torch.uint8
    )  # the midpoints are 15 and 30, the odd frames 25 and 20; 99 is not asked
    video = values.view(1, 1, 6, 1, 1).expand(1, 3, 6, 4, 5)
    assert c.motion_smoothness(video, average).tolist() == pytest.approx([1 - 10 / 255], abs=1e-12)
    assert c.motion_smoothness(video[:, :, :3], average).tolist() == pytest.approx([1 - 10 / 255], abs=1e-12)
    with pytest.raises(InputError, match=r"T >= 3; got torch.uint8 \(1, 3, 2, 4, 5\)"):
        c.motion_smoothness(video[:, :, :2], average)


def test_the_fastest_five_percent_by_hand():
    field = torch.zeros(1, 2, 5, 9)  # 45 pixels: int(2.25) = 2 count
    field[0, :, 0, 0], field[0, 0, 1, 1], field[0, 1, 2, 2] = torch.tensor([3.0, 4.0]), -7.0, 2.0
    video = torch.zeros(1, 3, 3, 5, 9, dtype=torch.uint8)
    assert c.flow_magnitude(video, lambda a, b: field.expand(len(a), -1, -1, -1)).tolist() == [[6, 6]]
    assert c.mean_magnitude(torch.tensor([[6.0, 1.0]])).tolist() == [3.5]


def test_dynamic_degree_by_hand():
    side = 128  # faster than 6 * 128 / 256 = 3
    still, fast = [3.0] * 15, 3.001  # exactly the threshold is not faster

    def of(pairs: int, frames: int = 16) -> float:
        return c.dynamic_degree(torch.tensor([[fast] * pairs + still[: frames - 1 - pairs]]), side).item()

    assert [of(3), of(4), of(15)] == [0, 1, 1]  # 16 frames: round(4) = 4 fast pairs
    assert [of(1, 10), of(2, 10)] == [0, 1]  # 10 frames: round(2.5) = 2, to the even
    assert [of(0, 3), of(1, 3)] == [0, 1]  # 3 frames: round(0.75) = 1
    with pytest.raises(InputError, match="at least three frames"):
        c.dynamic_degree(torch.ones(1, 1), side)


def test_flickering_and_imaging_by_hand():
    video = torch.tensor([0, 51, 51], dtype=torch.uint8).view(1, 1, 3, 1, 1).expand(1, 3, 3, 2, 2)
    assert c.temporal_flickering(video).tolist() == pytest.approx([1 - 51 / 2 / 255], abs=1e-12)
    assert c.imaging_quality(video, lambda x: x[:, 0, 0, 0].float()).tolist() == pytest.approx([0.34], abs=1e-12)


def test_a_long_side_is_brought_to_512():
    seen = []
    c.imaging_quality(clips(1, 3, 1, 100, 600), lambda x: seen.append(tuple(x.shape[-2:])) or torch.zeros(len(x)))
    c.imaging_quality(clips(1, 3, 1, 100, 512), lambda x: seen.append(tuple(x.shape[-2:])) or torch.zeros(len(x)))
    assert seen == [(85, 512), (100, 512)]


def test_frames_for_motion():
    video = clips(1, 3, 9, 4, 4)
    assert [c.at_eight_fps(video, fps).shape[2] for fps in (8, 16, 24, 25, 4)] == [9, 5, 3, 3, 9]
    assert torch.equal(c.at_eight_fps(video, 24), video[:, :, [0, 3, 6]])
    with pytest.raises(InputError, match="fps=0 is out of range"):
        c.at_eight_fps(video, 0)


# ---------------------------------------------------------------------------------------------------------- reference


def reference_consistency(features: np.ndarray) -> float:
    total = 0.0
    unit = [f / np.sqrt((f * f).sum()) for f in features]
    for i in range(1, len(unit)):
        total += (max(0.0, float(unit[i - 1] @ unit[i])) + max(0.0, float(unit[0] @ unit[i]))) / 2
    return total / (len(unit) - 1)


def reference_smoothness(frames: np.ndarray) -> float:
    even, odd = frames[0::2], frames[1::2]
    made = [(a.astype(int) + b.astype(int)) // 2 for a, b in pairwise(even)]
    return 1 - float(np.mean([np.abs(odd[k] - made[k]).mean() for k in range(len(made))])) / 255


def reference_dynamic(frames: np.ndarray) -> tuple[float, float]:
    scores = []
    for a, b in pairwise(frames):
        size = np.sort(np.hypot(a[0] / 9, b[1] / 7).ravel())[::-1]
        scores.append(size[: int(size.size * 0.05)].mean())
    moving = sum(s > 6.0 * min(frames.shape[-2:]) / 256 for s in scores)
    return float(moving >= round(4 * len(frames) / 16)), float(np.mean(scores))


@pytest.mark.parametrize(("frames", "height", "width"), [(16, 20, 24), (7, 11, 9), (3, 8, 30)])
def test_against_the_reference(frames, height, width, monkeypatch):
    monkeypatch.setattr(c, "PIXELS", 700)  # several slices
    video = clips(3, 3, frames, height, width)
    f = torch.randn(3, frames, 6, generator=torch.Generator().manual_seed(1))
    own = [np.asarray(clip.transpose(0, 1)).astype(float) for clip in video]
    assert c.frame_consistency(f).tolist() == pytest.approx([reference_consistency(x.double().numpy()) for x in f], abs=1e-12)
    assert c.motion_smoothness(video, average).tolist() == pytest.approx([reference_smoothness(x) for x in own], abs=1e-12)
    magnitude = c.flow_magnitude(video, drawn_flow)
    assert magnitude.shape == (3, frames - 1)
    both = [reference_dynamic(x) for x in own]
    assert c.dynamic_degree(magnitude, min(height, width)).tolist() == [moving for moving, _ in both]
    assert c.mean_magnitude(magnitude).tolist() == pytest.approx([mean for _, mean in both], rel=1e-6)
    flicker = [1 - np.abs(np.diff(x, axis=0)).mean() / 255 for x in own]
    assert c.temporal_flickering(video).tolist() == pytest.approx(flicker, abs=1e-12)
    score = [x.mean() / 100 for x in own]
    assert c.imaging_quality(video, lambda x: x.double().mean((1, 2, 3))).tolist() == pytest.approx(score, abs=1e-12)


# -------------------------------------------------------------------------------------------------------- what they say


def test_consistency_alone_can_be_gamed_by_a_still_picture():
    still = clips(2, 3, 1, 32, 32).expand(-1, -1, 16, -1, -1)
    for features in (probe_subject, probe_background):
        assert c.frame_consistency(features(still)).tolist() == pytest.approx([1, 1], abs=1e-6)
    assert c.motion_smoothness(still, probe_midpoint).tolist() == [1, 1]
    assert c.temporal_flickering(still).tolist() == [1, 1]
    magnitude = c.flow_magnitude(still, probe_flow)
    assert c.dynamic_degree(magnitude, 32).tolist() == [0, 0]
    assert c.mean_magnitude(magnitude).tolist() == [0, 0]


@pytest.mark.parametrize(
    "call",
    [
        lambda v: c.motion_smoothness(v, average),
        lambda v: c.flow_magnitude(v, drawn_flow),
        lambda v: c.imaging_quality(v, lambda x: x.float().mean((1, 2, 3))),
        lambda v: c.at_eight_fps(v, 8),
        c.temporal_flickering,
        probe_subject,
        probe_background,
    ],
)
@pytest.mark.parametrize("video", [torch.zeros(1, 3, 4, 8, 8), clips(3, 4, 8, 8), clips(1, 4, 4, 8, 8), clips(0, 3, 4, 8, 8)])
def test_what_is_no_clip_is_one_line(call, video):
    with pytest.raises(InputError, match=r"^needs uint8 RGB clips \[B, 3, T, H, W\]") as error:
        call(video)
    assert "\n" not in str(error.value)


def test_what_are_no_features_is_one_line():
    for bad in (torch.zeros(2, 5), torch.zeros(2, 1, 5), torch.zeros(2, 4, 5, dtype=torch.int64)):
        with pytest.raises(InputError, match="at least two frames"):
            c.frame_consistency(bad)
    with pytest.raises(InputError, match="at least 20 pixels"):
        c.flow_magnitude(clips(1, 3, 4, 3, 3), drawn_flow)
    assert math.isfinite(c.frame_consistency(torch.zeros(1, 2, 3)).item())
