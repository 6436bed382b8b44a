"""How steady and how lively clips are: VBench's aggregators, as pure functions over any features, flow, interpolator and quality score.

    consistency   1/(T-1) sum_{t>=1} (max(0, cos(f_{t-1}, f_t)) + max(0, cos(f_0, f_t))) / 2     f_t = features of frame t, |f_t| = 1
                  subject consistency with DINO's features, background consistency with CLIP's
    smoothness    1 - mean |x_{2k+1} - mid(x_{2k}, x_{2k+2})| / 255                              mid an interpolator, k = 0, 1, ...
    magnitude     m_t = mean of the largest 5 % of |flow(x_t, x_{t+1})| over the pixels, in pixels a frame
    dynamic       [#{t : m_t > 6 min(H, W) / 256} >= round(4 T / 16)]                            VBench: 0 or 1 a clip
                  mean_t m_t                                                                     VideoGuide: a length
    flickering    1 - mean |x_t - x_{t+1}| / 255                                                 meant for pictures that should rest
    imaging       mean_t q_t / 100                                                               q_t = MUSIQ's score of a frame

VBench: Huang et al., arXiv 2311.17982, as its package 0.1.5 computes them. VideoGuide (arXiv 2410.04364) reports the mean magnitude under
the name of dynamic degree, so its numbers stand beside no leaderboard's. A still picture has consistency, smoothness and flickering 1, the
best there is, so none of the three says anything without the motion beside it.

Shapes: B clips, T frames, H x W pixels, D features, N frames or pairs of frames; ``video`` is uint8 RGB ``[B, 3, T, H, W]``. Every result
is float64 on the CPU, one number a clip, and a clip's number depends on that clip alone.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from vidistill.errors import InputError

FrameFeatures = Callable[[Tensor], Tensor]
"""uint8 ``[B, 3, T, H, W]`` -> floating point ``[B, T, D]``, of each frame on its own."""

Flow = Callable[[Tensor, Tensor], Tensor]
"""Frames before and after, uint8 ``[N, 3, H, W]`` -> displacement (x, y) in pixels, ``[N, 2, H, W]``."""

Interpolator = Callable[[Tensor, Tensor], Tensor]
"""Frames before and after, uint8 ``[N, 3, H, W]`` -> the frame half way between them, uint8 of the same shape."""

Quality = Callable[[Tensor], Tensor]
"""Frames, uint8 ``[N, 3, H, W]`` -> a score in [0, 100], ``[N]``."""

PIXELS = 2**18
"""About so many pixels are in floating point at once: what stays in the cache."""

TOP = 0.05
"""Share of a frame's pixels, the fastest, that make its flow magnitude."""

FPS = 8
"""Frames a second at which VBench looks for motion."""


def check_clips(video: Tensor, frames: int = 1) -> None:
    """Check that ``video`` holds clips.

    Raises:
        InputError: it is not uint8 ``[B, 3, T, H, W]`` with B >= 1 and T >= ``frames``.
    """
    if video.dtype != torch.uint8 or video.ndim != 5 or video.shape[1] != 3 or not video.numel() or video.shape[2] < frames:
        least = f"B >= 1, T >= {frames}"
        raise InputError(f"needs uint8 RGB clips [B, 3, T, H, W], {least}; got {video.dtype} {tuple(video.shape)}")


def in_slices(run: Callable[..., Tensor], *frames: Tensor) -> Tensor:
    """Return ``run`` of tensors ``[N, 3, H, W]``, a slice of ``PIXELS`` pixels at a time, joined along N."""
    step = max(1, PIXELS // frames[0][0, 0].numel())
    return torch.cat([run(*parts) for parts in zip(*(part.split(step) for part in frames), strict=True)])


@torch.inference_mode()
def frame_consistency(features: Tensor) -> Tensor:
    """Return VBench's subject or background consistency: each frame beside the one before it and beside the first.

    Args:
        features: of single frames, floating point ``[B, T, D]``, T >= 2; they are normalised here.

    Returns:
        float64 ``[B]`` in [0, 1].

    Raises:
        InputError: another shape, or fewer than two frames.
    """
    if features.ndim != 3 or features.shape[1] < 2 or not features.is_floating_point():
        raise InputError(f"consistency needs features [B, T, D] of at least two frames; got {features.dtype} {tuple(features.shape)}")
    f = F.normalize(features.double().cpu(), dim=-1)
    before, first = (f[:, :-1] * f[:, 1:]).sum(-1), (f[:, :1] * f[:, 1:]).sum(-1)
    return ((before.clamp(0, 1) + first.clamp(0, 1)) / 2).mean(1)


@torch.inference_mode()
def motion_smoothness(video: Tensor, midpoint: Interpolator) -> Tensor:
    """Return VBench's motion smoothness: how well each odd frame is foretold by the even ones around it.

    Args:
        video: clips, T >= 3; a last odd frame has no successor and is not asked for.
        midpoint: the interpolator; VBench's is AMT-S.

    Returns:
        float64 ``[B]`` in [0, 1].

    Raises:
        InputError: ``video`` is something else.
    """
    check_clips(video, 3)
    frames = video.transpose(1, 2)
    even, odd = frames[:, ::2], frames[:, 1:-1:2]
    made = in_slices(midpoint, even[:, :-1].flatten(0, 1), even[:, 1:].flatten(0, 1)).view(odd.shape)
    return 1 - _apart(made, odd)


@torch.inference_mode()
def flow_magnitude(video: Tensor, flow: Flow) -> Tensor:
    """Return how fast the fastest 5 % of the pixels move between neighbouring frames.

    The share is rounded down, ``int(0.05 H W)`` pixels. The unit is a pixel of these clips: halving their size halves the number.

    Args:
        video: clips at ``FPS`` frames a second (see :func:`at_eight_fps`), T >= 2, H W >= 20.
        flow: VBench's and VideoGuide's is RAFT.

    Returns:
        float64 ``[B, T - 1]``, >= 0.

    Raises:
        InputError: ``video`` is something else.
    """
    check_clips(video, 2)
    count = int(video.shape[-2] * video.shape[-1] * TOP)
    if not count:
        raise InputError(f"flow magnitude needs frames of at least 20 pixels, got {tuple(video.shape[-2:])}")
    frames = video.transpose(1, 2)

    def fastest(before: Tensor, after: Tensor) -> Tensor:
        return flow(before, after).double().square().sum(1).sqrt().flatten(1).topk(count, 1).values.mean(1)

    return in_slices(fastest, frames[:, :-1].flatten(0, 1), frames[:, 1:].flatten(0, 1)).view(len(video), -1).cpu()


def dynamic_degree(magnitude: Tensor, side: int) -> Tensor:
    """Return VBench's dynamic degree: whether enough pairs of frames move fast enough.

    Args:
        magnitude: of :func:`flow_magnitude`, ``[B, T - 1]``, T >= 3: of two frames VBench asks for round(0.5) = 0 fast pairs.
        side: min(H, W) of the clips.

    Returns:
        float64 ``[B]``, 0 or 1; its mean over clips is the benchmark's number.

    Raises:
        InputError: another shape, or fewer than three frames.
    """
    if magnitude.ndim != 2 or magnitude.shape[1] < 2 or side < 1:
        raise InputError(f"dynamic degree needs magnitudes [B, T - 1] of at least three frames; got {tuple(magnitude.shape)}, side {side}")
    fast = (magnitude > 6.0 * (side / 256)).sum(1)
    return (fast >= round(4 * (magnitude.shape[1] + 1) / 16)).double()


def mean_magnitude(magnitude: Tensor) -> Tensor:
    """Return VideoGuide's dynamic degree, the mean of :func:`flow_magnitude` over the pairs of a clip: float64 ``[B]``, pixels a frame."""
    return magnitude.double().mean(1)


def at_eight_fps(video: Tensor, fps: float) -> Tensor:
    """Return every ``max(1, round(fps / 8))``-th frame, as VBench does before it looks for motion; slower clips stay as they are.

    Raises:
        InputError: ``video`` is something else, or ``fps`` is not positive.
    """
    check_clips(video)
    if not fps > 0:
        raise InputError(f"fps={fps} is out of range: it must be positive")
    return video[:, :, :: max(1, round(fps / FPS))]


@torch.inference_mode()
def temporal_flickering(video: Tensor) -> Tensor:
    """Return VBench's temporal flickering, float64 ``[B]`` in [0, 1]: 1 minus the mean change of a pixel value from frame to frame.

    VBench asks it of prompts for still pictures only; elsewhere it counts all motion as flicker.

    Raises:
        InputError: ``video`` is no clips of at least two frames.
    """
    check_clips(video, 2)
    frames = video.transpose(1, 2)
    return 1 - _apart(frames[:, :-1], frames[:, 1:])


@torch.inference_mode()
def imaging_quality(video: Tensor, quality: Quality) -> Tensor:
    """Return VBench's imaging quality, the mean score of a clip's frames over 100.

    Args:
        video: clips; a side longer than 512 pixels is brought to 512 first, bilinearly and without antialiasing, as VBench does.
        quality: VBench's is MUSIQ, trained on SPAQ.

    Returns:
        float64 ``[B]`` in [0, 1].

    Raises:
        InputError: ``video`` is something else.
    """
    check_clips(video)
    frames = video.transpose(1, 2).flatten(0, 1)
    height, width = frames.shape[-2:]
    longer = max(height, width)
    size = (int(512 / longer * height), int(512 / longer * width))

    def score(part: Tensor) -> Tensor:
        return quality(F.interpolate(part, size, mode="bilinear") if longer > 512 else part)

    return in_slices(score, frames).double().cpu().view(len(video), -1).mean(1) / 100


def _apart(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean absolute difference of clips uint8 ``[B, T, 3, H, W]`` over 255, float64 ``[B]``, one clip in memory at a time."""
    return torch.stack([(x.int() - y.int()).abs_().sum() for x, y in zip(a, b, strict=True)]).double().cpu() / (255 * a[0].numel())
