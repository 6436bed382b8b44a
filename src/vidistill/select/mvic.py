"""Multi-video instance composition (GVD, arXiv 2507.22360): U videos of a class give a few frames each, and make one instance together.

Which frames, and which videos are grouped, is not public. Here an instance's videos have U different centres where there are so many:
instance i of n takes videos i, i + n, i + 2 n, ...
"""

from __future__ import annotations

import torch
from torch import Tensor

from vidistill.errors import InputError, choose
from vidistill.rng import stream

POLICIES = ("first", "stride", "random-contiguous")
"""Frames of a video: the first ones (guided most, real pace), evenly spaced ones (faster), or a run that begins anywhere."""


def check_videos(videos: int, frames: int) -> None:
    """Raise InputError unless U ``videos`` give an instance of T ``frames`` as many frames each."""
    if videos < 1 or frames % videos:
        raise InputError(f"videos={videos} must divide frames={frames}: each video gives an instance as many frames")


def frames_of(policy: str, frames: int, kept: int, seed: int = 0, video: int = 0) -> Tensor:
    """Return which ``kept`` of a video's ``frames`` are taken, int64 ``[kept]``.

    Args:
        policy: one of ``POLICIES``.
        seed, video: for ``random-contiguous``; the stream ``("mvic", video)`` of the seed decides.

    Raises:
        InputError: unknown policy, or more frames asked for than there are.
    """
    choose("MVIC policy", policy, POLICIES)
    if not 1 <= kept <= frames:
        raise InputError(f"MVIC cannot take {kept} of {frames} frames")
    if policy == "stride":
        return torch.arange(kept) * (frames // kept)
    start = 0 if policy == "first" else int(torch.randint(frames - kept + 1, (), generator=stream(seed, "mvic", video)))
    return start + torch.arange(kept)


def members(instances: int, videos: int) -> Tensor:
    """Return which videos make which instance, int64 ``[instances, U]`` for ``instances * U`` videos: row i is i, i + instances, ..."""
    return torch.arange(instances * videos).view(videos, instances).T.contiguous()


def compose(video: Tensor, instances: int, policy: str, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Put the videos of one class together into instances.

    Args:
        video: ``[instances * U, C, T, H, W]`` of any type; each gives ``T / U`` frames.
        instances: IPC.
        policy: see :func:`frames_of`.

    Returns:
        the instances ``[instances, C, T, H, W]``, and where each frame comes from, int64 ``[instances, T, 2]``: video and frame.

    Raises:
        InputError: the videos cannot be shared out evenly, or U does not divide T.
    """
    count, T = len(video), video.shape[2]
    if instances < 1 or count % instances or T % (count // instances):
        raise InputError(f"{count} videos of {T} frames cannot make {instances} instances of as many frames: U must divide both")
    U = count // instances
    groups = members(instances, U)
    taken = torch.stack([frames_of(policy, T, T // U, seed, j) for j in range(count)])  # [count, T / U]
    source = torch.stack([groups[:, :, None].expand(-1, -1, T // U), taken[groups]], -1).flatten(1, 2)  # [instances, T, 2]
    return video[source[..., 0], :, source[..., 1]].transpose(1, 2).contiguous(), source
