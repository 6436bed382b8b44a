"""Cluster centres of each class, what GVD (arXiv 2507.22360) pulls generated clips to.

K-means on whole clip latents (posterior means, in the scale the network sees): a centre must have the clean video's shape. Few centres are
nearly static, since what moves averages out, and all of them are shrunken; both can be seen here before anything is generated.

Shapes: n clips of a class, K centres, latents ``[C, T, H, W]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vidistill.errors import InputError, choose
from vidistill.rng import stream
from vidistill.select.coresets import coordinates, lloyd
from vidistill.types import Latents

KINDS = ("mean", "medoid", "rescaled")
"""``mean`` of a cluster's clips; ``medoid`` the clip nearest to it; ``rescaled`` the mean, stretched to the median norm of its clips."""

STILL = 0.7
"""Share of their clips' motion below which centres are called still."""

RESTARTS, ITERATIONS = 10, 25


@dataclass(frozen=True)
class Centres:
    """Centres of all classes, class by class.

    Attributes:
        z: float32 ``[M, C, T, H, W]``.
        labels: int64 ``[M]``, class index.
        sizes: int64 ``[M]``, clips of each cluster.
        medoids: int64 ``[M]``, row of the clip nearest to each mean.
        motion: float32 ``[M]``, energy of the centre's change from frame to frame as a share of its clips' (1 moves as they do).
        norms: float32 ``[M]``, the centre's norm as a share of the median of its clips'.
        kind: one of ``KINDS``.
    """

    z: Tensor
    labels: Tensor
    sizes: Tensor
    medoids: Tensor
    motion: Tensor
    norms: Tensor
    kind: str

    def of(self, label: int, video: int) -> int:
        """Return the centre of the class's video number ``video``: they take turns, so that each is used once before one is used again."""
        rows = (self.labels == label).nonzero().flatten()
        if not len(rows):
            raise InputError(f"there is no centre of class {label}")
        return int(rows[video % len(rows)])

    def told(self) -> str:
        """Say how much the centres move, and what may come of it."""
        moves = float(self.motion.mean())
        return f"centres move {moves:.0%} as much as their clips" + (": still videos may come of it" if moves < STILL else "")

    def table(self, classes: Sequence[str]) -> list[dict[str, Any]]:
        """Return one row a class: its centres, clips of the smallest and the largest cluster, mean share of motion and of norm."""
        rows = []
        for label, name in enumerate(classes):
            own = self.labels == label
            sizes = self.sizes[own]
            row = {"class": name, "centres": int(own.sum()), "smallest": int(sizes.min()), "largest": int(sizes.max())}
            rows.append(row | {"motion": float(self.motion[own].mean()), "norm": float(self.norms[own].mean())})
        return rows


def class_centres(latents: Latents, *, k: int, kind: str = "mean", seed: int = 0) -> Centres:
    """Cluster each class by k-means: faiss, k-means++ starts, the best of ten; ``min(k, n_c)`` centres of a class with n_c clips.

    Lloyd's iterations run on ``Q sqrt(lambda)`` of the class's Gram matrix ``Q diag(lambda) Q^T``: coordinates with exactly the clips'
    distances, n numbers instead of C T H W. Deterministic in ``seed``; a class's draws come from a stream named by the class.

    Args:
        latents: the clips.
        k: centres asked for in each class, >= 1.
        kind: one of ``KINDS``.

    Raises:
        InputError: ``k`` < 1, an unknown kind, or a class without clips.
    """
    choose("kind of centre", kind, KINDS)
    if k < 1:
        raise InputError(f"a class needs at least one centre, got k={k}")
    found: dict[str, list[Tensor]] = {name: [] for name in ("z", "labels", "sizes", "medoids", "motion", "norms")}
    for label, name in enumerate(latents.classes):
        rows = (latents.labels == label).nonzero().flatten()
        if not len(rows):
            raise InputError(f"class {name} has no clips to find centres of; leave it out or add clips")
        z = latents.z[rows].float()
        x = z.flatten(1).double() - z.flatten(1).double().mean(0)
        clusters = cluster(coordinates(x @ x.T), min(k, len(rows)), stream(seed, "centres", name))
        for number in range(min(k, len(rows))):
            members = (clusters == number).nonzero().flatten()
            own = z[members]
            mean = own.mean(0)
            medoid = int((own - mean).flatten(1).norm(dim=1).argmin())
            typical = own.flatten(1).norm(dim=1).median()
            centre = {"mean": mean, "medoid": own[medoid], "rescaled": mean * (typical / mean.norm().clamp_min(1e-12))}[kind]
            found["z"].append(centre)
            found["labels"].append(torch.tensor(label))
            found["sizes"].append(torch.tensor(len(members)))
            found["medoids"].append(rows[members[medoid]])
            found["motion"].append(motion(centre[None])[0] / motion(own).mean().clamp_min(1e-12))
            found["norms"].append(centre.norm() / typical.clamp_min(1e-12))
    stacked = {name: torch.stack(parts) for name, parts in found.items()}
    return Centres(**stacked, kind=kind)


def motion(z: Tensor) -> Tensor:
    """Return the energy of the change from frame to frame of clips ``[B, C, T, H, W]``, float32 ``[B]``."""
    return z.float().diff(dim=2).square().mean((1, 2, 3, 4))


def cluster(points: Tensor, k: int, draw: torch.Generator) -> Tensor:
    """Return the cluster of each point, int64 ``[n]``, every one of the k in use.

    Raises:
        InputError: faiss is not installed.
    """
    n = len(points)
    if k == n:
        return torch.arange(n)
    best, least = torch.zeros(n, dtype=torch.int64), float("inf")
    for _ in range(RESTARTS):
        starts = [int(torch.randint(n, (), generator=draw))]
        while len(starts) < k:  # k-means++ (Arthur and Vassilvitskii 2007): in proportion to the squared distance from the nearest start
            gap = torch.cdist(points, points[starts]).amin(1).square()
            gap[starts] = 0
            if not gap.any():  # the rest are copies of the starts
                gap = torch.ones(n).index_fill(0, torch.tensor(starts), 0)
            starts.append(int(torch.multinomial(gap, 1, generator=draw)))
        squared = lloyd(points, starts, ITERATIONS, "centres need")
        gap, own = squared.min(1)
        for empty in (number for number in range(k) if not (own == number).any()):  # filled with the clip farthest from its centre
            far = int(torch.where(torch.bincount(own, minlength=k)[own] > 1, gap, -1.0).argmax())
            own[far], gap[far] = empty, 0
        if float(gap.sum()) < least:
            best, least = own, float(gap.sum())
    return best
