"""Probes that stand in for DINO, CLIP, RAFT, AMT and MUSIQ where there are no weights: simple, deterministic, calibrated, and none of them.

Each gets worse when the one defect that it looks for grows (a test renders clips, injects the defect and holds the order), so arms that
were measured alike can be compared. Their numbers are not those of the networks and never stand in a column with published ones.

    probe_subject      colour and form, on rings, of what stands out from the frame's colours                 for DINO
    probe_background   how much of the frame has which value of red, green and blue, under a square root      for CLIP
    probe_flow         Lucas and Kanade (IJCAI 1981), coarse to fine, both frames warped to the middle        for RAFT
    probe_midpoint     (x_0(p - v / 2) + x_1(p + v / 2)) / 2, v that flow                                     for AMT
    probe_quality      100 s / (s + s_0) n_0 / (n + n_0), s steepness of the strongest edges, n noise         for MUSIQ

Shapes: B clips, T frames, N frames or pairs, H x W pixels; ``video`` is uint8 RGB ``[B, 3, T, H, W]``, frames are uint8 RGB
``[N, 3, H, W]``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vidistill.measure.consistency import check_clips, in_slices

OUT, GREY = 2.0, 10 / 255
"""Subject: how far a colour must lie from the frame's, in its standard deviations, and the least deviation (pixel values in [0, 1])."""

RINGS, TURNS = 8, 7
"""Subject: rings on which it is looked at, and harmonics on each, of which the fifth is a star's."""

LEVELS = 16
"""Levels of a channel in the background's histogram."""

WINDOW, ROUNDS, COARSEST = 5, 2, 16
"""Flow: side of the window in pixels, rounds a scale, shortest side of the coarsest scale in pixels."""

STIFF = 1e-4
"""Flow: gradient energy (pixel values in [0, 1]) below which a window holds still."""

EDGES, STEEP, NOISY = 0.02, 0.05, 0.04
"""Quality: share of the pixels that are its edges; s_0, a gradient a pixel; n_0, a standard deviation (pixel values in [0, 1])."""


@torch.inference_mode()
def probe_subject(video: Tensor) -> Tensor:
    """Return features of the subject of each frame: what it is, wherever it lies, however large it is and whichever way up.

    A pixel of colour c stands out by ``w = clamp(d / OUT - 1, 0, 1)``, ``d^2 = (c - mean)^T (cov + GREY^2 I)^-1 (c - mean)`` over the frame
    after a 3 x 3 mean (Reed and Yu 1990), which nothing does that fills more than about a fifth of the frame. About the centre of w lie
    ``RINGS`` rings up to ``2 sqrt(sum w / pi)``; the features are the mean of ``w (c - mean)`` and twice the amplitude of the first
    ``TURNS`` harmonics of w on each.

    Args:
        video: clips.

    Returns:
        float32 ``[B, T, (3 + TURNS) RINGS + 1]``; the same for every frame in which nothing stands out.

    Raises:
        InputError: ``video`` is something else.
    """
    check_clips(video)
    return in_slices(_subject, video.transpose(1, 2).flatten(0, 1)).view(len(video), video.shape[2], -1).cpu()


def _subject(frames: Tensor) -> Tensor:
    x = _mean(frames.float() / 255, 3)
    height, width = x.shape[-2:]
    above = x.flatten(2) - x.flatten(2).mean(-1, keepdim=True)
    cov = above @ above.transpose(1, 2) / above.shape[-1] + GREY**2 * torch.eye(3, device=x.device)
    w = ((torch.linalg.solve(cov, above) * above).sum(1).sqrt() / OUT - 1).clamp(0, 1).view(-1, height, width)
    total = w.sum((1, 2)).clamp(min=1e-3)
    cx, cy = ((w.sum(axis) @ (torch.arange(n, device=x.device) + 0.5)) / total for axis, n in ((1, width), (2, height)))
    ring = (torch.arange(RINGS, device=x.device)[:, None] + 0.5) * (2 / RINGS)
    turn = torch.arange(4 * TURNS, device=x.device) * (torch.pi / (2 * TURNS))
    radius = (total / torch.pi).sqrt()[:, None, None] * ring
    px, py = cx[:, None, None] + radius * turn.cos(), cy[:, None, None] + radius * turn.sin()
    grid = torch.stack([px * (2 / width) - 1, py * (2 / height) - 1], -1)
    seen = F.grid_sample(torch.cat([w[:, None] * above.view_as(x), w[:, None]], 1), grid, align_corners=False)
    colour, form = seen[:, :3].mean(-1), torch.fft.rfft(seen[:, 3], norm="forward").abs()[..., 1 : TURNS + 1]
    still = x.new_full((len(x), 1), 1e-3)  # a frame in which nothing stands out has a direction too
    return torch.cat([colour.flatten(1), 2 * form.flatten(1), still], 1)


@torch.inference_mode()
def probe_background(video: Tensor) -> Tensor:
    """Return features of the scene of each frame, whatever moves in it.

    ``f = sqrt(share of the pixels at each of LEVELS levels)`` of red, green and blue, a value shared between its two levels, so the cosine
    of two frames is the mean of their Bhattacharyya coefficients ``sum sqrt(p q)``.

    Args:
        video: clips.

    Returns:
        float32 ``[B, T, 3 LEVELS]``, >= 0.

    Raises:
        InputError: ``video`` is something else.
    """
    check_clips(video)
    return in_slices(_background, video.transpose(1, 2).flatten(0, 1)).view(len(video), video.shape[2], -1).cpu()


def _background(frames: Tensor) -> Tensor:
    at = frames.flatten(2).float() * ((LEVELS - 1) / 255)
    low = at.floor()
    part, index = at - low, low.long()
    shares = torch.zeros(*at.shape[:2], LEVELS + 1, device=at.device).scatter_add_(2, index, 1 - part).scatter_add_(2, index + 1, part)
    return (shares[..., :LEVELS] / at.shape[-1]).sqrt().flatten(1)


@torch.inference_mode()
def probe_flow(before: Tensor, after: Tensor) -> Tensor:
    """Return the displacement v of what is seen half way between two frames: it comes from ``p - v/2`` and goes to ``p + v/2``.

    On each scale, coarsest first, the frames are warped by -v/2 and v/2 and every window solves ``(A + STIFF I) dv = -b``,
    ``A = sum g g^T``, ``b = sum g (x_1 - x_0)``, g the gradient of their mean, summed over the window and the three channels. A step is
    held to a pixel a round. It follows what moves by up to about half its own size.

    Args:
        before, after: frames.

    Returns:
        float32 ``[N, 2, H, W]``, (x, y) in pixels.
    """
    scales = [tuple(F.avg_pool2d(_pad(part.float() / 255), 3, 1) for part in (before, after))]
    while min(scales[-1][0].shape[-2:]) >= 2 * COARSEST:
        scales.append(tuple(F.avg_pool2d(part, 2) for part in scales[-1]))
    v = torch.zeros(len(before), 2, 1, 1, device=before.device)
    for a, b in reversed(scales):
        size = a.shape[-2:]
        grow = torch.tensor([size[1] / v.shape[-1], size[0] / v.shape[-2]], device=v.device)
        v = F.interpolate(v, size=size, mode="bilinear", align_corners=False) * grow[:, None, None]
        for _ in range(ROUNDS):
            from_a, from_b = _warp(a, -v / 2), _warp(b, v / 2)
            (gx, gy), change = _slopes((from_a + from_b) / 2), from_b - from_a
            sums = torch.stack([(p * q).sum(1) for p, q in ((gx, gx), (gy, gy), (gx, gy), (gx, change), (gy, change))], 1)
            xx, yy, xy, xt, yt = _mean(sums, WINDOW).split(1, 1)
            xx, yy = xx + STIFF, yy + STIFF
            step = torch.cat([xy * yt - yy * xt, xy * xt - xx * yt], 1) / (xx * yy - xy * xy)
            v = _mean(v + step.clamp(-1, 1), 3)
    return v


@torch.inference_mode()
def probe_midpoint(before: Tensor, after: Tensor) -> Tensor:
    """Return the frame half way between two: both carried half of :func:`probe_flow`, and their mean; uint8 ``[N, 3, H, W]``.

    Args:
        before, after: frames.
    """
    v = probe_flow(before, after)
    return ((_warp(before.float(), -v / 2) + _warp(after.float(), v / 2)) / 2).round_().clamp_(0, 255).to(torch.uint8)


@torch.inference_mode()
def probe_quality(frames: Tensor) -> Tensor:
    """Return a score of sharpness and cleanness.

    s is the mean gradient of the ``EDGES`` steepest share of the pixels, in the luma after a 3 x 3 binomial filter; n is the noise by the
    median of ``|luma * N|``, N = [1 -2 1; -2 4 -2; 1 -2 1] (Immerkaer 1996, with the median in place of the mean: edges are no noise), over
    6 * 0.6745.

    Args:
        frames: frames of at least 3 x 3 pixels.

    Returns:
        float32 ``[N]`` in [0, 100].
    """
    weights = torch.tensor([0.299, 0.587, 0.114], device=frames.device)[:, None, None]
    luma = (frames.float() * (weights / 255)).sum(1, True)
    gx, gy = _slopes(F.avg_pool2d(F.avg_pool2d(_pad(luma), 2, 1), 2, 1))
    slopes = (gx.square() + gy.square()).sqrt().flatten(1)
    s = slopes.topk(max(1, int(slopes.shape[1] * EDGES)), 1).values.mean(1)
    n = luma.diff(n=2, dim=-1).diff(n=2, dim=-2).abs().flatten(1).median(1).values / (6 * 0.6745)
    return 100 * s / (s + STEEP) * NOISY / (n + NOISY)


def _pad(x: Tensor) -> Tensor:
    return F.pad(x, (1, 1, 1, 1), mode="replicate")


def _slopes(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the central differences along x and y, of the same shape."""
    wide = _pad(x)
    return (wide[..., 1:-1, 2:] - wide[..., 1:-1, :-2]) / 2, (wide[..., 2:, 1:-1] - wide[..., :-2, 1:-1]) / 2


def _mean(x: Tensor, side: int) -> Tensor:
    """Return the mean over a square window, cut off at the border: along x, then along y."""
    across = F.avg_pool2d(x, (1, side), 1, (0, side // 2), count_include_pad=False)
    return F.avg_pool2d(across, (side, 1), 1, (side // 2, 0), count_include_pad=False)


def _warp(x: Tensor, v: Tensor) -> Tensor:
    """Return ``x(p + v(p))``, bilinear; what lies outside repeats the border."""
    height, width = x.shape[-2:]
    px = (torch.arange(width, device=x.device) + 0.5 + v[:, 0]) * (2 / width) - 1
    py = (torch.arange(height, device=x.device)[:, None] + 0.5 + v[:, 1]) * (2 / height) - 1
    return F.grid_sample(x, torch.stack([px, py], -1), padding_mode="border", align_corners=False)
