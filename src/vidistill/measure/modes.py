"""What points are worth where the truth is a mixture of known modes: which modes are held, how sharply, and how far out the points lie.

    share        p_k = #{i : k_i = k} / N                k_i the mode nearest to x_i; a point nearest to a mode of another class holds none
    coverage     #{k : p_k >= q_k / 5} / K                               q_k the true share
    KL           sum_k p_k log(p_k / q_k)                                p over the points that hold a mode; 0 is the truth, nats
    precision    #{i : |x_i - m_k| <= 4 sigma for a mode k of i's class} / N
    radius       mean |x_i| / mean |truth_i|                             1 is the truth, more is saturation
    within       sqrt(sum_k sum_i |x_i - mean_k|^2 / (D sum_k (n_k - 1))) / sigma      over the points within 4 sigma of the mode they hold
    diversity    mean |x_i - x_j| / mean |truth_i - truth_j|             of one class; over the classes, each counting alike
    sliced W2    sqrt(mean_u W2(u x, u truth)^2)                         over directions u
    leakage      #{i : class of k_i is not i's} / N

DFD's spec, section 5.1. Diversity alone misleads: a student that drops the inner modes has more of it, see :func:`misleads`.

q is the world's ``weights``, sigma its ``deviation``. Shapes: N points, M truth points, D dimensions, K modes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vidistill.data.plane import Plane
from vidistill.errors import InputError
from vidistill.rng import stream

COVERED = 0.2
"""A mode is held when it has at least this share of its true share."""

NEAR = 4.0
"""Standard deviations within which a point belongs to its mode."""

PAIRED = 2048
"""Points among which all pairs are taken; of more, so many are drawn."""

DIRECTIONS = 64
"""Of the sliced distance: even on the half circle in the plane, random in more dimensions."""


def held(points: Tensor, world: Plane, labels: Tensor | None = None) -> Tensor:
    """Return the mode that each point holds, int64 ``[N]``: the nearest one, or -1 where that is of another class.

    Args:
        points: ``[N, D]``, finite.
        world: see :class:`vidistill.data.plane.Plane`.
        labels: class that each point was asked for, int64 ``[N]``; default: any class will do.
    """
    _check(points, world, labels)
    nearest = torch.cdist(points.double(), world.means).argmin(1)
    if labels is None:
        return nearest
    return nearest.masked_fill(world.labels[nearest] != labels, -1)


def mode_shares(points: Tensor, world: Plane, labels: Tensor | None = None) -> Tensor:
    """Return ``p_k``, float64 ``[K]``; they sum to 1 less the leakage. Arguments as in :func:`held`."""
    k = held(points, world, labels)
    return torch.bincount(k[k >= 0], minlength=len(world.means)).double() / len(points)


def mode_coverage(shares: Tensor, world: Plane) -> float:
    """Return the share of modes that hold at least a fifth of their true share, in [0, 1]; ``shares`` as :func:`mode_shares` returns."""
    return float((shares >= COVERED * world.weights - 1e-12).double().mean())


def mode_kl(shares: Tensor, world: Plane) -> float | None:
    """Return ``KL(student || truth)`` over modes in nats, None where no mode is held; ``shares`` as :func:`mode_shares` returns."""
    if not float(shares.sum()):
        return None
    p = shares / shares.sum()
    return max(0.0, float(torch.special.xlogy(p, p / world.weights).sum()))


def precision(points: Tensor, world: Plane, labels: Tensor | None = None) -> float:
    """Return the share of points within ``NEAR`` sigma of a mode of their class, in [0, 1]. Arguments as in :func:`held`."""
    _check(points, world, labels)
    far = torch.cdist(points.double(), world.means)
    if labels is not None:
        far = far.masked_fill(world.labels != labels[:, None], torch.inf)
    return float((far.amin(1) <= NEAR * world.deviation).double().mean())


def leakage(points: Tensor, world: Plane, labels: Tensor) -> float:
    """Return the share of points whose nearest mode is of another class, in [0, 1]. Arguments as in :func:`held`."""
    return float((held(points, world, labels) < 0).double().mean())


def radius_ratio(points: Tensor, truth: Tensor) -> float | None:
    """Return the mean distance from the origin over the truth's; None where the truth lies at the origin."""
    below = float(truth.double().norm(dim=1).mean())
    return float(points.double().norm(dim=1).mean()) / below if below else None


def within_std(points: Tensor, world: Plane, labels: Tensor | None = None) -> float | None:
    """Return the pooled standard deviation within modes over sigma; None where no mode has two points near. Arguments as in :func:`held`.

    Each mode's points are taken about their own mean: a mode that has moved is not wide.
    """
    k, x = held(points, world, labels), points.double()
    near = (k >= 0) & ((x - world.means[k.clamp(min=0)]).norm(dim=1) <= NEAR * world.deviation)
    k, x = k[near], x[near]
    count = torch.bincount(k, minlength=len(world.means)).double()
    if not (free := float((count - 1).clamp(min=0).sum())):
        return None
    mean = torch.zeros(len(count), x.shape[1], dtype=x.dtype).index_add_(0, k, x) / count.clamp(min=1)[:, None]
    return math.sqrt(float((x - mean[k]).square().sum()) / (x.shape[1] * free)) / world.deviation


def pair_distance(points: Tensor, labels: Tensor | None = None, seed: int = 0) -> float | None:
    """Return the mean distance of two points of a class, averaged over the classes; None where no class has two.

    Args:
        points: ``[N, D]``.
        labels: class of each, int64 ``[N]``; default one class.
        seed: draws ``PAIRED`` points of a class that has more.
    """
    parts = [points] if labels is None else [points[labels == c] for c in labels.unique()]
    found = []
    for part in parts:
        if len(part) > PAIRED:
            part = part[torch.randperm(len(part), generator=stream(seed, "pairs"))[:PAIRED]]
        if len(part) > 1:
            found.append(float(torch.pdist(part.double()).mean()))
    return sum(found) / len(found) if found else None


def pair_diversity(points: Tensor, truth: Tensor, labels: Tensor | None = None, true_labels: Tensor | None = None) -> float | None:
    """Return :func:`pair_distance` over the truth's; None where either has none or the truth's is 0."""
    above, below = pair_distance(points, labels), pair_distance(truth, true_labels)
    return above / below if above is not None and below else None


def sliced_w2(points: Tensor, truth: Tensor, seed: int = 0) -> float:
    """Return the sliced Wasserstein distance of order 2, in the points' own unit; exact along each direction for any N and M.

    Args:
        points, truth: ``[N, D]``, ``[M, D]``.
        seed: of the directions, for D > 2.
    """
    a, b, dims = points.double(), truth.double(), points.shape[1]
    if dims == 1:
        u = torch.ones(1, 1, dtype=torch.float64)
    elif dims == 2:
        angle = (torch.arange(DIRECTIONS) + 0.5).double() * (math.pi / DIRECTIONS)
        u = torch.stack([angle.cos(), angle.sin()])
    else:
        u = torch.randn(dims, DIRECTIONS, dtype=torch.float64, generator=stream(seed, "directions"))
        u = u / u.norm(dim=0)
    a, b = (a @ u).sort(0).values, (b @ u).sort(0).values
    if len(a) == len(b):
        return float((a - b).square().mean().sqrt())
    # both quantile functions are constant between the steps of either
    steps = torch.cat([torch.arange(1, len(x) + 1).double() / len(x) for x in (a, b)]).sort().values
    width = steps.diff(prepend=torch.zeros(1, dtype=torch.float64))
    middle = steps - width / 2
    gap = a[(middle * len(a)).long().clamp(max=len(a) - 1)] - b[(middle * len(b)).long().clamp(max=len(b) - 1)]
    return float((width[:, None] * gap.square()).sum(0).mean().sqrt())


def mode_table(
    points: Tensor, truth: Tensor, world: Plane, labels: Tensor | None = None, true_labels: Tensor | None = None
) -> dict[str, float | None]:
    """Return all numbers of this module, one dict.

    Args:
        points: of a student or teacher, floating point ``[N, D]``, finite.
        truth: drawn from the world itself, ``[M, D]``; M of some thousands keeps its own error small.
        world: see :class:`vidistill.data.plane.Plane`.
        labels, true_labels: class of each, int64 ``[N]`` and ``[M]``; both or neither.

    Returns:
        ``coverage kl precision radius within diversity sliced_w2``, and with labels ``leakage``; None where a number has no meaning.

    Raises:
        InputError: shapes or labels do not fit, or a point is not finite.
    """
    if (labels is None) != (true_labels is None):
        raise InputError("classes are needed of the points and of the truth, or of neither")
    _check(truth, world, true_labels, "truth")
    shares = mode_shares(points, world, labels)
    found = {
        "coverage": mode_coverage(shares, world),
        "kl": mode_kl(shares, world),
        "precision": precision(points, world, labels),
        "radius": radius_ratio(points, truth),
        "within": within_std(points, world, labels),
        "diversity": pair_diversity(points, truth, labels, true_labels),
        "sliced_w2": sliced_w2(points, truth),
    }
    return found if labels is None else found | {"leakage": leakage(points, world, labels)}


def misleads(table: dict[str, float | None]) -> bool:
    """Return whether a :func:`mode_table` shows more diversity than the truth while modes are missing: points that lie too far out."""
    return (table["diversity"] or 0) > 1 and (table["coverage"] or 0) < 1


def _check(points: Tensor, world: Plane, labels: Tensor | None, what: str = "points") -> None:
    if points.ndim != 2 or not len(points) or points.shape[1] != world.means.shape[1]:
        raise InputError(f"{what} {tuple(points.shape)} do not fit modes in {world.means.shape[1]} dimensions: needs [N, D], N >= 1")
    if bad := int((~points.isfinite()).any(1).sum()):
        raise InputError(f"{bad} of {len(points)} {what} are not finite: what made them has diverged")
    if labels is not None and labels.shape != (len(points),):
        raise InputError(f"{len(points)} {what} need as many labels; got {tuple(labels.shape)}")
    if labels is not None and (unknown := set(labels.tolist()) - set(world.labels.tolist())):
        raise InputError(f"no mode is of class {min(unknown)}; classes are {sorted(set(world.labels.tolist()))}")
    if not world.deviation:
        raise InputError(f"the modes of world {world.name} have no width to be near to: give it a deviation above 0")
