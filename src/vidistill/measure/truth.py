"""Clips of Motion World beside the factors that were asked for, and everything that is known of a clip in one table.

    motion        (T - 1) mean_t sqrt(|dp|^2 + (dr^2 + r^2 da^2) / 2)     p place, r radius, a angle of the object; half widths of the frame
    motion error  |motion seen - motion of the wanted factors' track|
    camera error  |travel seen - travel of the wanted camera|              travel = (x, y, log zoom) over the clip

A point of a disc of radius r that moves by dp, grows by dr and turns by da moves by the root under the mean, in the root mean square over
the disc. The exact parser sees p, r and a in each frame; pairs with a frame in which it sees nothing are left out.

A prompt says which motion, not how fast, where from and how large, and these change the length of a path by a fifth or so: the errors are
to be read beside those of real clips of other factors with the same prompt, not beside 0.

Shapes: B clips, T frames; ``video`` is uint8 RGB ``[B, 3, T, S, S]``. Every number is float64 ``[B]`` on the CPU, NaN where there is none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from vidistill.data.parse import HIDDEN, Parsed, parse
from vidistill.data.world import CAMERAS, FACTORS, PAN, ZOOM, Factors, column, trajectory
from vidistill.errors import InputError
from vidistill.measure.consistency import (
    FrameFeatures,
    check_clips,
    dynamic_degree,
    flow_magnitude,
    frame_consistency,
    imaging_quality,
    mean_magnitude,
    motion_smoothness,
    temporal_flickering,
)
from vidistill.measure.generated import TOGETHER, drift
from vidistill.measure.offline import probe_background, probe_flow, probe_midpoint, probe_quality, probe_subject

PROBES: Mapping[str, FrameFeatures] = {"probe_subject": probe_subject, "probe_background": probe_background}
"""Sources of frame features where there are no weights."""


def path_length(x: Tensor, y: Tensor, radius: Tensor, angle: Tensor, seen: Tensor | None = None) -> Tensor:
    """Return how far the points of an object travel over a clip: ``(T - 1) mean_t sqrt(|dp|^2 + (dr^2 + r^2 da^2) / 2)``.

    Args:
        x, y, radius: half widths, floating point ``[B, T]``, T >= 2. angle: rad, the same; a step is taken the short way round.
        seen: bool ``[B, T]``; steps from or to other frames are left out, and the rest stand for them. Default: all.

    Returns:
        float64 ``[B]``; NaN where no step is left.
    """
    x, y, radius, angle = (part.double() for part in (x, y, radius, angle))
    turn = angle.diff(dim=1)
    turn, r = torch.atan2(turn.sin(), turn.cos()), (radius[:, 1:] + radius[:, :-1]) / 2
    step = (x.diff(dim=1).square() + y.diff(dim=1).square() + (radius.diff(dim=1).square() + (r * turn).square()) / 2).sqrt()
    both = torch.ones_like(step) if seen is None else (seen[:, 1:] & seen[:, :-1]).double()
    count = both.sum(1)
    return (step * both).sum(1) / count.masked_fill(count == 0, math.nan) * step.shape[1]


def motion_seen(parsed: Parsed) -> Tensor:
    """Return the :func:`path_length` of what the parser saw, float64 ``[B]``; NaN where no two frames in a row show the object."""
    return path_length(parsed.x, parsed.y, parsed.radius, parsed.angle, parsed.frame_shape != HIDDEN)


def motion_wanted(wanted: Sequence[Factors], frames: int) -> Tensor:
    """Return the :func:`path_length` of the factors' own tracks over ``frames`` frames, float64 ``[B]``; 0 for an object that blinks."""
    track = trajectory(wanted, frames)
    return path_length(track.x, track.y, track.scale * column(wanted, "size"), track.angle)


def truth_table(video: Tensor, wanted: Sequence[Factors]) -> dict[str, Tensor]:
    """Return what the exact parser says of each clip.

    Args:
        video: clips of one of Motion World's prompts each, T >= 4, S >= 32.
        wanted: the factors asked for, clip b's in place b.

    Returns:
        ``drift_shape``, ``drift_colour``, ``drift_background``, ``drift_any``, see :func:`vidistill.measure.generated.drift`;
        ``motion``, ``motion_wanted``, ``motion_error``, ``camera_error``, see this module;
        ``fidelity_<factor>`` for each of ``FACTORS`` and ``fidelity_together``, 1 where the answer is what was asked for, else 0.

    Raises:
        InputError: ``video`` is something else, or the two differ in number.
    """
    if len(video) != len(wanted):
        raise InputError(f"one set of factors a clip is needed: {len(video)} clips, {len(wanted)} sets of factors")
    parsed = parse(video)
    found = {f"drift_{name}": value for name, value in drift(parsed).items()}
    found["motion"], found["motion_wanted"] = motion_seen(parsed), motion_wanted(wanted, video.shape[2])
    found["motion_error"] = (found["motion"] - found["motion_wanted"]).abs()
    travel = torch.tensor([CAMERAS[clip.camera] for clip in wanted], dtype=torch.float64) * column(wanted, "pace")
    found["camera_error"] = (parsed.travel.double() - travel * torch.tensor([PAN, PAN, ZOOM])).norm(dim=1)
    right = {
        name: getattr(parsed, name) == torch.tensor([values.index(getattr(clip, name)) for clip in wanted])
        for name, values in FACTORS.items()
    }
    right["together"] = torch.stack([right[name] for name in TOGETHER]).all(0)
    return found | {f"fidelity_{name}": hits.double() for name, hits in right.items()}


def video_table(video: Tensor, *, features: Mapping[str, FrameFeatures] = PROBES) -> dict[str, Tensor]:
    """Return VBench's aggregators of each clip, with the offline probes for flow, interpolation and quality; no factors are needed.

    Args:
        video: clips at 8 frames a second, T >= 3; here H and W need not be equal.
        features: sources of frame features by name, such as :data:`PROBES` or what :func:`vidistill.measure.features.load_features`
            returns.

    Returns:
        ``<name>_consistency`` for each source, ``probe_motion_smoothness``, ``probe_dynamic_degree`` (VBench's, 0 or 1),
        ``probe_flow_magnitude`` (VideoGuide's dynamic degree, pixels a frame), ``probe_imaging_quality``, and ``temporal_flickering``,
        which needs no probe.

    Raises:
        InputError: ``video`` is something else.
    """
    check_clips(video, 3)
    magnitude = flow_magnitude(video, probe_flow)
    return {f"{name}_consistency": frame_consistency(source(video)) for name, source in features.items()} | {
        "probe_motion_smoothness": motion_smoothness(video, probe_midpoint),
        "probe_dynamic_degree": dynamic_degree(magnitude, min(video.shape[-2:])),
        "probe_flow_magnitude": mean_magnitude(magnitude),
        "probe_imaging_quality": imaging_quality(video, probe_quality),
        "temporal_flickering": temporal_flickering(video),
    }


def consistency_table(video: Tensor, wanted: Sequence[Factors], *, features: Mapping[str, FrameFeatures] = PROBES) -> dict[str, Tensor]:
    """Return :func:`video_table` and :func:`truth_table` of the same clips: all that is known of each, one column a number.

    A column goes to :func:`vidistill.measure.generated.average` for its mean and interval over clips.

    Args:
        video, features: see :func:`video_table`; here H = W = S.
        wanted: see :func:`truth_table`.

    Raises:
        InputError: as they do.
    """
    return video_table(video, features=features) | truth_table(video, wanted)
