"""Goldens of the ground: levels of noise, weights over time and frames, streams of random numbers, Motion World, intervals, signs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from golden_worlds import Clips, Straight
from torch import Tensor

from vidistill.data.world import FACTORS, Factors, factors, render, trajectory
from vidistill.distill.trajectory import key_indices, time_table
from vidistill.guide import FILTERS, low_pass_mask
from vidistill.measure import guided, interval, paired
from vidistill.rng import normal, stream, stream_seed
from vidistill.schedule import DECAYS, WEIGHTS, Time, ddim_sigma, frame_weights, guidance_scale, pull_weight, snr

Found = dict[str, Tensor]


def table(times: Sequence[tuple[Time, Time]]) -> Tensor:
    """Return where each step begins and ends, float64 ``[N, 2, 3]``: t, alpha, sigma."""
    return torch.tensor([[[float(one.t), float(one.alpha), float(one.sigma)] for one in pair] for pair in times], dtype=torch.float64)


def ddim_levels(device: torch.device) -> Found:
    """Return the levels of ten steps, the noise that each adds at eta 1, and the inner times of a teacher."""
    model = Clips(device)
    times = model.grid(10)
    below = model.below(model.at(torch.tensor(901)), 8)
    return {
        "steps": table(times),
        "added": torch.tensor([ddim_sigma(now, after) for now, after in times]),
        "snr": torch.tensor([snr(now) for now, _ in times]),
        "below": table([(one, one) for one in below]),
    }


def flow_levels(device: torch.device) -> Found:
    """Return a flow's ten steps, the level that is like another model's, and the times below it."""
    model = Straight(device)
    like = model.like(Clips(device).at(torch.tensor(701)))
    return {"steps": table(model.grid(10)), "below": table([(one, one) for one in model.below(like, 8)])}


def key_times(device: torch.device) -> Found:
    """Return HunyuanVideo's key times, of 50 steps with shift 7."""
    times, places = time_table(50, 7.0), key_indices(50, 5)
    return {"places": torch.tensor(places), "times": torch.tensor([times[place] for place in places], dtype=torch.float64)}


def weights_of_time(device: torch.device) -> Found:
    """Return how each pull is spread over ten steps, without noise and with DDPM's; and CFG++ read as a guidance scale."""
    times = Clips(device).grid(10)
    found = {
        f"{kind}, eta {eta:g}": torch.tensor([pull_weight(kind, now, after, eta) for now, after in times], dtype=torch.float64)
        for kind in WEIGHTS
        for eta in (0.0, 1.0)
    }
    return found | {"guidance scale": torch.tensor([guidance_scale(0.8, now, after) for now, after in times], dtype=torch.float64)}


def streams(device: torch.device) -> Found:
    """Return the head of named streams: their seeds, normal, uniform and whole numbers, a permutation."""
    draws = stream(7, "goldens", 1)
    return {
        "seeds": torch.tensor([stream_seed(0), stream_seed(0, "init"), stream_seed(5, "video", 2, 1), stream_seed(2**31, "a/b")]),
        "normal": normal([0, 1, 2**31], "init", (2, 3)),
        "uniform": torch.rand(8, generator=draws),
        "whole": torch.randint(1000, (8,), generator=draws),
        "permutation": torch.randperm(16, generator=draws),
    }


def some_clips() -> list[Factors]:
    """Return four clips of a world, the last one with a motion that is asked for."""
    return [*(factors(3, i) for i in range(3)), factors(3, 3, motion="spin")]


def world_factors(device: torch.device) -> Found:
    """Return the factors of clips: words by their place in the tables, numbers, and the paths that follow."""
    clips = some_clips()
    words = [[list(FACTORS[name]).index(getattr(clip, name)) for name in FACTORS] for clip in clips]
    numbers = [[clip.speed, clip.phase, clip.size, clip.x, clip.y, clip.tilt, clip.pace] for clip in clips]
    track = trajectory(clips, 8)
    return {
        "words": torch.tensor(words),
        "numbers": torch.tensor(numbers, dtype=torch.float64),
        "textures": torch.tensor([[clip.texture, clip.turn] for clip in clips]),
        "x": track.x,
        "y": track.y,
    }


def world_frames(device: torch.device) -> Found:
    """Return rendered clips: the mean and the spread of each colour in each frame, plain and with noise."""
    found = {}
    for name, noise in (("plain", 0.0), ("noisy", 0.1)):
        video = render(some_clips(), frames=8, size=32, noise=noise).double()
        found |= {f"{name}: mean": video.mean((3, 4)), f"{name}: spread": video.std((3, 4))}
    return found


def intervals(device: torch.device) -> Found:
    """Return intervals of five seeds, of two, and of their differences: mean, low, high, deviation."""
    a, b = [71.0, 68.5, 74.25, 70.0, 69.0], [66.0, 67.5, 70.0, 68.0, 61.0]
    rows = {"five": interval(a), "two": interval(a[:2]), "level .9": interval(a, 0.9), "paired": paired(a, b)}
    return {name: torch.tensor([row[key] for key in ("mean", "low", "high", "std")], dtype=torch.float64) for name, row in rows.items()}


def signs(device: torch.device) -> Found:
    """Return the signs of a pull on made-up clips."""
    x, twin, centre = (normal(range(6), name, (2, 8, 4, 4)) for name in ("x", "twin", "centre"))
    labels, logits = torch.tensor([0, 0, 0, 1, 1, 1]), 3 * normal(range(6), "logits", (4,))
    found = {
        "way": guided.way(x, twin, centre),
        "hits": guided.hits(x, labels, torch.arange(6), centre, labels),
        "pace": guided.pace(x),
        "spikes": guided.spikes(x, [1, 3]),
        "turning": guided.turning(x.flatten(2).mT[:, :8]),
        "entropy": guided.entropy(logits),
    }
    told = guided.signs(x, labels, twin, labels)
    return found | {"signs": torch.tensor([told[name] for name in ("pace", "diversity", "gap")], dtype=torch.float64)}


CASES: dict[str, Callable[[torch.device], Found]] = {
    "frame-decays": lambda device: {kind: frame_weights(kind, 16) for kind in DECAYS},
    "ddim-levels": ddim_levels,
    "flow-levels": flow_levels,
    "key-times": key_times,
    "weights-of-time": weights_of_time,
    "low-pass-masks": lambda device: {kind: low_pass_mask(kind, (4, 6, 5), 0.25, 0.5) for kind in FILTERS},
    "streams": streams,
    "world-factors": world_factors,
    "world-frames": world_frames,
    "intervals": intervals,
    "signs": signs,
}
