"""What a pull has done to clips, and the signs of its failures; each number is to be read beside the unguided twin's and the real clips'.

    way        <x - x_0, m - x_0> / |m - x_0|^2          x_0 the twin, from the same noise; 1 is arrival, more is overshoot
    hits       m is the nearest of the class's centres                      by chance one in K
    pace       mean |x_{f+1} - x_f| of each transition                      low: a still
    spikes     mean pace at some transitions / at the others                high: cuts
    diversity  mean distance between two clips of a class                   low: one centre for all
    turning    1 - cos(mean of the first quarter's features, mean of the last's)           high: it becomes another thing on the way
    entropy    - sum_k p_k ln p_k of the teacher's classes                  high: labels that say nothing
    clipped    share of pixel values at 0 or 255                            high: overdriven

:func:`signs` gathers those that latents alone tell, of whole sets.

Shapes: B clips, T frames, M centres, D features, K classes; latents ``[B, C, T, H, W]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vidistill.errors import InputError


def way(x: Tensor, twin: Tensor, centre: Tensor) -> Tensor:
    """Return the share of the straight way from the twin to the centre that a clip has gone, ``[B]``; 0 where the two are one.

    Args:
        x, twin, centre: latents of one shape; a slice of frames gives the way of these frames.
    """
    line, gone = (centre - twin).flatten(1), (x - twin).flatten(1)
    return (gone * line).sum(1) / line.square().sum(1).clamp_min(1e-12)


def hits(x: Tensor, labels: Tensor, own: Tensor, centres: Tensor, classes: Tensor) -> Tensor:
    """Return whether a clip lies nearest to its own centre among those of its class, bool ``[B]``.

    Args:
        x: latents.
        labels: class of each clip, int64 ``[B]``.
        own: the centre each clip was pulled to, row of ``centres``, int64 ``[B]``.
        centres: latents ``[M, C, T, H, W]``.
        classes: class of each centre, int64 ``[M]``.
    """
    far = torch.cdist(x.flatten(1).double(), centres.flatten(1).double())
    return far.masked_fill(labels[:, None] != classes, torch.inf).argmin(1) == own


def pace(x: Tensor) -> Tensor:
    """Return the mean absolute change of each transition, float ``[B, T - 1]``; latents or pixels."""
    return x.float().diff(dim=2).abs().mean((1, 3, 4))


def spikes(x: Tensor, at: Sequence[int]) -> Tensor:
    """Return the mean pace at transitions ``at`` over the mean pace at all others, ``[B]``: 1 for an even clip.

    Raises:
        InputError: ``at`` is empty, out of range, or leaves no others.
    """
    found = pace(x)
    chosen = torch.zeros(found.shape[1], dtype=torch.bool)
    if not at or min(at) < 0 or max(at) >= len(chosen) or len(set(at)) == len(chosen):
        raise InputError(
            f"spikes at {list(at)} cannot be told from others: a clip of {len(chosen) + 1} frames has {len(chosen)} transitions"
        )
    chosen[list(at)] = True
    return found[:, chosen].mean(1) / found[:, ~chosen].mean(1).clamp_min(1e-12)


def diversity(x: Tensor, labels: Tensor) -> float:
    """Return the root mean square difference of two clips of a class, averaged over the pairs of each class and over the classes.

    NaN where no class has two clips.
    """
    means = [torch.pdist(x[labels == c].flatten(1).double()).mean() for c in labels.unique() if int((labels == c).sum()) > 1]
    return float(torch.stack(means).mean()) / x[0].numel() ** 0.5 if means else float("nan")


def signs(
    x: Tensor, labels: Tensor, real: Tensor, classes: Tensor, own: Tensor | None = None, centres: Any = None
) -> dict[str, float | None]:
    """Return how the clips of a set stand to the real clips of their classes, each number a mean over the classes.

    Args:
        x, labels: latents of the set and the class of each.
        real, classes: latents of the real clips and their classes.
        own, centres: the centre that each clip is pulled to, and all centres (``z`` and ``labels``); without them ``hits`` is None.

    Returns:
        ``pace`` and ``diversity`` in percent of the real clips' (None where no class has two clips); ``gap``, the distance to the nearest
        real clip that is not the clip itself, in percent of the same between real clips; ``hits`` in percent.
    """

    def gap(a: Tensor, b: Tensor) -> Tensor:
        far = torch.cdist(a.flatten(1).double(), b.flatten(1).double())
        return far.masked_fill(far < 1e-6 * b[0].numel() ** 0.5, torch.inf).amin(1).mean()

    ratios: dict[str, list[float]] = {"pace": [], "diversity": [], "gap": []}
    for c in labels.unique():
        made, true = x[labels == c].float(), real[classes == c].float()
        ratios["pace"].append(float(pace(made).mean() / pace(true).mean().clamp_min(1e-12)))
        if len(true) > 1:
            ratios["gap"].append(float(gap(made, true) / gap(true, true)))
        if len(true) > 1 and len(made) > 1:
            ratios["diversity"].append(float(torch.pdist(made.flatten(1)).mean() / torch.pdist(true.flatten(1)).mean()))
    found = {name: 100 * sum(values) / len(values) if values else None for name, values in ratios.items()}
    if own is None or centres is None:
        return found | {"hits": None}
    return found | {"hits": 100 * float(hits(x, labels, own, centres.z, centres.labels).double().mean())}


def turning(features: Tensor) -> Tensor:
    """Return how far the features of frames, ``[B, T, D]``, turn from the clip's first quarter to its last, ``[B]``: 0 is not at all."""
    quarter = max(1, features.shape[1] // 4)
    return 1 - F.cosine_similarity(features[:, :quarter].mean(1), features[:, -quarter:].mean(1), dim=-1)


def entropy(logits: Tensor) -> Tensor:
    """Return the entropy in nats of the classes that logits ``[B, K]`` mean, ``[B]``: 0 is sure, ln K is no answer."""
    return -(logits.softmax(1) * logits.log_softmax(1)).sum(1)


def clipped(video: Tensor) -> Tensor:
    """Return the share of the values of clips, uint8 ``[B, 3, T, H, W]``, that are 0 or 255, float32 ``[B]``."""
    return ((video == 0) | (video == 255)).flatten(1).float().mean(1)
